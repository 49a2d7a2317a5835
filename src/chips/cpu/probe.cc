#include "chips/cpu/probe.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace busbar::cpu {

namespace portable {
extern const Kernels kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kernels;
}
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

bool has_avx512() {
    const Registers seven = cpuid(7);
    return has_avx2() && (saved_states() & 0xE6) == 0xE6 && all_bits(seven.b, {16, 17, 30, 31}) &&
           all_bits(seven.c, {11});  // f dq bw vl; vnni
}
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
    static const std::vector<InstructionSet> sets = {
        {&portable::kernels, "portable", true},
#if defined(__x86_64__)
        {&avx2::kernels, "avx2+fma+f16c", has_avx2()},
        {&avx512::kernels, "avx512+vnni+fma+f16c", has_avx512()},
#endif
    };
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
