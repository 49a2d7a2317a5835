#pragma once
#include <atomic>
#include <memory>

#include "base/child.h"
#include "chips/plugin/library.h"
#include "chips/plugin/wire.h"

namespace busbar::plugin {

enum class Function : uint32_t;  // remote_serve.h

/// A library in a process of its own (?isolate): if it crashes, the device is lost and the host lives; if it hangs, its
/// process is ended. Its table is a table of stand-ins that send the call there; data goes through shared memory.
/// Offers no streams: calls are synchronous. The process ends with the thread that made it, or with the object.
class Remote {
  public:
    /// Starts the process and opens the library there. Throws Error{chip} with what happened, in 10 s at most.
    explicit Remote(const Address& address);
    ~Remote();
    Remote(const Remote&) = delete;
    Remote& operator=(const Remote&) = delete;

    /// The stand-ins. Their device handle, and log_context of a busbar_setup, is the Remote.
    const busbar_chip& chip() const { return chip_; }
    /// Ends the process: a call that hangs there comes back with BUSBAR_LOST.
    void end();

    /// Sends one call and waits for its answer. `answer` gets what follows status and error.
    int32_t call(Function function, const Writer& arguments, std::vector<char>& answer, busbar_error* error);
    std::byte* shared() const { return shared_; }
    static constexpr uint64_t shared_bytes = 4u << 20;

  private:
    int32_t lost(busbar_error* error);
    std::byte* shared_ = nullptr;
    int socket_ = -1;
    std::unique_ptr<Child> child_;
    busbar_chip chip_{};
    std::atomic<bool> over_ = false;
    std::string how_;  ///< it ended
};

}  // namespace busbar::plugin
