#pragma once
#include "chips/cpu/kernels/simd.h"
#include "chips/cpu/product.h"

// Products of bf16 numbers: weights as they lie in the file with activations rounded to the same. The instructions are
// written out and stand in functions that are called where the processor has them. Elsewhere a model in plain C++
// stands in for tests: what the makers' manuals say that the instructions do.

#if BUSBAR_LANES == 16

namespace busbar::cpu::BUSBAR_ISA {

/// 32 of them, pairs of neighbouring inputs in a lane.
typedef uint16_t Bf16Pairs __attribute__((vector_size(64)));
constexpr int64_t bf16_step = 32;
constexpr int64_t bf16_steps(int64_t width) {
    return (width + bf16_step - 1) / bf16_step;
}

#if !defined(BUSBAR_AVX512)
/// Subnormal numbers count as zero.
inline float without_subnormals(float v) {
    const auto bits = read<uint32_t>(&v), kept = (bits & 0x7F800000) == 0 ? bits & 0x80000000 : bits;
    return read<float>(&kept);
}
/// sum + a b with one rounding: the product is exact in double, and a sum of two numbers of 24 bits that is rounded to
/// 53 and then to 24 bits is what one rounding gives.
inline float multiply_add_bf16(float sum, uint16_t a, uint16_t b) {
    const auto number = [](uint16_t half) {
        const uint32_t bits = (uint32_t)half << 16;
        return (double)without_subnormals(read<float>(&bits));
    };
    return without_subnormals((float)(number(a) * number(b) + (double)without_subnormals(sum)));
}
#endif

/// sum[i] + a[2i + 1] b[2i + 1] + a[2i] b[2i], added in this order, each rounded once to nearest, ties to even;
/// subnormal numbers count as zero, those of results too.
BUSBAR_INLINE Floats dot_bf16(Floats sum, Bf16Pairs a, Bf16Pairs b) {
#if defined(BUSBAR_AVX512)
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
#else
    for (int i = 0; i < lanes; ++i)
        for (const int k : {2 * i + 1, 2 * i}) sum[i] = multiply_add_bf16(sum[i], a[k], b[k]);
#endif
    return sum;
}

/// A row of x, to nearest, ties to even: put(k, numbers) for k = 0, 32 ..., zeros behind the last. False, and zeros
/// everywhere, where bf16 products would not come out as those of f32: NaN, infinity and numbers near the ends of
/// f32's range, of which sums would overflow or be flushed.
template <class Put>
BUSBAR_INLINE bool round_to_bf16(const float* x, int64_t width, const Put& put) {
    typedef uint32_t Bits __attribute__((vector_size(64)));
    typedef uint16_t Upper __attribute__((vector_size(32)));
    alignas(64) uint16_t numbers[bf16_step];
    Bits largest = {};  // of the bits without sign, which order as the numbers do, NaN above all
    for (int64_t k = 0; k < width; k += bf16_step) {
        for (int half = 0; half < 2; ++half) {
            const int64_t rest = width - k - half * lanes;
            const Bits bits = (Bits)load_part(x + k + half * lanes, rest < 0 ? 0 : rest < lanes ? (int)rest : lanes);
            const Bits magnitude = bits & 0x7FFFFFFF;
            largest = magnitude > largest ? magnitude : largest;
            const Upper upper = __builtin_convertvector((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, Upper);
            memcpy(numbers + half * lanes, &upper, sizeof upper);
        }
        put(k, numbers);
    }
    uint32_t top = 0;
    for (int i = 0; i < lanes; ++i) top = largest[i] > top ? largest[i] : top;
    const float amax = read<float>(&top);
    if (top == 0 || (amax >= 1e-20f && amax <= 1e38f)) return true;
    memset(numbers, 0, sizeof numbers);
    for (int64_t k = 0; k < width; k += bf16_step) put(k, numbers);
    return false;
}

}  // namespace busbar::cpu::BUSBAR_ISA

#endif
