// How near the cpu's matrix products come to this machine: each kernel's rate beside a roof measured in the same
// second.
//   products [--encoding NAME] [--form as_stored|bf16|panels|panels.i8] [--rounds N] [--isa NAME] [--m M]
//            [--clock wall|cpu] [--weights cold|hot]
// Vector products stream 256 MB of weights with two threads against the better of plain and prefetched reads; panel
// products stand against the rate of independent multiply-adds, of f32 or, in panels, of integers. Medians of
// N rounds; every second round runs in reverse order (A B B A).
#include <fmt/format.h>

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "chips/cpu/kernels.h"
#include "chips/cpu/panels.h"
#include "chips/cpu/probe.h"
#include "chips/cpu/product.h"

namespace {

using namespace busbar;
using namespace busbar::cpu;

constexpr int threads = 2;

/// On a machine busy with other things the processor time of the slower thread says more than the clock on the wall.
bool processor_time = false;

/// Runs body(thread) on all threads at once; seconds from the common start to the last end.
double timed(const std::function<void(int)>& body) {
    std::atomic<int> ready = 0;
    std::atomic<bool> go = false;
    std::vector<std::thread> crew;
    std::vector<double> spent(threads);
    const auto processor_seconds = [] {
        timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return t.tv_sec + 1e-9 * t.tv_nsec;
    };
    for (int t = 0; t < threads; ++t)
        crew.emplace_back([&, t] {
            ++ready;
            while (!go) {
            }
            const double start = processor_seconds();
            body(t);
            spent[t] = processor_seconds() - start;
        });
    while (ready < threads) {
    }
    const auto begin = std::chrono::steady_clock::now();
    go = true;
    for (std::thread& t : crew) t.join();
    if (processor_time) return *std::max_element(spent.begin(), spent.end());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

/// Floats at the start of a cache line, as in the chip's buffers.
struct Aligned {
    explicit Aligned(size_t floats) : p(static_cast<float*>(std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64))) {
        std::fill_n(p, floats, 0.5f);
    }
    ~Aligned() { std::free(p); }
    float* p;
};

/// Large pages, as the chip's own buffers and the one of `busbar bench` for its roof have them.
struct LargePages {
    explicit LargePages(size_t bytes) : bytes(bytes), memory(std::aligned_alloc(2 << 20, bytes)) {
        madvise(memory, bytes, MADV_HUGEPAGE);
    }
    ~LargePages() { std::free(memory); }
    LargePages(const LargePages&) = delete;
    LargePages& operator=(const LargePages&) = delete;
    std::byte* data() const { return static_cast<std::byte*>(memory); }
    size_t size() const { return bytes; }

  private:
    size_t bytes;
    void* memory;
};

struct Bench {
    const Kernels& kernels;
    int rounds;
    const IntegerKernels* integers = nullptr;  ///< of panels; nullptr: of blocks as stored
    const Bf16Kernels* bf16 = nullptr;         ///< of blocks as stored, with rows of x rounded to bf16
    bool hot = false;                          ///< the same 64 rows again and again: what arithmetic alone allows
    LargePages memory;                         ///< larger than any cache
    volatile double sink = 0;

    Bench(const Kernels& k, int rounds) : kernels(k), rounds(rounds), memory(256 << 20) {
        std::mt19937_64 random(1);
        for (size_t i = 0; i + 8 <= memory.size(); i += 8) {
            const uint64_t v = random() & 0x3F3F3F3F3F3F3F3F;  // finite whatever is taken for a scale
            std::memcpy(memory.data() + i, &v, 8);
        }
    }

    double read_roof() {
        double best = 0;
        for (const bool prefetch : {false, true}) {
            const size_t half = memory.size() / threads;
            const double s = timed([&](int t) { sink = kernels.read(memory.data() + t * half, half, prefetch); });
            best = std::max(best, memory.size() / s / 1e9);
        }
        return best;
    }
    double multiply_roof() {
        std::vector<double> flops(threads);
        const double s = timed([&](int t) {
            if (integers != nullptr) {
                int32_t codes[2] = {0x00010002, 0x00030004};
                flops[t] = integers->multiply(200000, codes);
                sink = codes[0];
                return;
            }
            float f[2] = {0.5f, 0.25f};
            flops[t] = kernels.multiply_add(2000000, f);
        });
        return (flops[0] + flops[1]) / s / 1e9;
    }

