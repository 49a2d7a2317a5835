#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace busbar {

/// Bytes of the valid UTF-8 code point at the start of `text`; 0 if it is empty, invalid, overlong, a surrogate or cut short.
size_t utf8_length(std::string_view text);

/// True if `text` is a proper prefix of some valid code point (so more bytes may complete it).
bool utf8_is_cut(std::string_view text);

/// Decodes the code point at `text[pos]` and moves `pos` past it. Invalid bytes give U+FFFD, one byte each.
uint32_t utf8_next(std::string_view text, size_t& pos);

void utf8_append(std::string& out, uint32_t code_point);

bool utf8_valid(std::string_view text);

/// The offset of the first invalid byte, or npos.
size_t utf8_first_invalid(std::string_view text);

}  // namespace busbar
