// The two loops that `busbar bench` measures this machine's roofs with.
#include "chips/cpu/kernels/parts.h"
#include "chips/cpu/kernels/vector_math.h"

namespace busbar::cpu::BUSBAR_ISA {

double read(const void* data, size_t bytes, bool prefetch) {
    constexpr size_t step = 8 * sizeof(Ints), ahead = 4096;
    const char* p = static_cast<const char*>(data);
    Ints s[8] = {};
    for (size_t i = 0; i + step <= bytes; i += step) {
        if (prefetch)
            for (size_t line = 0; line < step; line += 64) __builtin_prefetch(p + i + ahead + line, 0, 3);
        for (size_t v = 0; v < 8; ++v) {
            Ints x;
            __builtin_memcpy(&x, p + i + v * sizeof x, sizeof x);
            s[v] ^= x;
        }
    }
    for (int v = 1; v < 8; ++v) s[0] ^= s[v];
    double sink = 0;
    for (int lane = 0; lane < lanes; ++lane) sink += s[0][lane];
    return sink;
}

double multiply_add(int64_t rounds, float* sink) {
    // Twelve independent chains hide the latency of four or five cycles on two units.
    constexpr int chains = 12;
    Floats s[chains];
    for (int i = 0; i < chains; ++i) s[i] = splat((float)i);
    Floats a = splat(sink[0]), b = splat(sink[1]);
    for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) s[i] = multiply_add(s[i], a, b);
    for (int i = 1; i < chains; ++i) s[0] += s[i];
    sink[0] = total(s[0]);
    return 2.0 * chains * lanes * (double)rounds;
}

}  // namespace busbar::cpu::BUSBAR_ISA
