#include <algorithm>

#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

using Getter = std::function<Value(Runtime&, const Value&)>;

// "a.b.0" as the parts of a path, numbers as integers.
std::vector<Value> path_of(Runtime& rt, const Value& attribute) {
    if (attribute.is(Kind::none)) return {};
    if (!attribute.is_string()) return {attribute};
    std::vector<Value> parts;
    const Text& text = attribute.text();
    for (size_t begin = 0;;) {
        const size_t dot = find_in(text.view(), ".", begin);
        const size_t end = dot == std::string_view::npos ? text.size() : dot;
        const std::string part = text.bytes().substr(begin, end - begin);
        const bool number =
            !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string::npos;
        parts.push_back(number ? Value::integer(std::stoll(part)) : rt.text(text.slice(begin, end)));
        if (dot == std::string_view::npos) return parts;
        begin = dot + 1;
    }
}

Getter getter_of(Runtime& rt, const Value& attribute, const Value& otherwise = Value::none()) {
    return [path = path_of(rt, attribute), otherwise](Runtime& rt, const Value& object) {
        Value value = object;
        for (const Value& part : path) {
            value = item(rt, value, part);
            if (value.is_undefined() && !otherwise.is(Kind::none)) value = otherwise;
        }
        return value;
    };
}

Value folded(Runtime& rt, const Value& value, bool case_sensitive) {
    return case_sensitive || !value.is_string() ? value : rt.text(change_case(rt, value.text(), Case::lower));
}

Value attribute_argument(const Bound& bound, size_t i) {
    return bound.has(i) ? bound[i] : Value::none();
}

Value iterate(Runtime& rt, std::string name, std::vector<Value> items) {
    const Value list = rt.list(std::move(items));
    return rt.iterator(
        std::move(name),
        [list, i = size_t{0}](Value& item) mutable {
            const auto& items = list.as<List>().items;
            if (i >= items.size()) return false;
            item = items[i++];
            return true;
        },
        list);
}

Value join(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "join", arguments, {"d", "attribute"});
    const Text separator = bound.has(0) ? str_of(rt, bound[0]) : Text();
    const Getter get = getter_of(rt, attribute_argument(bound, 1));
    Builder out(rt);
    Cursor cursor(rt, value);
    bool first = true;
    for (Value item; cursor.next(item); first = false) {
        if (!first) out.append(separator);
        append_str(out, rt, get(rt, item));
    }
    return out.value();
}

Value first(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "first", arguments, {});
    Cursor cursor(rt, value);
    Value item;
    return cursor.next(item) ? item : rt.undefined("no first item, sequence was empty");
}

bool is_reversible(const Value& value) {
    return is_iterable(value) && !value.is(Kind::iterator);
}

Value last(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "last", arguments, {});
    if (!is_reversible(value)) rt.fail("'{}' object is not reversible", type_name(value));
    size_t length = 0;
    has_length(value, length);
    if (length == 0) return rt.undefined("no last item, sequence was empty");
    if (value.is(Kind::dict)) return value.as<Dict>().entries.back().first;
    if (value.is(Kind::view)) return value.as<List>().items.back();
    const Value tail = item(rt, value, Value::integer(-1));
    return tail.is_markup() ? rt.text(tail.text()) : tail;
}

Value list(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "list", arguments, {});
    return rt.list(items_of(rt, value));
}

Value reverse(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "reverse", arguments, {});
    if (value.is_string()) return slice(rt, value, Value::none(), Value::none(), Value::integer(-1));
    std::vector<Value> items = items_of(rt, value);
    std::reverse(items.begin(), items.end());
    return value.is(Kind::iterator) ? rt.list(std::move(items)) : iterate(rt, "reverse", std::move(items));
}

Value items(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "items", arguments, {});
    if (value.is_undefined()) return iterate(rt, "do_items", {});
    if (!value.is(Kind::dict)) rt.fail("can only get item pairs from a mapping, not from '{}'", type_name(value));
    return rt.iterator(
        "do_items",
        [&rt, value, i = size_t{0}](Value& item) mutable {
            const auto& entries = value.as<Dict>().entries;
            if (i >= entries.size()) return false;
            item = rt.tuple({entries[i].first, entries[i].second});
            ++i;
            return true;
        },
        value);
}

// Everything an iterator's function keeps counts for its nesting: a chain of them is walked by recursion.
Value lazily(Runtime& rt, std::string name, const Value& source, const Arguments& arguments,
             std::function<bool(Value&)> next) {
    std::vector<Value> held{source};
    held.insert(held.end(), arguments.positional.begin(), arguments.positional.end());
    for (const auto& [key, value] : arguments.named) held.push_back(value);
    return rt.iterator(std::move(name), std::move(next), rt.tuple(std::move(held)));
}

