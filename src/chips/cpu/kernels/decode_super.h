#pragma once
#include "chips/cpu/kernels/decode.h"

// Decoders of the 256-wide super-blocks. Layouts: formats.md section 4.5; the contract of a decoder: decode.h.

namespace busbar::cpu::BUSBAR_ISA {

struct Q2_K {
    static constexpr bool plain = false;
    static constexpr int block = 256, bytes = 84, span = 128;
    using Scales = ScaleMinList<16>;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) {
        const Floats8 d = splat8(half_at(p + 80)), dmin = splat8(-half_at(p + 82));
        Scales s;
        unrolled<2>([&](auto i) BUSBAR_INLINE_LAMBDA {
            const uint64_t packed = read<uint64_t>(p + 8 * i);
            put(s.scale + 8 * i, d * bytes_to_floats(packed & 15 * every_byte));
            put(s.min + 8 * i, dmin * bytes_to_floats(packed >> 4 & 15 * every_byte));
        });
        return s;
    }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int g, const Use& use) {
        const Bytes32 packed = arranged(read<Bytes32>(p + 16 + 32 * g));
        unrolled<4>([&](auto plane) BUSBAR_INLINE_LAMBDA {
            const int j = 8 * g + 2 * plane;
            scaled<32 * plane, 1>(shift_right(packed, 2 * plane) & 3, s.scale + j, s.min + j, use);
        });
    }
};

struct Q3_K {
    static constexpr bool plain = false;
    static constexpr int block = 256, bytes = 110, span = 128;
    using Scales = ScaleList<16>;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) {
        const Floats8 d = splat8(half_at(p + 108));
        // Low nibbles of all sixteen in eight bytes, then their two upper bits, four to a byte.
        const uint64_t low = read<uint64_t>(p + 96), high4 = read<uint32_t>(p + 104);
        Scales s;
        unrolled<2>([&](auto i) BUSBAR_INLINE_LAMBDA {
            const uint64_t two = high4 >> 4 * i, high = (two & 0x03030303) | (two >> 2 & 0x03030303) << 32;
            const uint64_t scale = (low >> 4 * i & 15 * every_byte) | high << 4;
            put(s.scale + 8 * i, d * (bytes_to_floats(scale) - 32.0f));
        });
        return s;
    }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int g, const Use& use) {
        const Bytes32 packed = arranged(read<Bytes32>(p + 32 + 32 * g));
        const Bytes32 mask = shift_right(arranged(read<Bytes32>(p)), 4 * g);
        unrolled<4>([&](auto plane) BUSBAR_INLINE_LAMBDA {
            const Bytes32 high = shift_left(shift_right(mask, plane) & 1, 2);
            scaled<32 * plane, 1, 4>((shift_right(packed, 2 * plane) & 3) | high, s.scale + 8 * g + 2 * plane, use);
        });
    }
};

/// Scales and minimums of Q4_K and Q5_K, 6 bits each in 12 bytes, times d and -dmin (two halves at p).
BUSBAR_INLINE ScaleMinList<8> six_bit_scales(const uint8_t* p) {
    const uint64_t a = read<uint32_t>(p + 4), b = read<uint32_t>(p + 8), c = read<uint32_t>(p + 12);
    constexpr uint64_t six = 0x3F3F3F3F, four = 0x0F0F0F0F, two = 0x03030303;
    const uint64_t scale = (a & six) | ((c & four) | (a >> 6 & two) << 4) << 32;
    const uint64_t min = (b & six) | ((c >> 4 & four) | (b >> 6 & two) << 4) << 32;
    ScaleMinList<8> s;
    put(s.scale, splat8(half_at(p)) * bytes_to_floats(scale));
    put(s.min, splat8(-half_at(p + 2)) * bytes_to_floats(min));
    return s;
}