    /// Each thread multiplies its half of every matrix, matrix after matrix, over all of memory. GB/s of weights.
    double vector_rate(const Encoding& e, int64_t n, int64_t k, int64_t rows) {
        if (hot) n = 64;
        const size_t bytes = integers ? panel_bytes(*panel_layout(e), n, k) : n * e.row_bytes(k),
                     matrices = memory.size() / bytes;
        const Aligned x(rows * k), y(rows * n);
        const double s = timed([&](int t) {
            Aligned scratch(scratch_floats(k));
            for (size_t i = 0; i < matrices; ++i)
                product(e, memory.data() + (hot ? 0 : i * bytes), n, k, rows, x.p, y.p, t, scratch.p, false);
        });
        return matrices * bytes / s / 1e9;
    }
    /// GFLOP/s at one matrix; threads take panels in turn as the chip does.
    double panel_rate(const Encoding& e, int64_t n, int64_t k, int64_t rows) {
        const Aligned x(rows * k), y(rows * n);
        const int repeats = std::max<int64_t>(1, 3'000'000'000 / (rows * n * k));
        const double s = timed([&](int t) {
            Aligned scratch(scratch_floats(k));
            for (int i = 0; i < repeats; ++i) product(e, memory.data(), n, k, rows, x.p, y.p, t, scratch.p, true);
        });
        return 2.0 * rows * n * k * repeats / s / 1e9;
    }
    void product(const Encoding& e, const std::byte* w, int64_t n, int64_t k, int64_t rows, const float* x, float* y,
                 int thread, float* scratch, bool panel) {
        if (integers) return integer_product(e, w, n, k, rows, x, y, thread, scratch);
        if (bf16) return bf16_product(w, n, k, rows, x, y, thread, scratch, panel);
        Product p;
        p.encoding = &e, p.weight = w, p.row_bytes = e.row_bytes(k), p.width = k;
        p.n_begin = n / threads * thread, p.n_end = thread == threads - 1 ? n : n / threads * (thread + 1);
        p.x = x, p.x_stride = k, p.rows = rows, p.y = y, p.y_stride = n, p.scratch = scratch;
        (panel ? kernels.product->panel : kernels.product->vector)(p);
    }
    void integer_product(const Encoding& e, const std::byte* w, int64_t n, int64_t k, int64_t rows, const float* x,
                         float* y, int thread, float* scratch) {
        // Each thread rounds all rows of x, which is more than it does in the chip.
        const auto row_bytes = static_cast<int64_t>(k / 32 * integers->block_bytes);
        static thread_local std::vector<std::byte> memory;
        memory.resize((rows + spare_rows) * row_bytes + 64);
        auto* blocks = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
        for (int64_t m = 0; m < rows; ++m) integers->round_row(x + m * k, k, blocks + m * row_bytes);
        IntegerProduct p;
        p.encoding = &e, p.panels = w, p.width = k;
        p.n_begin = n / threads / 16 * 16 * thread, p.n_end = thread == threads - 1 ? n : n / threads / 16 * 16;
        p.x = blocks, p.x_stride = row_bytes, p.rows = rows, p.y = y, p.y_stride = n, p.scratch = scratch;
        integers->product(p);
    }
    void bf16_product(const std::byte* w, int64_t n, int64_t k, int64_t rows, const float* x, float* y, int thread,
                      float* scratch, bool many) {
        static thread_local std::vector<std::byte> memory;
        memory.resize(bf16->rounded_bytes(rows, k) + 64);
        auto* rounded = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
        for (int64_t m = 0; m < rows; ++m) bf16->round_row(x + m * k, k, m, rows, rounded);
        const int64_t end = thread == threads - 1 ? n : n / threads;
        for (int64_t at = n / threads * thread, step = many ? 64 : n; at < end; at += step)
            bf16->product({w, k, at, std::min(at + step, end), rounded, rows, y, n, scratch});
    }
    size_t scratch_floats(int64_t k) const {
        return std::max({kernels.product->scratch_floats(k), integers ? integers->scratch_floats() : 0,
                         bf16 ? bf16->scratch_floats() : 0});
    }
};

struct Row {
    std::string name;
    const char* unit;
    std::function<double()> roof, rate;
    std::vector<double> rates, shares;
};

}  // namespace

int main(int argc, char** argv) {
    std::string only, isa, form = "as_stored";
    int rounds = 5, only_m = 0;
    bool hot = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string flag = argv[i];
        if (flag == "--encoding") only = argv[i + 1];
        if (flag == "--rounds") rounds = std::max(1, std::atoi(argv[i + 1]));
        if (flag == "--form") form = argv[i + 1];
        if (flag == "--isa") isa = argv[i + 1];
        if (flag == "--clock") processor_time = std::string(argv[i + 1]) == "cpu";
        if (flag == "--weights") hot = std::string(argv[i + 1]) == "hot";
        if (flag == "--m") only_m = std::atoi(argv[i + 1]);
    }
    const Kernels* kernels = nullptr;
    for (const InstructionSet& set : instruction_sets())
        if (set.usable && (isa.empty() || isa == set.kernels->name)) kernels = set.kernels;
    if (kernels == nullptr) {
        fmt::print(stderr, "[products] expected an instruction set of this processor, got {}\n", isa);
        return 2;
    }
    Bench bench(*kernels, rounds);
    bench.hot = hot;
    if (form == "bf16") {
        bench.bf16 = kernels->bf16;
        if (bench.bf16 == nullptr) {
            fmt::print(stderr, "[products] {} has no products of bf16\n", kernels->name);
            return 2;
        }
        only = "bf16";
    } else if (form != "as_stored") {
        bench.integers = form == "panels.i8" ? kernels->product->bytes : kernels->product->words;
        if (bench.integers == nullptr) {
            fmt::print(stderr, "[products] {} has no products of {}\n", kernels->name, form);
            return 2;
        }
    }
    std::vector<Row> rows;
    for (const Encoding* e : encodings()) {
        if (!only.empty() && only != e->name) continue;
        if (bench.integers != nullptr && (panel_layout(*e) == nullptr || !bench.integers->takes(*e))) continue;
        for (const int64_t m : {1, 2, 4, 8})
            if (only_m == 0 ? m == 1 || !only.empty() : only_m == m)
                rows.push_back({fmt::format("{} vector 3072x1024 M={}", e->name, m),
                                "GB/s",
                                [&] { return bench.read_roof(); },
                                [&bench, e, m] { return bench.vector_rate(*e, 3072, 1024, m); },
                                {},
                                {}});
        const bool shapes = !only.empty() || e->name == "q8_0" || e->name == "q4_1";
        const std::vector<std::array<int64_t, 3>> all = {
            {3072, 1024, 512}, {1024, 3072, 512}, {1536, 576, 512}, {3072, 1024, 32}, {3072, 1024, 8}};
        for (const auto& [n, k, m] : all)
            if ((k == 1024 && m == 512) || shapes) {
                if (k % e->block != 0 || (only_m != 0 && only_m != m)) continue;
                rows.push_back({fmt::format("{} panel {}x{} M={}", e->name, n, k, m),
                                "GFLOP/s",
                                [&] { return bench.multiply_roof(); },
                                [&bench, e, n = n, k = k, m = m] { return bench.panel_rate(*e, n, k, m); },
                                {},
                                {}});
            }
    }
    for (int round = 0; round < rounds; ++round) {
        for (Row& row : rows) {
            // Roof and kernel within the same fraction of a second, each first in every second round.
            double roof, rate;
            if (round % 2 == 0)
                roof = row.roof(), rate = row.rate();
            else
                rate = row.rate(), roof = row.roof();
            row.rates.push_back(rate), row.shares.push_back(rate / roof);
        }
        std::reverse(rows.begin(), rows.end());
    }
    if (rounds % 2 == 1) std::reverse(rows.begin(), rows.end());
    fmt::print("kernels {}, {} threads, {} rounds; share = median of rate / roof taken beside it (lowest .. highest)\n",
               kernels->name, threads, rounds);
    for (Row& row : rows) {
        const auto [low, high] = std::minmax_element(row.shares.begin(), row.shares.end());
        fmt::print("{:34} {:8.2f} {:7}  share {:5.1f} %  ({:.1f} .. {:.1f})\n", row.name, median(row.rates), row.unit,
                   100 * median(row.shares), 100 * *low, 100 * *high);
    }
}
