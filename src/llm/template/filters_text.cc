#include <algorithm>

#include "base/utf8.h"
#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

bool is_word(uint32_t c) {
    return c == '_' || is_alpha(c) || is_numeric(c);
}

template <Case to>
Value cased(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "upper", arguments, {});
    return rt.text(change_case(rt, str_of(rt, value), to), value.is_markup());
}

// Jinja2's own: a word starts after a blank, a hyphen or an opening bracket, not after any other sign.
Value title(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "title", arguments, {});
    const Text text = str_of(rt, value);
    Builder out(rt);
    bool starting = true;
    std::string changed;
    for (size_t p = 0; p < text.size();) {
        const size_t begin = p;
        const uint32_t c = utf8_next(text.view(), p);
        changed.clear();
        const bool separates = c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
        if (separates)
            utf8_append(changed, c);
        else if (starting)
            append_upper(changed, c);
        else
            append_lower_at(changed, text.view(), begin);
        starting = separates;
        out.append(changed, text.trusted_at(begin));
    }
    return out.value(value.is_markup());
}

Value trim(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "trim", arguments, {"chars"});
    const Text text = str_of(rt, value);
    rt.charge_bytes(text.size());
    return rt.text(strip(text, bound.is_none(0) ? nullptr : &bound.text(0), true, true), value.is_markup());
}

Value replace_filter(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "replace", arguments, {"old", "new", "count"}, 2);
    const int64_t count = bound.is_none(2) ? -1 : bound.integer(2, -1);
    return rt.text(replace(rt, str_of(rt, value), str_of(rt, bound[0]), str_of(rt, bound[1]), count));
}

Value safe(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "safe", arguments, {});
    return rt.text(str_of(rt, value), true);
}

Value escape_filter(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "escape", arguments, {});
    return value.is_markup() ? value : rt.text(escape(rt, str_of(rt, value)), true);
}

Value force_escape(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "forceescape", arguments, {});
    return rt.text(escape(rt, str_of(rt, value)), true);
}

Value string(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "string", arguments, {});
    return value.is_string() ? value : rt.text(str_of(rt, value));
}

Value indent(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "indent", arguments, {"width", "first", "blank"});
    if (value.is_undefined()) rt.fail_undefined(value);
    if (!value.is_string()) rt.fail("indent: expected a string, got '{}'", type_name(value));
    Text by;
    if (bound.has(0) && bound[0].is_string()) {
        by = bound.text(0);
    } else {
        Builder spaces(rt);
        spaces.repeat(" ", static_cast<size_t>(std::max<int64_t>(0, bound.integer(0, 4))), true);
        by = spaces.take();
    }
    const bool first = bound.flag(1, false), blank = bound.flag(2, false), markup = value.is_markup();
    if (markup) by = escape(rt, by);
    Text text = value.text();
    text.append("\n", true);
    const std::vector<Text> lines = split_lines(rt, text, false);
    Builder out(rt);
    if (first) out.append(by);
    for (size_t i = 0; i < lines.size(); ++i) {
        if (i > 0) {
            out.append("\n", true);
            if (blank || !lines[i].empty()) out.append(by);
        }
        out.append(lines[i]);
    }
    return out.value(markup);
}

Value truncate(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "truncate", arguments, {"length", "killwords", "end", "leeway"});
    const Text end = bound.has(2) ? bound.text(2) : Text("...", true);
    const int64_t length = bound.integer(0, 255), leeway = bound.is_none(3) ? 5 : bound.integer(3, 5);
    const auto end_length = static_cast<int64_t>(count_characters(end.view()));
    if (length < end_length) rt.fail("expected length >= {}, got {}", end_length, length);
    if (leeway < 0) rt.fail("expected leeway >= 0, got {}", leeway);
    size_t size = 0;
    if (!has_length(value, size)) rt.fail("object of type '{}' has no len()", type_name(value));
    if (Integer{length} + leeway >= static_cast<Integer>(size)) return value;
    if (!value.is_string()) rt.fail("truncate: expected a string, got '{}'", type_name(value));
    const Text& text = value.text();
    size_t cut = offset_of(value.string(), static_cast<size_t>(length - end_length));
    if (!bound.flag(1, false)) {
        const size_t space = text.view().substr(0, cut).rfind(' ');
        if (space != std::string_view::npos) cut = space;
    }
    Builder out(rt);
    out.append(text, 0, cut);
    out.append(end);
    return out.value(value.is_markup());
}

