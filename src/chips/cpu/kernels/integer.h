#pragma once
#include "chips/cpu/kernels/simd.h"
#include "chips/cpu/panel_layout.h"

// Panels (panel_layout.h) as integers in registers. A register holds `lanes` outputs, each with a pair of inputs in
// words or with four in bytes; 16 outputs take `parts` registers.

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

/// sum + w[0] x[0] + .. + w[3] x[3] in every lane: unsigned bytes times signed ones. Exact while the sum fits. AVX2 has
/// no such instruction: what it does instead stands in integer_product.h.
BUSBAR_INLINE Ints dot_fours(Ints sum, Octets w, Octets x) {
#if defined(BUSBAR_AVX512)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#else
    const Ints a = (Ints)w, b = (Ints)x;
    for (int i = 0; i < 4; ++i) sum += (a >> 8 * i & 255) * (b << (24 - 8 * i) >> 24);
    return sum;
#endif
}

/// To the compiler: a product with it is not the one before.
template <class V>
BUSBAR_INLINE void seems_new([[maybe_unused]] V& v) {
#if defined(BUSBAR_AVX512)
    asm("" : "+v"(v));
#elif defined(BUSBAR_AVX2)
    asm("" : "+x"(v));
#endif
}

BUSBAR_INLINE Ints splat_int(int32_t x) {
    return x - Ints{};
}
/// The four bytes at p in every lane.
template <class V>
BUSBAR_INLINE V splat_four(const void* p) {
    return (V)splat_int(read<int32_t>(p));
}

/// op over all lanes, in halves.
template <class Op>
BUSBAR_INLINE int32_t folded(Ints v, const Op& op) {
    typedef int32_t Eight __attribute__((vector_size(32)));
    typedef int32_t Four __attribute__((vector_size(16)));
    Eight eight;
    if constexpr (lanes == 16)
        eight = op(read<Eight>(&v), read<Eight>((const uint8_t*)&v + 32));
    else
        eight = read<Eight>(&v);
    Four four = op(read<Four>(&eight), read<Four>((const uint8_t*)&eight + 16));
    four = op(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
    four = op(four, __builtin_shufflevector(four, four, 1, 0, 3, 2));
    return four[0];
}

/// values[code], byte by byte, of bytes below 16.
BUSBAR_INLINE Octets look_up(const void* values, const Octets& packed) {
    const Bytes16 table = read<Bytes16>(values);
#if defined(BUSBAR_AVX512)
    return (Octets)_mm512_shuffle_epi8(_mm512_broadcast_i32x4((__m128i)table), (__m512i)packed);
#elif defined(BUSBAR_AVX2)
    return (Octets)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256((__m128i)table), (__m256i)packed);
#else
    Octets codes = packed;
    for (int i = 0; i < 4 * lanes; ++i) codes[i] = table[packed[i]];
    return codes;
#endif
}

/// Fours of inputs in a row of a plane.
constexpr int fours_in_row(int bits) {
    return 8 / bits;
}
/// The row of a plane with four `q` (0 .. 7) of a block in it.
template <int bits>
BUSBAR_INLINE Words plane_row(const uint8_t* plane, int q, int part) {
    return read<Words>(plane + q / fours_in_row(bits) * 64 + part * (4 * lanes));
}
/// Moves bits up, or down where `by` is negative.
template <int by>
BUSBAR_INLINE Words moved(Words w) {
    return by < 0 ? w >> (by < 0 ? -by : 0) : w << (by < 0 ? 0 : by);
}
/// v in both bytes of a word.
constexpr uint16_t twice(int v) {
    return (uint16_t)(v << 8 | v);
}

/// The integers of pair i (0 .. 15) of a block, without the layout's offset.
template <const PanelLayout& L, int i>
BUSBAR_INLINE Pairs pair_of(const uint8_t* block, int part) {
    constexpr int q = i / 2, upper = i % 2;
    constexpr auto at = [](int bits) { return q % fours_in_row(bits) * bits + 8 * upper; };
    Words w = plane_row<L.low_bits>(block + L.low_at(), q, part);
    if constexpr (L.low_bits == 8 || L.values != nullptr) {
        // Signed bytes, of which a word holds two: its own upper byte, or the lower one moved up and down again.
        if constexpr (L.values != nullptr)
            w = (Words)look_up(L.values, (Octets)((w >> (at(L.low_bits) & 7)) & twice(15)));
        return upper == 0 ? (Pairs)(w << 8) >> 8 : (Pairs)w >> 8;
    } else {
        constexpr int shift = at(L.low_bits), mask = (1 << L.low_bits) - 1;
        if constexpr (shift + L.low_bits == 16)
            w = w >> shift;
        else
            w = (w >> shift) & (uint16_t)mask;
        if constexpr (L.high_bits > 0) {
            constexpr int high_mask = ((1 << L.high_bits) - 1) << L.low_bits;
            w |= moved<L.low_bits - at(L.high_bits)>(plane_row<L.high_bits>(block + L.high_at(), q, part)) &
                 (uint16_t)high_mask;
        }
        return (Pairs)w;
    }
}

/// As bytes, codes are without sign: what is taken off them again, and the largest.
template <const PanelLayout& L>
constexpr int byte_offset = L.values == e2m1_doubled      ? 12
                            : L.values || L.low_bits == 8 ? 128
                                                          : L.offset;
template <const PanelLayout& L>
constexpr int largest_byte = L.values == e2m1_doubled ? 24
                             : L.values               ? 241
                             : L.low_bits == 8        ? 255
                                                      : (1 << (L.low_bits + L.high_bits)) - 1;
template <const PanelLayout& L>
struct UnsignedValues {
    uint8_t values[16] = {};
    constexpr UnsignedValues() {
        for (int i = 0; i < 16; ++i) values[i] = (uint8_t)(L.values[i] + byte_offset<L>);
    }
};
template <const PanelLayout& L>
constexpr UnsignedValues<L> unsigned_values;

/// The integers of four q (0 .. 7) of a block, plus byte_offset.
template <const PanelLayout& L, int q>
BUSBAR_INLINE Octets four_of(const uint8_t* block, int part) {
    constexpr auto at = [](int bits) { return q % fours_in_row(bits) * bits; };
    Words w = plane_row<L.low_bits>(block + L.low_at(), q, part);
    if constexpr (L.low_bits == 8) return (Octets)(w ^ twice(128));
    w = (w >> at(L.low_bits)) & twice((1 << L.low_bits) - 1);
    if constexpr (L.values != nullptr) return look_up(unsigned_values<L>.values, (Octets)w);
    if constexpr (L.high_bits > 0)
        w |= moved<L.low_bits - at(L.high_bits)>(plane_row<L.high_bits>(block + L.high_at(), q, part)) &
             twice(((1 << L.high_bits) - 1) << L.low_bits);
    return (Octets)w;
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
