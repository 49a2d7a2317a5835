#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

namespace busbar::plugin {

/// A thread that calls into a stranger's library, so that a call which never returns can be left behind. Calls run one
/// at a time, always on this thread. What a call touches must be owned by the call (shared pointers, no references to
/// the caller's frame): it may wake up after its caller has gone on.
class Worker {
  public:
    Worker();
    /// Waits for the thread, unless it was abandoned.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    /// Runs `call` and returns true; false if `limit` passed without its end and without a change of progress(): the
    /// thread is abandoned then, and every later call answers false at once. `call` must not throw.
    bool run(std::function<void()> call, std::chrono::milliseconds limit);
    bool abandoned() const { return abandoned_; }

    /// For calls that do several things: each stores what it is at, which starts the limit anew.
    std::shared_ptr<std::atomic<int64_t>> progress() const;

  private:
    struct Shared {
        std::mutex mutex;
        std::condition_variable changed;
        std::function<void()> call;
        bool busy = false, stop = false;
        std::shared_ptr<std::atomic<int64_t>> progress = std::make_shared<std::atomic<int64_t>>(-1);
    };
    static void serve(const std::shared_ptr<Shared>& shared);
    std::shared_ptr<Shared> shared_;
    std::atomic<bool> abandoned_ = false;
    struct Thread;
    std::unique_ptr<Thread> thread_;
};

}  // namespace busbar::plugin
