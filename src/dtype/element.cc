#include "dtype/element.h"

#include <bit>

namespace busbar {

namespace {

struct Row {
    Element element;
    std::string_view name;
    int bits;
};

// In the order of the enum; a test compares the two.
constexpr Row rows[] = {
    {Element::f64, "f64", 64},      {Element::f32, "f32", 32}, {Element::f16, "f16", 16}, {Element::bf16, "bf16", 16},
    {Element::i32, "i32", 32},      {Element::i16, "i16", 16}, {Element::i8, "i8", 8},    {Element::i6, "i6", 6},    {Element::i5, "i5", 5},
    {Element::i4, "i4", 4},         {Element::i3, "i3", 3},    {Element::i2, "i2", 2},    {Element::e2m1, "e2m1", 4},
    {Element::table4, "table4", 4},
};

constexpr bool rows_follow_the_enum() {
    for (size_t i = 0; i < std::size(rows); ++i)
        if (static_cast<size_t>(rows[i].element) != i) return false;
    return true;
}
static_assert(rows_follow_the_enum());

}  // namespace

std::string_view name_of(Element e) {
    return rows[static_cast<size_t>(e)].name;
}
int bits_of(Element e) {
    return rows[static_cast<size_t>(e)].bits;
}

float f16_to_f32(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t exponent = bits >> 10 & 0x1F, mantissa = bits & 0x3FF;
    if (exponent == 0) {
        // Zero or subnormal: mantissa * 2^-24, exact in f32.
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
        return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
    }
    if (exponent == 31) {
        // A signalling NaN becomes quiet, as the processors' own conversion does.
        const uint32_t quiet = mantissa ? 0x400000u : 0u;
        return std::bit_cast<float>(sign | 0x7F800000u | quiet | mantissa << 13);
    }
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t f32_to_f16(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    // 65520 is halfway between the largest half (65504) and the next step: it and all above round to infinity.
    if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);
    if (magnitude < 0x38800000) {
        // Below 2^-14 the half is subnormal. Adding 0.5 puts the unit of the sum at 2^-24, the subnormal step, so the
        // addition itself rounds to nearest even and leaves the mantissa in the low bits.
        const float sum = std::bit_cast<float>(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3F000000u));
    }
    // Round to nearest even on the 13 bits that go; a carry out of the mantissa raises the exponent, as it should.
    const uint32_t odd = magnitude >> 13 & 1;
    const uint32_t rounded = magnitude - (112u << 23) + 0xFFF + odd;
    return static_cast<uint16_t>(sign | rounded >> 13);
}

float bf16_to_f32(uint16_t bits) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t f32_to_bf16(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    // Rounding could carry a NaN into infinity: keep its top bits and make it quiet.
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace busbar
