#include "chips/plugin/remote.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "chips/plugin/remote_serve.h"

namespace busbar::plugin {

bool send_all(int socket, const void* data, size_t size) {
    const auto* p = static_cast<const char*>(data);
    while (size > 0) {
        const ssize_t n = send(socket, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        size -= static_cast<size_t>(n);
    }
    return true;
}

bool receive_all(int socket, void* data, size_t size) {
    auto* p = static_cast<char*>(data);
    while (size > 0) {
        const ssize_t n = recv(socket, p, size, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        size -= static_cast<size_t>(n);
    }
    return true;
}

namespace {

Remote& of(busbar_device device) {
    return *reinterpret_cast<Remote*>(device);
}

// The answer is one record, cut or filled to what the caller has room for.
template <typename Record>
void take(const std::vector<char>& answer, Record& out) {
    if (!answer.empty()) std::memcpy(&out, answer.data(), std::min(answer.size(), sizeof out));
}

template <typename Handle>
int32_t make(busbar_device d, Function f, const Writer& w, Handle* handle, uint64_t* kept, busbar_error* error) {
    std::vector<char> answer;
    const int32_t status = of(d).call(f, w, answer, error);
    Reader r(std::move(answer));
    if (status != BUSBAR_OK) return status;
    *handle = r.get<Handle>();
    const auto bytes = r.get<uint64_t>();
    if (kept) *kept = bytes;
    return status;
}

template <typename Handle>
int32_t drop(busbar_device d, Function f, Handle handle, busbar_error* error) {
    Writer w;
    std::vector<char> answer;
    w.put(handle);
    return of(d).call(f, w, answer, error);
}

int32_t device_info(const busbar_setup* setup, busbar_device_info* info, busbar_error* error) {
    Writer w;
    std::vector<char> answer;
    w.setup(*setup);
    const int32_t status = static_cast<Remote*>(setup->log_context)->call(Function::info, w, answer, error);
    if (status == BUSBAR_OK) take(answer, *info);
    return status;
}

int32_t device_open(const busbar_setup* setup, busbar_device* device, busbar_error* error) {
    Writer w;
    std::vector<char> answer;
    w.setup(*setup);
    auto* remote = static_cast<Remote*>(setup->log_context);
    const int32_t status = remote->call(Function::open, w, answer, error);
    Reader r(std::move(answer));
    if (status == BUSBAR_OK && r.get<uint64_t>() != 0) *device = reinterpret_cast<busbar_device>(remote);
    return status;
}

int32_t device_close(busbar_device d, busbar_error* error) {
    std::vector<char> answer;
    return of(d).call(Function::close, {}, answer, error);
}

int32_t buffer_alloc(busbar_device d, uint32_t kind, uint64_t bytes, busbar_buffer* buffer, busbar_error* error) {
    Writer w;
    w.put(kind);
    w.put(bytes);
    return make(d, Function::alloc, w, buffer, nullptr, error);
}

int32_t buffer_free(busbar_device d, busbar_buffer buffer, busbar_error* error) {
    return drop(d, Function::free, buffer, error);
}

int32_t copy_data(busbar_device d, const busbar_copy* c, busbar_stream, busbar_error* error) {
    const bool inside = c->from_buffer && c->to_buffer;
    for (uint64_t at = 0; at < c->bytes;) {
        const uint64_t n = inside ? c->bytes : std::min(c->bytes - at, Remote::shared_bytes);
        if (!c->from_buffer)
            std::memcpy(of(d).shared(), static_cast<const std::byte*>(c->from) + c->from_offset + at, n);
        busbar_copy part = *c;
        part.bytes = n;
        part.from_offset = c->from_buffer ? c->from_offset + at : 0;
        part.to_offset = c->to_buffer ? c->to_offset + at : 0;
        Writer w;
        std::vector<char> answer;
        w.put(part);
        const int32_t status = of(d).call(Function::copy, w, answer, error);
        if (status != BUSBAR_OK) return status;
        if (!c->to_buffer) std::memcpy(static_cast<std::byte*>(c->to) + c->to_offset + at, of(d).shared(), n);
        at += n;
    }
    return BUSBAR_OK;
}

int32_t claim(busbar_device d, const busbar_op* op, busbar_claim* claim, busbar_error* error) {
    Writer w;
    std::vector<char> answer;
    w.op(*op);
    const int32_t status = of(d).call(Function::claim, w, answer, error);
    if (status == BUSBAR_OK) take(answer, *claim);
    return status;
}

int32_t run_ops(busbar_device d, const busbar_op* const* ops, uint32_t count, const busbar_step* step, busbar_stream,
                busbar_error* error) {
    Writer w;
    std::vector<char> answer;
    w.put(*step);
    w.ops(ops, count);
    return of(d).call(Function::run, w, answer, error);
}

int32_t pack_weight(busbar_device d, const busbar_tensor* stored, const void* bytes, busbar_weight* weight,
                    uint64_t* kept, busbar_error* error) {
    for (uint64_t at = 0; at < stored->bytes; at += Remote::shared_bytes) {
        const uint64_t n = std::min(stored->bytes - at, Remote::shared_bytes);
        std::memcpy(of(d).shared(), static_cast<const std::byte*>(bytes) + at, n);
        Writer part;
        std::vector<char> answer;
        part.put(n);
        if (const int32_t status = of(d).call(Function::stage, part, answer, error); status != BUSBAR_OK) return status;
    }
    Writer w;
    w.tensor(*stored);
    return make(d, Function::pack, w, weight, kept, error);
}

int32_t weight_free(busbar_device d, busbar_weight weight, busbar_error* error) {
    return drop(d, Function::unpack, weight, error);
}

int32_t prepare(busbar_device d, const busbar_op* const* ops, uint32_t count, const busbar_step* layout,
                busbar_program* program, busbar_error* error) {
    Writer w;
    w.put(*layout);
    w.ops(ops, count);
    return make(d, Function::prepare, w, program, nullptr, error);
}

int32_t run_program(busbar_device d, busbar_program program, const busbar_step* step, uint32_t first, uint32_t last,
                    busbar_stream, busbar_error* error) {
    Writer w;
    std::vector<char> answer;
    w.put(program);
    w.put(*step);
    w.put(first);
    w.put(last);
    return of(d).call(Function::run_program, w, answer, error);
}

int32_t program_free(busbar_device d, busbar_program program, busbar_error* error) {
    return drop(d, Function::drop_program, program, error);
}

}  // namespace

Remote::Remote(const Address& address) {
    void* memory = mmap(nullptr, shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ends[2];
    if (memory == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        throw chip_error(address.path,
                         "[plugin] expected memory and a socket for its process, the system gave none: {}",
                         std::strerror(errno));
    shared_ = static_cast<std::byte*>(memory);
    socket_ = ends[0];
    child_ = std::make_unique<Child>([&](const Child::Tell& tell) {
        close(ends[0]);
        serve_library(address, ends[1], shared_, tell);
    });
    close(ends[1]);
    const auto limit = std::min(address.timeout, std::chrono::milliseconds(10000));
    const std::optional<std::string> line = child_->line(limit);
    if (line && line->starts_with("bad ")) throw Error(ErrorCode::chip, "", line->substr(4));
    unsigned version = 0;
    int packs = 0, programs = 0;
    if (!line || std::sscanf(line->c_str(), "good %u %d %d", &version, &packs, &programs) != 3)
        throw chip_error(address.path, "[plugin] expected an answer when the library is opened, its process {}",
                         child_->finish());
    chip_ = sized<busbar_chip>();
    chip_.version = version;
    chip_.device_info = device_info;
    chip_.device_open = device_open;
    chip_.device_close = device_close;
    chip_.buffer_alloc = buffer_alloc;
    chip_.buffer_free = buffer_free;
    chip_.copy = copy_data;
    chip_.claim = claim;
    chip_.run_ops = run_ops;
    if (packs) {
        chip_.pack_weight = pack_weight;
        chip_.weight_free = weight_free;
    }
    if (programs) {
        chip_.prepare = prepare;
        chip_.run_program = run_program;
        chip_.program_free = program_free;
    }
}

Remote::~Remote() {
    if (socket_ >= 0) close(socket_);
    child_.reset();
    if (shared_) munmap(shared_, shared_bytes);
}

void Remote::end() {
    if (child_ && !over_) kill(child_->process(), SIGKILL);
}

int32_t Remote::lost(busbar_error* error) {
    if (!over_.exchange(true)) {
        child_->line(std::chrono::milliseconds(1000));  // so that it is known to have ended by itself
        how_ = child_->finish();
    }
    return busbar_fail(error, BUSBAR_LOST, ("its process was " + how_).c_str());
}

int32_t Remote::call(Function function, const Writer& arguments, std::vector<char>& answer, busbar_error* error) {
    if (over_) return lost(error);
    const Message head{function, static_cast<uint32_t>(arguments.bytes().size())};
    Answer back{};
    if (!send_all(socket_, &head, sizeof head) ||
        !send_all(socket_, arguments.bytes().data(), arguments.bytes().size()) ||
        !receive_all(socket_, &back, sizeof back) || back.bytes > (1u << 20))
        return lost(error);
    answer.resize(back.bytes);
    if (!receive_all(socket_, answer.data(), answer.size())) return lost(error);
    *error = back.error;
    return back.status;
}

}  // namespace busbar::plugin
