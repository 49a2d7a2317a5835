#pragma once
#include <span>

#include "base/bytes.h"
#include "chips/plugin/library.h"
#include "chips/plugin/worker.h"
#include "device/device.h"

namespace busbar::plugin {

/// An opened device of a vendor's library and the one thread that calls it. Everything made on the device shares it, so
/// that the library stays until the last of them is gone.
class Core : public std::enable_shared_from_this<Core> {
  public:
    using Call = std::function<int32_t(const busbar_chip&, busbar_device, busbar_error*)>;

    explicit Core(const Address& address);
    ~Core();

    const std::string& name() const { return name_; }  ///< "plugin:minimal"
    const busbar_device_info& info() const { return info_; }
    const Library& library() const { return *library_; }
    const Address& address() const { return address_; }
    Worker& worker() { return worker_; }

    /// One call, on the worker's thread, within the time limit. Throws what its status stands for; ChipLost if it did
    /// not return, and from then on for every call. `call` owns all that it touches. `node`: whose work it is, or "".
    void call(const std::string& what, const std::string& node, Call call);
    /// Work of several calls, which reports to worker().progress(); false if it hung: say so with hung().
    bool run_work(std::function<void(const busbar_chip&, busbar_device)> work);
    void check_lost() const;
    /// For destructors: no error leaves it, nothing is called on a lost device but what frees.
    void call_to_free(const Call& call) noexcept;
    /// The same for a call that was made by run(): what the status means, with the node that the chip named.
    void raise(const std::string& what, const std::string& node, int32_t status, const busbar_error& error);
    [[noreturn]] void hung(const std::string& what, const std::string& node);
    std::string where(const std::string& node) const { return node.empty() ? name_ : name_ + ": node " + node; }

    /// Copies between host memory and a buffer of the chip, in parts that lie in memory of the call's own.
    void write(busbar_buffer to, uint64_t offset, Bytes data);
    void read(busbar_buffer from, uint64_t offset, std::span<std::byte> out);

  private:
    Address address_;
    std::string name_;
    std::shared_ptr<Library> library_;  ///< of calls left behind, too
    Worker worker_;
    busbar_device device_ = nullptr;
    busbar_device_info info_{};
    std::string lost_;  ///< why, once it is
};

/// Bytes of a known pattern before and behind every buffer: a kernel that writes past its buffer changes them.
constexpr uint64_t guard_bytes = 256;
constexpr std::byte guard{0xA5};

class PluginBuffer : public Buffer {
  public:
    PluginBuffer(std::shared_ptr<Core> core, uint64_t bytes);
    ~PluginBuffer() override;
    uint64_t bytes() const override { return bytes_; }
    busbar_buffer handle() const { return handle_; }
    /// Of the first byte that is the caller's, in the chip's buffer.
    static uint64_t start() { return guard_bytes; }
    Core& core() const { return *core_; }

  private:
    std::shared_ptr<Core> core_;
    uint64_t bytes_;
    busbar_buffer handle_ = nullptr;
};

}  // namespace busbar::plugin
