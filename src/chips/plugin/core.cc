#include "chips/plugin/core.h"

#include <algorithm>

#include "base/check.h"

namespace busbar::plugin {

namespace {

constexpr uint64_t part_bytes = 4u << 20;  // of a copy: small beside any weight, large beside a call

busbar_copy to_chip(busbar_buffer to, uint64_t offset, const std::byte* from, uint64_t bytes) {
    auto c = sized<busbar_copy>();
    c.from = from;
    c.to_buffer = to;
    c.to_offset = offset;
    c.bytes = bytes;
    return c;
}

busbar_copy to_host(std::byte* to, busbar_buffer from, uint64_t offset, uint64_t bytes) {
    auto c = sized<busbar_copy>();
    c.from_buffer = from;
    c.from_offset = offset;
    c.to = to;
    c.bytes = bytes;
    return c;
}

}  // namespace

Core::Core(const Address& address) : address_(address), name_("plugin") {
    if (!address.isolate) look_in_child(address);  // a process of its own is looked at as it starts
    library_ = std::make_shared<Library>(address);
    struct Opening {
        Setup setup;
        busbar_device_info info = sized<busbar_device_info>();
        busbar_device device = nullptr;
        explicit Opening(const Address& a) : setup(a) {}
    };
    const auto opening = std::make_shared<Opening>(address);
    opening->setup.record.log_context = library_->context();
    call("device_info", "", [opening](const busbar_chip& chip, busbar_device, busbar_error* error) {
        return chip.device_info(&opening->setup.record, &opening->info, error);
    });
    check_info(opening->info, address.path);
    info_ = opening->info;
    std::string word(info_.name, strnlen(info_.name, sizeof info_.name));
    std::erase_if(word, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-'; });
    name_ = "plugin:" + word;
    call("device_open", "", [opening](const busbar_chip& chip, busbar_device, busbar_error* error) {
        return chip.device_open(&opening->setup.record, &opening->device, error);
    });
    device_ = opening->device;
    if (!device_) throw chip_error(name_, "[plugin] device_open: expected a device, got a null pointer");
}

Core::~Core() {
    if (device_)
        call_to_free([](const busbar_chip& chip, busbar_device d, busbar_error* e) { return chip.device_close(d, e); });
}

void Core::call(const std::string& what, const std::string& node, Call call) {
    check_lost();
    struct Result {
        busbar_error error = no_error();
        int32_t status = BUSBAR_OK;
    };
    const auto result = std::make_shared<Result>();
    const bool back =
        worker_.run([result, call = std::move(call), library = library_,
                     device = device_] { result->status = call(library->chip(), device, &result->error); },
                    address_.timeout);
    if (!back) hung(what, node);
    raise(what, node, result->status, result->error);
}

bool Core::run_work(std::function<void(const busbar_chip&, busbar_device)> work) {
    check_lost();
    return worker_.run(
        [work = std::move(work), library = library_, device = device_] { work(library->chip(), device); },
        address_.timeout);
}

void Core::check_lost() const {
    if (!lost_.empty()) throw ChipLost(name_, name_, lost_);
}

void Core::raise(const std::string& what, const std::string& node, int32_t status, const busbar_error& error) {
    if (status == BUSBAR_OK) return;
    const std::string named(error.node_name, strnlen(error.node_name, sizeof error.node_name));
    try {
        throw_status(name_, where(node.empty() && !named.empty() ? quote(named) : node), what, status, error);
    } catch (const ChipLost& e) {
        lost_ = fmt::format("[plugin] the device was lost before: {}", e.what());
        throw;
    }
}

void Core::hung(const std::string& what, const std::string& node) {
    library_->keep();  // its thread still runs the library's code
    lost_ = fmt::format(
        "[plugin] {} did not return within {} ms: the device is taken for hung and lost. If it is only "
        "slow, give it more with ?timeout=MS",
        what, address_.timeout.count());
    throw ChipLost(name_, where(node), lost_);
}

void Core::call_to_free(const Call& call) noexcept {
    try {
        const auto error = std::make_shared<busbar_error>(no_error());
        const bool back = worker_.run(
            [error, call, library = library_, device = device_] { call(library->chip(), device, error.get()); },
            address_.timeout);
        if (!back) library_->keep();
    } catch (...) {  // no memory for the call itself: the device's memory is lost with it
    }
}

void Core::write(busbar_buffer to, uint64_t offset, Bytes data) {
    for (uint64_t at = 0; at < data.size(); at += part_bytes) {
        const Bytes part = data.subspan(at, std::min<uint64_t>(part_bytes, data.size() - at));
        const auto held = std::make_shared<std::vector<std::byte>>(part.begin(), part.end());
        call("copy", "", [=](const busbar_chip& chip, busbar_device device, busbar_error* error) {
            const busbar_copy c = to_chip(to, offset + at, held->data(), held->size());
            return chip.copy(device, &c, nullptr, error);
        });
    }
}

void Core::read(busbar_buffer from, uint64_t offset, std::span<std::byte> out) {
    for (uint64_t at = 0; at < out.size(); at += part_bytes) {
        const auto held = std::make_shared<std::vector<std::byte>>(std::min<uint64_t>(part_bytes, out.size() - at));
        call("copy", "", [=](const busbar_chip& chip, busbar_device device, busbar_error* error) {
            const busbar_copy c = to_host(held->data(), from, offset + at, held->size());
            return chip.copy(device, &c, nullptr, error);
        });
        std::ranges::copy(*held, out.begin() + static_cast<int64_t>(at));
    }
}

PluginBuffer::PluginBuffer(std::shared_ptr<Core> core, uint64_t bytes) : core_(std::move(core)), bytes_(bytes) {
    const uint64_t largest = core_->info().largest_buffer;
    if (bytes > UINT64_MAX - 2 * guard_bytes || (largest > 0 && bytes + 2 * guard_bytes > largest))
        throw does_not_fit("[plugin] {} has buffers of at most {} bytes, {} are needed", core_->name(),
                           with_commas(largest), with_commas(bytes));
    const auto made = std::make_shared<busbar_buffer>(nullptr);
    const uint64_t total = bytes + 2 * guard_bytes;
    core_->call(fmt::format("buffer_alloc of {} bytes", with_commas(bytes)), "",
                [=](const busbar_chip& chip, busbar_device device, busbar_error* error) {
                    return chip.buffer_alloc(device, 0, total, made.get(), error);
                });
    handle_ = *made;
    if (!handle_) throw chip_error(core_->name(), "[plugin] buffer_alloc: expected a buffer, got a null pointer");
    const std::vector<std::byte> pattern(guard_bytes, guard);
    core_->write(handle_, 0, pattern);
    core_->write(handle_, guard_bytes + bytes_, pattern);
}

PluginBuffer::~PluginBuffer() {
    core_->call_to_free([handle = handle_](const busbar_chip& chip, busbar_device device, busbar_error* error) {
        return chip.buffer_free(device, handle, error);
    });
}

}  // namespace busbar::plugin
