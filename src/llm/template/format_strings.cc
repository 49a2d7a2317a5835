#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "llm/template/format.h"
#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

// str.format with the sandbox's field access: obj.name and obj[key] go by the rules of the template.
class Braces {
  public:
    Braces(Runtime& rt, const Value& format, Arguments& arguments)
        : rt_(rt), arguments_(arguments), markup_(format.is_markup()) {}

    void run(Builder& out, const Text& format, int depth) {
        if (depth > 3) rt_.fail("max string recursion exceeded");
        const std::string_view text = format.view();
        for (size_t p = 0; p < text.size();) {
            const size_t brace = text.find_first_of("{}", p);
            if (brace == std::string_view::npos) {
                out.append(format, p, text.size());
                return;
            }
            out.append(format, p, brace);
            if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
                out.append(format, brace, brace + 1);
                p = brace + 2;
                continue;
            }
            if (text[brace] == '}') rt_.fail("single '}}' encountered in format string");
            p = field(out, format, brace + 1, depth);
        }
    }

  private:
    // A replacement field that starts after its brace; the position after its end.
    size_t field(Builder& out, const Text& format, size_t begin, int depth) {
        const std::string_view text = format.view();
        size_t end = begin;
        int open = 1;
        bool bracket = false;
        for (; end < text.size(); ++end) {
            const char c = text[end];
            if (bracket) {
                bracket = c != ']';
            } else if (c == '[' && open == 1) {
                bracket = true;
            } else if (c == '{') {
                ++open;
            } else if (c == '}' && --open == 0) {
                break;
            }
        }
        if (end >= text.size()) rt_.fail("expected '}}' before end of string");
        size_t name_end = begin;
        for (bool inside = false; name_end < end; ++name_end) {
            const char c = text[name_end];
            if (inside)
                inside = c != ']';
            else if (c == '[')
                inside = true;
            else if (c == '!' || c == ':')
                break;
            else if (c == '{')
                rt_.fail("unexpected '{{' in field name");
        }
        size_t p = name_end;
        char conversion = 0;
        if (p < end && text[p] == '!') {
            if (p + 1 >= end) rt_.fail("end of string while looking for conversion specifier");
            conversion = text[p + 1];
            p += 2;
            if (p < end && text[p] != ':') rt_.fail("expected ':' after conversion specifier");
        }
        Text spec_text;
        if (p < end) spec_text = format.slice(p + 1, end);
        Value value = lookup(text.substr(begin, name_end - begin));
        if (conversion == 'r' || conversion == 'a') {
            Builder repr(rt_);
            append_repr(repr, rt_, value);
            value = repr.value();
        } else if (conversion == 's') {
            value = rt_.text(str_of(rt_, value));
        } else if (conversion != 0) {
            rt_.fail("unknown conversion specifier {}", conversion);
        }
        Builder spec(rt_);
        run(spec, spec_text, depth + 1);
        if (!markup_) {
            format_value(out, rt_, value, spec.text().view(), spec.text().all_trusted());
        } else {
            Builder plain(rt_);
            format_value(plain, rt_, value, spec.text().view(), spec.text().all_trusted());
            out.append(value.is_markup() ? plain.take() : escape(rt_, plain.take()));
        }
        return end + 1;
    }

    Value lookup(std::string_view name) {
        size_t p = std::min(name.find_first_of(".["), name.size());
        const std::string_view first = name.substr(0, p);
        Value value;
        const bool number = !first.empty() && first.find_first_not_of("0123456789") == std::string_view::npos;
        if (first.empty() || number) {
            if (first.empty() ? manual_ : next_ > 0) rt_.fail("cannot mix manual field numbers with automatic ones");
            manual_ |= number;
            if (first.size() > 9) rt_.fail("too many decimal digits in format string");
            const size_t i = number ? static_cast<size_t>(std::stoul(std::string(first))) : next_++;
            if (i >= arguments_.positional.size())
                rt_.fail("replacement index {} out of range for positional arguments", i);
            value = arguments_.positional[i];
        } else {
            const auto found = std::find_if(arguments_.named.begin(), arguments_.named.end(),
                                            [&](const auto& n) { return n.first == first; });
            if (found == arguments_.named.end()) rt_.fail("format has no argument named {}", quote(first, 40));
            value = found->second;
        }
        while (p < name.size()) {
            if (name[p] == '.') {
                const size_t end = std::min(name.find_first_of(".[", p + 1), name.size());
                if (end == p + 1) rt_.fail("empty attribute in format string");
                value = attribute(rt_, value, std::string(name.substr(p + 1, end - p - 1)));
                p = end;
            } else if (name[p] == '[') {
                const size_t end = name.find(']', p);
                if (end == std::string_view::npos || end == p + 1) rt_.fail("missing ']' in format string");
                const std::string key(name.substr(p + 1, end - p - 1));
                const bool index = key.find_first_not_of("0123456789") == std::string::npos && key.size() < 18;
                value = item(rt_, value, index ? Value::integer(std::stoll(key)) : rt_.literal(key));
                p = end + 1;
            } else {
                rt_.fail("only '.' or '[' may follow ']' in format field specifier");
            }
        }
        return value;
    }

    Runtime& rt_;
    Arguments& arguments_;
    bool markup_;
    bool manual_ = false;
    size_t next_ = 0;
};