Value wordcount(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "wordcount", arguments, {});
    const Text text = str_of(rt, value);
    rt.charge_bytes(text.size());
    Integer words = 0;
    bool in_word = false;
    for (size_t p = 0; p < text.size();) {
        const bool word = is_word(utf8_next(text.view(), p));
        words += word && !in_word;
        in_word = word;
    }
    return Value::integer(words);
}

void append_url(Builder& out, const Text& text, bool in_query) {
    for (size_t p = 0; p < text.size(); ++p) {
        const auto c = static_cast<unsigned char>(text.bytes()[p]);
        const bool plain = (c < 0x80 && (is_alpha(c) || is_decimal(c))) || c == '_' || c == '.' || c == '-' ||
                           c == '~' || (c == '/' && !in_query);
        if (plain)
            out.append(text, p, p + 1);
        else
            out.append(in_query && c == ' ' ? "+" : fmt::format("%{:02X}", c), text.trusted_at(p));
    }
}

Value urlencode(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "urlencode", arguments, {});
    Builder out(rt);
    if (value.is_string() || !is_iterable(value)) {
        append_url(out, str_of(rt, value), false);
        return out.value();
    }
    const auto add = [&](const Value& key, const Value& item) {
        if (out.size() > 0) out.append("&", true);
        append_url(out, str_of(rt, key), true);
        out.append("=", true);
        append_url(out, str_of(rt, item), true);
    };
    if (value.is(Kind::dict)) {
        for (const auto& [key, item] : value.as<Dict>().entries) add(key, item);
        return out.value();
    }
    for (const Value& pair : items_of(rt, value)) {
        const std::vector<Value> two = items_of(rt, pair);
        if (two.size() != 2) rt.fail("urlencode: expected pairs, got a sequence of {}", two.size());
        add(two[0], two[1]);
    }
    return out.value();
}

Value center(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "center", arguments, {"width"});
    const Value text = value.is_string() ? value : rt.text(str_of(rt, value));
    return pad(rt, text, bound.integer(0, 80), Text(" ", true), true, true);
}

Value format(Runtime& rt, const Value& value, Arguments& arguments) {
    if (!arguments.positional.empty() && !arguments.named.empty()) {
        rt.fail("can't handle positional and keyword arguments at the same time");
    }
    const Value text = value.is_string() ? value : rt.text(str_of(rt, value));
    if (arguments.named.empty()) return percent_format(rt, text, rt.tuple(arguments.positional));
    auto dict = std::make_shared<Dict>();
    for (auto& [name, item] : arguments.named) dict->set(rt.literal(name), std::move(item));
    return percent_format(rt, text, rt.dict(std::move(dict)));
}

constexpr std::pair<std::string_view, Filter> filters[] = {
    {"upper", cased<Case::upper>},
    {"lower", cased<Case::lower>},
    {"capitalize", cased<Case::capitalize>},
    {"title", title},
    {"trim", trim},
    {"replace", replace_filter},
    {"safe", safe},
    {"escape", escape_filter},
    {"e", escape_filter},
    {"forceescape", force_escape},
    {"string", string},
    {"indent", indent},
    {"truncate", truncate},
    {"wordcount", wordcount},
    {"urlencode", urlencode},
    {"center", center},
    {"format", format},
};

}  // namespace

Filter find_text_filter(std::string_view name) {
    const auto found =
        std::find_if(std::begin(filters), std::end(filters), [&](const auto& f) { return f.first == name; });
    return found == std::end(filters) ? nullptr : found->second;
}

}  // namespace busbar::jinja
