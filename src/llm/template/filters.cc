#include <algorithm>
#include <cmath>

#include "llm/template/interpreter.h"
#include "llm/template/library.h"

namespace busbar::jinja {

namespace {

Value default_value(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "default", arguments, {"default_value", "boolean"});
    if (value.is_undefined() || (bound.flag(1, false) && !truthy(value)))
        return bound.has(0) ? bound[0] : rt.literal("");
    return value;
}

Value to_int(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "int", arguments, {"default", "base"});
    const Value otherwise = bound.has(0) ? bound[0] : Value::integer(0);
    if (value.is_undefined()) rt.fail_undefined(value);
    const auto from_real = [&](double d, bool trusted) {
        if (std::abs(d) >= 0x1p126) rt.fail("expected an integer of at most 127 bits, got {}", repr_of_real(d));
        return Value::integer(static_cast<Integer>(d), trusted);
    };
    if (value.is_integral()) return Value::integer(value.as_integer(), value.number_trusted());
    if (value.is(Kind::real)) {
        const double d = value.as_real();
        if (std::isinf(d)) rt.fail("cannot convert float infinity to integer");
        return std::isnan(d) ? otherwise : from_real(d, value.number_trusted());
    }
    if (!value.is_string()) return otherwise;
    const int64_t base = bound.integer(1, 10);
    Integer integer = 0;
    double real = 0;
    bool too_large = false;
    const bool trusted = value.text().all_trusted();
    if (base == 0 || (base >= 2 && base <= 36)) {
        if (parse_integer(value.bytes(), static_cast<int>(base), integer, too_large)) {
            if (too_large) rt.fail("expected an integer of at most 127 bits, got {}", quote(value.bytes(), 60));
            return Value::integer(integer, trusted);
        }
    }
    if (parse_real(value.bytes(), real) && std::isfinite(real)) return from_real(real, trusted);
    return otherwise;
}

Value to_float(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "float", arguments, {"default"});
    if (value.is_undefined()) rt.fail_undefined(value);
    if (value.is_number()) return Value::real(value.as_real(), value.number_trusted());
    double real = 0;
    if (value.is_string() && parse_real(value.bytes(), real)) return Value::real(real, value.text().all_trusted());
    return bound.has(0) ? bound[0] : Value::real(0);
}

Value absolute(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "abs", arguments, {});
    if (!value.is_number()) rt.fail("bad operand type for abs(): '{}'", type_name(value));
    if (value.is(Kind::real)) return Value::real(std::fabs(value.as_real()), value.number_trusted());
    return value.as_integer() < 0 ? negate(rt, value, true) : integer_of(rt, value);
}

double power_of_ten(int64_t n) {
    return std::pow(10.0, static_cast<double>(n));
}

double round_real(double d, int64_t digits) {
    if (!std::isfinite(d) || digits > 323) return d;
    if (digits < -308) return std::copysign(0.0, d);
    if (digits >= 0) {
        // The decimal expansion is exact, so this rounds as Python does.
        return std::strtod(fmt::format("{:.{}f}", d, digits).c_str(), nullptr);
    }
    const long double scale = std::pow(10.0L, static_cast<long double>(-digits));
    return static_cast<double>(std::nearbyint(static_cast<long double>(d) / scale) * scale);
}

Value round_filter(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "round", arguments, {"precision", "method"});
    const int64_t digits = bound.integer(0, 0);
    const std::string method = bound.has(1) ? str_of(rt, bound[1]).bytes() : "common";
    if (method != "common" && method != "ceil" && method != "floor") rt.fail("method must be common, ceil or floor");
    if (value.is_undefined()) rt.fail_undefined(value);
    if (!value.is_number()) rt.fail("type {} cannot be rounded", type_name(value));
    const bool trusted = value.number_trusted();
    if (method == "common") {
        if (value.is(Kind::real)) return Value::real(round_real(value.as_real(), digits), trusted);
        const Integer i = value.as_integer();
        if (digits >= 0) return Value::integer(i, trusted);
        if (digits < -37) return Value::integer(0, trusted);
        Integer scale = 1;
        for (int64_t n = digits; n < 0; ++n) scale *= 10;
        Integer rest = i % scale, down = i - rest;
        if (rest < 0) {
            rest += scale;
            down -= scale;
        }
        const bool up = rest * 2 > scale || (rest * 2 == scale && (down / scale) % 2 != 0);
        return Value::integer(up ? down + scale : down, trusted);
    }
    if (std::abs(digits) > 308) rt.fail("expected a precision of at most 308 digits, got {}", digits);
    const double scale = power_of_ten(digits), scaled = value.as_real() * scale;
    if (!std::isfinite(scaled)) rt.fail("cannot convert float infinity or NaN to integer");
    return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale, trusted);
}

Value tojson(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
    JsonOptions options;
    options.ensure_ascii = bound.flag(0, false);
    options.sort_keys = bound.flag(3, false);
    if (!bound.is_none(1)) {
        options.has_indent = true;
        options.item_separator = ",";
        if (bound[1].is_string()) {
            options.indent = bound.text(1).bytes();
        } else {
            const int64_t width = std::max<int64_t>(0, bound.integer(1, 0));
            rt.reserve(static_cast<size_t>(width));
            options.indent.assign(static_cast<size_t>(width), ' ');
        }
    }
    if (!bound.is_none(2)) {
        const std::vector<Value> two = items_of(rt, bound[2]);
        if (two.size() != 2 || !two[0].is_string() || !two[1].is_string())
            rt.fail("expected separators as two strings");
        options.item_separator = two[0].bytes();
        options.key_separator = two[1].bytes();
    }
    return rt.text(to_json(rt, value, options));
}

Value length(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "length", arguments, {});
    size_t n = 0;
    if (value.is(Kind::loop)) return Value::integer(value.as<Loop>().length(rt));
    if (!has_length(value, n)) rt.fail("object of type '{}' has no len()", type_name(value));
    if (value.is_string() && !value.string().ascii) rt.charge_bytes(value.text().size());
    return Value::integer(static_cast<Integer>(n));
}

Value attr(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "attr", arguments, {"name"}, 1);
    const std::string name = bound.text(0).bytes();
    if (value.is_undefined()) rt.fail_undefined(value);
    Value out;
    bool blocked = false;
    // As obj.name, without the way through obj[name].
    if (value.is(Kind::dict) && !find_method(rt, value, name, out, blocked)) {
        return rt.undefined(fmt::format("'dict object' has no attribute {}", quote(name)));
    }
    return attribute(rt, value, name);
}

constexpr std::pair<std::string_view, Filter> filters[] = {
    {"default", default_value}, {"d", default_value}, {"int", to_int},    {"float", to_float}, {"abs", absolute},
    {"round", round_filter},    {"tojson", tojson},   {"length", length}, {"count", length},   {"attr", attr},
};

}  // namespace

Filter find_filter(std::string_view name) {
    const auto found =
        std::find_if(std::begin(filters), std::end(filters), [&](const auto& f) { return f.first == name; });
    if (found != std::end(filters)) return found->second;
    if (const Filter filter = find_text_filter(name)) return filter;
    return find_sequence_filter(name);
}

}  // namespace busbar::jinja
