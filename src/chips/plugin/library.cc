#include "chips/plugin/library.h"

#include <dlfcn.h>

#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "base/child.h"
#include "chips/plugin/remote.h"

namespace busbar::plugin {

namespace {

uint32_t number_of(std::string_view key, std::string_view value, uint32_t most) {
    uint32_t n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc() || end != value.data() + value.size() || n > most)
        throw usage_error("[plugin] expected {}= a number up to {}, got {}", key, most, quote(value));
    return n;
}

}  // namespace

Address Address::parse(std::string_view text) {
    Address a;
    const size_t question = text.find('?');
    const std::string given(text.substr(0, question));
    if (given.empty())
        throw usage_error(
            "[plugin] expected plugin:PATH/libNAME.so, with ?key=value&key=value if it takes options, got no path");
    std::string_view rest = question == std::string_view::npos ? "" : text.substr(question + 1);
    while (!rest.empty()) {
        const size_t end = rest.find('&');
        const std::string_view item = rest.substr(0, end);
        rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
        const size_t equals = item.find('=');
        if (item.empty()) continue;
        if (equals == 0) throw usage_error("[plugin] expected ?key=value&key=value, got {}", quote(item));
        const std::string_view key = item.substr(0, equals),
                               value = equals == std::string_view::npos ? "1" : item.substr(equals + 1);
        if (key == "device") {
            a.device = number_of(key, value, 1000);
        } else if (key == "timeout") {
            a.timeout = std::chrono::milliseconds(number_of(key, value, 3600000));
        } else if (key == "isolate") {
            a.isolate = true;
        } else if (key == "guards") {
            if (value != "each") throw usage_error("[plugin] expected guards=each, got {}", quote(value));
            a.guards_after_each = true;
        } else {
            a.options.emplace_back(key, value);
        }
    }
    char resolved[PATH_MAX];
    if (!realpath(given.c_str(), resolved))
        throw chip_error(given,
                         "[plugin] expected a chip's library, the system says: {}. Give the path of the .so file",
                         std::strerror(errno));
    a.path = resolved;
    return a;
}

busbar_error no_error() {
    auto e = sized<busbar_error>();
    e.node = -1;
    return e;
}

std::string text_of(const char* field, size_t size) {
    const std::string quoted = quote(std::string_view(field, strnlen(field, size)), size);
    return quoted.substr(1, quoted.size() - 2);
}

Setup::Setup(const Address& given) : address(given) {
    for (const auto& [key, value] : address.options) {
        keys.push_back(key.c_str());
        values.push_back(value.c_str());
    }
    record = sized<busbar_setup>();
    record.index = address.device;
    record.library_path = address.path.c_str();
    record.keys = keys.data();
    record.values = values.data();
    record.option_count = static_cast<uint32_t>(keys.size());
    record.log = [](void*, int32_t, const char*) {};
}

Library::Library(const Address& address) {
    if (address.isolate) {
        remote_ = std::make_unique<Remote>(address);
        chip_ = remote_->chip();
        return;
    }
    handle_ = dlopen(address.path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) {
        const char* why = dlerror();
        throw chip_error(address.path, "[plugin] expected a library that loads, the system says: {}",
                         quote(why ? why : "nothing", 300));
    }
    try {
        using Entry = int32_t (*)(const busbar_host*, busbar_chip*, busbar_error*);
        const auto entry = reinterpret_cast<Entry>(dlsym(handle_, BUSBAR_CHIP_SYMBOL));
        if (!entry)
            throw chip_error(
                address.path,
                "[plugin] expected the symbol {} (contract {}.x), got a library without it. It is no chip, or "
                "one for another major version: compile it with this build's busbar_chip.h",
                BUSBAR_CHIP_SYMBOL, BUSBAR_CHIP_MAJOR);
        auto host = sized<busbar_host>();
        host.version = BUSBAR_CHIP_VERSION;
        host.name = "busbar";
        chip_ = sized<busbar_chip>();
        busbar_error error = no_error();
        const int32_t status = entry(&host, &chip_, &error);
        if (status != BUSBAR_OK) throw_status("plugin", address.path, BUSBAR_CHIP_SYMBOL, status, error);
        check(address.path);
    } catch (...) {
        dlclose(handle_);
        throw;
    }
}

Library::~Library() {
    if (handle_ && !kept_) dlclose(handle_);
}

void Library::keep() {
    kept_ = true;
    if (remote_) remote_->end();
}

std::string Library::version() const {
    return fmt::format("{}.{}", chip_.version >> 16, chip_.version & 0xFFFF);
}

