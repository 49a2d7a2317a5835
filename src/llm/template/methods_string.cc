#include <algorithm>
#include <limits>

#include "base/utf8.h"
#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

using Method = Value (*)(Runtime&, const Value& self, Arguments&);
constexpr size_t npos = std::string_view::npos;

template <Case to>
Value cased(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "upper", arguments, {});
    return rt.text(change_case(rt, self.text(), to), self.is_markup());
}

template <bool left, bool right>
Value stripped(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "strip", arguments, {"chars"}, 0, true);
    rt.charge_bytes(self.text().size());
    return rt.text(strip(self.text(), bound.is_none(0) ? nullptr : &bound.text(0), left, right), self.is_markup());
}

Value list_of(Runtime& rt, std::vector<Text> parts, bool markup) {
    std::vector<Value> items;
    items.reserve(parts.size());
    for (Text& part : parts) items.push_back(rt.text(std::move(part), markup));
    return rt.list(std::move(items));
}

void check_count(Runtime& rt, const std::vector<Text>& parts) {
    rt.charge(1);
    if ((parts.size() & 255) == 255) rt.reserve(parts.size() * (sizeof(Text) + sizeof(Value)));
}

std::vector<Text> split_at_spaces(Runtime& rt, const Text& text, int64_t count) {
    std::vector<Text> parts;
    const std::string_view bytes = text.view();
    size_t p = 0;
    const auto skip = [&](bool spaces) {
        while (p < bytes.size()) {
            size_t next = p;
            if (is_space(utf8_next(bytes, next)) != spaces) break;
            p = next;
        }
    };
    for (skip(true); p < bytes.size(); skip(true)) {
        const size_t begin = p;
        check_count(rt, parts);
        if (count == 0) {
            parts.push_back(text.slice(begin, bytes.size()));
            break;
        }
        --count;
        skip(false);
        parts.push_back(text.slice(begin, p));
    }
    return parts;
}

std::vector<Text> split_at_spaces_from_right(Runtime& rt, const Text& text, int64_t count) {
    std::vector<Text> parts;
    const std::string_view bytes = text.view();
    size_t end = bytes.size();
    const auto skip = [&](bool spaces) {
        while (end > 0) {
            const size_t before = previous_character(bytes, end);
            size_t p = before;
            if (is_space(utf8_next(bytes, p)) != spaces) break;
            end = before;
        }
    };
    for (skip(true); end > 0; skip(true)) {
        const size_t stop = end;
        check_count(rt, parts);
        if (count == 0) {
            parts.push_back(text.slice(0, stop));
            break;
        }
        --count;
        skip(false);
        parts.push_back(text.slice(end, stop));
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
}

Value split(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "split", arguments, {"sep", "maxsplit"});
    const Text& text = self.text();
    int64_t count = bound.integer(1, -1);
    if (count < 0) count = std::numeric_limits<int64_t>::max();
    rt.charge_bytes(text.size());
    if (bound.is_none(0)) return list_of(rt, split_at_spaces(rt, text, count), self.is_markup());
    const Text& separator = bound.text(0);
    if (separator.empty()) rt.fail("empty separator");
    std::vector<Text> parts;
    size_t begin = 0;
    for (; count > 0; --count) {
        const size_t found = find_in(text.view(), separator.view(), begin);
        if (found == npos) break;
        check_count(rt, parts);
        parts.push_back(text.slice(begin, found));
        begin = found + separator.size();
    }
    parts.push_back(text.slice(begin, text.size()));
    return list_of(rt, std::move(parts), self.is_markup());
}

// The last occurrence that ends at or before `end`. Linear: text and needle are walked reversed.
std::vector<size_t> occurrences(Runtime& rt, std::string_view text, std::string_view needle, int64_t count) {
    std::string back(text.rbegin(), text.rend()), pattern(needle.rbegin(), needle.rend());
    rt.charge_bytes(2 * text.size());
    std::vector<size_t> found;
    for (size_t p = 0; count > 0; --count) {
        const size_t at = find_in(back, pattern, p);
        if (at == npos) break;
        rt.charge(1);
        found.push_back(text.size() - at - needle.size());
        p = at + needle.size();
    }
    return found;
}

