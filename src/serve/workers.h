#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace busbar {

/// A few threads for what takes too long on the server's own: a stranger's template run and tokenizing.
class Workers {
  public:
    Workers(int threads, size_t most_waiting);
    ~Workers();
    /// False where too much waits already. `work` must not throw.
    bool post(std::function<void()> work);

  private:
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> queue_;
    size_t most_waiting_;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace busbar
