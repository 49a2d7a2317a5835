#include "dtype/block_codes.h"

#include "base/bytes.h"
#include "dtype/code_values.h"

namespace busbar {

namespace {

uint8_t u8(const std::byte* p, int64_t i) {
    return static_cast<uint8_t>(p[i]);
}

// The codes of 32-wide blocks: low nibbles hold elements 0 .. 15, high ones 16 .. 31.
void nibbles(const std::byte* qs, int8_t* codes) {
    for (int i = 0; i < 16; ++i) {
        codes[i] = static_cast<int8_t>(u8(qs, i) & 15);
        codes[i + 16] = static_cast<int8_t>(u8(qs, i) >> 4);
    }
}
void add_fifth_bits(const std::byte* qh, int8_t* codes) {
    const auto bits = load<uint32_t>(qh);
    for (int i = 0; i < 32; ++i) codes[i] = static_cast<int8_t>(codes[i] | (bits >> i & 1) << 4);
}
// The codes of 256-wide blocks, four planes of two bits or two of four.
void two_bits(const std::byte* qs, int8_t* codes) {
    for (int i = 0; i < 256; ++i)
        codes[i] = static_cast<int8_t>(u8(qs, 32 * (i / 128) + i % 32) >> 2 * (i % 128 / 32) & 3);
}
void four_bits(const std::byte* qs, int8_t* codes) {
    for (int j = 0; j < 4; ++j)
        for (int i = 0; i < 32; ++i) {
            const uint8_t byte = u8(qs, 32 * j + i);
            codes[64 * j + i] = static_cast<int8_t>(byte & 15);
            codes[64 * j + 32 + i] = static_cast<int8_t>(byte >> 4);
        }
}
// Eight pairs of 6-bit numbers in 12 bytes.
void six_bit_scales(const std::byte* sc, BlockCodes& b) {
    for (int j = 0; j < 8; ++j) {
        b.small_scales[j] = j < 4 ? u8(sc, j) & 63 : (u8(sc, j + 4) & 15) | (u8(sc, j - 4) >> 6) << 4;
        b.small_minimums[j] = j < 4 ? u8(sc, j + 4) & 63 : u8(sc, j + 4) >> 4 | (u8(sc, j) >> 6) << 4;
    }
}

// One per encoding, from the layouts of formats.md sections 4.4 and 4.5.
void q4_0(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    nibbles(p + 2, b.codes);
}
void q4_1(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    b.minimum = load<uint16_t>(p + 2);
    nibbles(p + 4, b.codes);
}
void q5_0(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    nibbles(p + 6, b.codes);
    add_fifth_bits(p + 2, b.codes);
}
void q5_1(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    b.minimum = load<uint16_t>(p + 2);
    nibbles(p + 8, b.codes);
    add_fifth_bits(p + 4, b.codes);
}
void q8_0(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    std::memcpy(b.codes, p + 2, 32);
}
void q2_k(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p + 80);
    b.minimum = load<uint16_t>(p + 82);
    for (int j = 0; j < 16; ++j) {
        b.small_scales[j] = u8(p, j) & 15;
        b.small_minimums[j] = u8(p, j) >> 4;
    }
    two_bits(p + 16, b.codes);
}
void q3_k(const std::byte* p, BlockCodes& b) {
    const std::byte* sc = p + 96;
    b.scale = load<uint16_t>(p + 108);
    for (int j = 0; j < 16; ++j) {
        const int low = u8(sc, j % 8) >> 4 * (j / 8) & 15, high = u8(sc, 8 + j % 4) >> 2 * (j / 4) & 3;
        b.small_scales[j] = static_cast<uint8_t>((low | high << 4) - 32);
    }
    two_bits(p + 32, b.codes);
    // A set mask bit means "no offset": with 4 added where it is set, all codes have the same offset of 4.
    for (int i = 0; i < 256; ++i) b.codes[i] = static_cast<int8_t>(b.codes[i] | (u8(p, i % 32) >> (i / 32) & 1) << 2);
}
void q4_k(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    b.minimum = load<uint16_t>(p + 2);
    six_bit_scales(p + 4, b);
    four_bits(p + 16, b.codes);
}
void q5_k(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    b.minimum = load<uint16_t>(p + 2);
    six_bit_scales(p + 4, b);
    four_bits(p + 48, b.codes);
    for (int i = 0; i < 256; ++i)
        b.codes[i] = static_cast<int8_t>(b.codes[i] | (u8(p + 16, i % 32) >> (i / 32) & 1) << 4);
}
void q6_k(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p + 208);
    for (int j = 0; j < 16; ++j) b.small_scales[j] = u8(p, 192 + j);
    for (int i = 0; i < 256; ++i) {
        const int h = i / 128, r = i % 128, byte = u8(p, 64 * h + r % 64);
        const int low = r < 64 ? byte & 15 : byte >> 4, high = u8(p + 128, 32 * h + r % 32) >> 2 * (r / 32) & 3;
        b.codes[i] = static_cast<int8_t>(low | high << 4);
    }
}
void iq4_xs(const std::byte* p, BlockCodes& b) {
    b.scale = load<uint16_t>(p);
    const int sh = load<uint16_t>(p + 2);
    for (int j = 0; j < 8; ++j) {
        const int low = u8(p + 4, j / 2) >> 4 * (j % 2) & 15, high = sh >> 2 * j & 3;
        b.small_scales[j] = static_cast<uint8_t>((low | high << 4) - 32);
        nibbles(p + 8 + 16 * j, b.codes + 32 * j);
    }
}
void mxfp4(const std::byte* p, BlockCodes& b) {
    b.small_scales[0] = u8(p, 0);
    nibbles(p + 1, b.codes);
}

struct Row {
    std::string_view encoding;
    CodeKind kind;
};
constexpr Row rows[] = {
    {"q4_0", {4, 8, 32, nullptr, q4_0}},        {"q4_1", {4, 0, 32, nullptr, q4_1}},
    {"q5_0", {5, 16, 32, nullptr, q5_0}},       {"q5_1", {5, 0, 32, nullptr, q5_1}},
    {"q8_0", {8, 0, 32, nullptr, q8_0}},        {"q2_k", {2, 0, 16, nullptr, q2_k}},
    {"q3_k", {3, 4, 16, nullptr, q3_k}},        {"q4_k", {4, 0, 32, nullptr, q4_k}},
    {"q5_k", {5, 0, 32, nullptr, q5_k}},        {"q6_k", {6, 32, 16, nullptr, q6_k}},
    {"iq4_nl", {4, 0, 32, iq4_values, q4_0}},  // a half and nibbles, as there
    {"iq4_xs", {4, 0, 32, iq4_values, iq4_xs}}, {"mxfp4", {4, 0, 32, e2m1_doubled, mxfp4}},
};

}  // namespace

const CodeKind* code_kind(const Encoding& encoding) {
    for (const Row& row : rows)
        if (row.encoding == encoding.name) return &row.kind;
    return nullptr;
}

}  // namespace busbar
