#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <vector>

namespace busbar {

/// Number of CPUs this process may keep busy: its affinity mask, cut by the cgroup's quota. At least 1.
int allowed_cpus();

/// Waits until `word` is no longer `old`: looks about 2,000 times, then sleeps until somebody calls word.notify_all().
void wait_while(const std::atomic<int32_t>& word, int32_t old);

/// A team of threads that run one function together. Between two runs and at a barrier they spin for a moment (a
/// barrier then costs a third of a microsecond), after that they sleep on a futex (a stalled neighbour then costs no
/// CPU time).
///
/// With 2 .. allowed_cpus() threads each is pinned to a CPU of its own; the caller's own mask is set for the duration
/// of a run only, so threads that it starts elsewhere never inherit a single CPU. One caller at a time; runs do not
/// nest.
class ThreadPool {
  public:
    /// 0 threads: allowed_cpus(). The caller of run() is thread 0, so threads - 1 are started.
    explicit ThreadPool(int threads = 0);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return threads_; }

    /// Calls fn(thread) once on each thread, 0 .. threads() - 1, and returns when all are done. Allocates nothing.
    /// The first exception of any of them is thrown here; a function that uses barrier() must not throw.
    template <typename Function>
    void run(Function&& fn) {
        run_raw(call_of<Function>, const_cast<void*>(static_cast<const void*>(&fn)), true);
    }

    /// Calls fn(0) here at once, and fn(thread) on each worker that wakes before that returns: for work handed out from
    /// a counter, where a worker that the system keeps asleep then holds up nobody. No barrier() inside.
    template <typename Function>
    void run_with_helpers(Function&& fn) {
        run_raw(call_of<Function>, const_cast<void*>(static_cast<const void*>(&fn)), false);
    }

    /// Inside run(): waits until all threads of the pool are here. What any wrote before, all see after.
    void barrier();

    /// Calls fn(begin, end) over ranges of at most `grain` that cover 0 .. n, on all threads. After a throw the rest is
    /// left out.
    template <typename Function>
    void parallel_for(int64_t n, int64_t grain, Function&& fn) {
        std::atomic<int64_t> next{0};
        run_with_helpers([&](int) {
            for (;;) {
                const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
                if (begin >= n) return;
                try {
                    fn(begin, n - begin < grain ? n : begin + grain);
                } catch (...) {
                    next.store(n, std::memory_order_relaxed);
                    throw;
                }
            }
        });
    }

  private:
    struct Team;
    template <typename Function>
    static void call_of(void* f, int thread) {
        (*static_cast<std::remove_reference_t<Function>*>(f))(thread);
    }
    void run_raw(void (*call)(void*, int), void* argument, bool everybody);
    int threads_ = 1;
    std::unique_ptr<Team> team_;
};

}  // namespace busbar
