#pragma once
#include "chips/cpu/kernels/simd.h"
#include "dtype/code_values.h"

// Stored blocks to f32 vectors in registers. A product takes any of these structs, so a format is added here and in
// format.h, and no product changes.
//
// A decoder has
//   block, bytes        elements and bytes it takes at once (for plain elements: 32, of which a row may end with fewer)
//   span                elements per call of decode; divides block
//   Scales, scales(p)   what is unpacked once per block
//   decode(p, scales, g, use)
//                       calls use(k, w) for k = 0, lanes, 2 lanes .. span - lanes: w holds the weights of elements
//                       span*g + k onwards. k is known to the compiler.
//
// The values are those of Encoding::decode to the bit. Products of halves, scales and codes have at most 24 significant
// bits and are exact, whatever their order; the only rounding is that of adding a minimum, so one fused multiply-add
// equals product, then sum. Codes are centred as integers (not as d*q - 8d) so that an infinite or negative d gives the
// same infinities, NaNs and signed zeros as the definition.

namespace busbar::cpu::BUSBAR_ISA {

struct NoScales {};

/// Plain elements. `part` is for a row's end: the first `count` of a vector's elements, zeros after them.
template <class Element>
struct Plain {
    static constexpr bool plain = true;
    static constexpr int size = Element::size, block = 32, bytes = block * size, span = lanes;
    using Scales = NoScales;
    static BUSBAR_INLINE Scales scales(const uint8_t*) { return {}; }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales&, int g, const Use& use) {
        use(0, at(p + g * span * size));
    }
    static BUSBAR_INLINE Floats at(const uint8_t* p) { return Element::at(p); }
    static BUSBAR_INLINE Floats part(const uint8_t* p, int count) {
        uint8_t padded[lanes * size] = {};
        memcpy(padded, p, count * size);
        return at(padded);
    }
};
struct LoadF32 {
    static constexpr int size = 4;
    static BUSBAR_INLINE Floats at(const uint8_t* p) { return read<Floats>(p); }
};
struct LoadF16 {
    static constexpr int size = 2;
    static BUSBAR_INLINE Floats at(const uint8_t* p) { return load_f16(p); }
};
struct LoadBf16 {
    static constexpr int size = 2;
    static BUSBAR_INLINE Floats at(const uint8_t* p) { return load_bf16(p); }
};
using F32 = Plain<LoadF32>;
using F16 = Plain<LoadF16>;
using Bf16 = Plain<LoadBf16>;

// Blocks and super-blocks -------------------------------------------------------------------------------------------

/// w = (code - offset) * scale, or + min: element 0 of these for the first 16 of the 32, element `step` for the others.
template <int k0, int step, int offset, class Use>
BUSBAR_INLINE void scaled(Bytes32 codes, const float* scale, const Use& use) {
    widen<offset>(codes,
                  [&](auto k, Floats code) BUSBAR_INLINE_LAMBDA { use(k0 + k, splat(scale[k / 16 * step]) * code); });
}
template <int k0, int step, class Use>
BUSBAR_INLINE void scaled(Bytes32 codes, const float* scale, const float* min, const Use& use) {
    widen<0>(codes, [&](auto k, Floats code) BUSBAR_INLINE_LAMBDA {
        use(k0 + k, multiply_add(splat(scale[k / 16 * step]), code, splat(min[k / 16 * step])));
    });
}
/// The same with one scale, and minimum, in registers.
template <int offset, class Use>
BUSBAR_INLINE void scaled(Bytes32 codes, Floats d, const Use& use) {
    widen<offset>(codes, [&](auto k, Floats code) BUSBAR_INLINE_LAMBDA { use(k, d * code); });
}
template <class Use>
BUSBAR_INLINE void scaled(Bytes32 codes, Floats d, Floats m, const Use& use) {
    widen<0>(codes, [&](auto k, Floats code) BUSBAR_INLINE_LAMBDA { use(k, multiply_add(d, code, m)); });
}

