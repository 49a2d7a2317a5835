#pragma once
#include <cstddef>
#include <cstdint>

#include "dtype/encoding.h"

namespace busbar {

/// A block of a quantised encoding as the integers that it holds: what a chip packs, without loss. Element i of a block
/// is, by the encoding's Scale (halves are kept as their 16 bits):
///   f16, f16_min    scale * q + minimum
///   e8m0            2^(small_scales[0] - 127) * q, q from E2M1 doubled and so the power halved
///   two_level(_min) scale * small_scales[i / group] * q - minimum * small_minimums[i / group]
/// with q = codes[i] - offset, or values[codes[i]] where there is a table of values. The products are exact in f32.
struct BlockCodes {
    int8_t codes[256];  ///< 0 .. 2^bits - 1; of eight bits: -128 .. 127
    uint16_t scale = 0, minimum = 0;
    uint8_t small_scales[16] = {}, small_minimums[16] = {};  ///< two's complement where negative
};

/// What is the same for all blocks of an encoding.
struct CodeKind {
    int bits, offset;
    int group;             ///< elements that share a scale: 32 or 16
    const int8_t* values;  ///< of 16 codes, or nullptr
    void (*read)(const std::byte* block, BlockCodes& out);
};

/// nullptr for plain elements.
const CodeKind* code_kind(const Encoding& encoding);

/// 2^(e - 128), half of an E8M0 scale, for values of E2M1 doubled (e2m1_doubled). Of 255: NaN, as OCP MX has it.
float half_of_e8m0(uint8_t e);

}  // namespace busbar
