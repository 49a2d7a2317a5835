#pragma once
#include "chips/cpu/kernels/simd.h"

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
    static constexpr int size = Element::size, block = 32, bytes = block * size, span = block;
    using Scales = NoScales;
    static BUSBAR_INLINE Scales scales(const uint8_t*) { return {}; }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales&, int, const Use& use) {
        unrolled<block / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { use(i * lanes, at(p + i * lanes * size)); });
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

/// w = codes (signed bytes) * scale, or + min: scales[0] for the first 16 of the 32, scales[step] for the others.
template <int k0, int step, class Use>
BUSBAR_INLINE void scaled(Bytes32 codes, const float* scale, const Use& use) {
    unrolled<32 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA {
        constexpr int k = decltype(i)::value * lanes;
        use(k0 + k, splat(scale[k / 16 * step]) * widen<k>(codes));
    });
}
template <int k0, int step, class Use>
BUSBAR_INLINE void scaled(Bytes32 codes, const float* scale, const float* min, const Use& use) {
    unrolled<32 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA {
        constexpr int k = decltype(i)::value * lanes;
        use(k0 + k, multiply_add(splat(scale[k / 16 * step]), widen<k>(codes), splat(min[k / 16 * step])));
    });
}

/// Calls use(k, integer codes) for 4-bit codes whose low nibbles are the first elements and high ones the rest.
template <int bytes, class Use>
BUSBAR_INLINE void nibbles(const uint8_t* q, const Use& use) {
    Ints v[bytes / lanes];
    unrolled<bytes / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { v[i] = load_u8(q + i * lanes); });
    unrolled<bytes / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { use(i * lanes, v[i] & 15); });
    unrolled<bytes / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { use(bytes + i * lanes, v[i] >> 4); });
}

/// With sixteen lanes a 4-bit code selects its weight from a vector of all sixteen possible ones.
constexpr bool table_in_register = lanes == 16;

#if BUSBAR_LANES == 16
/// Only the low four bits of a code count, so low nibbles need no mask.
template <int bytes, class Use>
BUSBAR_INLINE void nibbles_from_table(const uint8_t* q, Floats table, const Use& use) {
    Ints v[bytes / lanes];
    unrolled<bytes / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { v[i] = load_u8(q + i * lanes); });
    unrolled<bytes / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { use(i * lanes, __builtin_shuffle(table, v[i])); });
    unrolled<bytes / lanes>([&](auto i)
                                BUSBAR_INLINE_LAMBDA { use(bytes + i * lanes, __builtin_shuffle(table, v[i] >> 4)); });
}
constexpr Floats codes_0_to_15 = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr Floats codes_centred = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
#endif

/// `bytes` bytes to 2 * bytes elements: d * (code - 8).
template <int bytes, class Use>
BUSBAR_INLINE void nibbles_centred(const uint8_t* q, Floats d, const Use& use) {
#if BUSBAR_LANES == 16
    nibbles_from_table<bytes>(q, d * codes_centred, use);
#else
    nibbles<bytes>(q, [&](int k, Ints code) BUSBAR_INLINE_LAMBDA { use(k, d * to_float(code - 8)); });
#endif
}

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
        nibbles_centred<16>(p + 2, d, use);
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
        nibbles_from_table<16>(p + 4, multiply_add(s.d, codes_0_to_15, s.m), use);
#else
        nibbles<16>(p + 4,
                    [&](int k, Ints code) BUSBAR_INLINE_LAMBDA { use(k, multiply_add(s.d, to_float(code), s.m)); });
#endif
    }
};

/// The 32 codes of Q5_0 and Q5_1: nibbles at q, fifth bits together at qh.
BUSBAR_INLINE Bytes32 five_bit_codes(const uint8_t* qh, const uint8_t* q) {
    const Bytes16 packed = read<Bytes16>(q);
    const Bytes32 low = shift_right_high_half(join(packed, packed)) & 15;
    // Each byte of the word eight times, then one bit of it per byte.
    const Bytes32 word = (Bytes32)(Dwords8{} + read<uint32_t>(qh));
    const Bytes32 spread = __builtin_shufflevector(word, word, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 18, 18,
                                                   18, 18, 18, 18, 18, 18, 19, 19, 19, 19, 19, 19, 19, 19);
    const Bytes32 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                         1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return low | (Bytes32)(((spread & bit) == bit) & 16);
}

struct Q5_0 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 22, span = 32;
    using Scales = Floats;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return splat_half(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
        const Bytes32 codes = five_bit_codes(p + 2, p + 6) - 16;
        unrolled<32 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { use(i * lanes, d * widen<i * lanes>(codes)); });
    }
};

struct Q5_1 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 24, span = 32;
    using Scales = ScaleMin;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return {splat_half(p), splat_half(p + 2)}; }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int, const Use& use) {
        const Bytes32 codes = five_bit_codes(p + 4, p + 8);
        unrolled<32 / lanes>(
            [&](auto i) BUSBAR_INLINE_LAMBDA { use(i * lanes, multiply_add(s.d, widen<i * lanes>(codes), s.m)); });
    }
};

struct Q8_0 {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 34, span = 32;
    using Scales = Floats;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return splat_half(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
        unrolled<32 / lanes>([&](auto i)
                                 BUSBAR_INLINE_LAMBDA { use(i * lanes, d * to_float(load_i8(p + 2 + i * lanes))); });
    }
};

/// Values by 4-bit code: IQ4_NL's steps are finer near zero; MXFP4's are E2M1 doubled, with half the scale.
struct Iq4Values {
    static constexpr int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
};
struct E2m1Doubled {
    static constexpr int8_t values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
};

/// 16 bytes to 32 elements: d * value of code.
template <class Table, class Use>
BUSBAR_INLINE void nibbles_by_value(const uint8_t* q, Floats d, const Use& use) {
#if BUSBAR_LANES == 16
    nibbles_from_table<16>(q, d * to_float(load_i8((const uint8_t*)Table::values)), use);
#else
    const Bytes16 table = read<Bytes16>(Table::values), packed = read<Bytes16>(q);
    const Bytes32 nibble = shift_right_high_half(join(packed, packed)) & 15;
    const Bytes32 codes = lookup_bytes(table, nibble);
    unrolled<32 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA { use(i * lanes, d * widen<i * lanes>(codes)); });
#endif
}

struct Iq4Nl {
    static constexpr bool plain = false;
    static constexpr int block = 32, bytes = 18, span = 32;
    using Scales = Floats;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return splat_half(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, Floats d, int, const Use& use) {
        nibbles_by_value<Iq4Values>(p + 2, d, use);
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
        nibbles_by_value<E2m1Doubled>(p + 1, d, use);
    }
};

}  // namespace busbar::cpu::BUSBAR_ISA