#if BUSBAR_LANES == 16
/// With sixteen lanes a 4-bit code selects its weight from a vector of all sixteen possible ones: no widening, no
/// product per element. Only the low four bits of a code count, so low nibbles need no mask.
template <class Use>
BUSBAR_INLINE void nibbles_from_table(const uint8_t* q, Floats table, const Use& use) {
    const Ints v = load_u8(q);
    use(0, __builtin_shuffle(table, v));
    use(16, __builtin_shuffle(table, v >> 4));
}
constexpr Floats codes_0_to_15 = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr Floats codes_centred = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
#endif

/// Unpacked scales of a super-block, as floats ready to broadcast. Minimums are negated.
template <int count>
struct ScaleList {
    alignas(64) float scale[count];
};
template <int count>
struct ScaleMinList {
    alignas(64) float scale[count], min[count];
};
BUSBAR_INLINE void put(float* to, Floats8 v) {
    memcpy(to, &v, sizeof v);
}
BUSBAR_INLINE Floats8 splat8(float x) {
    return x - Floats8{};
}

constexpr uint64_t every_byte = 0x0101010101010101;

struct Q4_0 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 18, span = 32;
    using Scales = Floats;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return splat_half(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
#if BUSBAR_LANES == 16
        nibbles_from_table(p + 2, d * codes_centred, use);
#else
        scaled<8>(arranged_nibbles(p + 2), d, use);
#endif
    }
};

struct ScaleMin {
    Floats d, m;
};

struct Q4_1 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 20, span = 32;
    using Scales = ScaleMin;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return {splat_half(p), splat_half(p + 2)}; }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int, const Use& use) {
#if BUSBAR_LANES == 16
        nibbles_from_table(p + 4, multiply_add(s.d, codes_0_to_15, s.m), use);
#else
        scaled(arranged_nibbles(p + 4), s.d, s.m, use);
#endif
    }
};

struct Q5_0 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 22, span = 32;
    using Scales = Floats;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return splat_half(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
        scaled<16>(arranged_nibbles(p + 6) | arranged_bits(p + 2, 16), d, use);
    }
};

struct Q5_1 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 24, span = 32;
    using Scales = ScaleMin;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return {splat_half(p), splat_half(p + 2)}; }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int, const Use& use) {
        scaled(arranged_nibbles(p + 8) | arranged_bits(p + 4, 16), s.d, s.m, use);
    }
};

struct Q8_0 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 34, span = 32;
    using Scales = Floats;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return splat_half(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
#if defined(BUSBAR_AVX2)
        // As unsigned codes around 128.
        scaled<128>(arranged(read<Bytes32>(p + 2) ^ 128), d, use);
#else
        unrolled<32 / lanes>([&](auto i)
                                 BUSBAR_INLINE_LAMBDA { use(i * lanes, d * to_float(load_i8(p + 2 + i * lanes))); });
#endif
    }
};

/// 16 bytes to 32 elements: d * value of code.
template <const int8_t* values, class Use>
BUSBAR_INLINE void nibbles_by_value(const uint8_t* q, Floats d, const Use& use) {
#if BUSBAR_LANES == 16
    nibbles_from_table(q, d * to_float(load_i8((const uint8_t*)values)), use);
#else
    const Bytes16 table = read<Bytes16>(values) + 128;
    scaled<128>(lookup_bytes(table, arranged_nibbles(q)), d, use);
#endif
}

struct Iq4Nl {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 18, span = 32;
    using Scales = Floats;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return splat_half(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
        nibbles_by_value<iq4_values>(p + 2, d, use);
    }
};

struct Mxfp4 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 17, span = 32;
    using Scales = Floats;
    // 2^(e - 128) from its bits: the two smallest are subnormal floats. 255 is NaN.
    static BUSBAR_INLINE Scales scales(const uint8_t* p) {
        const uint32_t e = p[0];
        const uint32_t bits = e == 255 ? 0x7FC00000u : e < 2 ? 0x00200000u << e : (e - 1) << 23;
        return splat(read<float>(&bits));
    }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
        nibbles_by_value<e2m1_doubled>(p + 1, d, use);
    }
};

}  // namespace busbar::cpu::BUSBAR_ISA