Value rsplit(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "rsplit", arguments, {"sep", "maxsplit"});
    const Text& text = self.text();
    int64_t count = bound.integer(1, -1);
    if (count < 0) count = std::numeric_limits<int64_t>::max();
    if (bound.is_none(0)) return list_of(rt, split_at_spaces_from_right(rt, text, count), self.is_markup());
    const Text& separator = bound.text(0);
    if (separator.empty()) rt.fail("empty separator");
    std::vector<Text> parts;
    size_t end = text.size();
    for (const size_t at : occurrences(rt, text.view(), separator.view(), count)) {
        check_count(rt, parts);
        parts.push_back(text.slice(at + separator.size(), end));
        end = at;
    }
    parts.push_back(text.slice(0, end));
    std::reverse(parts.begin(), parts.end());
    return list_of(rt, std::move(parts), self.is_markup());
}

Value splitlines(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "splitlines", arguments, {"keepends"});
    return list_of(rt, split_lines(rt, self.text(), bound.flag(0, false)), self.is_markup());
}

template <bool from_right>
Value partition(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "partition", arguments, {"sep"}, 1, true);
    const Text &text = self.text(), &separator = bound.text(0);
    if (separator.empty()) rt.fail("empty separator");
    size_t found = npos;
    if (from_right) {
        const auto last = occurrences(rt, text.view(), separator.view(), 1);
        if (!last.empty()) found = last[0];
    } else {
        found = find_in(text.view(), separator.view(), 0);
    }
    const bool markup = self.is_markup();
    if (found == npos) {
        const Value empty = rt.text({}, markup);
        return from_right ? rt.tuple({empty, empty, self}) : rt.tuple({self, empty, empty});
    }
    return rt.tuple({rt.text(text.slice(0, found), markup), rt.text(separator, markup),
                     rt.text(text.slice(found + separator.size(), text.size()), markup)});
}

// start and stop as Python cuts them, as byte offsets; false if start lies past the end or past stop.
bool window(const Value& self, const Bound& bound, size_t first, size_t& begin, size_t& end) {
    size_t length = 0;
    has_length(self, length);
    const auto n = static_cast<int64_t>(length);
    int64_t start = bound.is_none(first) ? 0 : bound.integer(first, 0),
            stop = bound.is_none(first + 1) ? n : bound.integer(first + 1, n);
    if (start < 0) start = std::max<int64_t>(0, start + n);
    if (stop < 0) stop = std::max<int64_t>(0, stop + n);
    stop = std::min(stop, n);
    if (start > stop) return false;
    begin = offset_of(self.string(), static_cast<size_t>(start));
    end = offset_of(self.string(), static_cast<size_t>(stop));
    return true;
}

template <bool from_right>
int64_t find_index(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "find", arguments, {"sub", "start", "end"}, 1, true);
    const Text& needle = bound.text(0);
    rt.charge_bytes(self.text().size());
    size_t begin = 0, end = 0;
    if (!window(self, bound, 1, begin, end)) return -1;
    const std::string_view text = self.text().view().substr(begin, end - begin);
    size_t found = npos;
    if (!from_right) {
        found = find_in(text, needle.view(), 0);
    } else if (needle.empty()) {
        found = text.size();
    } else if (const auto last = occurrences(rt, text, needle.view(), 1); !last.empty()) {
        found = last[0];
    }
    if (found == npos) return -1;
    return static_cast<int64_t>(count_characters(self.text().view().substr(0, begin + found)));
}

template <bool from_right>
Value find(Runtime& rt, const Value& self, Arguments& arguments) {
    return Value::integer(find_index<from_right>(rt, self, arguments));
}

template <bool from_right>
Value index(Runtime& rt, const Value& self, Arguments& arguments) {
    const int64_t found = find_index<from_right>(rt, self, arguments);
    if (found < 0) rt.fail("substring not found");
    return Value::integer(found);
}

Value count(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "count", arguments, {"sub", "start", "end"}, 1, true);
    const Text& needle = bound.text(0);
    rt.charge_bytes(self.text().size());
    size_t begin = 0, end = 0;
    if (!window(self, bound, 1, begin, end)) return Value::integer(0);
    const std::string_view text = self.text().view().substr(begin, end - begin);
    if (needle.empty()) return Value::integer(static_cast<Integer>(count_characters(text)) + 1);
    Integer n = 0;
    for (size_t p = find_in(text, needle.view(), 0); p != npos; p = find_in(text, needle.view(), p + needle.size()))
        ++n;
    return Value::integer(n);
}

