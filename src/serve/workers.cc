#include "serve/workers.h"

namespace busbar {

Workers::Workers(int threads, size_t most_waiting) : most_waiting_(most_waiting) {
    for (int i = 0; i < threads; ++i)
        threads_.emplace_back([this] {
            std::unique_lock lock(mutex_);
            while (true) {
                wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
                if (stop_) return;
                const auto work = std::move(queue_.front());
                queue_.pop_front();
                lock.unlock();
                work();
                lock.lock();
            }
        });
}

Workers::~Workers() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
}

bool Workers::post(std::function<void()> work) {
    const std::scoped_lock lock(mutex_);
    if (queue_.size() >= most_waiting_) return false;
    queue_.push_back(std::move(work));
    wake_.notify_one();
    return true;
}

}  // namespace busbar
