// What the kernels other than products need on top of simd.h: sums in double, e^x, narrowings. By the rule of simd.h
// nothing here may be shared with another instruction set's object files, so kernels include no standard header that
// has code in it either.
#pragma once
#include <stddef.h>

#include "chips/cpu/kernels/simd.h"

namespace busbar::cpu::BUSBAR_ISA {

typedef uint16_t Halves __attribute__((vector_size(lanes * 2)));
typedef double Doubles __attribute__((vector_size(lanes * 4)));  // half as many lanes
typedef float HalfFloats __attribute__((vector_size(lanes * 2)));

/// The first n < lanes elements, `fill` in the rest; never reads past them.
BUSBAR_INLINE Floats load_some(const float* p, int64_t n, float fill) {
    Floats v = splat(fill);
    memcpy(&v, p, n * sizeof(float));
    return v;
}
BUSBAR_INLINE void store_some(float* p, Floats v, int64_t n) {
    memcpy(p, &v, n * sizeof(float));
}

BUSBAR_INLINE Floats square_root(Floats x) {
#if defined(BUSBAR_AVX512)
    return _mm512_sqrt_ps(x);
#elif defined(BUSBAR_AVX2)
    return _mm256_sqrt_ps(x);
#else
    for (int i = 0; i < lanes; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

/// a where a > b, else b; b where either is NaN.
BUSBAR_INLINE Floats larger(Floats a, Floats b) {
    return a > b ? a : b;
}

BUSBAR_INLINE float largest(Floats v) {
    float m = v[0];
    for (int i = 1; i < lanes; ++i) m = v[i] > m ? v[i] : m;
    return m;
}

/// Halves are folded onto each other: a fixed tree.
BUSBAR_INLINE float total(Floats v) {
    for (int n = lanes / 2; n > 0; n /= 2)
        for (int i = 0; i < n; ++i) v[i] += v[i + n];
    return v[0];
}
BUSBAR_INLINE double total(Doubles v) {
    for (int n = lanes / 4; n > 0; n /= 2)
        for (int i = 0; i < n; ++i) v[i] += v[i + n];
    return v[0];
}

BUSBAR_INLINE Doubles low_doubles(Floats v) {
    HalfFloats half;
    memcpy(&half, &v, sizeof half);
    return __builtin_convertvector(half, Doubles);
}
BUSBAR_INLINE Doubles high_doubles(Floats v) {
    HalfFloats half;
    memcpy(&half, (const char*)&v + sizeof half, sizeof half);
    return __builtin_convertvector(half, Doubles);
}

/// A sum in double over two vectors of lanes: good to half an ULP of f32 for any length that fits in memory.
struct Sum {
    Doubles low = {}, high = {};
    BUSBAR_INLINE void add(Floats v) {
        low += low_doubles(v);
        high += high_doubles(v);
    }
    /// Squares of f32 are exact in double.
    BUSBAR_INLINE void add_square(Floats v) {
        const Doubles a = low_doubles(v), b = high_doubles(v);
        low += a * a;
        high += b * b;
    }
    BUSBAR_INLINE double value() const { return total(low + high); }
};

/// The parts of e^x: p * s * t with p in [0.7, 1.42] and powers of two s, t. Multiplying by s is exact, by t rounds
/// once, so that results below the normal range are right too. NaN stays NaN.
struct ExpParts {
    Floats p, s, t;
};
BUSBAR_INLINE ExpParts exp_parts(Floats x) {
    // Beyond these the result is infinite or 0 in any case. Comparisons are false on NaN, which so passes through.
    const Floats high = splat(89.0f), low = splat(-170.0f);
    x = x > high ? high : x;
    x = x < low ? low : x;
    // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
    const Floats magic = splat(0x1.8p23f);
    const Floats shifted = multiply_add(x, splat(1.44269504088896341f), magic);
    const Floats n = shifted - magic;
    // ln 2 in two parts; the first has few enough bits that n times it is exact even without fma.
    Floats r = multiply_add(n, splat(-0x1.63p-1f), x);
    r = multiply_add(n, splat(0x1.bd0106p-13f), r);
    // e^r = 1 + r + r^2 (1/2 + r/6 + ...), |r| <= 0.35: Taylor to r^7, error 6e-9.
    Floats q = splat(1.0f / 5040);
    q = multiply_add(q, r, splat(1.0f / 720));
    q = multiply_add(q, r, splat(1.0f / 120));
    q = multiply_add(q, r, splat(1.0f / 24));
    q = multiply_add(q, r, splat(1.0f / 6));
    q = multiply_add(q, r, splat(0.5f));
    const Floats p = multiply_add(q, r * r, r) + 1.0f;
    const Ints whole = (Ints)shifted - (Ints)magic;
    const Ints half = whole >> 1;
    return {p, (Floats)((half + 127) << 23), (Floats)((whole - half + 127) << 23)};
}
BUSBAR_INLINE Floats exponential(Floats x) {
    const ExpParts e = exp_parts(x);
    return e.p * e.s * e.t;
}

/// Halves past the first n are read as 0.
BUSBAR_INLINE Halves load_some_halves(const uint16_t* p, int64_t n) {
    Halves v = {};
    memcpy(&v, p, n * sizeof(uint16_t));
    return v;
}

/// Round to nearest even; a NaN keeps its top bits and becomes quiet.
BUSBAR_INLINE uint16_t to_bf16(float x) {
    const uint32_t bits = read<uint32_t>(&x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
/// Round to nearest even, overflow to infinity; a NaN keeps its top bits and becomes quiet.
BUSBAR_INLINE uint16_t to_f16(float x) {
    const uint32_t bits = read<uint32_t>(&x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
    if (magnitude < 0x38800000) {
        // Subnormal: adding 0.5 puts the unit of the sum at 2^-24, so the addition itself rounds.
        const float sum = __builtin_fabsf(x) + 0.5f;
        return (uint16_t)(sign | (read<uint32_t>(&sum) - 0x3F000000u));
    }
    return (uint16_t)(sign | (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13);
}

}  // namespace busbar::cpu::BUSBAR_ISA