template <bool at_start>
Value has_affix(Runtime& rt, const Value& self, Arguments& arguments) {
    const std::string_view name = at_start ? "startswith" : "endswith";
    const Bound bound(rt, name, arguments, {"prefix", "start", "end"}, 1, true);
    size_t begin = 0, end = 0;
    const bool inside = window(self, bound, 1, begin, end);
    const auto matches = [&](const Value& affix) {
        if (affix.is_undefined()) rt.fail_undefined(affix);
        if (!affix.is_string()) rt.fail("{} first arg must be str or a tuple of str, not {}", name, type_name(affix));
        if (!inside) return false;
        const std::string_view text = self.text().view().substr(begin, end - begin);
        return at_start ? text.starts_with(affix.bytes()) : text.ends_with(affix.bytes());
    };
    if (!bound[0].is(Kind::tuple)) return Value::boolean(matches(bound[0]));
    for (const Value& affix : bound[0].as<List>().items)
        if (matches(affix)) return Value::boolean(true);
    return Value::boolean(false);
}

Value replaced(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "replace", arguments, {"old", "new", "count"}, 2, true);
    const Text& to = bound.text(1);
    const bool markup = self.is_markup();
    return rt.text(replace(rt, self.text(), bound.text(0), markup && !bound[1].is_markup() ? escape(rt, to) : to,
                           bound.integer(2, -1)),
                   markup);
}

Value join(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "join", arguments, {"iterable"}, 1, true);
    Builder out(rt);
    Cursor cursor(rt, bound[0]);
    bool first = true;
    for (Value item; cursor.next(item); first = false) {
        if (!first) out.append(self.text());
        if (self.is_markup()) {
            out.append(item.is_markup() ? item.text() : escape(rt, str_of(rt, item)));
            continue;
        }
        if (item.is_undefined()) rt.fail_undefined(item);
        if (!item.is_string()) rt.fail("sequence item: expected str instance, {} found", type_name(item));
        out.append(item.text());
    }
    return out.value(self.is_markup());
}

Value format(Runtime& rt, const Value& self, Arguments& arguments) {
    return brace_format(rt, self, arguments);
}

template <bool left, bool right>
Value padded(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "center", arguments, {"width", "fillchar"}, 1, true);
    const Text fill = bound.has(1) ? bound.text(1) : Text(" ", true);
    if (count_characters(fill.view()) != 1) rt.fail("the fill character must be exactly one character long");
    return pad(rt, self, bound.integer(0, 0), fill, left, right);
}

Value zfill(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "zfill", arguments, {"width"}, 1, true);
    size_t length = 0;
    has_length(self, length);
    const int64_t width = bound.integer(0, 0);
    if (width <= static_cast<int64_t>(length)) return self;
    const Text& text = self.text();
    const size_t sign = !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+');
    Builder out(rt);
    out.append(text, 0, sign);
    out.repeat("0", static_cast<size_t>(width) - length, true);
    out.append(text, sign, text.size());
    return out.value(self.is_markup());
}

template <bool prefix>
Value without_affix(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, prefix ? "removeprefix" : "removesuffix", arguments, {"affix"}, 1, true);
    const Text &text = self.text(), &affix = bound.text(0);
    if (affix.empty()) return self;
    if (prefix ? !text.view().starts_with(affix.view()) : !text.view().ends_with(affix.view())) return self;
    return rt.text(prefix ? text.slice(affix.size(), text.size()) : text.slice(0, text.size() - affix.size()),
                   self.is_markup());
}

Value expandtabs(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "expandtabs", arguments, {"tabsize"});
    const int64_t size = bound.integer(0, 8);
    const Text& text = self.text();
    Builder out(rt);
    size_t column = 0;
    for (size_t p = 0; p < text.size();) {
        const size_t begin = p;
        const uint32_t c = utf8_next(text.view(), p);
        if (c == '\t') {
            if (size <= 0) continue;
            const size_t room = static_cast<size_t>(size) - column % static_cast<size_t>(size);
            out.repeat(" ", room, text.trusted_at(begin));
            column += room;
            continue;
        }
        out.append(text, begin, p);
        column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
    return out.value(self.is_markup());
}

