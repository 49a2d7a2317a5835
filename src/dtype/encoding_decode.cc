#include "dtype/encoding_decode.h"

#include <bit>
#include <cstdint>

#include "base/bytes.h"
#include "dtype/block_codes.h"
#include "dtype/code_values.h"
#include "dtype/element.h"

// Plain on purpose: these loops say what a stored block means, and every fast kernel is compared with them.
// The arithmetic is f32, products first and then the sum: a different order would differ in the last bit.

namespace busbar {

namespace {

uint8_t u8(const std::byte* p, size_t i) {
    return static_cast<uint8_t>(p[i]);
}
int8_t i8(const std::byte* p, size_t i) {
    return static_cast<int8_t>(p[i]);
}
float half(const std::byte* p) {
    return f16_to_f32(load<uint16_t>(p));
}

/// Code i of a 32-wide block: the low nibbles hold elements 0..15, the high ones 16..31.
int nibble(const std::byte* qs, int i) {
    return i < 16 ? u8(qs, i) & 15 : u8(qs, i - 16) >> 4;
}

/// The fifth bits of a 32-wide block lie together in one word.
int fifth_bit(const std::byte* qh, int i) {
    return (load<uint32_t>(qh) >> i & 1) << 4;
}

/// 2-bit code i of a 256-wide block: 32 bytes hold 128 elements, in four planes.
int two_bits(const std::byte* qs, int i) {
    return u8(qs, 32 * (i / 128) + i % 32) >> 2 * (i % 128 / 32) & 3;
}

/// 4-bit code i of a 256-wide block: 32 bytes hold 64 elements, low nibbles first.
int four_bits(const std::byte* qs, int i) {
    const int byte = u8(qs, 32 * (i / 64) + i % 32);
    return i % 64 < 32 ? byte & 15 : byte >> 4;
}

/// Scale and minimum of group j (32 elements) of Q4_K and Q5_K: eight pairs of 6-bit numbers in 12 bytes.
struct ScaleMin {
    int scale, min;
};
ScaleMin scale_min(const std::byte* sc, int j) {
    if (j < 4) return {u8(sc, j) & 63, u8(sc, j + 4) & 63};
    return {(u8(sc, j + 4) & 15) | (u8(sc, j - 4) >> 6) << 4, u8(sc, j + 4) >> 4 | (u8(sc, j) >> 6) << 4};
}

}  // namespace

// Built from bits because 2^-128 and 2^-127 are subnormal.
float half_of_e8m0(uint8_t e) {
    if (e == 255) return std::bit_cast<float>(0x7FC00000u);
    return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

void decode_f32(const std::byte* blocks, float* out, size_t count) {
    if (count > 0) std::memcpy(out, blocks, count * sizeof(float));
}

void decode_f16(const std::byte* blocks, float* out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = half(blocks + 2 * i);
}

void decode_bf16(const std::byte* blocks, float* out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = bf16_to_f32(load<uint16_t>(blocks + 2 * i));
}

// d, qs[16]
void decode_q4_0(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 18, out += 32) {
        const float d = half(b);
        for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(b + 2, i) - 8);
    }
}

// d, m, qs[16]
void decode_q4_1(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 20, out += 32) {
        const float d = half(b), m = half(b + 2);
        for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(b + 4, i)) + m;
    }
}

// d, qh u32, qs[16]
void decode_q5_0(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 22, out += 32) {
        const float d = half(b);
        for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16);
    }
}

// d, m, qh u32, qs[16]
void decode_q5_1(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 24, out += 32) {
        const float d = half(b), m = half(b + 2);
        for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(b + 8, i) | fifth_bit(b + 4, i)) + m;
    }
}

// d, int8 q[32]
void decode_q8_0(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 34, out += 32) {
        const float d = half(b);
        for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(i8(b + 2, i));
    }
}

// scales[16], qs[64], d, dmin
void decode_q2_k(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 84, out += 256) {
        const float d = half(b + 80), dmin = half(b + 82);
        for (int i = 0; i < 256; ++i) {
            const int s = u8(b, i / 16);
            const float scale = d * static_cast<float>(s & 15), min = dmin * static_cast<float>(s >> 4);
            out[i] = scale * static_cast<float>(two_bits(b + 16, i)) - min;
        }
    }
}

// hmask[32], qs[64], scales[12], d
void decode_q3_k(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 110, out += 256) {
        const std::byte* sc = b + 96;
        const float d = half(b + 108);
        for (int i = 0; i < 256; ++i) {
            const int j = i / 16;
            const int low = u8(sc, j % 8) >> 4 * (j / 8) & 15, high = u8(sc, 8 + j % 4) >> 2 * (j / 4) & 3;
            const float scale = d * static_cast<float>((low | high << 4) - 32);
            // A set mask bit means "no offset": the third bit is stored inverted.
            const int offset = u8(b, i % 32) >> (i / 32) & 1 ? 0 : 4;
            out[i] = scale * static_cast<float>(two_bits(b + 32, i) - offset);
        }
    }
}

// d, dmin, sc[12], qs[128]
void decode_q4_k(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 144, out += 256) {
        const float d = half(b), dmin = half(b + 2);
        for (int i = 0; i < 256; ++i) {
            const ScaleMin s = scale_min(b + 4, i / 32);
            const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
            out[i] = scale * static_cast<float>(four_bits(b + 16, i)) - min;
        }
    }
}

// d, dmin, sc[12], qh[32], qs[128]
void decode_q5_k(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 176, out += 256) {
        const float d = half(b), dmin = half(b + 2);
        for (int i = 0; i < 256; ++i) {
            const int j = i / 32;
            const ScaleMin s = scale_min(b + 4, j);
            const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
            const int high = u8(b + 16, i % 32) >> j & 1;
            out[i] = scale * static_cast<float>(four_bits(b + 48, i) | high << 4) - min;
        }
    }
}

// ql[128], qh[64], int8 sc[16], d
void decode_q6_k(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 210, out += 256) {
        const float d = half(b + 208);
        for (int i = 0; i < 256; ++i) {
            const int h = i / 128, r = i % 128;
            const int byte = u8(b, 64 * h + r % 64);
            const int low = r < 64 ? byte & 15 : byte >> 4;
            const int high = u8(b + 128, 32 * h + r % 32) >> 2 * (r / 32) & 3;
            const float scale = d * static_cast<float>(i8(b + 192, i / 16));
            out[i] = scale * static_cast<float>((low | high << 4) - 32);
        }
    }
}

// d, qs[16]
void decode_iq4_nl(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 18, out += 32) {
        const float d = half(b);
        for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(iq4_values[nibble(b + 2, i)]);
    }
}

// d, u16 sh, sl[4], qs[128]: eight groups of 32, each laid out like an IQ4_NL block
void decode_iq4_xs(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 136, out += 256) {
        const float d = half(b);
        const int sh = load<uint16_t>(b + 2);
        for (int i = 0; i < 256; ++i) {
            const int j = i / 32;
            const int low = u8(b + 4, j / 2) >> 4 * (j % 2) & 15, high = sh >> 2 * j & 3;
            const float scale = d * static_cast<float>((low | high << 4) - 32);
            out[i] = scale * static_cast<float>(iq4_values[nibble(b + 8 + 16 * j, i % 32)]);
        }
    }
}

// e, qs[16]
void decode_mxfp4(const std::byte* b, float* out, size_t count) {
    for (; count > 0; --count, b += 17, out += 32) {
        const float scale = half_of_e8m0(u8(b, 0));
        for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(e2m1_doubled[nibble(b + 1, i)]);
    }
}

}  // namespace busbar
