#include "llm/template/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace busbar::jinja {

namespace {

utf8proc_category_t category(uint32_t c) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// Mappings of one code point to several, which the simple tables of utf8proc lack (Unicode's SpecialCasing.txt,
// unconditional rows; the Greek rows with iota are computed below).
struct Special {
    uint32_t from;
    std::array<uint32_t, 3> upper, title;
};
constexpr Special specials[] = {
    {0x00DF, {'S', 'S', 0}, {'S', 's', 0}},
    {0x0149, {0x02BC, 'N', 0}, {0x02BC, 'N', 0}},
    {0x01F0, {'J', 0x030C, 0}, {'J', 0x030C, 0}},
    {0x0390, {0x0399, 0x0308, 0x0301}, {0x0399, 0x0308, 0x0301}},
    {0x03B0, {0x03A5, 0x0308, 0x0301}, {0x03A5, 0x0308, 0x0301}},
    {0x0587, {0x0535, 0x0552, 0}, {0x0535, 0x0582, 0}},
    {0x1E96, {'H', 0x0331, 0}, {'H', 0x0331, 0}},
    {0x1E97, {'T', 0x0308, 0}, {'T', 0x0308, 0}},
    {0x1E98, {'W', 0x030A, 0}, {'W', 0x030A, 0}},
    {0x1E99, {'Y', 0x030A, 0}, {'Y', 0x030A, 0}},
    {0x1E9A, {'A', 0x02BE, 0}, {'A', 0x02BE, 0}},
    {0x1F50, {0x03A5, 0x0313, 0}, {0x03A5, 0x0313, 0}},
    {0x1F52, {0x03A5, 0x0313, 0x0300}, {0x03A5, 0x0313, 0x0300}},
    {0x1F54, {0x03A5, 0x0313, 0x0301}, {0x03A5, 0x0313, 0x0301}},
    {0x1F56, {0x03A5, 0x0313, 0x0342}, {0x03A5, 0x0313, 0x0342}},
    {0x1FB2, {0x1FBA, 0x0399, 0}, {0x1FBA, 0x0345, 0}},
    {0x1FB3, {0x0391, 0x0399, 0}, {0x1FBC, 0, 0}},
    {0x1FB4, {0x0386, 0x0399, 0}, {0x0386, 0x0345, 0}},
    {0x1FB6, {0x0391, 0x0342, 0}, {0x0391, 0x0342, 0}},
    {0x1FB7, {0x0391, 0x0342, 0x0399}, {0x0391, 0x0342, 0x0345}},
    {0x1FBC, {0x0391, 0x0399, 0}, {0x1FBC, 0, 0}},
    {0x1FC2, {0x1FCA, 0x0399, 0}, {0x1FCA, 0x0345, 0}},
    {0x1FC3, {0x0397, 0x0399, 0}, {0x1FCC, 0, 0}},
    {0x1FC4, {0x0389, 0x0399, 0}, {0x0389, 0x0345, 0}},
    {0x1FC6, {0x0397, 0x0342, 0}, {0x0397, 0x0342, 0}},
    {0x1FC7, {0x0397, 0x0342, 0x0399}, {0x0397, 0x0342, 0x0345}},
    {0x1FCC, {0x0397, 0x0399, 0}, {0x1FCC, 0, 0}},
    {0x1FD2, {0x0399, 0x0308, 0x0300}, {0x0399, 0x0308, 0x0300}},
    {0x1FD3, {0x0399, 0x0308, 0x0301}, {0x0399, 0x0308, 0x0301}},
    {0x1FD6, {0x0399, 0x0342, 0}, {0x0399, 0x0342, 0}},
    {0x1FD7, {0x0399, 0x0308, 0x0342}, {0x0399, 0x0308, 0x0342}},
    {0x1FE2, {0x03A5, 0x0308, 0x0300}, {0x03A5, 0x0308, 0x0300}},
    {0x1FE3, {0x03A5, 0x0308, 0x0301}, {0x03A5, 0x0308, 0x0301}},
    {0x1FE4, {0x03A1, 0x0313, 0}, {0x03A1, 0x0313, 0}},
    {0x1FE6, {0x03A5, 0x0342, 0}, {0x03A5, 0x0342, 0}},
    {0x1FE7, {0x03A5, 0x0308, 0x0342}, {0x03A5, 0x0308, 0x0342}},
    {0x1FF2, {0x1FFA, 0x0399, 0}, {0x1FFA, 0x0345, 0}},
    {0x1FF3, {0x03A9, 0x0399, 0}, {0x1FFC, 0, 0}},
    {0x1FF4, {0x038F, 0x0399, 0}, {0x038F, 0x0345, 0}},
    {0x1FF6, {0x03A9, 0x0342, 0}, {0x03A9, 0x0342, 0}},
    {0x1FF7, {0x03A9, 0x0342, 0x0399}, {0x03A9, 0x0342, 0x0345}},
    {0x1FFC, {0x03A9, 0x0399, 0}, {0x1FFC, 0, 0}},
    {0xFB00, {'F', 'F', 0}, {'F', 'f', 0}},
    {0xFB01, {'F', 'I', 0}, {'F', 'i', 0}},
    {0xFB02, {'F', 'L', 0}, {'F', 'l', 0}},
    {0xFB03, {'F', 'F', 'I'}, {'F', 'f', 'i'}},
    {0xFB04, {'F', 'F', 'L'}, {'F', 'f', 'l'}},
    {0xFB05, {'S', 'T', 0}, {'S', 't', 0}},
    {0xFB06, {'S', 'T', 0}, {'S', 't', 0}},
    {0xFB13, {0x0544, 0x0546, 0}, {0x0544, 0x0576, 0}},
    {0xFB14, {0x0544, 0x0535, 0}, {0x0544, 0x0565, 0}},
    {0xFB15, {0x0544, 0x053B, 0}, {0x0544, 0x056B, 0}},
    {0xFB16, {0x054E, 0x0546, 0}, {0x054E, 0x0576, 0}},
    {0xFB17, {0x0544, 0x053D, 0}, {0x0544, 0x056D, 0}},
};

const Special* special(uint32_t c) {
    const auto found = std::lower_bound(std::begin(specials), std::end(specials), c,
                                        [](const Special& s, uint32_t value) { return s.from < value; });
    return found != std::end(specials) && found->from == c ? found : nullptr;
}

void append_all(std::string& out, const std::array<uint32_t, 3>& code_points) {
    for (const uint32_t c : code_points)
        if (c != 0) utf8_append(out, c);
}

// 1F80..1FAF: Greek letters with iota below, in blocks of 8 small and 8 title letters over a block without the iota.
bool has_iota(uint32_t c) {
    return c >= 0x1F80 && c <= 0x1FAF;
}

bool is_case_ignorable(uint32_t c) {
    switch (category(c)) {
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_SK:
            return true;
        default:
            break;
    }
    static constexpr uint32_t others[] = {'\'',   '.',    ':',    0xB7,   0x387,  0x55F,  0x5F4,  0x2018, 0x2019,
                                          0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    return std::binary_search(std::begin(others), std::end(others), c);
}

bool is_cased(uint32_t c) {
    return is_lower(c) || is_upper(c) || is_title(c);
}

}  // namespace

bool is_space(uint32_t c) {
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_break(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_alpha(uint32_t c) {
    if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
    switch (category(c)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
            return true;
        default:
            return false;
    }
}

bool is_decimal(uint32_t c) {
    return c < 0x80 ? c >= '0' && c <= '9' : category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(uint32_t c) {
    if (is_decimal(c)) return true;
    return c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
           (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247C) ||
           (c >= 0x2488 && c <= 0x2490) || c == 0x24EA || (c >= 0x24F5 && c <= 0x24FD) || c == 0x24FF ||
           (c >= 0x2776 && c <= 0x277E) || (c >= 0x2780 && c <= 0x2788) || (c >= 0x278A && c <= 0x2792);
}

bool is_numeric(uint32_t c) {
    if (is_digit(c)) return true;
    if (c < 0x80) return false;
    const auto k = category(c);
    if (k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO) return true;
    static constexpr uint32_t ideographs[] = {0x3007, 0x4E00, 0x4E03, 0x4E07, 0x4E09, 0x4E5D, 0x4E8C, 0x4E94,
                                              0x516B, 0x516D, 0x5341, 0x5343, 0x56DB, 0x767E, 0x842C, 0x96F6};
    return std::binary_search(std::begin(ideographs), std::end(ideographs), c);
}

bool is_printable(uint32_t c) {
    if (c < 0x80) return c >= 0x20 && c < 0x7F;
    switch (category(c)) {
        case UTF8PROC_CATEGORY_CC:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_CS:
        case UTF8PROC_CATEGORY_CO:
        case UTF8PROC_CATEGORY_CN:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
        case UTF8PROC_CATEGORY_ZS:
            return false;
        default:
            return true;
    }
}

bool is_lower(uint32_t c) {
    if (c < 0x80) return c >= 'a' && c <= 'z';
    return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA || (c >= 0x2170 && c <= 0x217F) ||
           (c >= 0x24D0 && c <= 0x24E9) || (c >= 0x2B0 && c <= 0x2B8) || (c >= 0x1D2C && c <= 0x1D6A);
}

bool is_upper(uint32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z';
    return category(c) == UTF8PROC_CATEGORY_LU || (c >= 0x2160 && c <= 0x216F) || (c >= 0x24B6 && c <= 0x24CF);
}

bool is_title(uint32_t c) {
    return c >= 0x80 && category(c) == UTF8PROC_CATEGORY_LT;
}

int decimal_value(uint32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9' ? static_cast<int>(c - '0') : -1;
    if (!is_decimal(c)) return -1;
    // Every script's digits stand in one run of ten that starts at its zero; runs may touch (mathematical digits).
    if (c >= 0x1D7CE && c <= 0x1D7FF) return static_cast<int>((c - 0x1D7CE) % 10);
    uint32_t zero = c;
    while (c - zero < 9 && is_decimal(zero - 1)) --zero;
    return static_cast<int>(c - zero);
}

void append_upper(std::string& out, uint32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    } else if (const Special* s = special(c)) {
        append_all(out, s->upper);
    } else if (has_iota(c)) {
        const uint32_t base = c < 0x1F90 ? 0x1F08 : c < 0x1FA0 ? 0x1F28 : 0x1F68;
        utf8_append(out, base + (c & 7));
        utf8_append(out, 0x0399);
    } else {
        utf8_append(out, static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
    }
}

void append_lower(std::string& out, uint32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    } else if (c == 0x130) {
        out += "i\xCC\x87";
    } else {
        utf8_append(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
}

void append_title(std::string& out, uint32_t c) {
    if (c < 0x80) {
        append_upper(out, c);
    } else if (const Special* s = special(c)) {
        append_all(out, s->title);
    } else {
        utf8_append(out, static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
    }
}

void append_lower_at(std::string& out, std::string_view text, size_t position) {
    size_t after = position;
    const uint32_t c = utf8_next(text, after);
    if (c != 0x3A3) {
        append_lower(out, c);
        return;
    }
    bool before_cased = false, after_cased = false;
    for (size_t p = position; p > 0;) {
        p = previous_character(text, p);
        size_t q = p;
        const uint32_t d = utf8_next(text, q);
        if (is_case_ignorable(d)) continue;
        before_cased = is_cased(d);
        break;
    }
    while (after < text.size()) {
        const uint32_t d = utf8_next(text, after);
        if (is_case_ignorable(d)) continue;
        after_cased = is_cased(d);
        break;
    }
    utf8_append(out, before_cased && !after_cased ? 0x3C2 : 0x3C3);
}

size_t count_characters(std::string_view text) {
    if (is_ascii(text)) return text.size();
    size_t n = 0;
    for (size_t p = 0; p < text.size(); ++n) utf8_next(text, p);
    return n;
}

bool is_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

size_t previous_character(std::string_view text, size_t position) {
    // At most three continuation bytes belong to the code point; anything else is an invalid byte on its own.
    for (size_t back = 1; back <= 4 && back <= position; ++back) {
        const size_t length = utf8_length(text.substr(position - back));
        if (length == back) return position - back;
        if (length != 0) break;
    }
    return position - 1;
}

}  // namespace busbar::jinja