void Library::check(const std::string& path) {
    // As long as the table of version 0.1 was: one that ends before was filled in by mistake.
    constexpr uint32_t least = offsetof(busbar_chip, program_free) + sizeof(void*);
    if (chip_.version == 0)
        throw chip_error(path,
                         "[plugin] expected the version of the contract, got 0. Set busbar_chip.version to "
                         "BUSBAR_CHIP_VERSION");
    if (chip_.version >> 16 != BUSBAR_CHIP_MAJOR)
        throw chip_error(path,
                         "[plugin] expected contract {}.x, got {}: it is too {}. Compile it with this build's "
                         "busbar_chip.h, or use a build of its age",
                         BUSBAR_CHIP_MAJOR, version(), chip_.version >> 16 > BUSBAR_CHIP_MAJOR ? "new" : "old");
    if (chip_.struct_size < least)
        throw chip_error(path,
                         "[plugin] expected a table of at least {} bytes, got {}: set busbar_chip.struct_size to "
                         "sizeof(busbar_chip) and give it with busbar_give_chip",
                         least, chip_.struct_size);
    const auto missing = [&](const char* name) {
        throw chip_error(path, "[plugin] expected the function {}, got a null pointer: tier 0 needs all eight", name);
    };
    if (!chip_.device_info) missing("device_info");
    if (!chip_.device_open) missing("device_open");
    if (!chip_.device_close) missing("device_close");
    if (!chip_.buffer_alloc) missing("buffer_alloc");
    if (!chip_.buffer_free) missing("buffer_free");
    if (!chip_.copy) missing("copy");
    if (!chip_.claim) missing("claim");
    if (!chip_.run_ops) missing("run_ops");
    const auto group = [&](const char* names, std::initializer_list<bool> there) {
        size_t n = 0;
        for (bool b : there) n += b;
        if (n != 0 && n != there.size())
            throw chip_error(path, "[plugin] expected all of {} or none, got {} of {}", names, n, there.size());
    };
    group("stream_create, stream_destroy, event_record, stream_wait, event_wait, event_destroy",
          {chip_.stream_create != nullptr, chip_.stream_destroy != nullptr, chip_.event_record != nullptr,
           chip_.stream_wait != nullptr, chip_.event_wait != nullptr, chip_.event_destroy != nullptr});
    group("pack_weight, weight_free", {chip_.pack_weight != nullptr, chip_.weight_free != nullptr});
    group("prepare, run_program, program_free",
          {chip_.prepare != nullptr, chip_.run_program != nullptr, chip_.program_free != nullptr});
}

void check_info(const busbar_device_info& info, const std::string& path) {
    const auto nonsense = [&](const std::string& what) {
        throw chip_error(path, "[plugin] expected device_info to make sense, got {}", what);
    };
    if (strnlen(info.name, sizeof info.name) == 0) nonsense("no name");
    if (info.rate_count > std::size(info.rates)) nonsense(fmt::format("{} rates of at most 8", info.rate_count));
    if (info.cache_element_count > std::size(info.cache_elements))
        nonsense(fmt::format("{} cache elements of at most 7", info.cache_element_count));
    if (info.memory_free > info.memory_bytes && info.memory_bytes > 0)
        nonsense(fmt::format("{} bytes free of {}", with_commas(info.memory_free), with_commas(info.memory_bytes)));
    for (const double figure : {info.read_bytes_per_s, info.link_bytes_per_s, info.op_overhead_s})
        if (!(figure >= 0 && figure < 1e18)) nonsense(fmt::format("a rate or time of {}", figure));
    for (uint32_t i = 0; i < info.rate_count; ++i)
        if (!(info.rates[i].flops_per_s >= 0 && info.rates[i].flops_per_s < 1e24))
            nonsense(fmt::format("a peak rate of {}", info.rates[i].flops_per_s));
    for (const uint32_t origin : {info.read_origin, info.link_origin, info.overhead_origin})
        if (origin > BUSBAR_MEASURED) nonsense(fmt::format("an origin of {}", origin));
}

void look_in_child(const Address& address) {
    Child child([&](const Child::Tell& tell) {
        try {
            const Library library(address);
            const Setup setup(address);
            auto info = sized<busbar_device_info>();
            busbar_error error = no_error();
            const int32_t status = library.chip().device_info(&setup.record, &info, &error);
            if (status != BUSBAR_OK) throw_status("plugin", address.path, "device_info", status, error);
            check_info(info, address.path);
            tell("good");
        } catch (const Error& e) {
            std::string line = e.what();
            for (char& c : line)
                if (c == '\n') c = ' ';
            tell("bad " + line);
        }
    });
    const auto limit = std::min(address.timeout, std::chrono::milliseconds(10000));
    const std::optional<std::string> line = child.line(limit);
    if (line == "good") return;
    if (line && line->starts_with("bad ")) throw Error(ErrorCode::chip, "", line->substr(4));
    throw chip_error(address.path,
                     "[plugin] expected an answer when the library is opened and asked for its device, it {}{}. Is the "
                     "chip there and its driver installed?",
                     child.ended() ? "" : "gave none: it ", child.finish());
}

void throw_status(const std::string& chip, const std::string& address, const std::string& what, int32_t status,
                  const busbar_error& error) {
    std::string said = text_of(error.message, sizeof error.message);
    if (error.chip_code != 0) said += fmt::format(" (its code {})", error.chip_code);
    switch (status) {
        case BUSBAR_LOST:
            throw ChipLost(chip, address, fmt::format("[plugin] {}: the device is lost: {}", what, said));
        case BUSBAR_NO_MEMORY:
            throw Error(ErrorCode::does_not_fit, address, fmt::format("[plugin] {}: out of memory: {}", what, said));
        case BUSBAR_NOT_FOUND:
            throw chip_error(address, "[plugin] {}: there is no such device: {}", what, said);
        case BUSBAR_REFUSED:
            throw chip_error(address, "[plugin] {}: refused, though the chip claimed it: {}", what, said);
        case BUSBAR_BAD_ARGUMENT:
            throw chip_error(address, "[plugin] {}: the chip does not take this: {}", what, said);
        case BUSBAR_FAILED:
            throw chip_error(address, "[plugin] {}: failed: {}", what, said);
        default:
            throw chip_error(address, "[plugin] {}: expected a status of the contract (0 to 7), got {}: {}", what,
                             status, said);
    }
}

}  // namespace busbar::plugin
