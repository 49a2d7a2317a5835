#pragma once
#include "chips/cpu/kernels/simd.h"
#include "chips/cpu/panel_layout.h"

// Panels (panel_layout.h) as 16-bit integers in registers. A register holds `lanes` outputs, each with a pair of
// inputs; 16 outputs take `parts` registers.

namespace busbar::cpu::BUSBAR_ISA {

constexpr int parts = panel_outputs / lanes;

typedef int16_t Pairs __attribute__((vector_size(4 * lanes)));
typedef uint16_t Words __attribute__((vector_size(4 * lanes)));
typedef uint8_t Octets __attribute__((vector_size(4 * lanes)));

/// sum + w[0] x[0] + w[1] x[1] in every lane. Exact while the sum fits.
BUSBAR_INLINE Ints dot_pairs(Ints sum, Pairs w, Pairs x) {
#if defined(BUSBAR_AVX512)
    return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#elif defined(BUSBAR_AVX2)
    sum = (Ints)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16((__m256i)w, (__m256i)x));
    // GCC 12 would put the additions off and spill a block's products meanwhile: half the speed.
    asm("" : "+x"(sum));
    return sum;
#else
    const Ints a = (Ints)w, b = (Ints)x;
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

/// To the compiler: a product with it is not the one before.
BUSBAR_INLINE void seems_new(Pairs& v) {
#if defined(BUSBAR_AVX512)
    asm("" : "+v"(v));
#elif defined(BUSBAR_AVX2)
    asm("" : "+x"(v));
#endif
}

BUSBAR_INLINE Ints splat_int(int32_t x) {
    return x - Ints{};
}
/// The pair at p in every lane.
BUSBAR_INLINE Pairs splat_pair(const int16_t* p) {
    return (Pairs)splat_int(read<int32_t>(p));
}

/// values[code], byte by byte, of bytes below 16.
BUSBAR_INLINE Octets look_up(const int8_t* values, const Octets& packed) {
    const Bytes16 table = read<Bytes16>(values);
#if defined(BUSBAR_AVX512)
    return (Octets)_mm512_shuffle_epi8(_mm512_broadcast_i32x4((__m128i)table), (__m512i)packed);
#elif defined(BUSBAR_AVX2)
    return (Octets)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256((__m128i)table), (__m256i)packed);
#else
    Octets codes = packed;
    for (int i = 0; i < 4 * lanes; ++i) codes[i] = table[codes[i]];
    return codes;
#endif
}

/// The codes of pair i (0 .. 15) in a plane of `bits` bits, as whole words, without sign.
template <int bits, int i>
BUSBAR_INLINE Words field(const uint8_t* plane, int part) {
    constexpr int per_word = 16 / bits, shift = i % per_word * bits;
    const Words w = read<Words>(plane + i / per_word * 64 + part * (4 * lanes));
    if constexpr (shift + bits == 16)
        return w >> shift;
    else
        return (w >> shift) & (uint16_t)((1 << bits) - 1);
}

/// The integers of pair i of a block, without the layout's offset.
template <const PanelLayout& L, int i>
BUSBAR_INLINE Pairs codes_of(const uint8_t* block, int part) {
    const uint8_t* const low = block + L.low_at();
    if constexpr (L.low_bits == 8 || L.values != nullptr) {
        // Signed bytes, of which a word holds two: its own upper byte, or the lower one moved up and down again.
        Words w;
        if constexpr (L.values != nullptr) {
            w = read<Words>(low + i / 4 * 64 + part * (4 * lanes));
            w = (Words)look_up(L.values, (Octets)((w >> i % 2 * 4) & 0x0F0F));
            return i % 4 < 2 ? (Pairs)(w << 8) >> 8 : (Pairs)w >> 8;
        } else {
            w = read<Words>(low + i / 2 * 64 + part * (4 * lanes));
            return i % 2 == 0 ? (Pairs)(w << 8) >> 8 : (Pairs)w >> 8;
        }
    } else if constexpr (L.high_bits > 0) {
        // The upper bits, moved straight to where they belong.
        constexpr int per_word = 16 / L.high_bits, shift = i % per_word * L.high_bits - L.low_bits,
                      mask = ((1 << L.high_bits) - 1) << L.low_bits;
        const Words w = read<Words>(block + L.high_at() + i / per_word * 64 + part * (4 * lanes));
        const Words high = (shift < 0 ? w << -(shift < 0 ? shift : 0) : w >> (shift < 0 ? 0 : shift)) & (uint16_t)mask;
        return (Pairs)(field<L.low_bits, i>(low, part) | high);
    } else {
        return (Pairs)field<L.low_bits, i>(low, part);
    }
}

/// What the small integers of a super-block are multiplied with; nothing where scales have one level.
template <const PanelLayout& L>
struct Halves {
    Floats scale[parts], minimum[parts];
    BUSBAR_INLINE explicit Halves(const uint8_t* super) {
        if constexpr (L.two_level())
            unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                scale[h] = load_f16(super + 2 * lanes * h);
                if constexpr (L.minimum) minimum[h] = -load_f16(super + 32 + 2 * lanes * h);
            });
    }
};

/// The scales of group g of a block.
template <const PanelLayout& L>
BUSBAR_INLINE Floats scale_of(const uint8_t* block, const Halves<L>& halves, int g, int part) {
    const uint8_t* const small = block + 16 * g + part * lanes;
    if constexpr (L.scale == PanelScale::half) {
        return load_f16(block + 2 * lanes * part);
    } else if constexpr (L.scale == PanelScale::e8m0) {
        // 2^(e - 128) from its bits: the two smallest are subnormal floats, 255 is NaN.
        const Ints e = load_u8(small);
        const Ints normal = (e - 1) << 23, subnormal = splat_int(0x00200000) << (e & 1), nan = splat_int(0x7FC00000);
        const Ints is_nan = e == 255, is_small = e < 2;
        return (Floats)((is_nan & nan) | (~is_nan & ((is_small & subnormal) | (~is_small & normal))));
    } else if constexpr (L.scale == PanelScale::two_level) {
        return halves.scale[part] * to_float(load_i8(small));
    } else {
        return halves.scale[part] * to_float(load_u8(small) & 15);
    }
}
template <const PanelLayout& L>
BUSBAR_INLINE Floats minimum_of(const uint8_t* block, const Halves<L>& halves, int g, int part) {
    if constexpr (L.scale == PanelScale::half)
        return load_f16(block + L.scale_bytes() + 2 * lanes * part);
    else if constexpr (L.scale == PanelScale::two_level)
        return halves.minimum[part] * to_float(load_u8(block + L.scale_bytes() + 16 * g + part * lanes));
    else
        return halves.minimum[part] * to_float(load_u8(block + 16 * g + part * lanes) >> 4);
}

}  // namespace busbar::cpu::BUSBAR_ISA