Value map(Runtime& rt, const Value& value, Arguments& arguments) {
    if (!truthy(value)) return iterate(rt, "sync_do_map", {});
    std::function<Value(const Value&)> function;
    const auto find_named = [&](std::string_view name) -> const Value* {
        for (const auto& [key, item] : arguments.named)
            if (key == name) return &item;
        return nullptr;
    };
    if (const Value* attribute = find_named("attribute"); arguments.positional.empty() && attribute) {
        const Value* otherwise = find_named("default");
        if (arguments.named.size() > (otherwise ? 2u : 1u)) rt.fail("map: unexpected keyword argument");
        function = [&rt, get = getter_of(rt, *attribute, otherwise ? *otherwise : Value::none())](const Value& item) {
            return get(rt, item);
        };
    } else {
        if (arguments.positional.empty()) rt.fail("map requires a filter argument");
        const std::string name = str_of(rt, arguments.positional[0]).bytes();
        Arguments rest = arguments;
        rest.positional.erase(rest.positional.begin());
        function = [&rt, name, rest](const Value& item) {
            Arguments copy = rest;
            return rt.apply_filter(name, item, copy);
        };
    }
    auto cursor = std::make_shared<Cursor>(rt, value);
    return lazily(rt, "sync_do_map", value, arguments, [&rt, cursor, function](Value& out) {
        rt.check_stack();
        Value item;
        if (!cursor->next(item)) return false;
        out = function(item);
        return true;
    });
}

template <bool by_attribute, bool wanted>
Value select(Runtime& rt, const Value& value, Arguments& arguments) {
    if (!truthy(value)) return iterate(rt, "select_or_reject", {});
    Getter get = [](Runtime&, const Value& item) { return item; };
    Arguments rest = arguments;
    auto& positional = rest.positional;
    if (by_attribute) {
        if (positional.empty()) rt.fail("missing parameter for attribute name");
        get = getter_of(rt, positional[0]);
        positional.erase(positional.begin());
    }
    std::string test;
    if (!positional.empty()) {
        test = str_of(rt, positional[0]).bytes();
        positional.erase(positional.begin());
    }
    auto cursor = std::make_shared<Cursor>(rt, value);
    return lazily(rt, "select_or_reject", value, arguments, [&rt, cursor, get, test, rest](Value& out) {
        rt.check_stack();
        for (Value item; cursor->next(item);) {
            const Value subject = get(rt, item);
            Arguments copy = rest;
            if ((test.empty() ? truthy(subject) : rt.apply_test(test, subject, copy)) != wanted) continue;
            out = std::move(item);
            return true;
        }
        return false;
    });
}

struct Keyed {
    std::vector<Value> keys;
    Value item;
};

void sort_keyed(Runtime& rt, std::vector<Keyed>& rows, bool reverse) {
    const auto before = [&](const Keyed& a, const Keyed& b) {
        for (size_t i = 0; i < a.keys.size(); ++i) {
            rt.charge(1);
            if (less(rt, a.keys[i], b.keys[i])) return true;
            if (!equal(a.keys[i], b.keys[i])) return false;
        }
        return false;
    };
    // Python reverses before and after, so that equal items keep their order either way.
    if (reverse) std::reverse(rows.begin(), rows.end());
    std::stable_sort(rows.begin(), rows.end(), before);
    if (reverse) std::reverse(rows.begin(), rows.end());
}

std::vector<Value> items_of_rows(std::vector<Keyed>& rows) {
    std::vector<Value> items;
    items.reserve(rows.size());
    for (Keyed& row : rows) items.push_back(std::move(row.item));
    return items;
}

Value sort(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
    const bool case_sensitive = bound.flag(1, false);
    std::vector<Getter> getters;
    const Value attribute = attribute_argument(bound, 2);
    if (attribute.is_string()) {
        const Text& text = attribute.text();
        for (size_t begin = 0; begin <= text.size();) {
            const size_t end = std::min(find_in(text.view(), ",", begin), text.size());
            getters.push_back(getter_of(rt, rt.text(text.slice(begin, end))));
            begin = end + 1;
        }
    } else {
        getters.push_back(getter_of(rt, attribute));
    }
    std::vector<Keyed> rows;
    for (Value& item : items_of(rt, value)) {
        Keyed row{{}, item};
        for (const Getter& get : getters) row.keys.push_back(folded(rt, get(rt, item), case_sensitive));
        rows.push_back(std::move(row));
    }
    sort_keyed(rt, rows, bound.flag(0, false));
    return rt.list(items_of_rows(rows));
}

Value dictsort(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
    const std::string by = bound.has(1) ? str_of(rt, bound[1]).bytes() : "key";
    if (by != "key" && by != "value") rt.fail("dictsort: expected by 'key' or 'value', got {}", quote(by));
    if (value.is_undefined()) rt.fail_undefined(value);
    if (!value.is(Kind::dict)) rt.fail("dictsort: expected a mapping, got '{}'", type_name(value));
    std::vector<Keyed> rows;
    for (const auto& [key, item] : value.as<Dict>().entries) {
        rows.push_back({{folded(rt, by == "key" ? key : item, bound.flag(0, false))}, rt.tuple({key, item})});
    }
    sort_keyed(rt, rows, bound.flag(2, false));
    return rt.list(items_of_rows(rows));
}

