#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace busbar {

// Character properties as the tokenizers of published models use them. Tables: utf8proc (Unicode 14).

/// Unicode White_Space: what \s means here. Not U+180E, not U+200B.
bool is_white_space(uint32_t code_point);
/// \w of the added-token rules: alphabetic, marks, decimal digits, connectors, joiners.
bool is_word(uint32_t code_point);
/// General categories Nd, Nl and No.
bool is_numeric(uint32_t code_point);
/// ASCII punctuation (symbols like '$' included) and general category P.
bool is_punctuation(uint32_t code_point);
/// General category M.
bool is_mark(uint32_t code_point);
/// General category Mn.
bool is_nonspacing_mark(uint32_t code_point);
/// General category C without unassigned code points, tab and line breaks.
bool is_control(uint32_t code_point);
/// CJK ideographs, as BERT's normalizer counts them.
bool is_cjk(uint32_t code_point);

/// Code points in valid UTF-8.
uint64_t code_point_count(std::string_view text);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
/// `text` is valid UTF-8.
std::string normalize(std::string_view text, NormalForm form);

/// Full lower case of every code point on its own (no final-sigma rule).
std::string lower_case(std::string_view text);

/// The printable stand-in of a byte in byte-level vocabularies: bytes 33-126, 161-172, 174-255 stand for themselves,
/// the other 68 are U+0100 upwards in order.
uint32_t byte_symbol(uint8_t byte);
/// The inverse; -1 for a code point that stands for no byte.
int symbol_byte(uint32_t code_point);

}  // namespace busbar
