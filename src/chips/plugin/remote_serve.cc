#include "chips/plugin/remote_serve.h"

#include "chips/plugin/wire.h"

namespace busbar::plugin {

namespace {

/// The child's side of one library with one device.
class Server {
  public:
    Server(const Address& address, std::byte* shared) : path_(address.path), library_(address), shared_(shared) {}
    const busbar_chip& chip() const { return library_.chip(); }

    int32_t serve(Function function, Reader& r, Writer& w, busbar_error* e) {
        using enum Function;
        switch (function) {
            case info: {
                auto filled = sized<busbar_device_info>();
                const int32_t status = chip().device_info(r.setup(path_.c_str()), &filled, e);
                w.put(filled);
                return status;
            }
            case open: {
                const int32_t status = chip().device_open(r.setup(path_.c_str()), &device_, e);
                w.put(static_cast<uint64_t>(device_ != nullptr));
                return status;
            }
            case close:
                return chip().device_close(device_, e);
            case alloc: {
                const auto kind = r.get<uint32_t>();
                const auto bytes = r.get<uint64_t>();
                busbar_buffer made = nullptr;
                const int32_t status = chip().buffer_alloc(device_, kind, bytes, &made, e);
                return given(status, made, bytes, w);
            }
            case free:
                return chip().buffer_free(device_, r.get<busbar_buffer>(), e);
            case copy: {
                auto c = r.get<busbar_copy>();
                if (!c.from_buffer) c.from = shared_;
                if (!c.to_buffer) c.to = shared_;
                return chip().copy(device_, &c, nullptr, e);
            }
            case claim: {
                auto filled = sized<busbar_claim>();
                filled.activation = filled.accumulate = BUSBAR_F32;
                const int32_t status = chip().claim(device_, r.op(), &filled, e);
                w.put(filled);
                return status;
            }
            case run: {
                const auto step = r.get<busbar_step>();
                const auto& ops = r.ops();
                return chip().run_ops(device_, ops.data(), static_cast<uint32_t>(ops.size()), &step, nullptr, e);
            }
            case stage: {
                const auto n = r.get<uint64_t>();
                staged_.insert(staged_.end(), shared_, shared_ + n);
                return BUSBAR_OK;
            }
            case pack: {
                busbar_weight made = nullptr;
                uint64_t kept = 0;
                const int32_t status = chip().pack_weight(device_, r.tensor(), staged_.data(), &made, &kept, e);
                staged_.clear();
                staged_.shrink_to_fit();
                return given(status, made, kept, w);
            }
            case unpack:
                return chip().weight_free(device_, r.get<busbar_weight>(), e);
            case prepare: {
                const auto layout = r.get<busbar_step>();
                const auto& ops = r.ops();
                busbar_program made = nullptr;
                const int32_t status =
                    chip().prepare(device_, ops.data(), static_cast<uint32_t>(ops.size()), &layout, &made, e);
                return given(status, made, 0, w);
            }
            case run_program: {
                const auto program = r.get<busbar_program>();
                const auto step = r.get<busbar_step>();
                const auto first = r.get<uint32_t>(), last = r.get<uint32_t>();
                return chip().run_program(device_, program, &step, first, last, nullptr, e);
            }
            case drop_program:
                return chip().program_free(device_, r.get<busbar_program>(), e);
            default:
                return busbar_fail(e, BUSBAR_BAD_ARGUMENT, "a call that this process does not know");
        }
    }

  private:
    template <typename Handle>
    static int32_t given(int32_t status, Handle handle, uint64_t bytes, Writer& w) {
        w.put(handle);
        w.put(bytes);
        return status;
    }
    std::string path_;
    Library library_;
    std::byte* shared_;
    busbar_device device_ = nullptr;
    std::vector<std::byte> staged_;
};

}  // namespace

void serve_library(const Address& address, int socket, std::byte* shared, const Child::Tell& tell) {
    std::unique_ptr<Server> server;
    try {
        Address here = address;
        here.isolate = false;
        server = std::make_unique<Server>(here, shared);
        tell(fmt::format("good {} {} {}", server->chip().version, server->chip().pack_weight ? 1 : 0,
                         server->chip().prepare ? 1 : 0));
    } catch (const Error& e) {
        std::string line = e.what();
        for (char& c : line)
            if (c == '\n') c = ' ';
        tell("bad " + line);
        return;
    }
    Message m{};
    while (receive_all(socket, &m, sizeof m)) {
        std::vector<char> bytes(m.bytes);
        if (!receive_all(socket, bytes.data(), bytes.size())) return;
        Reader reader(std::move(bytes));
        Writer writer;
        Answer answer{BUSBAR_OK, 0, no_error()};
        answer.status = server->serve(m.function, reader, writer, &answer.error);
        answer.bytes = static_cast<uint32_t>(writer.bytes().size());
        if (!send_all(socket, &answer, sizeof answer) ||
            !send_all(socket, writer.bytes().data(), writer.bytes().size()))
            return;
    }
}

}  // namespace busbar::plugin
