// Matrix products in f32: vectors of eight sums, so that a compiler for any processor finds its own instructions.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "faulty.h"

namespace faulty {

struct Team::Inside {
    std::mutex mutex;
    std::condition_variable changed;
    const std::function<void(int64_t, int64_t)>* work = nullptr;
    int64_t count = 0;
    uint64_t round = 0;
    int parts = 1, busy = 0;
    bool stop = false;
    std::vector<std::thread> threads;

    void part(int i) const { (*work)(count * i / parts, count * (i + 1) / parts); }
};

Team::Team(int threads) : inside_(std::make_unique<Inside>()) {
    Inside& in = *inside_;
    in.parts = threads;
    for (int i = 1; i < threads; ++i)
        in.threads.emplace_back([&in, i] {
            uint64_t seen = 0;
            std::unique_lock<std::mutex> lock(in.mutex);
            while (true) {
                in.changed.wait(lock, [&] { return in.stop || in.round != seen; });
                if (in.stop) return;
                seen = in.round;
                lock.unlock();
                in.part(i);
                lock.lock();
                if (--in.busy == 0) in.changed.notify_all();
            }
        });
}

Team::~Team() {
    {
        const std::lock_guard<std::mutex> lock(inside_->mutex);
        inside_->stop = true;
    }
    inside_->changed.notify_all();
    for (std::thread& t : inside_->threads) t.join();
}

void Team::share(int64_t count, const std::function<void(int64_t, int64_t)>& work) {
    Inside& in = *inside_;
    if (in.parts == 1 || count < in.parts) return work(0, count);
    {
        const std::lock_guard<std::mutex> lock(in.mutex);
        in.work = &work;
        in.count = count;
        in.busy = in.parts - 1;
        ++in.round;
    }
    in.changed.notify_all();
    in.part(0);
    std::unique_lock<std::mutex> lock(in.mutex);
    in.changed.wait(lock, [&] { return in.busy == 0; });
}

namespace {

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

float total(const Eight& s) {
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

// `R` rows of x and `N` rows of w at once. Each sum goes its own way: its bits do not depend on R and N.
template <int R, int N>
inline __attribute__((always_inline)) void block(const float* x, const float* w, int64_t width, int64_t outputs,
                                                 float* y) {
    Eight s[R][N] = {};
    int64_t k = 0;
    for (; k + 8 <= width; k += 8)
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n)
                s[r][n] += *reinterpret_cast<const Eight*>(x + r * width + k) *
                           *reinterpret_cast<const Eight*>(w + n * width + k);
    for (; k < width; ++k)
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) s[r][n][0] += x[r * width + k] * w[n * width + k];
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) y[r * outputs + n] = total(s[r][n]);
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("default", "avx2")))
#else
#define FOR_EACH_PROCESSOR
#endif

FOR_EACH_PROCESSOR
void multiply_rows(const float* x, int64_t rows, const float* w, int64_t begin, int64_t end, int64_t width,
                   int64_t outputs, float* y) {
    int64_t n = begin;
    for (; n + 2 <= end; n += 2) {
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4) block<4, 2>(x + r * width, w + n * width, width, outputs, y + r * outputs + n);
        for (; r < rows; ++r) block<1, 2>(x + r * width, w + n * width, width, outputs, y + r * outputs + n);
    }
    for (; n < end; ++n)
        for (int64_t r = 0; r < rows; ++r)
            block<1, 1>(x + r * width, w + n * width, width, outputs, y + r * outputs + n);
}

}  // namespace

void multiply(Team& team, const float* x, int64_t rows, const float* w, int64_t outputs, int64_t width, float* y) {
    team.share(outputs, [&](int64_t begin, int64_t end) { multiply_rows(x, rows, w, begin, end, width, outputs, y); });
}

namespace {

// To 11 significant bits, as in half precision (its range is not modelled): adding and taking away a multiple of the
// number rounds it. Infinities and NaN stay.
inline __attribute__((always_inline)) Eight rounded(Eight v) {
    const Eight far = v * 8193.0f, high = far - (far - v);
    return high == high ? high : v;
}

// Eight rows side by side, four outputs at a time: each sum in sequence, as a kernel that accumulates in halves has it.
FOR_EACH_PROCESSOR
void half_rows(const float* columns, int64_t rows, const float* w, int64_t begin, int64_t end, int64_t width,
               int64_t outputs, float* y) {
    for (int64_t n = begin; n < end; n += 4) {
        const int64_t together = end - n < 4 ? end - n : 4;
        const float *w0 = w + n * width, *w1 = w0 + (together > 1 ? width : 0), *w2 = w1 + (together > 2 ? width : 0),
                    *w3 = w2 + (together > 3 ? width : 0);
        Eight s0 = {}, s1 = {}, s2 = {}, s3 = {};
        for (int64_t k = 0; k < width; ++k) {
            const Eight x = *reinterpret_cast<const Eight*>(columns + 8 * k);
            s0 = rounded(s0 + rounded(x * w0[k]));
            s1 = rounded(s1 + rounded(x * w1[k]));
            s2 = rounded(s2 + rounded(x * w2[k]));
            s3 = rounded(s3 + rounded(x * w3[k]));
        }
        const Eight s[4] = {s0, s1, s2, s3};
        for (int64_t i = 0; i < together; ++i)
            for (int64_t r = 0; r < rows; ++r) y[r * outputs + n + i] = s[i][r];
    }
}

}  // namespace

void multiply_in_half(Team& team, const float* x, int64_t rows, const float* w, int64_t outputs, int64_t width,
                      float* y) {
    std::vector<float> columns(static_cast<size_t>(8 * width));
    for (int64_t r = 0; r < rows; r += 8) {
        const int64_t here = rows - r < 8 ? rows - r : 8;
        for (int64_t k = 0; k < width; ++k)
            for (int64_t i = 0; i < 8; ++i) columns[8 * k + i] = i < here ? x[(r + i) * width + k] : 0;
        team.share(outputs, [&](int64_t begin, int64_t end) {
            half_rows(columns.data(), here, w, begin, end, width, outputs, y + r * outputs);
        });
    }
}

}  // namespace faulty
