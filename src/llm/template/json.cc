#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "llm/template/library.h"

namespace busbar::jinja {

namespace {

class Json {
  public:
    Json(Builder& out, Runtime& rt, const JsonOptions& options, bool trusted)
        : out_(out), rt_(rt), options_(options), trusted_(trusted) {}

    void value(const Value& v) {
        rt_.check_stack();
        rt_.charge(1);
        switch (v.kind()) {
            case Kind::none:
            case Kind::boolean:
                put(scalar(v));
                break;
            case Kind::integer:
            case Kind::real:
                out_.append(scalar(v), v.number_trusted());
                break;
            case Kind::string:
                string(v.text());
                break;
            case Kind::list:
            case Kind::tuple:
                list(v.as<List>().items);
                break;
            case Kind::dict:
                dict(v.as<Dict>());
                break;
            default:
                rt_.fail("Object of type {} is not JSON serializable", type_name(v));
        }
    }

  private:
    void put(std::string_view text) { out_.append(text, trusted_); }

    std::string scalar(const Value& v) {
        switch (v.kind()) {
            case Kind::none:
                return "null";
            case Kind::boolean:
                return v.as_bool() ? "true" : "false";
            case Kind::integer:
                return decimal(v.as_integer());
            default: {
                const double d = v.as_real();
                return std::isnan(d) ? "NaN" : std::isinf(d) ? (d < 0 ? "-Infinity" : "Infinity") : repr_of_real(d);
            }
        }
    }

    void newline() {
        if (!options_.has_indent) return;
        put("\n");
        out_.repeat(options_.indent, depth_, trusted_);
    }

    void list(const std::vector<Value>& items) {
        if (items.empty()) {
            put("[]");
            return;
        }
        put("[");
        ++depth_;
        for (size_t i = 0; i < items.size(); ++i) {
            if (i > 0) put(options_.item_separator);
            newline();
            value(items[i]);
        }
        --depth_;
        newline();
        put("]");
    }

    void dict(const Dict& dict) {
        if (dict.entries.empty()) {
            put("{}");
            return;
        }
        std::vector<const std::pair<Value, Value>*> entries;
        for (const auto& entry : dict.entries) entries.push_back(&entry);
        if (options_.sort_keys) {
            std::stable_sort(entries.begin(), entries.end(),
                             [&](const auto* a, const auto* b) { return less(rt_, a->first, b->first); });
        }
        put("{");
        ++depth_;
        bool first = true;
        for (const auto* entry : entries) {
            if (!first) put(options_.item_separator);
            first = false;
            newline();
            key(entry->first);
            put(options_.key_separator);
            value(entry->second);
        }
        --depth_;
        newline();
        put("}");
    }

    void key(const Value& v) {
        if (v.is_string()) {
            string(v.text());
        } else if (v.is_number() || v.is(Kind::none)) {
            put("\"" + scalar(v) + "\"");
        } else {
            rt_.fail("keys must be str, int, float, bool or None, not {}", type_name(v));
        }
    }

    void string(const Text& text) {
        const std::string& bytes = text.bytes();
        const bool quotes = trusted_ || text.all_trusted();
        out_.append("\"", quotes);
        size_t plain = 0;
        for (size_t p = 0; p < bytes.size();) {
            const size_t begin = p;
            const unsigned char byte = bytes[p];
            const bool is_plain =
                byte >= 0x20 && byte != '"' && byte != '\\' && (byte < 0x7F || !options_.ensure_ascii);
            if (is_plain) {
                ++p;
                continue;
            }
            out_.append(text, plain, begin);
            out_.append(escaped(utf8_next(bytes, p)), text.trusted_at(begin));
            plain = p;
        }
        out_.append(text, plain, bytes.size());
        out_.append("\"", quotes);
    }

    static std::string escaped(uint32_t c) {
        switch (c) {
            case '"':
                return "\\\"";
            case '\\':
                return "\\\\";
            case '\n':
                return "\\n";
            case '\r':
                return "\\r";
            case '\t':
                return "\\t";
            case '\f':
                return "\\f";
            case '\b':
                return "\\b";
            default:
                break;
        }
        if (c < 0x10000) return fmt::format("\\u{:04x}", c);
        return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
    }

    Builder& out_;
    Runtime& rt_;
    const JsonOptions& options_;
    bool trusted_;
    size_t depth_ = 0;
};

}  // namespace

Text to_json(Runtime& rt, const Value& value, const JsonOptions& options) {
    rt.charge_walk(value);
    Builder out(rt);
    Json(out, rt, options, wholly_trusted(value)).value(value);
    return out.take();
}

}  // namespace busbar::jinja
