#include "base/threads.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <set>
#include <stdexcept>
#include <thread>

namespace busbar {
namespace {

int cpus_in_mask() {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    EXPECT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
    return CPU_COUNT(&mask);
}

TEST(ThreadPool, HasAtLeastOneThreadAndAtMostTheMask) {
    EXPECT_GE(allowed_cpus(), 1);
    EXPECT_LE(allowed_cpus(), cpus_in_mask());
    EXPECT_EQ(ThreadPool().threads(), allowed_cpus());
}

TEST(ThreadPool, RunsOnceOnEachThread) {
    for (const int n : {1, 2, 3, 7}) {
        ThreadPool pool(n);
        for (int round = 0; round < 20; ++round) {
            std::vector<int> calls(n, 0);
            std::vector<std::thread::id> ids(n);
            pool.run([&](int thread) {
                ++calls[thread];
                ids[thread] = std::this_thread::get_id();
            });
            EXPECT_EQ(calls, std::vector<int>(n, 1));
            EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), static_cast<size_t>(n));
            EXPECT_EQ(ids[0], std::this_thread::get_id());
        }
    }
}

// Plain memory on purpose: what one thread writes before a barrier must be seen by its neighbour after it, and the
// sanitizer for threads must agree that nothing races.
TEST(ThreadPool, BarrierOrdersPlainMemory) {
    for (const int n : {1, 2, 3}) {
        ThreadPool pool(n);
        constexpr int rounds = 60;
        std::vector<int> numbers(n, 0);
        std::vector<int> wrong(n, 0);
        pool.run([&](int thread) {
            for (int round = 1; round <= rounds; ++round) {
                numbers[thread] = round * 100 + thread;
                pool.barrier();
                const int neighbour = (thread + 1) % n;
                wrong[thread] += numbers[neighbour] != round * 100 + neighbour;
                pool.barrier();
            }
        });
        EXPECT_EQ(wrong, std::vector<int>(n, 0)) << n << " threads";
    }
}

TEST(ThreadPool, WakesAfterASleep) {
    ThreadPool pool(2);
    for (int round = 0; round < 3; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the worker has left its spin by now
        std::atomic<int> calls{0};
        pool.run([&](int thread) {
            if (thread == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));  // and so has the caller
            ++calls;
            pool.barrier();
        });
        EXPECT_EQ(calls, 2);
    }
}

TEST(ThreadPool, HelpersComeOnceOrNotAtAll) {
    for (const int n : {1, 2, 3, 5}) {
        ThreadPool pool(n);
        for (int round = 0; round < 300; ++round) {
            std::vector<int> calls(n, 0);  // plain memory: all who came have left when the run returns
            std::atomic<int64_t> next{0};
            std::vector<int> taken(100, 0);
            pool.run_with_helpers([&](int thread) {
                ++calls[thread];
                for (int64_t i; (i = next.fetch_add(1)) < 100;) ++taken[i];
            });
            EXPECT_EQ(calls[0], 1);
            for (const int c : calls) ASSERT_LE(c, 1);
            ASSERT_EQ(taken, std::vector<int>(100, 1));
        }
    }
}

TEST(ThreadPool, ParallelForCoversEachIndexOnce) {
    ThreadPool pool(3);
    for (const int64_t n : {0, 1, 2, 63, 64, 65, 1000})
        for (const int64_t grain : {1, 7, 64, 5000}) {
            std::vector<std::atomic<int>> seen(n);
            pool.parallel_for(n, grain, [&](int64_t begin, int64_t end) {
                EXPECT_LE(end - begin, grain);
                for (int64_t i = begin; i < end; ++i) ++seen[i];
            });
            for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[i], 1) << i << " of " << n << " by " << grain;
        }
}

TEST(ThreadPool, AnExceptionOfAnyThreadReachesTheCaller) {
    ThreadPool pool(3);
    for (int thrower = 0; thrower < 3; ++thrower) {
        EXPECT_THROW(pool.run([&](int thread) {
            if (thread == thrower) throw std::runtime_error("planned");
        }),
                     std::runtime_error);
        std::atomic<int> calls{0};
        pool.run([&](int) { ++calls; });  // and the pool goes on
        EXPECT_EQ(calls, 3);
    }
    EXPECT_THROW(pool.parallel_for(100, 1,
                                   [](int64_t begin, int64_t) {
                                       if (begin == 50) throw std::runtime_error("planned");
                                   }),
                 std::runtime_error);
}

TEST(ThreadPool, TheCallersMaskIsItsOwnAgainAfterARun) {
    const int before = cpus_in_mask();
    ThreadPool pool(0);
    std::vector<int> of_thread(pool.threads(), 0);
    pool.run([&](int thread) { of_thread[thread] = cpus_in_mask(); });
    EXPECT_EQ(cpus_in_mask(), before);
    if (pool.threads() > 1 && pool.threads() <= before) {
        for (const int n : of_thread) EXPECT_EQ(n, 1);
    }
    int of_child = 0;
    std::thread([&] { of_child = cpus_in_mask(); }).join();
    EXPECT_EQ(of_child, before);
}

TEST(ThreadPool, ManyPoolsComeAndGo) {
    for (int round = 0; round < 100; ++round) {
        ThreadPool pool(1 + round % 4);
        std::atomic<int> calls{0};
        pool.run_with_helpers([](int) {});
        if (round % 2) pool.run([&](int) { ++calls; });
        EXPECT_EQ(calls, round % 2 ? pool.threads() : 0);
    }
}

}  // namespace
}  // namespace busbar