Value unique(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "unique", arguments, {"case_sensitive", "attribute"});
    const Getter get = getter_of(rt, attribute_argument(bound, 1));
    Dict seen;
    std::vector<Value> out;
    for (Value& item : items_of(rt, value)) {
        Value key = folded(rt, get(rt, item), bound.flag(0, false));
        size_t hash;
        if (!hash_of(key, hash)) rt.fail("unhashable type: '{}'", type_name(key));
        if (seen.find(key)) continue;
        seen.set(std::move(key), Value::none());
        out.push_back(std::move(item));
    }
    return iterate(rt, "sync_do_unique", std::move(out));
}

template <bool largest>
Value extreme(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
    const Getter get = getter_of(rt, attribute_argument(bound, 1));
    const bool case_sensitive = bound.flag(0, false);
    Cursor cursor(rt, value);
    Value best;
    if (!cursor.next(best)) return rt.undefined("no aggregated item, sequence was empty");
    Value best_key = folded(rt, get(rt, best), case_sensitive);
    for (Value item; cursor.next(item);) {
        Value key = folded(rt, get(rt, item), case_sensitive);
        if (!compare(rt, largest ? Comparison::gt : Comparison::lt, key, best_key)) continue;
        best = std::move(item);
        best_key = std::move(key);
    }
    return best;
}

Value sum(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "sum", arguments, {"attribute", "start"});
    const Getter get = getter_of(rt, attribute_argument(bound, 0));
    Value total = bound.has(1) ? bound[1] : Value::integer(0);
    if (total.is_string()) rt.fail("sum() can't sum strings, use join");
    Cursor cursor(rt, value);
    for (Value item; cursor.next(item);) total = arithmetic(rt, Op::add, total, get(rt, item));
    return total;
}

Value batch(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "batch", arguments, {"linecount", "fill_with"}, 1);
    const int64_t count = bound.integer(0, 0);
    std::vector<Value> rows, row;
    Cursor cursor(rt, value);
    for (Value item; cursor.next(item);) {
        if (static_cast<int64_t>(row.size()) == count) rows.push_back(rt.list(std::exchange(row, {})));
        row.push_back(std::move(item));
        if ((row.size() & 255) == 0) rt.reserve_values(row.size());
    }
    if (!row.empty()) {
        if (!bound.is_none(1) && static_cast<int64_t>(row.size()) < count) {
            rt.reserve_values(static_cast<size_t>(count));
            row.resize(static_cast<size_t>(count), bound[1]);
        }
        rows.push_back(rt.list(std::move(row)));
    }
    return iterate(rt, "do_batch", std::move(rows));
}

Value slices(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "slice", arguments, {"slices", "fill_with"}, 1);
    const std::vector<Value> all = items_of(rt, value);
    const int64_t count = bound.integer(0, 0), length = static_cast<int64_t>(all.size());
    if (count == 0) rt.fail("integer division or modulo by zero");
    std::vector<Value> out;
    int64_t begin = 0;
    for (int64_t n = 0; n < count; ++n) {
        rt.charge(1);
        const bool extra = n < length % count;
        const int64_t end = begin + length / count + extra;
        std::vector<Value> part(all.begin() + begin, all.begin() + end);
        if (!bound.is_none(1) && !extra) part.push_back(bound[1]);
        out.push_back(rt.list(std::move(part)));
        if ((out.size() & 255) == 0) rt.reserve_values(out.size());
        begin = end;
    }
    return iterate(rt, "sync_do_slice", std::move(out));
}

Value groupby(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
    const Getter get = getter_of(rt, bound[0], attribute_argument(bound, 1));
    const bool case_sensitive = bound.flag(2, false);
    std::vector<Keyed> rows;
    for (Value& item : items_of(rt, value)) rows.push_back({{folded(rt, get(rt, item), case_sensitive)}, item});
    sort_keyed(rt, rows, false);
    std::vector<Value> groups;
    for (size_t i = 0; i < rows.size();) {
        const Value key = rows[i].keys[0];
        const Value grouper = get(rt, rows[i].item);
        std::vector<Value> members;
        for (; i < rows.size() && equal(rows[i].keys[0], key); ++i) members.push_back(rows[i].item);
        groups.push_back(rt.list({case_sensitive ? key : grouper, rt.list(std::move(members))}, Kind::tuple, "group"));
    }
    return rt.list(std::move(groups));
}

constexpr std::pair<std::string_view, Filter> filters[] = {
    {"join", join},
    {"first", first},
    {"last", last},
    {"list", list},
    {"reverse", reverse},
    {"items", items},
    {"map", map},
    {"select", select<false, true>},
    {"reject", select<false, false>},
    {"selectattr", select<true, true>},
    {"rejectattr", select<true, false>},
    {"sort", sort},
    {"dictsort", dictsort},
    {"unique", unique},
    {"min", extreme<false>},
    {"max", extreme<true>},
    {"sum", sum},
    {"batch", batch},
    {"slice", slices},
    {"groupby", groupby},
};

}  // namespace

Filter find_sequence_filter(std::string_view name) {
    const auto found =
        std::find_if(std::begin(filters), std::end(filters), [&](const auto& f) { return f.first == name; });
    return found == std::end(filters) ? nullptr : found->second;
}

}  // namespace busbar::jinja