// "..." % arguments
class Percent {
  public:
    Percent(Runtime& rt, const Value& format, const Value& arguments)
        : rt_(rt), format_(format.text()), arguments_(arguments), markup_(format.is_markup()) {
        if (arguments.is(Kind::tuple)) items_ = &arguments.as<List>().items;
    }

    Value run() {
        Builder out(rt_);
        const std::string_view text = format_.view();
        for (size_t p = 0; p < text.size();) {
            const size_t percent = std::min(text.find('%', p), text.size());
            out.append(format_, p, percent);
            p = percent;
            if (p < text.size()) p = conversion(out, p + 1);
        }
        const size_t given = items_ ? items_->size() : 1;
        const bool mapping = arguments_.is(Kind::dict) || arguments_.is(Kind::list) || arguments_.is(Kind::range) ||
                             arguments_.is_undefined();
        if (!mapping && used_ < given) rt_.fail("not all arguments converted during string formatting");
        return out.value(markup_);
    }

  private:
    Value next() {
        if (items_) {
            if (used_ >= items_->size()) rt_.fail("not enough arguments for format string");
            return (*items_)[used_++];
        }
        if (used_++ > 0) rt_.fail("not enough arguments for format string");
        return arguments_;
    }

    char peek(size_t p) const {
        if (p >= format_.size()) rt_.fail("incomplete format");
        return format_.bytes()[p];
    }

    size_t star_or_number(size_t& p, bool& negative) {
        negative = false;
        if (peek(p) == '*') {
            ++p;
            const int64_t n = clamped(integer_of(rt_, next()).as_integer());
            negative = n < 0;
            if (n > (int64_t{1} << 31) || n < -(int64_t{1} << 31)) rt_.reserve(size_t(-1));
            return static_cast<size_t>(std::abs(n));
        }
        size_t n = 0;
        for (; peek(p) >= '0' && peek(p) <= '9'; ++p) {
            n = n * 10 + static_cast<size_t>(peek(p) - '0');
            if (n > (size_t{1} << 31)) rt_.reserve(size_t(-1));
        }
        return n;
    }

    size_t conversion(Builder& out, size_t p) {
        FormatSpec spec;
        bool keyed = false;
        Value value;
        if (peek(p) == '(') {
            if (!arguments_.is(Kind::dict)) rt_.fail("format requires a mapping");
            const size_t begin = ++p;
            for (int open = 1;; ++p) {
                if (p >= format_.size()) rt_.fail("incomplete format key");
                const char c = peek(p);
                open += c == '(' ? 1 : c == ')' ? -1 : 0;
                if (open == 0) break;
            }
            const std::string key = format_.bytes().substr(begin, p - begin);
            const Value* found = arguments_.as<Dict>().find(key);
            if (!found) rt_.fail("the mapping has no key {}", quote(key, 40));
            value = *found;
            keyed = true;
            ++p;
        }
        bool zero = false;
        for (;; ++p) {
            const char c = peek(p);
            if (c == '-')
                spec.align = '<';
            else if (c == '+')
                spec.sign = '+';
            else if (c == ' ')
                spec.sign = spec.sign == '+' ? '+' : ' ';
            else if (c == '#')
                spec.alternate = true;
            else if (c == '0')
                zero = true;
            else
                break;
        }
        bool negative = false;
        spec.width = star_or_number(p, negative);
        if (negative) spec.align = '<';
        if (peek(p) == '.') {
            ++p;
            const size_t precision = star_or_number(p, negative);
            rt_.reserve(precision);
            spec.precision = negative ? 0 : static_cast<int>(precision);
        }
        while (peek(p) == 'h' || peek(p) == 'l' || peek(p) == 'L') ++p;
        const char type = peek(p++);
        if (type == '%') {
            out.append("%", format_.trusted_at(p - 1));
            return p;
        }
        if (!keyed) value = next();
        convert(out, value, spec, type, zero);
        return p;
    }