// Python's isx(): every character is, and there is at least one.
template <bool (*test)(uint32_t)>
Value all(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "isalpha", arguments, {});
    rt.charge_bytes(self.text().size());
    const std::string_view text = self.text().view();
    bool ok = !text.empty();
    for (size_t p = 0; ok && p < text.size();) ok = test(utf8_next(text, p));
    return Value::boolean(ok);
}

bool alphanumeric(uint32_t c) {
    return is_alpha(c) || is_numeric(c);
}

// Python's islower and isupper: at least one cased character, and none of the other case.
template <bool lower>
Value is_cased(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "islower", arguments, {});
    rt.charge_bytes(self.text().size());
    const std::string_view text = self.text().view();
    bool any = false;
    for (size_t p = 0; p < text.size();) {
        const uint32_t c = utf8_next(text, p);
        if (is_title(c) || (lower ? is_upper(c) : is_lower(c))) return Value::boolean(false);
        any |= lower ? is_lower(c) : is_upper(c);
    }
    return Value::boolean(any);
}

Value istitle(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "istitle", arguments, {});
    const std::string_view text = self.text().view();
    rt.charge_bytes(text.size());
    bool any = false, in_word = false;
    for (size_t p = 0; p < text.size();) {
        const uint32_t c = utf8_next(text, p);
        const bool upper = is_upper(c) || is_title(c), lower = is_lower(c);
        if ((upper && in_word) || (lower && !in_word)) return Value::boolean(false);
        in_word = upper || lower;
        any |= in_word;
    }
    return Value::boolean(any);
}

Value isascii(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "isascii", arguments, {});
    return Value::boolean(self.string().ascii);
}

Value isidentifier(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "isidentifier", arguments, {});
    const std::string_view text = self.text().view();
    bool ok = !text.empty();
    for (size_t p = 0; ok && p < text.size();) {
        const bool first = p == 0;
        const uint32_t c = utf8_next(text, p);
        ok = c == '_' || is_alpha(c) || (!first && is_decimal(c));
    }
    return Value::boolean(ok);
}

constexpr std::pair<std::string_view, Method> methods[] = {
    {"upper", cased<Case::upper>},
    {"lower", cased<Case::lower>},
    {"title", cased<Case::title>},
    {"capitalize", cased<Case::capitalize>},
    {"swapcase", cased<Case::swap>},
    {"casefold", cased<Case::fold>},
    {"strip", stripped<true, true>},
    {"lstrip", stripped<true, false>},
    {"rstrip", stripped<false, true>},
    {"split", split},
    {"rsplit", rsplit},
    {"splitlines", splitlines},
    {"partition", partition<false>},
    {"rpartition", partition<true>},
    {"find", find<false>},
    {"rfind", find<true>},
    {"index", index<false>},
    {"rindex", index<true>},
    {"count", count},
    {"startswith", has_affix<true>},
    {"endswith", has_affix<false>},
    {"replace", replaced},
    {"join", join},
    {"format", format},
    {"ljust", padded<false, true>},
    {"rjust", padded<true, false>},
    {"center", padded<true, true>},
    {"zfill", zfill},
    {"removeprefix", without_affix<true>},
    {"removesuffix", without_affix<false>},
    {"expandtabs", expandtabs},
    {"isalpha", all<is_alpha>},
    {"isalnum", all<alphanumeric>},
    {"isdigit", all<is_digit>},
    {"isdecimal", all<is_decimal>},
    {"isnumeric", all<is_numeric>},
    {"isspace", all<is_space>},
    {"islower", is_cased<true>},
    {"isupper", is_cased<false>},
    {"istitle", istitle},
    {"isascii", isascii},
    {"isidentifier", isidentifier},
};

}  // namespace

bool find_string_method(Runtime& rt, const Value& self, const std::string& name, Value& out) {
    for (const auto& [key, method] : methods) {
        if (key != name) continue;
        out = rt.function(
            name, [self, method = method](Runtime& rt, Arguments& arguments) { return method(rt, self, arguments); },
            self);
        return true;
    }
    return false;
}

}  // namespace busbar::jinja
