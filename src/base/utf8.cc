#include "base/utf8.h"

namespace busbar {

namespace {

// RFC 3629, table in section 4: the lead byte fixes the length and the range of the second byte.
struct Lead {
    int length;
    unsigned char low, high;
};

Lead lead_of(unsigned char c) {
    if (c < 0x80) return {1, 0, 0};
    if (c < 0xC2) return {0, 0, 0};
    if (c < 0xE0) return {2, 0x80, 0xBF};
    if (c == 0xE0) return {3, 0xA0, 0xBF};
    if (c == 0xED) return {3, 0x80, 0x9F};
    if (c < 0xF0) return {3, 0x80, 0xBF};
    if (c == 0xF0) return {4, 0x90, 0xBF};
    if (c < 0xF4) return {4, 0x80, 0xBF};
    if (c == 0xF4) return {4, 0x80, 0x8F};
    return {0, 0, 0};
}

// How many bytes of `text` fit the code point that its first byte announces; `length` is what it announces.
int matched(std::string_view text, int& length) {
    length = 0;
    if (text.empty()) return 0;
    const Lead lead = lead_of(text[0]);
    length = lead.length;
    if (length == 0) return 0;
    int n = 1;
    while (n < length && n < static_cast<int>(text.size())) {
        const unsigned char c = text[n];
        const unsigned char low = n == 1 ? lead.low : 0x80, high = n == 1 ? lead.high : 0xBF;
        if (c < low || c > high) return 0;
        ++n;
    }
    return n;
}

}  // namespace

size_t utf8_length(std::string_view text) {
    int length;
    const int n = matched(text, length);
    return n > 0 && n == length ? n : 0;
}

bool utf8_is_cut(std::string_view text) {
    int length;
    const int n = matched(text, length);
    return n > 0 && n < length && n == static_cast<int>(text.size());
}

uint32_t utf8_next(std::string_view text, size_t& pos) {
    const size_t n = utf8_length(text.substr(pos));
    if (n == 0) {
        ++pos;
        return 0xFFFD;
    }
    const unsigned char first = text[pos];
    uint32_t cp = n == 1 ? first : first & (0x7F >> n);
    for (size_t i = 1; i < n; ++i) cp = cp << 6 | (static_cast<unsigned char>(text[pos + i]) & 0x3F);
    pos += n;
    return cp;
}

void utf8_append(std::string& out, uint32_t cp) {
    if (cp < 0x80) {
        out += static_cast<char>(cp);
    } else if (cp < 0x800) {
        out += static_cast<char>(0xC0 | cp >> 6);
        out += static_cast<char>(0x80 | (cp & 0x3F));
    } else if (cp < 0x10000) {
        out += static_cast<char>(0xE0 | cp >> 12);
        out += static_cast<char>(0x80 | (cp >> 6 & 0x3F));
        out += static_cast<char>(0x80 | (cp & 0x3F));
    } else {
        out += static_cast<char>(0xF0 | cp >> 18);
        out += static_cast<char>(0x80 | (cp >> 12 & 0x3F));
        out += static_cast<char>(0x80 | (cp >> 6 & 0x3F));
        out += static_cast<char>(0x80 | (cp & 0x3F));
    }
}

size_t utf8_first_invalid(std::string_view text) {
    size_t i = 0;
    while (i < text.size()) {
        const size_t n = utf8_length(text.substr(i));
        if (n == 0) return i;
        i += n;
    }
    return std::string_view::npos;
}

bool utf8_valid(std::string_view text) { return utf8_first_invalid(text) == std::string_view::npos; }

}  // namespace busbar
