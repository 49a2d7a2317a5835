#include "llm/template/format.h"

#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

bool is_align(char c) {
    return c == '<' || c == '>' || c == '=' || c == '^';
}

size_t number_in(Runtime& rt, std::string_view text, size_t& p) {
    size_t n = 0;
    while (p < text.size() && text[p] >= '0' && text[p] <= '9') {
        n = n * 10 + static_cast<size_t>(text[p++] - '0');
        if (n > (size_t{1} << 31)) rt.reserve(size_t(-1));
    }
    return n;
}

std::string grouped(const std::string& digits, char separator, size_t every) {
    // Only the leading run of digits is grouped; a fraction or exponent stays.
    size_t whole = 0;
    while (whole < digits.size() && std::isxdigit(static_cast<unsigned char>(digits[whole])) &&
           (every != 3 || std::isdigit(static_cast<unsigned char>(digits[whole]))))
        ++whole;
    std::string out;
    for (size_t i = 0; i < whole; ++i) {
        if (i > 0 && (whole - i) % every == 0) out += separator;
        out += digits[i];
    }
    return out + digits.substr(whole);
}

// "%.{p}g" without the stripping when alternate; Python keeps no trailing zeros otherwise either.
std::string general(double value, int precision, bool alternate) {
    char buffer[512];
    const int p = std::min(precision, 400);
    std::snprintf(buffer, sizeof buffer, alternate ? "%#.*g" : "%.*g", p, value);
    return buffer;
}

}  // namespace

FormatSpec parse_spec(Runtime& rt, std::string_view text) {
    FormatSpec spec;
    size_t p = 0;
    if (!text.empty()) {
        size_t after = 0;
        utf8_next(text, after);
        if (after < text.size() && is_align(text[after])) {
            spec.fill = text.substr(0, after);
            spec.align = text[after];
            p = after + 1;
        } else if (is_align(text[0])) {
            spec.align = text[p++];
        }
    }
    const auto at = [&](char c) { return p < text.size() && text[p] == c; };
    if (at('+') || at('-') || at(' ')) spec.sign = text[p++];
    if (at('z')) spec.negative_zero = (++p, true);
    if (at('#')) spec.alternate = (++p, true);
    if (at('0')) {
        ++p;
        if (spec.align == 0) {
            spec.align = '=';
            spec.fill = "0";
        }
    }
    spec.width = number_in(rt, text, p);
    if (at(',') || at('_')) spec.grouping = text[p++];
    if (at('.')) {
        ++p;
        if (p >= text.size() || text[p] < '0' || text[p] > '9') rt.fail("format specifier missing precision");
        const size_t precision = number_in(rt, text, p);
        rt.reserve(precision);
        spec.precision = static_cast<int>(precision);
    }
    if (p < text.size()) spec.type = text[p++];
    if (p < text.size()) rt.fail("invalid format specifier {}", quote(text, 40));
    return spec;
}

Digits integer_digits(Runtime& rt, Integer value, const FormatSpec& spec) {
    Digits out;
    const bool negative = value < 0;
    out.sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
    auto rest = negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
    const char type = spec.type == 0 ? 'd' : spec.type;
    const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    std::string digits;
    do {
        digits += "0123456789abcdef"[static_cast<unsigned>(rest % base)];
        rest /= base;
    } while (rest != 0);
    out.digits.assign(digits.rbegin(), digits.rend());
    if (spec.alternate && base != 10) out.prefix = base == 16 ? "0x" : base == 8 ? "0o" : "0b";
    if (spec.grouping == ',' && base != 10) rt.fail("cannot specify ',' with '{}'", type);
    if (spec.grouping) out.digits = grouped(out.digits, spec.grouping, base == 10 ? 3 : 4);
    if (type == 'X') {
        for (char& c : out.digits) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        if (!out.prefix.empty()) out.prefix = "0X";
    }
    return out;
}

