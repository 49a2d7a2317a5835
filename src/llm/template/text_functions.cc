#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/utf8.h"
#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

constexpr size_t npos = std::string_view::npos;

bool in_set(const Text* chars, uint32_t c, std::string_view character) {
    return chars ? chars->view().find(character) != npos : is_space(c);
}

}  // namespace

size_t find_in(std::string_view text, std::string_view needle, size_t from) {
    if (from > text.size()) return npos;
    if (needle.empty()) return from;
    // memmem is linear where std::string::find can be quadratic.
    const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
    return found ? static_cast<const char*>(found) - text.data() : npos;
}

Text change_case(Runtime& rt, const Text& text, Case to) {
    rt.charge(text.size() / 8);
    Builder out(rt);
    bool in_word = false;
    std::string changed;
    for (size_t p = 0; p < text.size();) {
        const size_t begin = p;
        const uint32_t c = utf8_next(text.view(), p);
        changed.clear();
        switch (to) {
            case Case::upper:
                append_upper(changed, c);
                break;
            case Case::fold:
                if (c == 0xDF || c == 0x1E9E)
                    changed = "ss";
                else
                    append_lower(changed, c);
                break;
            case Case::swap:
                if (is_upper(c))
                    append_lower_at(changed, text.view(), begin);
                else if (is_lower(c))
                    append_upper(changed, c);
                else
                    utf8_append(changed, c);
                break;
            case Case::capitalize:
                if (begin == 0)
                    append_title(changed, c);
                else
                    append_lower_at(changed, text.view(), begin);
                break;
            case Case::title:
                if (in_word)
                    append_lower_at(changed, text.view(), begin);
                else
                    append_title(changed, c);
                in_word = is_lower(c) || is_upper(c) || is_title(c);
                break;
            default:
                append_lower_at(changed, text.view(), begin);
        }
        out.append(changed, text.trusted_at(begin));
    }
    return out.take();
}

Text strip(const Text& text, const Text* chars, bool left, bool right) {
    const std::string_view bytes = text.view();
    size_t begin = 0, end = bytes.size();
    while (left && begin < end) {
        size_t p = begin;
        const uint32_t c = utf8_next(bytes, p);
        if (!in_set(chars, c, bytes.substr(begin, p - begin))) break;
        begin = p;
    }
    while (right && end > begin) {
        const size_t before = previous_character(bytes, end);
        size_t p = before;
        const uint32_t c = utf8_next(bytes, p);
        if (!in_set(chars, c, bytes.substr(before, end - before))) break;
        end = before;
    }
    return text.slice(begin, end);
}

Text replace(Runtime& rt, const Text& text, const Text& from, const Text& to, int64_t count) {
    Builder out(rt);
    if (count < 0) count = std::numeric_limits<int64_t>::max();
    size_t kept = 0;
    if (from.empty()) {  // before every character and at the end
        for (size_t p = 0; count > 0; --count) {
            out.append(to);
            rt.charge(1);
            if (p >= text.size()) break;
            kept = p;
            utf8_next(text.view(), p);
            out.append(text, kept, p);
            kept = p;
        }
    } else {
        for (; count > 0; --count) {
            const size_t found = find_in(text.view(), from.view(), kept);
            if (found == npos) break;
            rt.charge(1);
            out.append(text, kept, found);
            out.append(to);
            kept = found + from.size();
        }
    }
    if (kept < text.size()) out.append(text, kept, text.size());
    rt.charge_bytes(text.size());
    return out.take();
}

std::vector<Text> split_lines(Runtime& rt, const Text& text, bool keep_ends) {
    std::vector<Text> lines;
    const std::string_view bytes = text.view();
    size_t begin = 0;
    for (size_t p = 0; p < bytes.size();) {
        const size_t end = p;
        const uint32_t c = utf8_next(bytes, p);
        if (!is_line_break(c)) continue;
        if (c == '\r' && p < bytes.size() && bytes[p] == '\n') ++p;
        lines.push_back(text.slice(begin, keep_ends ? p : end));
        if ((lines.size() & 255) == 0) rt.reserve(lines.size() * sizeof(Text));
        begin = p;
    }
    if (begin < bytes.size()) lines.push_back(text.slice(begin, bytes.size()));
    rt.charge(lines.size() + bytes.size() / 32);
    return lines;
}

