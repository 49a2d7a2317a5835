#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace busbar::jinja {

/// The character classes of Python's str methods, for one code point.
bool is_space(uint32_t c);
bool is_line_break(uint32_t c);
bool is_alpha(uint32_t c);
bool is_decimal(uint32_t c);  ///< Nd: what int() reads
bool is_digit(uint32_t c);    ///< decimals and superscripts
bool is_numeric(uint32_t c);
bool is_printable(uint32_t c);
bool is_lower(uint32_t c);
bool is_upper(uint32_t c);
bool is_title(uint32_t c);
/// 0..9 of a decimal digit of any script; -1 if it is none.
int decimal_value(uint32_t c);

/// Full case mappings: one code point may become up to three (the sharp s becomes SS).
void append_upper(std::string& out, uint32_t c);
void append_lower(std::string& out, uint32_t c);
void append_title(std::string& out, uint32_t c);
/// Lower case of the code point at `position`, which for a Greek sigma depends on its neighbours.
void append_lower_at(std::string& out, std::string_view text, size_t position);

/// Code points in `text`; each invalid byte counts as one.
size_t count_characters(std::string_view text);
bool is_ascii(std::string_view text);
/// The offset of the code point that starts before `position`.
size_t previous_character(std::string_view text, size_t position);

}  // namespace busbar::jinja