Digits real_digits(Runtime& rt, double value, const FormatSpec& spec) {
    Digits out;
    char type = spec.type;
    std::string digits;
    double magnitude = std::fabs(value);
    if (type == '%') magnitude *= 100;
    const int precision = spec.precision < 0 ? 6 : spec.precision;
    rt.charge_bytes(static_cast<size_t>(precision) * 8);
    if (!std::isfinite(magnitude)) {
        digits = std::isnan(value) ? "nan" : "inf";
    } else if (type == 0 && spec.precision < 0) {
        digits = repr_of_real(magnitude);
    } else if (type == 0 || type == 'g' || type == 'G' || type == 'n') {
        const int p = std::max(precision, 1);
        digits = general(magnitude, p, spec.alternate);
        if (type == 0) {
            // Like 'g', but an exponent comes one power earlier and a point always has a digit after it.
            const int exponent = magnitude == 0
                                     ? 0
                                     : std::atoi(fmt::format("{:.{}e}", magnitude, p - 1)
                                                     .substr(fmt::format("{:.{}e}", magnitude, p - 1).find('e') + 1)
                                                     .c_str());
            if (magnitude != 0 && exponent == p - 1 && exponent >= -4) {
                digits = fmt::format("{:.{}e}", magnitude, p - 1);
                const size_t e = digits.find('e');
                std::string mantissa = digits.substr(0, e);
                if (mantissa.find('.') != std::string::npos) {
                    while (mantissa.back() == '0') mantissa.pop_back();
                    if (mantissa.back() == '.') mantissa.pop_back();
                }
                digits = mantissa + digits.substr(e);
            }
            if (digits.find_first_of(".e") == std::string::npos) digits += ".0";
        }
    } else if (type == 'e' || type == 'E') {
        digits = fmt::format("{:.{}e}", magnitude, precision);
    } else if (type == 'f' || type == 'F' || type == '%') {
        digits = fmt::format("{:.{}f}", magnitude, precision);
    } else {
        rt.fail("unknown format code '{}' for object of type 'float'", type);
    }
    if (spec.alternate && digits.find_first_of(".n") == std::string::npos && digits.find('i') == std::string::npos) {
        const size_t e = digits.find('e');
        digits.insert(e == std::string::npos ? digits.size() : e, ".");
    }
    if (spec.grouping) digits = grouped(digits, spec.grouping, 3);
    if (type == 'E' || type == 'G' || type == 'F') {
        for (char& c : digits) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    if (type == '%') digits += '%';
    const bool negative = std::signbit(value) && !std::isnan(value) &&
                          !(spec.negative_zero && digits.find_first_of("123456789") == std::string::npos);
    out.sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
    out.digits = std::move(digits);
    return out;
}

void append_number(Builder& out, const Digits& number, FormatSpec spec, bool trusted) {
    const size_t length = number.sign.size() + number.prefix.size() + number.digits.size();
    const size_t room = spec.width > length ? spec.width - length : 0;
    const char align = spec.align == 0 ? '>' : spec.align;
    const size_t before = align == '>' ? room : align == '^' ? room / 2 : 0;
    out.repeat(spec.fill, before, trusted);
    out.append(number.sign, trusted);
    out.append(number.prefix, trusted);
    if (align == '=') {
        if (spec.grouping && spec.fill == "0" && room > 0) {
            // Zeros are grouped too, and never start with a separator.
            const size_t every = spec.type == 0 || spec.type == 'd' || spec.type == 'f' || spec.type == 'F' ||
                                         spec.type == 'e' || spec.type == 'g' || spec.type == 'n' || spec.type == '%'
                                     ? 3
                                     : 4;
            std::string digits = number.digits;
            size_t whole = 0;
            for (const char c : digits) {
                if (c == spec.grouping) continue;
                if (!std::isxdigit(static_cast<unsigned char>(c))) break;
                ++whole;
            }
            std::string zeros;
            while (number.sign.size() + number.prefix.size() + digits.size() + zeros.size() < spec.width) {
                if (whole % every == 0) zeros += spec.grouping;
                zeros += '0';
                ++whole;
            }
            std::reverse(zeros.begin(), zeros.end());
            out.append(zeros, trusted);
        } else {
            out.repeat(spec.fill, room, trusted);
        }
    }
    out.append(number.digits, trusted);
    if (align == '<' || align == '^') out.repeat(spec.fill, room - before, trusted);
}

void append_padded(Builder& out, Runtime& rt, const Text& text, const FormatSpec& spec) {
    size_t length = 0, end = 0;
    const size_t most = spec.precision < 0 ? size_t(-1) : static_cast<size_t>(spec.precision);
    for (; end < text.size() && length < most; ++length) utf8_next(text.view(), end);
    rt.charge_bytes(end);
    const size_t room = spec.width > length ? spec.width - length : 0;
    const char align = spec.align == 0 || spec.align == '=' ? '<' : spec.align;
    const size_t before = align == '>' ? room : align == '^' ? room / 2 : 0;
    out.repeat(spec.fill, before, false);
    out.append(text, 0, end);
    out.repeat(spec.fill, room - before, false);
}

void format_value(Builder& out, Runtime& rt, const Value& value, std::string_view text, bool spec_trusted) {
    if (text.empty()) {
        append_str(out, rt, value);
        return;
    }
    FormatSpec spec = parse_spec(rt, text);
    const bool trusted = value.number_trusted() && spec_trusted;
    if (value.is_integral()) {
        if (spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos) {
            append_number(out, real_digits(rt, value.as_real(), spec), spec, trusted);
            return;
        }
        if (spec.precision >= 0) rt.fail("precision not allowed in integer format specifier");
        if (spec.type == 'c') {
            const Integer c = value.as_integer();
            if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) rt.fail("%c arg not in range(0x110000)");
            std::string character;
            utf8_append(character, static_cast<uint32_t>(c));
            append_padded(out, rt, Text(character, false), spec);
            return;
        }
        if (spec.type != 0 && std::string_view("bdoxXn").find(spec.type) == std::string_view::npos) {
            rt.fail("unknown format code '{}' for object of type 'int'", spec.type);
        }
        append_number(out, integer_digits(rt, value.as_integer(), spec), spec, trusted);
    } else if (value.is(Kind::real)) {
        append_number(out, real_digits(rt, value.as_real(), spec), spec, trusted);
    } else if (value.is_string()) {
        if (spec.type != 0 && spec.type != 's') rt.fail("unknown format code '{}' for object of type 'str'", spec.type);
        if (spec.sign != '-' || spec.alternate || spec.grouping || (spec.align == '=' && spec.fill != "0")) {
            rt.fail("format specifier {} is not allowed for a string", quote(text, 40));
        }
        append_padded(out, rt, value.text(), spec);
    } else {
        rt.fail("unsupported format string passed to {}.__format__", type_name(value));
    }
}

}  // namespace busbar::jinja
