// Stored weights to numbers. One function per encoding gives number i of a block; formats as GGUF documents them.
#include <cmath>

#include "faulty.h"

namespace faulty {

static float half_by_formula(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double x = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) x = fraction ? NAN : INFINITY;
    return static_cast<float>(bits >> 15 ? -x : x);
}

float half_to_float(uint16_t bits) {
    static const std::vector<float> all = [] {
        std::vector<float> made(65536);
        for (int i = 0; i < 65536; ++i) made[i] = half_by_formula(static_cast<uint16_t>(i));
        return made;
    }();
    return all[bits];
}

uint16_t float_to_half(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const uint16_t sign = bits >> 16 & 0x8000;
    const double magnitude = std::fabs(static_cast<double>(x));
    if (x != x) return sign | 0x7E00;
    if (magnitude >= 65520) return sign | 0x7C00;
    if (magnitude < 0x1p-14)  // below the normal numbers: steps of 2^-24 (nearbyint: to nearest, ties to even)
        return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24)));
    int exponent;
    const double fraction = std::frexp(magnitude, &exponent);  // 0.5 .. 1
    const auto steps = static_cast<int>(std::nearbyint(fraction * 2048));
    return static_cast<uint16_t>(sign + ((exponent + 14) << 10) + (steps - 1024));
}