struct Q4_K {
    static constexpr bool plain = false;
    static constexpr int block = 256, bytes = 144, span = 64;
    using Scales = ScaleMinList<8>;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return six_bit_scales(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int g, const Use& use) {
        const uint8_t* q = p + 16 + 32 * g;
#if BUSBAR_LANES == 16
        const Floats low = multiply_add(splat(s.scale[2 * g]), codes_0_to_15, splat(s.min[2 * g]));
        const Floats high = multiply_add(splat(s.scale[2 * g + 1]), codes_0_to_15, splat(s.min[2 * g + 1]));
        const Ints a = load_u8(q), b = load_u8(q + 16);
        use(0, __builtin_shuffle(low, a));
        use(16, __builtin_shuffle(low, b));
        use(32, __builtin_shuffle(high, a >> 4));
        use(48, __builtin_shuffle(high, b >> 4));
#else
        const Bytes32 packed = arranged(read<Bytes32>(q));
        scaled<0, 0>(packed & 15, s.scale + 2 * g, s.min + 2 * g, use);
        scaled<32, 0>(shift_right(packed, 4) & 15, s.scale + 2 * g + 1, s.min + 2 * g + 1, use);
#endif
    }
};

struct Q5_K {
    static constexpr bool plain = false;
    static constexpr int block = 256, bytes = 176, span = 64;
    using Scales = ScaleMinList<8>;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) { return six_bit_scales(p); }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int g, const Use& use) {
        const Bytes32 q = arranged(read<Bytes32>(p + 48 + 32 * g));
        const Bytes32 fifth = shift_right(arranged(read<Bytes32>(p + 16)), 2 * g);
        const float *scale = s.scale + 2 * g, *min = s.min + 2 * g;
        scaled<0, 0>((q & 15) | shift_left(fifth & 1, 4), scale, min, use);
        scaled<32, 0>((shift_right(q, 4) & 15) | shift_left(fifth & 2, 3), scale + 1, min + 1, use);
    }
};

struct Q6_K {
    static constexpr bool plain = false;
    static constexpr int block = 256, bytes = 210, span = 128;
    using Scales = ScaleList<16>;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) {
        const Floats8 d = splat8(half_at(p + 208));
        Scales s;
        put(s.scale, d * bytes_to_floats(read<uint64_t>(p + 192)));
        put(s.scale + 8, d * bytes_to_floats(read<uint64_t>(p + 200)));
        return s;
    }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int g, const Use& use) {
        const Bytes32 q0 = arranged(read<Bytes32>(p + 64 * g)), q1 = arranged(read<Bytes32>(p + 64 * g + 32));
        const Bytes32 high = arranged(read<Bytes32>(p + 128 + 32 * g));
        const float* scale = s.scale + 8 * g;
        scaled<0, 1, 32>((q0 & 15) | shift_left(high & 3, 4), scale, use);
        scaled<32, 1, 32>((q1 & 15) | shift_left(high & 12, 2), scale + 2, use);
        scaled<64, 1, 32>((shift_right(q0, 4) & 15) | (high & 48), scale + 4, use);
        scaled<96, 1, 32>((shift_right(q1, 4) & 15) | (shift_right(high, 2) & 48), scale + 6, use);
    }
};

struct Iq4Xs {
    static constexpr bool plain = false;
    static constexpr int block = 256, bytes = 136, span = 32;
    using Scales = ScaleList<8>;
    static BUSBAR_INLINE Scales scales(const uint8_t* p) {
        const uint32_t high = read<uint16_t>(p + 2), low = read<uint32_t>(p + 4);
        uint64_t bytes = 0;
        unrolled<8>([&](auto j) BUSBAR_INLINE_LAMBDA {
            bytes |= (uint64_t)((low >> 4 * j & 15) | (high >> 2 * j & 3) << 4) << 8 * j;
        });
        Scales s;
        put(s.scale, splat8(half_at(p)) * (bytes_to_floats(bytes) - 32.0f));
        return s;
    }
    template <class Use>
    static BUSBAR_INLINE void decode(const uint8_t* p, const Scales& s, int g, const Use& use) {
        nibbles_by_value<iq4_values>(p + 8 + 16 * g, splat(s.scale[g]), use);
    }
};

}  // namespace busbar::cpu::BUSBAR_ISA
