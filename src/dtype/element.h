#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace busbar {

/// A number type, of weights as stored or of values as computed. How blocks of them are scaled is dtype/encoding.h's business.
enum class Element : uint8_t { f64, f32, f16, bf16, i32, i16, i8, i6, i5, i4, i3, i2, e2m1, table4 };

/// "f32", "bf16" ...
std::string_view name_of(Element e);
/// Bits of one element: 64, 32, 16, 8 ...
int bits_of(Element e);
/// Bytes of one element; only for elements of whole bytes.
inline size_t bytes_of(Element e) { return bits_of(e) / 8; }

/// Exact widenings and round-to-nearest-even narrowings (NaN stays NaN, overflow becomes infinity). IEEE 754; bfloat16 = the top half of f32.
float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float x);
float bf16_to_f32(uint16_t bits);
uint16_t f32_to_bf16(float x);

}  // namespace busbar
