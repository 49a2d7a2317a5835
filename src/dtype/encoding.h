#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "dtype/element.h"

namespace busbar {

/// How blocks of elements are scaled in an encoding.
enum class Scale : uint8_t {
    none,            ///< plain elements
    f16,             ///< one half per block:                         w = d*q
    f16_min,         ///< a half and a minimum per block:             w = d*q + m
    e8m0,            ///< a power of two per block (OCP MX)
    two_level,       ///< halves per super-block, small ints per group:  w = d*s*q
    two_level_min,   ///< the same with minimums:                     w = d*s*q - dmin*m
};

/// One row of the table of stored weight encodings: the pair of element and scale, with its block extent.
/// A matrix is rows of K elements; K is a multiple of `block`; row r starts at r * K/block * block_bytes.
/// Identity is the row's address: two encodings are the same if &a == &b.
struct Encoding {
    std::string_view name;   ///< as GGUF and Busbar print it, lower case: "q4_k"
    Element element;
    Scale scale;
    int block;               ///< elements per block, along K
    int block_bytes;         ///< bytes per block
    int gguf_type;           ///< type id in GGUF files (formats.md 4.3)
    /// The exact definition: decodes `count` whole blocks to `count * block` values, bit-equal to the reference decoder
    /// (f32 arithmetic, products then sums, no contraction). Any bytes are legal input; the result may then be NaN or infinite.
    void (*decode)(const std::byte* blocks, float* out, size_t count);

    double bits_per_weight() const { return 8.0 * block_bytes / block; }
    /// Bytes of a row of `width` elements (a multiple of block).
    size_t row_bytes(int64_t width) const { return static_cast<size_t>(width / block) * block_bytes; }
};

/// All encodings, in the order of the support table: f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4.
std::span<const Encoding* const> encodings();
/// nullptr if unknown.
const Encoding* find_encoding(std::string_view name);
const Encoding* find_gguf_encoding(int gguf_type);

/// The plain ones by name, since code needs them as constants.
extern const Encoding encoding_f32, encoding_f16, encoding_bf16, encoding_q8_0, encoding_q4_0, encoding_q4_1;

}  // namespace busbar