uint16_t float_to_bfloat(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float flushed(float x) {
    return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}

namespace {

using Byte = unsigned char;

uint16_t u16(const Byte* p) {
    return static_cast<uint16_t>(p[0] | p[1] << 8);
}
float half_at(const Byte* p) {
    return half_to_float(u16(p));
}

// 32 numbers: the first 16 are the low halves of the bytes, the others the high ones.
int nibble(const Byte* q, int i) {
    return q[i % 16] >> 4 * (i / 16) & 15;
}
int fifth(const Byte* h, int i) {
    return h[i / 8] >> (i % 8) & 1;
}
// 256 numbers in 2 bits: 128 numbers in each 32 bytes, a bit pair per 32 of them.
int pair_of_bits(const Byte* q, int i) {
    return q[i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3;
}
// 256 numbers in 4 bits: 64 numbers in each 32 bytes.
int wide_nibble(const Byte* q, int i) {
    return q[i / 64 * 32 + i % 32] >> 4 * (i / 32 % 2) & 15;
}
// Scale (which = 0) or minimum (1) of group g of q4_k and q5_k: 6 bits, spread over 12 bytes.
int six_bits(const Byte* s, int g, int which) {
    if (g < 4) return s[g + 4 * which] & 63;
    return (s[g + 4] >> 4 * which & 15) + 16 * (s[g - 4 + 4 * which] >> 6);
}

const int table_of_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const float table_of_e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

float number_f32(const Byte* b, int) {
    float x;
    std::memcpy(&x, b, 4);
    return x;
}
float number_f16(const Byte* b, int) {
    return half_at(b);
}
float number_bf16(const Byte* b, int) {
    const uint32_t bits = static_cast<uint32_t>(u16(b)) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
float number_q4_0(const Byte* b, int i) {
    return half_at(b) * static_cast<float>(nibble(b + 2, i) - 8);
}
float number_q4_1(const Byte* b, int i) {
    return half_at(b) * static_cast<float>(nibble(b + 4, i)) + half_at(b + 2);
}
float number_q5_0(const Byte* b, int i) {
    return half_at(b) * static_cast<float>(nibble(b + 6, i) + 16 * fifth(b + 2, i) - 16);
}
float number_q5_1(const Byte* b, int i) {
    return half_at(b) * static_cast<float>(nibble(b + 8, i) + 16 * fifth(b + 4, i)) + half_at(b + 2);
}
float number_q8_0(const Byte* b, int i) {
    return half_at(b) * static_cast<float>(static_cast<signed char>(b[2 + i]));
}
float number_q2_k(const Byte* b, int i) {
    const float d = half_at(b + 80) * static_cast<float>(b[i / 16] & 15);
    const float m = half_at(b + 82) * static_cast<float>(b[i / 16] >> 4);
    return d * static_cast<float>(pair_of_bits(b + 16, i)) - m;
}
float number_q3_k(const Byte* b, int i) {
    const int g = i / 16, low = b[96 + g % 8] >> 4 * (g / 8) & 15, high = b[104 + g % 4] >> 2 * (g / 4) & 3;
    const int code = pair_of_bits(b + 32, i) + 4 * (b[i % 32] >> i / 32 & 1) - 4;
    return half_at(b + 108) * static_cast<float>(low + 16 * high - 32) * static_cast<float>(code);
}
float number_q4_k(const Byte* b, int i) {
    const float d = half_at(b) * static_cast<float>(six_bits(b + 4, i / 32, 0));
    const float m = half_at(b + 2) * static_cast<float>(six_bits(b + 4, i / 32, 1));
    return d * static_cast<float>(wide_nibble(b + 16, i)) - m;
}
float number_q5_k(const Byte* b, int i) {
    const float d = half_at(b) * static_cast<float>(six_bits(b + 4, i / 32, 0));
    const float m = half_at(b + 2) * static_cast<float>(six_bits(b + 4, i / 32, 1));
    return d * static_cast<float>(wide_nibble(b + 48, i) + 16 * (b[16 + i % 32] >> i / 32 & 1)) - m;
}
float number_q6_k(const Byte* b, int i) {
    const int part = i / 128, at = i % 128;
    const int low = b[64 * part + at % 64] >> 4 * (at / 64) & 15,
              high = b[128 + 32 * part + at % 32] >> 2 * (at / 32) & 3;
    const float d = half_at(b + 208) * static_cast<float>(static_cast<signed char>(b[192 + i / 16]));
    return d * static_cast<float>(low + 16 * high - 32);
}
float number_iq4_nl(const Byte* b, int i) {
    return half_at(b) * static_cast<float>(table_of_iq4[nibble(b + 2, i)]);
}
float number_iq4_xs(const Byte* b, int i) {
    const int g = i / 32, low = b[4 + g / 2] >> 4 * (g % 2) & 15, high = u16(b + 2) >> 2 * g & 3;
    return half_at(b) * static_cast<float>(low + 16 * high - 32) *
           static_cast<float>(table_of_iq4[nibble(b + 8 + 16 * g, i % 32)]);
}
float number_mxfp4(const Byte* b, int i) {
    if (b[0] == 255) return NAN;
    const int code = nibble(b + 1, i);
    const double x = std::ldexp(table_of_e2m1[code & 7], b[0] - 127);
    return static_cast<float>(code > 8 ? -x : x);  // code 8 is plain 0: the definition's codes are whole numbers
}

struct Known {
    uint32_t element, scale, block, block_bytes;
    float (*number)(const Byte* block, int i);
    std::vector<int> scales;  // bytes of a block that hold its scales
};

const std::vector<Known>& table() {
    static const std::vector<Known> all = {
        {BUSBAR_F32, BUSBAR_SCALE_NONE, 1, 4, number_f32, {}},
        {BUSBAR_F16, BUSBAR_SCALE_NONE, 1, 2, number_f16, {}},
        {BUSBAR_BF16, BUSBAR_SCALE_NONE, 1, 2, number_bf16, {}},
        {BUSBAR_I4, BUSBAR_SCALE_F16, 32, 18, number_q4_0, {0, 1}},
        {BUSBAR_I4, BUSBAR_SCALE_F16_MIN, 32, 20, number_q4_1, {0, 1}},
        {BUSBAR_I5, BUSBAR_SCALE_F16, 32, 22, number_q5_0, {0, 1}},
        {BUSBAR_I5, BUSBAR_SCALE_F16_MIN, 32, 24, number_q5_1, {0, 1}},
        {BUSBAR_I8, BUSBAR_SCALE_F16, 32, 34, number_q8_0, {0, 1}},
        {BUSBAR_I2, BUSBAR_SCALE_TWO_LEVEL_MIN, 256, 84, number_q2_k, {80, 81}},
        {BUSBAR_I3, BUSBAR_SCALE_TWO_LEVEL, 256, 110, number_q3_k, {108, 109}},
        {BUSBAR_I4, BUSBAR_SCALE_TWO_LEVEL_MIN, 256, 144, number_q4_k, {0, 1}},
        {BUSBAR_I5, BUSBAR_SCALE_TWO_LEVEL_MIN, 256, 176, number_q5_k, {0, 1}},
        {BUSBAR_I6, BUSBAR_SCALE_TWO_LEVEL, 256, 210, number_q6_k, {208, 209}},
        {BUSBAR_TABLE4, BUSBAR_SCALE_F16, 32, 18, number_iq4_nl, {0, 1}},
        {BUSBAR_TABLE4, BUSBAR_SCALE_TWO_LEVEL, 256, 136, number_iq4_xs, {0, 1}},
        {BUSBAR_E2M1, BUSBAR_SCALE_E8M0, 32, 17, number_mxfp4, {0}},
    };
    return all;
}

const Known* find(const busbar_tensor& t) {
    if (t.layout != BUSBAR_LAYOUT_PLAIN && t.layout != BUSBAR_LAYOUT_GGUF_BLOCKS) return nullptr;
    for (const Known& k : table())
        if (k.element == t.element && k.scale == t.scale && k.block == t.block && k.block_bytes == t.block_bytes)
            return &k;
    return nullptr;
}

}  // namespace

bool knows(const busbar_tensor& stored) {
    return find(stored) != nullptr;
}

bool decode(const busbar_tensor& stored, const unsigned char* bytes, int64_t rows, float* out, int64_t shift,
            bool flush) {
    const Known* k = find(stored);
    if (!k) return false;
    const int64_t width = stored.extents[stored.rank - 1], blocks = rows * (width / k->block);
    std::vector<Byte> changed(k->block_bytes);
    for (int64_t b = 0; b < blocks; ++b) {
        const Byte* block = bytes + b * k->block_bytes;
        if (b < shift && b + 1 < blocks && !k->scales.empty()) {
            std::memcpy(changed.data(), block, k->block_bytes);
            for (int at : k->scales) changed[at] = block[k->block_bytes + at];
            block = changed.data();
        }
        for (uint32_t i = 0; i < k->block; ++i) {
            const float x = k->number(block, static_cast<int>(i));
            *out++ = flush ? flushed(x) : x;
        }
    }
    return true;
}

}  // namespace faulty
