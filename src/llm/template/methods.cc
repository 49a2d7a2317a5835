#include <algorithm>

#include "llm/template/library.h"

namespace busbar::jinja {

namespace {

using Method = Value (*)(Runtime&, const Value& self, Arguments&);

template <typename Table>
bool find_in_table(Runtime& rt, const Table& table, const Value& self, const std::string& name, Value& out) {
    for (const auto& [key, method] : table) {
        if (key != name) continue;
        out = rt.function(
            name, [self, method = method](Runtime& rt, Arguments& arguments) { return method(rt, self, arguments); },
            self);
        return true;
    }
    return false;
}

Value dict_get(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "get", arguments, {"key", "default"}, 1, true);
    size_t hash;
    if (!hash_of(bound[0], hash)) rt.fail("unhashable type: '{}'", type_name(bound[0]));
    const Value* found = self.as<Dict>().find(bound[0]);
    return found ? *found : bound.has(1) ? bound[1] : Value::none();
}

Value dict_items(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "items", arguments, {});
    std::vector<Value> items;
    rt.reserve_values(self.as<Dict>().entries.size() * 4);
    for (const auto& [key, value] : self.as<Dict>().entries) items.push_back(rt.tuple({key, value}));
    return rt.list(std::move(items), Kind::view, "dict_items");
}

Value dict_keys(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "keys", arguments, {});
    std::vector<Value> items;
    for (const auto& [key, value] : self.as<Dict>().entries) items.push_back(key);
    return rt.list(std::move(items), Kind::view, "dict_keys");
}

Value dict_values(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "values", arguments, {});
    std::vector<Value> items;
    for (const auto& [key, value] : self.as<Dict>().entries) items.push_back(value);
    return rt.list(std::move(items), Kind::view, "dict_values");
}

Value itself(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "copy", arguments, {});
    return self;  // values do not change, so a copy is the same
}

Value sequence_index(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "index", arguments, {"value", "start", "stop"}, 1, true);
    Cursor cursor(rt, self);
    size_t length = 0;
    has_length(self, length);
    const auto cut = [&](int64_t i) { return i < 0 ? std::max<int64_t>(0, i + static_cast<int64_t>(length)) : i; };
    const int64_t start = cut(bound.integer(1, 0)), stop = cut(bound.integer(2, static_cast<int64_t>(length)));
    int64_t i = 0;
    for (Value item; cursor.next(item); ++i) {
        rt.charge_walk(item);
        if (i >= start && i < stop && equal(item, bound[0])) return Value::integer(i);
    }
    rt.fail("{} is not in {}", quote(str_of(rt, bound[0]).bytes()), type_name(self));
}

Value sequence_count(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "count", arguments, {"value"}, 1, true);
    Cursor cursor(rt, self);
    Integer n = 0;
    for (Value item; cursor.next(item);) {
        rt.charge_walk(item);
        n += equal(item, bound[0]);
    }
    return Value::integer(n);
}

Value cycler_next(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "next", arguments, {});
    auto& cycler = self.as<Cycler>();
    Value item = cycler.items[cycler.position];
    cycler.position = (cycler.position + 1) % cycler.items.size();
    return item;
}

Value cycler_reset(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "reset", arguments, {});
    self.as<Cycler>().position = 0;
    return Value::none();
}

Value real_is_integer(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "is_integer", arguments, {});
    const double d = self.as_real();
    return Value::boolean(d - d == 0 && static_cast<double>(static_cast<long double>(d)) == __builtin_floor(d));
}

Value bit_length(Runtime& rt, const Value& self, Arguments& arguments) {
    const Bound bound(rt, "bit_length", arguments, {});
    Integer rest = self.as_integer();
    int bits = 0;
    for (; rest != 0; rest /= 2) ++bits;
    return Value::integer(bits);
}

constexpr std::pair<std::string_view, Method> dict_methods[] = {
    {"get", dict_get}, {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}, {"copy", itself}};
constexpr std::pair<std::string_view, Method> list_methods[] = {
    {"index", sequence_index}, {"count", sequence_count}, {"copy", itself}};
constexpr std::pair<std::string_view, Method> cycler_methods[] = {{"next", cycler_next}, {"reset", cycler_reset}};
constexpr std::pair<std::string_view, Method> real_methods[] = {{"is_integer", real_is_integer}};
constexpr std::pair<std::string_view, Method> integer_methods[] = {{"bit_length", bit_length}};

// What changes its object, and so is refused by the immutable sandbox; the names still hide keys of a dict.
constexpr std::string_view blocked_dict[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view blocked_list[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};

template <typename Names>
bool stands_in(const Names& names, const std::string& name) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace

bool find_method(Runtime& rt, const Value& self, const std::string& name, Value& out, bool& blocked) {
    switch (self.kind()) {
        case Kind::string:
            return find_string_method(rt, self, name, out);
        case Kind::dict:
            blocked = stands_in(blocked_dict, name);
            return blocked || find_in_table(rt, dict_methods, self, name, out);
        case Kind::list:
            blocked = stands_in(blocked_list, name);
            return blocked || find_in_table(rt, list_methods, self, name, out);
        case Kind::tuple:
        case Kind::range:
            return name != "copy" && find_in_table(rt, list_methods, self, name, out);
        case Kind::cycler:
            return find_in_table(rt, cycler_methods, self, name, out);
        case Kind::real:
            return find_in_table(rt, real_methods, self, name, out);
        case Kind::integer:
        case Kind::boolean:
            return find_in_table(rt, integer_methods, self, name, out);
        default:
            return false;
    }
}

}  // namespace busbar::jinja
