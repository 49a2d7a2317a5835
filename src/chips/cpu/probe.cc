#include "chips/cpu/probe.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <fstream>
#include <limits>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "chips/cpu/panels.h"

namespace busbar::cpu {

namespace portable {
extern const Kernels kernels;
}
#ifdef BUSBAR_HAS_AVX2
namespace avx2 {
extern const Kernels kernels;
}
#endif
#ifdef BUSBAR_HAS_AVX512
namespace avx512 {
extern const Kernels kernels;
}
#endif

namespace {

#if defined(__x86_64__)
struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};
Registers cpuid(unsigned leaf, unsigned part = 0) {
    Registers r;
    if (__get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d) == 0) return {};
    return r;
}

#ifdef BUSBAR_HAS_AVX2
// Which register states the operating system saves: a processor may have wider ones that are switched off.
uint64_t saved_states() {
    if ((cpuid(1).c >> 27 & 1) == 0) return 0;  // OSXSAVE
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return static_cast<uint64_t>(high) << 32 | low;
}

constexpr bool all_bits(unsigned word, std::initializer_list<int> bits) {
    for (int bit : bits)
        if ((word >> bit & 1) == 0) return false;
    return true;
}

bool has_avx2() {
    const Registers one = cpuid(1), seven = cpuid(7);
    return (saved_states() & 0x6) == 0x6 && all_bits(one.c, {12, 28, 29}) &&
           all_bits(seven.b, {5, 8});  // fma avx f16c; avx2 bmi2
}
#endif

#ifdef BUSBAR_HAS_AVX512
bool has_avx512() {
    const Registers seven = cpuid(7);
    return has_avx2() && (saved_states() & 0xE6) == 0xE6 && all_bits(seven.b, {16, 17, 30, 31}) &&
           all_bits(seven.c, {11});  // f dq bw vl; vnni
}

