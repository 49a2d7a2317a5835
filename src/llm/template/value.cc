#include "llm/template/value.h"

#include <cmath>

namespace busbar::jinja {

namespace {

constexpr size_t indexed_from = 12;
constexpr size_t absent = static_cast<size_t>(-1);

template <typename Items>
bool equal_items(const Items& a, const Items& b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i)
        if (!equal(a[i], b[i])) return false;
    return true;
}

bool equal_dicts(const Dict& a, const Dict& b) {
    if (a.entries.size() != b.entries.size()) return false;
    for (const auto& [key, value] : a.entries) {
        const Value* other = b.find(key);
        if (!other || !equal(value, *other)) return false;
    }
    return true;
}

bool equal_ranges(const Range& a, const Range& b) {
    return a.count == b.count && (a.count == 0 || (a.start == b.start && (a.count == 1 || a.step == b.step)));
}

}  // namespace

std::string_view type_name(const Value& value) {
    switch (value.kind()) {
        case Kind::undefined:
            return "Undefined";
        case Kind::none:
            return "NoneType";
        case Kind::boolean:
            return "bool";
        case Kind::integer:
            return "int";
        case Kind::real:
            return "float";
        case Kind::string:
            return value.is_markup() ? "Markup" : "str";
        case Kind::list:
            return "list";
        case Kind::tuple:
            return "tuple";
        case Kind::dict:
            return "dict";
        case Kind::view:
            return value.as<List>().name;
        case Kind::range:
            return "range";
        case Kind::iterator:
            return "generator";
        case Kind::space:
            return "Namespace";
        case Kind::loop:
            return "LoopContext";
        case Kind::function:
            return "function";
        case Kind::cycler:
            return "Cycler";
        case Kind::joiner:
            return "Joiner";
    }
    return "object";
}

bool truthy(const Value& value) {
    switch (value.kind()) {
        case Kind::undefined:
        case Kind::none:
            return false;
        case Kind::boolean:
        case Kind::integer:
            return value.as_integer() != 0;
        case Kind::real:
            return value.as_real() != 0;
        case Kind::string:
            return !value.text().empty();
        case Kind::list:
        case Kind::tuple:
        case Kind::view:
            return !value.as<List>().items.empty();
        case Kind::dict:
            return !value.as<Dict>().entries.empty();
        case Kind::range:
            return value.as<Range>().count != 0;
        default:
            return true;
    }
}

int compare_numbers(const Value& a, const Value& b, bool& ordered) {
    ordered = true;
    if (a.is_integral() && b.is_integral()) {
        return a.as_integer() < b.as_integer() ? -1 : a.as_integer() > b.as_integer();
    }
    if (a.is(Kind::real) && b.is(Kind::real)) {
        const double x = a.as_real(), y = b.as_real();
        ordered = !std::isnan(x) && !std::isnan(y);
        return x < y ? -1 : x > y;
    }
    if (a.is(Kind::real)) return -compare_numbers(b, a, ordered);
    // Integer against real: through the real's integer part, since either may be exact where the other is not.
    const double y = b.as_real();
    if (std::isnan(y)) {
        ordered = false;
        return 0;
    }
    if (y >= 0x1p127) return -1;
    if (y < -0x1p127) return 1;
    const double whole = std::floor(y);
    const auto floor_y = static_cast<Integer>(whole);
    if (a.as_integer() != floor_y) return a.as_integer() < floor_y ? -1 : 1;
    return y > whole ? -1 : 0;
}

bool equal(const Value& a, const Value& b) {
    if (a.is_number() && b.is_number()) {
        bool ordered;
        return compare_numbers(a, b, ordered) == 0 && ordered;
    }
    if (a.kind() != b.kind()) return false;
    if (a.object() == b.object() && a.object()) return true;
    switch (a.kind()) {
        case Kind::undefined:
        case Kind::none:
            return true;
        case Kind::string:
            return a.bytes() == b.bytes();
        case Kind::list:
        case Kind::tuple:
            return equal_items(a.as<List>().items, b.as<List>().items);
        case Kind::dict:
            return equal_dicts(a.as<Dict>(), b.as<Dict>());
        case Kind::range:
            return equal_ranges(a.as<Range>(), b.as<Range>());
        default:
            return false;
    }
}

bool hash_of(const Value& value, size_t& hash) {
    switch (value.kind()) {
        case Kind::boolean:
        case Kind::integer: {
            // An integer and the real that equals it are one key.
            const Integer i = value.as_integer();
            hash = std::hash<double>{}(static_cast<double>(i));
            return true;
        }
        case Kind::real:
            hash = std::hash<double>{}(value.as_real());
            return true;
        case Kind::string:
            hash = std::hash<std::string>{}(value.bytes());
            return true;
        case Kind::tuple: {
            hash = 0x9E3779B97F4A7C15u;
            for (const Value& item : value.as<List>().items) {
                size_t h;
                if (!hash_of(item, h)) return false;
                hash = (hash ^ h) * 0x100000001B3u;
            }
            return true;
        }
        case Kind::list:
        case Kind::dict:
        case Kind::view:
            return false;
        case Kind::undefined:
        case Kind::none:
            hash = static_cast<size_t>(value.kind());
            return true;
        default:
            hash = std::hash<const void*>{}(value.object());
            return true;
    }
}

size_t Dict::place(const Value& key, size_t hash) const {
    if (index_.empty()) {
        for (size_t i = 0; i < entries.size(); ++i)
            if (equal(entries[i].first, key)) return i;
        return absent;
    }
    const auto [first, last] = index_.equal_range(hash);
    for (auto it = first; it != last; ++it)
        if (equal(entries[it->second].first, key)) return it->second;
    return absent;
}

const Value* Dict::find(const Value& key) const {
    size_t hash;
    if (!hash_of(key, hash)) return nullptr;
    const size_t i = place(key, hash);
    return i == absent ? nullptr : &entries[i].second;
}

const Value* Dict::find(std::string_view key) const {
    if (index_.empty()) {
        for (const auto& [name, value] : entries)
            if (name.is_string() && name.bytes() == key) return &value;
        return nullptr;
    }
    const auto [first, last] = index_.equal_range(std::hash<std::string_view>{}(key));
    for (auto it = first; it != last; ++it) {
        const auto& [name, value] = entries[it->second];
        if (name.is_string() && name.bytes() == key) return &value;
    }
    return nullptr;
}

void Dict::set(Value key, Value value) {
    size_t hash = 0;
    hash_of(key, hash);
    const size_t i = place(key, hash);
    if (i != absent) {
        entries[i].second = std::move(value);
        return;
    }
    entries.emplace_back(std::move(key), std::move(value));
    if (!index_.empty()) {
        index_.emplace(hash, entries.size() - 1);
    } else if (entries.size() >= indexed_from) {
        for (size_t n = 0; n < entries.size(); ++n) {
            size_t h = 0;
            hash_of(entries[n].first, h);
            index_.emplace(h, n);
        }
    }
}

Value* Space::find(std::string_view name) {
    for (auto& [key, value] : attributes)
        if (key == name) return &value;
    return nullptr;
}

}  // namespace busbar::jinja
