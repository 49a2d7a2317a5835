#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

void append_quoted(Builder& out, const Text& text, bool trusted) {
    const std::string& bytes = text.bytes();
    const char quote = bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos ? '"' : '\'';
    out.append(std::string_view(&quote, 1), trusted);
    for (size_t p = 0; p < bytes.size();) {
        const size_t begin = p;
        const uint32_t c = utf8_next(bytes, p);
        const bool own = text.trusted_at(begin);
        if (c == static_cast<unsigned char>(quote) || c == '\\') {
            out.append("\\", own);
            out.append(text, begin, p);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            out.append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", own);
        } else if (is_printable(c)) {
            out.append(text, begin, p);
        } else {
            out.append(c < 0x100     ? fmt::format("\\x{:02x}", c)
                       : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                                     : fmt::format("\\U{:08x}", c),
                       own);
        }
    }
    out.append(std::string_view(&quote, 1), trusted);
}

class Repr {
  public:
    Repr(Builder& out, Runtime& rt, bool trusted) : out_(out), rt_(rt), trusted_(trusted) {}

    void value(const Value& v) {
        rt_.check_stack();
        rt_.charge(1);
        switch (v.kind()) {
            case Kind::undefined:
                put("Undefined");
                break;
            case Kind::none:
                put("None");
                break;
            case Kind::boolean:
                put(v.as_bool() ? "True" : "False");
                break;
            case Kind::integer:
                out_.append(decimal(v.as_integer()), v.number_trusted());
                break;
            case Kind::real:
                out_.append(repr_of_real(v.as_real()), v.number_trusted());
                break;
            case Kind::string:
                if (v.is_markup()) put("Markup(");
                append_quoted(out_, v.text(), trusted_ || v.text().all_trusted());
                if (v.is_markup()) put(")");
                break;
            case Kind::list:
                put("[");
                items(v.as<List>().items);
                put("]");
                break;
            case Kind::tuple:
                put("(");
                items(v.as<List>().items);
                put(v.as<List>().items.size() == 1 ? ",)" : ")");
                break;
            case Kind::view:
                put(v.as<List>().name + "([");
                items(v.as<List>().items);
                put("])");
                break;
            case Kind::dict:
                dict(v.as<Dict>());
                break;
            case Kind::range:
                range(v.as<Range>());
                break;
            case Kind::iterator:
                put("<generator object " + v.as<Iterator>().name + ">");
                break;
            case Kind::space:
                space(v.as<Space>());
                break;
            case Kind::loop:
                put("<LoopContext>");
                break;
            case Kind::function:
                put(v.as<Function>().repr);
                break;
            case Kind::cycler:
                put("<Cycler>");
                break;
            case Kind::joiner:
                put("<Joiner>");
                break;
        }
    }

  private:
    void put(std::string_view text) { out_.append(text, trusted_); }

    void items(const std::vector<Value>& items) {
        bool first = true;
        for (const Value& item : items) {
            if (!first) put(", ");
            first = false;
            value(item);
        }
    }

    void dict(const Dict& dict) {
        put("{");
        bool first = true;
        for (const auto& [key, item] : dict.entries) {
            if (!first) put(", ");
            first = false;
            value(key);
            put(": ");
            value(item);
        }
        put("}");
    }

    void range(const Range& r) {
        put(r.step == 1 ? fmt::format("range({}, {})", r.start, r.stop)
                        : fmt::format("range({}, {}, {})", r.start, r.stop, r.step));
    }

    // A namespace can hold itself; Python prints the inner one as dots.
    void space(Space& space) {
        for (const Space* outer : open_) {
            if (outer == &space) {
                put("<Namespace {...}>");
                return;
            }
        }
        open_.push_back(&space);
        put("<Namespace {");
        bool first = true;
        for (const auto& [key, item] : space.attributes) {
            if (!first) put(", ");
            first = false;
            append_quoted(out_, Text(key, true), trusted_);
            put(": ");
            value(item);
        }
        put("}>");
        open_.pop_back();
    }

    Builder& out_;
    Runtime& rt_;
    bool trusted_;
    std::vector<const Space*> open_;
};

}  // namespace

std::string decimal(Integer value) {
    if (value == 0) return "0";
    std::string digits;
    for (Integer rest = value; rest != 0; rest /= 10)
        digits += static_cast<char>('0' + std::abs(static_cast<int>(rest % 10)));
    if (value < 0) digits += '-';
    return {digits.rbegin(), digits.rend()};
}

std::string repr_of_real(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    char buffer[40];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
    const std::string_view text(buffer, end - buffer);
    const size_t e = text.find('e');
    const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
    std::string out = text[0] == '-' ? "-" : "";
    std::string digits;
    for (const char c : text.substr(0, e))
        if (c >= '0' && c <= '9') digits += c;
    const int count = static_cast<int>(digits.size());
    if (exponent < -4 || exponent >= 16) {
        out += digits[0];
        if (count > 1) out += "." + digits.substr(1);
        return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
    }
    if (exponent < 0) return out + "0." + std::string(-exponent - 1, '0') + digits;
    if (count <= exponent + 1) return out + digits + std::string(exponent + 1 - count, '0') + ".0";
    return out + digits.substr(0, exponent + 1) + "." + digits.substr(exponent + 1);
}

bool wholly_trusted(const Value& value) {
    switch (value.kind()) {
        case Kind::integer:
        case Kind::real:
            return value.number_trusted();
        case Kind::string:
            return value.text().all_trusted();
        case Kind::list:
        case Kind::tuple:
        case Kind::view:
            for (const Value& item : value.as<List>().items)
                if (!wholly_trusted(item)) return false;
            return true;
        case Kind::dict:
            for (const auto& [key, item] : value.as<Dict>().entries)
                if (!wholly_trusted(key) || !wholly_trusted(item)) return false;
            return true;
        case Kind::space:
            return false;
        default:
            return true;
    }
}

void append_repr(Builder& out, Runtime& rt, const Value& value) {
    rt.charge_walk(value);
    Repr(out, rt, wholly_trusted(value)).value(value);
}

void append_str(Builder& out, Runtime& rt, const Value& value) {
    if (value.is_string()) {
        out.append(value.text());
    } else if (!value.is_undefined()) {
        append_repr(out, rt, value);
    }
}

Text str_of(Runtime& rt, const Value& value) {
    Builder out(rt);
    append_str(out, rt, value);
    return out.take();
}

}  // namespace busbar::jinja