// Tiles are state that the system saves only for a process that asked for it.
bool has_tiles() {
    constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM of Linux
    const Registers seven = cpuid(7);
    return has_avx512() && all_bits(seven.d, {24}) && (saved_states() & 0x60000) == 0x60000 &&  // amx-tile
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

bool has_tiles_of_bytes() {
    return has_tiles() && all_bits(cpuid(7).d, {25});
}
bool has_tiles_of_bf16() {
    return has_tiles() && all_bits(cpuid(7).d, {22});
}
bool has_bf16() {
    return has_avx512() && all_bits(cpuid(7, 1).a, {5});
}

// Tiles load at a quarter of their rate while the other thread of a core is busy, and vectors of bf16 pairs have half
// the rate of f32 on some processors and twice it on others. So it is measured whether they gain anything: products of
// 64 rows, the best of a few.
struct Trial {
    static constexpr int64_t rows = 64, outputs = 128, width = 512, tries = 4;
    std::vector<float> x = std::vector<float>(rows * width, 1.0f), y = std::vector<float>(rows * outputs);
    std::vector<std::byte> weight, rounded, scratch;

    static std::byte* of(std::vector<std::byte>& memory, size_t bytes) {
        memory.resize(bytes + 64);
        return reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
    }
    float* scratch_of(size_t floats) { return reinterpret_cast<float*>(of(scratch, floats * sizeof(float))); }

    template <class Body>
    static double best(const Body& body) {
        double seconds = std::numeric_limits<double>::max();
        for (int i = 0; i < tries; ++i) {
            const auto start = std::chrono::steady_clock::now();
            body();
            seconds =
                std::min(seconds, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
        return seconds;
    }
    double seconds(const IntegerKernels& kernels) {
        const auto row_bytes = static_cast<int64_t>(width / 32 * kernels.block_bytes);
        const std::byte* const panels = of(weight, panel_bytes(panel_q4_0, outputs, width));
        std::byte* const rows_of_x = of(rounded, (rows + spare_rows) * row_bytes);
        for (int64_t m = 0; m < rows; ++m) kernels.round_row(x.data() + m * width, width, rows_of_x + m * row_bytes);
        float* const own = scratch_of(kernels.scratch_floats());
        return best([&] {
            kernels.product(
                {&encoding_q4_0, panels, width, 0, outputs, rows_of_x, row_bytes, rows, y.data(), outputs, own});
        });
    }
    double seconds(const Bf16Kernels& kernels) {
        const std::byte* const stored = of(weight, outputs * width * 2);
        std::byte* const rows_of_x = of(rounded, kernels.rounded_bytes(rows, width));
        float* const own = scratch_of(kernels.scratch_floats());
        return best([&] {
            for (int64_t m = 0; m < rows; ++m) kernels.round_row(x.data() + m * width, width, m, rows, rows_of_x);
            kernels.product({stored, width, 0, outputs, rows_of_x, rows, y.data(), outputs, own});
        });
    }
    double seconds_of_f32(const ProductKernels& kernels) {
        const std::byte* const stored = of(weight, outputs * width * 2);
        float* const own = scratch_of(kernels.scratch_floats(width));
        return best([&] {
            kernels.panel(
                {&encoding_bf16, stored, width * 2, width, 0, outputs, x.data(), width, rows, y.data(), outputs, own});
        });
    }
};
bool tiles_pay() {
    const ProductKernels& products = *avx512::kernels.product;
    Trial trial;
    return trial.seconds(*products.tile_words) < trial.seconds(*products.words);
}
// By a good deal, since the choice shows in the bits of results: it is not to change from one start to the next.
bool bf16_pays(const Bf16Kernels& kernels) {
    Trial trial;
    return trial.seconds(kernels) < 0.8 * trial.seconds_of_f32(*avx512::kernels.product);
}

// The kernels of AVX-512, and what some of its processors have besides.
const Kernels& kernels_with(const char* name, bool tiles, const Bf16Kernels* bf16) {
    static std::deque<Kernels> all;
    all.push_back(avx512::kernels);
    all.back().name = name, all.back().tiles = tiles, all.back().bf16 = bf16;
    return all.back();
}
#endif
#endif

uint64_t number_in(const char* path) {
    std::ifstream in(path);
    uint64_t n;
    return in >> n ? n : std::numeric_limits<uint64_t>::max();  // "max" or no such file: no limit
}

uint64_t left_of(const char* limit_path, const char* used_path) {
    const uint64_t limit = number_in(limit_path), used = number_in(used_path);
    if (limit == std::numeric_limits<uint64_t>::max() || used == limit) return std::numeric_limits<uint64_t>::max();
    return limit > used ? limit - used : 0;
}

}  // namespace

const std::vector<InstructionSet>& instruction_sets() {
    static const std::vector<InstructionSet> sets = [] {
        std::vector<InstructionSet> all = {{&portable::kernels, "portable", true}};
#ifdef BUSBAR_HAS_AVX2
        all.push_back({&avx2::kernels, "avx2+fma+f16c", has_avx2()});
#endif
#ifdef BUSBAR_HAS_AVX512
        all.push_back({&avx512::kernels, "avx512+vnni+fma+f16c", has_avx512()});
        const Bf16Kernels &vectors = *avx512::kernels.product->bf16, &tiles = *avx512::kernels.product->tile_bf16;
        const bool bf16 = has_bf16(), tiles_of_bf16 = has_tiles_of_bf16(), tiles_of_bytes = has_tiles_of_bytes();
        all.push_back({&kernels_with("avx512_bf16", false, &vectors), "avx512+vnni+bf16+fma+f16c", bf16,
                       bf16 && bf16_pays(vectors)});
        all.push_back({&kernels_with("amx_bf16", false, &tiles), "avx512+vnni+amx-bf16+fma+f16c", tiles_of_bf16,
                       tiles_of_bf16 && bf16_pays(tiles)});
        all.push_back({&kernels_with("amx", true, tiles_of_bf16 ? &tiles : nullptr),
                       tiles_of_bf16 ? "avx512+vnni+amx-int8+amx-bf16+fma+f16c" : "avx512+vnni+amx-int8+fma+f16c",
                       tiles_of_bytes, tiles_of_bytes && tiles_pay()});
#endif
        return all;
    }();
    return sets;
}

std::string processor_name() {
#if defined(__x86_64__)
    if (cpuid(0x80000000).a >= 0x80000004) {
        char name[49] = {};
        for (unsigned i = 0; i < 3; ++i) {
            const Registers r = cpuid(0x80000002 + i);
            std::memcpy(name + 16 * i, &r, 16);
        }
        std::string text = name;
        text.erase(0, text.find_first_not_of(' '));
        text.erase(text.find_last_not_of(' ') + 1);
        if (!text.empty()) return text;
    }
#endif
    return "unknown";
}

uint64_t available_memory() {
    uint64_t available = std::numeric_limits<uint64_t>::max();
    std::ifstream in("/proc/meminfo");
    for (std::string line; std::getline(in, line);)
        if (line.starts_with("MemAvailable:")) available = std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
    available = std::min(available, left_of("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"));
    available = std::min(available, left_of("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                            "/sys/fs/cgroup/memory/memory.usage_in_bytes"));
    if (available == std::numeric_limits<uint64_t>::max())
        available = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    return available;
}

uint64_t last_cache_bytes() {
    long bytes = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return bytes > 0 ? static_cast<uint64_t>(bytes) : 32ull << 20;
}

}  // namespace busbar::cpu