Text escape(Runtime& rt, const Text& text) {
    Builder out(rt);
    size_t plain = 0;
    for (size_t p = 0; p < text.size(); ++p) {
        static constexpr std::pair<char, std::string_view> entities[] = {
            {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
        for (const auto& [c, entity] : entities) {
            if (text.bytes()[p] != c) continue;
            out.append(text, plain, p);
            out.append(entity, text.trusted_at(p));
            plain = p + 1;
        }
    }
    if (plain < text.size()) out.append(text, plain, text.size());
    return out.take();
}

bool parse_integer(std::string_view text, int base, Integer& value, bool& too_large) {
    too_large = false;
    // Digits of any script count, so the text is first brought to ASCII.
    std::string ascii;
    for (size_t p = 0; p < text.size();) {
        const uint32_t c = utf8_next(text, p);
        const int digit = decimal_value(c);
        ascii += digit >= 0    ? static_cast<char>('0' + digit)
                 : is_space(c) ? ' '
                 : c < 0x80    ? static_cast<char>(c)
                               : '?';
    }
    const size_t first = ascii.find_first_not_of(' ');
    if (first == npos) return false;
    std::string_view rest = std::string_view(ascii).substr(first, ascii.find_last_not_of(' ') + 1 - first);
    bool negative = false;
    if (rest[0] == '-' || rest[0] == '+') {
        negative = rest[0] == '-';
        rest.remove_prefix(1);
    }
    bool prefixed = false;
    if (rest.size() > 1 && rest[0] == '0') {
        const char letter = static_cast<char>(rest[1] | 32);
        const int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
        if (named != 0 && (base == named || base == 0)) {
            base = named;
            rest.remove_prefix(2);
            prefixed = true;
            if (!rest.empty() && rest[0] == '_') rest.remove_prefix(1);
        }
    }
    const bool strict_zero = base == 0;
    if (base == 0) base = 10;
    value = 0;
    bool was_digit = false, any = false;
    for (const char c : rest) {
        if (c == '_' && was_digit) {
            was_digit = false;
            continue;
        }
        const int digit = c >= '0' && c <= '9'                 ? c - '0'
                          : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10
                                                               : 99;
        if (digit >= base) return false;
        if (!too_large && (__builtin_mul_overflow(value, Integer{base}, &value) ||
                           __builtin_add_overflow(value, Integer{digit}, &value))) {
            too_large = true;
        }
        was_digit = any = true;
    }
    if (!any || !was_digit) return false;
    if (strict_zero && !prefixed && rest[0] == '0' && rest.find_first_not_of("0_") != npos) return false;
    if (negative) value = -value;
    return true;
}

bool parse_real(std::string_view text, double& value) {
    std::string ascii;
    for (size_t p = 0; p < text.size();) {
        const uint32_t c = utf8_next(text, p);
        const int digit = decimal_value(c);
        ascii += digit >= 0    ? static_cast<char>('0' + digit)
                 : is_space(c) ? ' '
                 : c < 0x80    ? static_cast<char>(c)
                               : '?';
    }
    const size_t first = ascii.find_first_not_of(' ');
    if (first == npos) return false;
    ascii = ascii.substr(first, ascii.find_last_not_of(' ') + 1 - first);
    std::string digits;
    for (size_t i = 0; i < ascii.size(); ++i) {
        if (ascii[i] != '_') {
            digits += ascii[i];
            continue;
        }
        const auto is_digit_at = [&](size_t n) { return n < ascii.size() && ascii[n] >= '0' && ascii[n] <= '9'; };
        if (i == 0 || !is_digit_at(i - 1) || !is_digit_at(i + 1)) return false;
    }
    std::string_view rest = digits;
    bool negative = false;
    if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
        negative = rest[0] == '-';
        rest.remove_prefix(1);
    }
    if (rest.empty()) return false;
    std::string lower(rest);
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    if (lower == "inf" || lower == "infinity") {
        value = INFINITY;
    } else if (lower == "nan") {
        value = NAN;
    } else {
        if (lower.find_first_not_of("0123456789.e+-") != npos) return false;
        const auto [end, code] = std::from_chars(lower.data(), lower.data() + lower.size(), value);
        if (end != lower.data() + lower.size()) return false;
        if (code == std::errc::result_out_of_range)
            value = std::strtod(lower.c_str(), nullptr);
        else if (code != std::errc())
            return false;
    }
    if (negative) value = -value;
    return true;
}

Value pad(Runtime& rt, const Value& text, int64_t width, const Text& fill, bool left, bool right) {
    size_t length = 0;
    has_length(text, length);
    if (width <= 0 || static_cast<size_t>(width) <= length) return text;
    const size_t room = static_cast<size_t>(width) - length;
    // Python's center puts the odd space left when the width is odd.
    const size_t before = left && right ? room / 2 + (room & static_cast<size_t>(width) & 1) : left ? room : 0;
    Builder out(rt);
    out.repeat(fill.view(), before, fill.all_trusted());
    out.append(text.text());
    out.repeat(fill.view(), room - before, fill.all_trusted());
    return out.value(text.is_markup());
}

}  // namespace busbar::jinja