    void convert(Builder& out, const Value& value, FormatSpec spec, char type, bool zero) {
        const bool trusted = value.number_trusted();
        if (spec.align == 0) spec.align = '>';
        if (zero && spec.align == '>') {
            spec.align = '=';
            spec.fill = "0";
        }
        switch (type) {
            case 's':
            case 'r':
            case 'a': {
                Builder text(rt_);
                if (type == 's')
                    append_str(text, rt_, value);
                else
                    append_repr(text, rt_, value);
                Text plain = text.take();
                if (spec.align == '=') spec.align = '>', spec.fill = " ";
                append_padded(out, rt_, markup_ && !value.is_markup() ? escape(rt_, plain) : plain, spec);
                return;
            }
            case 'd':
            case 'i':
            case 'u':
            case 'o':
            case 'x':
            case 'X':
                integer(out, value, spec, type, trusted);
                return;
            case 'e':
            case 'E':
            case 'f':
            case 'F':
            case 'g':
            case 'G': {
                if (value.is_undefined()) rt_.fail_undefined(value);
                if (!value.is_number()) rt_.fail("must be real number, not {}", type_name(value));
                spec.type = type;
                if (!std::isfinite(value.as_real()) && spec.align == '=') spec.fill = " ", spec.align = '>';
                append_number(out, real_digits(rt_, value.as_real(), spec), spec, trusted);
                return;
            }
            case 'c': {
                spec.precision = -1;
                if (spec.align == '=') spec.align = '>', spec.fill = " ";
                if (value.is_string()) {
                    if (count_characters(value.text().view()) != 1) rt_.fail("%c requires int or char");
                    append_padded(out, rt_, value.text(), spec);
                    return;
                }
                const Integer c = integer_of(rt_, value).as_integer();
                if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) rt_.fail("%c arg not in range(0x110000)");
                std::string character;
                utf8_append(character, static_cast<uint32_t>(c));
                append_padded(out, rt_, Text(character, false), spec);
                return;
            }
            default:
                rt_.fail("unsupported format character {}", quote(std::string_view(&type, 1)));
        }
    }

    void integer(Builder& out, const Value& value, FormatSpec spec, char type, bool trusted) {
        if (value.is_undefined()) rt_.fail_undefined(value);
        const bool is_decimal = type == 'd' || type == 'i' || type == 'u';
        if (!value.is_integral() && !(is_decimal && value.is(Kind::real))) {
            rt_.fail("%{} format: a number is required, not {}", type, type_name(value));
        }
        Integer i = value.as_integer();
        if (value.is(Kind::real)) {
            const double d = value.as_real();
            if (!(std::fabs(d) < 0x1p126)) rt_.fail("cannot convert float {} to integer", repr_of_real(d));
            i = static_cast<Integer>(d);
        }
        spec.type = is_decimal ? 'd' : type;
        Digits digits = integer_digits(rt_, i, spec);
        if (spec.precision > static_cast<int>(digits.digits.size())) {
            digits.digits.insert(0, static_cast<size_t>(spec.precision) - digits.digits.size(), '0');
        }
        append_number(out, digits, spec, trusted);
    }

    Runtime& rt_;
    const Text& format_;
    const Value& arguments_;
    bool markup_;
    const std::vector<Value>* items_ = nullptr;
    size_t used_ = 0;
};

}  // namespace

Value percent_format(Runtime& rt, const Value& format, const Value& arguments) {
    return Percent(rt, format, arguments).run();
}

Value brace_format(Runtime& rt, const Value& format, Arguments& arguments) {
    Builder out(rt);
    Braces(rt, format, arguments).run(out, format.text(), 1);
    return out.value(format.is_markup());
}

}  // namespace busbar::jinja
