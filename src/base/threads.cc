#include "base/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"

namespace busbar {

namespace {

// About 2,000 looks before sleeping: long enough for the gaps between steps of a program, short enough that a thread
// whose neighbour lost its CPU does not burn a whole time slice.
constexpr int spins = 2000;

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}

std::vector<int> cpus_of_mask() {
    std::vector<int> cpus;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) return cpus;  // more than 1,024 CPUs: no pinning
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
    return cpus;
}

// CPUs' worth of time per period that the cgroup grants; infinite if it does not say.
double quota() {
    double granted = INFINITY, period = 0;
    std::ifstream v2("/sys/fs/cgroup/cpu.max");
    if (std::string word; v2 >> word >> period && word != "max" && period > 0)
        granted = std::atof(word.c_str()) / period;
    std::ifstream v1("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (double q = 0; v1 >> q && v1_period >> period && q > 0 && period > 0) granted = std::min(granted, q / period);
    return granted;
}

void pin_to(int cpu) {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpu, &mask);
    sched_setaffinity(0, sizeof mask, &mask);  // a refusal costs speed, nothing else
}

}  // namespace

void wait_while(const std::atomic<int32_t>& word, int32_t old) {
    for (int i = 0; i < spins; ++i) {
        if (word.load(std::memory_order_acquire) != old) return;
        pause_cpu();
    }
    while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

int allowed_cpus() {
    const int in_mask = static_cast<int>(cpus_of_mask().size());
    const int of_machine = std::max(1, in_mask > 0 ? in_mask : static_cast<int>(std::thread::hardware_concurrency()));
    return std::max(1, static_cast<int>(std::min(static_cast<double>(of_machine), std::ceil(quota()))));
}

// Each word that threads wait on has its cache line.
struct ThreadPool::Team {
    static constexpr int32_t closed = -1;
    alignas(64) std::atomic<int32_t> epoch{0};         ///< changes when a run begins: the bell
    alignas(64) std::atomic<int32_t> entered{closed};  ///< workers in the run, or closed: the door
    alignas(64) std::atomic<int32_t> finished{0};      ///< of them, those who are through
    alignas(64) std::atomic<int32_t> arrived{0};       ///< at the barrier
    alignas(64) std::atomic<int32_t> generation{0};    ///< of the barrier
    alignas(64) void (*call)(void*, int) = nullptr;    // published by the opening of the door
    void* argument = nullptr;
    std::atomic<bool> stop{false};
    std::mutex failure_lock;
    std::exception_ptr failure;
    std::vector<int> cpus;  ///< CPU of each thread; empty: not pinned
    std::vector<std::thread> workers;

    void call_one(int thread) {
        try {
            call(argument, thread);
        } catch (...) {
            const std::lock_guard guard(failure_lock);
            if (!failure) failure = std::current_exception();
        }
    }

    bool enter() {
        int32_t n = entered.load(std::memory_order_acquire);
        while (n != closed)
            if (entered.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel)) return true;
        return false;
    }

    void work(int thread) {
        if (!cpus.empty()) pin_to(cpus[thread]);
        int32_t seen = 0;
        for (;;) {
            wait_while(epoch, seen);
            seen = epoch.load(std::memory_order_acquire);
            if (stop.load(std::memory_order_acquire)) return;
            if (!enter()) continue;
            // Late for one bell, in time for the next: while we are inside, no other rings.
            seen = epoch.load(std::memory_order_acquire);
            call_one(thread);
            finished.fetch_add(1, std::memory_order_acq_rel);
            finished.notify_all();
        }
    }
};

ThreadPool::ThreadPool(int threads)
    : threads_(threads > 0 ? threads : allowed_cpus()), team_(std::make_unique<Team>()) {
    std::vector<int> cpus = cpus_of_mask();
    if (threads_ > 1 && threads_ <= static_cast<int>(cpus.size())) {
        // From the CPU we are on, so that small pools of several processes do not all meet on the first CPUs.
        const auto here = std::find(cpus.begin(), cpus.end(), sched_getcpu());
        if (here != cpus.end()) std::rotate(cpus.begin(), here, cpus.end());
        cpus.resize(threads_);
        team_->cpus = std::move(cpus);
    }
    team_->workers.reserve(threads_ - 1);
    for (int i = 1; i < threads_; ++i) team_->workers.emplace_back([team = team_.get(), i] { team->work(i); });
}

ThreadPool::~ThreadPool() {
    team_->stop.store(true, std::memory_order_release);
    team_->epoch.fetch_add(1, std::memory_order_release);
    team_->epoch.notify_all();
    for (std::thread& worker : team_->workers) worker.join();
}

void ThreadPool::run_raw(void (*call)(void*, int), void* argument, bool everybody) {
    Team& t = *team_;
    BUSBAR_CHECK(t.entered.load(std::memory_order_relaxed) == Team::closed, "a run inside a run");
    t.call = call;
    t.argument = argument;
    cpu_set_t before;
    bool restore = false;
    if (threads_ > 1) {
        if (!t.cpus.empty() && sched_getaffinity(0, sizeof before, &before) == 0) {
            restore = true;
            pin_to(t.cpus[0]);
        }
        t.finished.store(0, std::memory_order_relaxed);
        t.entered.store(0, std::memory_order_release);
        t.epoch.fetch_add(1, std::memory_order_release);
        t.epoch.notify_all();
    }
    t.call_one(0);
    if (threads_ > 1) {
        int32_t expected = threads_ - 1;
        if (!everybody) expected = t.entered.exchange(Team::closed, std::memory_order_acq_rel);
        for (int32_t done; (done = t.finished.load(std::memory_order_acquire)) != expected;)
            wait_while(t.finished, done);
        t.entered.store(Team::closed, std::memory_order_relaxed);
    }
    if (restore) sched_setaffinity(0, sizeof before, &before);
    if (t.failure) std::rethrow_exception(std::exchange(t.failure, nullptr));
}

void ThreadPool::barrier() {
    if (threads_ == 1) return;
    Team& t = *team_;
    const int32_t generation = t.generation.load(std::memory_order_relaxed);
    if (t.arrived.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
        t.arrived.store(0, std::memory_order_relaxed);
        t.generation.store(generation + 1, std::memory_order_release);
        t.generation.notify_all();
    } else {
        wait_while(t.generation, generation);
    }
}

}  // namespace busbar
