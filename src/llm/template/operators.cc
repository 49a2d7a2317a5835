#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/utf8.h"
#include "llm/template/library.h"

namespace busbar::jinja {

namespace {

constexpr std::string_view symbol(Op op) {
    switch (op) {
        case Op::add:
            return "+";
        case Op::subtract:
            return "-";
        case Op::multiply:
            return "*";
        case Op::divide:
            return "/";
        case Op::floor_divide:
            return "//";
        case Op::modulo:
            return "%";
        default:
            return "**";
    }
}

[[noreturn]] void unsupported(Runtime& rt, Op op, const Value& a, const Value& b) {
    if (a.is_undefined()) rt.fail_undefined(a);
    if (b.is_undefined()) rt.fail_undefined(b);
    rt.fail("unsupported operand types for {}: '{}' and '{}'", symbol(op), type_name(a), type_name(b));
}

[[noreturn]] void overflow(Runtime& rt) {
    rt.fail("expected an integer of at most 127 bits, the result is larger");
}

double floor_modulo(double a, double b) {
    double m = std::fmod(a, b);
    if (m != 0) {
        if ((b < 0) != (m < 0)) m += b;
    } else {
        m = std::copysign(0.0, b);
    }
    return m;
}

double floor_divide(double a, double b) {
    const double m = std::fmod(a, b);
    double quotient = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0)) quotient -= 1;
    if (quotient == 0) return std::copysign(0.0, a / b);
    double whole = std::floor(quotient);
    if (quotient - whole > 0.5) whole += 1;
    return whole;
}

Integer integer_power(Runtime& rt, Integer base, Integer exponent) {
    Integer result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) overflow(rt);
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow(rt);
    }
    return result;
}

Value integer_arithmetic(Runtime& rt, Op op, Integer a, Integer b, bool trusted) {
    Integer result = 0;
    bool too_large = false;
    switch (op) {
        case Op::add:
            too_large = __builtin_add_overflow(a, b, &result);
            break;
        case Op::subtract:
            too_large = __builtin_sub_overflow(a, b, &result);
            break;
        case Op::multiply:
            too_large = __builtin_mul_overflow(a, b, &result);
            break;
        case Op::divide:
            if (b == 0) rt.fail("division by zero");
            return Value::real(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)), trusted);
        case Op::floor_divide:
        case Op::modulo: {
            if (b == 0) rt.fail("integer division or modulo by zero");
            if (b == -1) {  // the one quotient that can overflow
                if (op == Op::modulo) return Value::integer(0, trusted);
                too_large = __builtin_sub_overflow(Integer{0}, a, &result);
                break;
            }
            const Integer rest = a % b;
            const bool adjust = rest != 0 && (rest < 0) != (b < 0);
            result = op == Op::modulo ? rest + (adjust ? b : 0) : a / b - adjust;
            break;
        }
        default:
            if (b < 0) {
                if (a == 0) rt.fail("0.0 cannot be raised to a negative power");
                return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)), trusted);
            }
            result = integer_power(rt, a, b);
    }
    if (too_large) overflow(rt);
    return Value::integer(result, trusted);
}

Value real_arithmetic(Runtime& rt, Op op, double a, double b, bool trusted) {
    double result = 0;
    switch (op) {
        case Op::add:
            result = a + b;
            break;
        case Op::subtract:
            result = a - b;
            break;
        case Op::multiply:
            result = a * b;
            break;
        case Op::divide:
            if (b == 0) rt.fail("float division by zero");
            result = a / b;
            break;
        case Op::floor_divide:
            if (b == 0) rt.fail("float floor division by zero");
            result = floor_divide(a, b);
            break;
        case Op::modulo:
            if (b == 0) rt.fail("float modulo");
            result = floor_modulo(a, b);
            break;
        default:
            if (a == 0 && b < 0) rt.fail("0.0 cannot be raised to a negative power");
            if (a < 0 && std::isfinite(a) && std::isfinite(b) && std::floor(b) != b)
                rt.fail("complex numbers are outside the subset");
            result = std::pow(a, b);
            if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) rt.fail("numerical result out of range");
    }
    return Value::real(result, trusted);
}

Value repeat(Runtime& rt, const Value& value, Integer count) {
    const auto times = static_cast<size_t>(std::max<int64_t>(0, clamped(count)));
    if (value.is_string()) {
        const Text& text = value.text();
        if (text.size() != 0 && times > (size_t{1} << 40) / text.size()) rt.reserve(size_t(-1));
        rt.reserve(text.size() * times);
        rt.charge(text.size() == 0 ? 0 : times / 8);
        Builder out(rt);
        if (text.run_count() == 1) {
            std::string bytes;
            bytes.reserve(text.size() * times);
            for (size_t i = 0; i < times; ++i) bytes += text.bytes();
            out.append(bytes, text.all_trusted());
        } else if (!text.empty()) {
            for (size_t i = 0; i < times; ++i) out.append(text);
        }
        return out.value(value.is_markup());
    }
    const auto& items = value.as<List>().items;
    if (!items.empty() && times > (size_t{1} << 40) / items.size()) rt.reserve(size_t(-1));
    rt.reserve_values(items.size() * times);
    std::vector<Value> out;
    out.reserve(items.size() * times);
    if (!items.empty())
        for (size_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
    return rt.list(std::move(out), value.kind());
}

bool is_sequence(const Value& v) {
    return v.is_string() || v.is(Kind::list) || v.is(Kind::tuple);
}

Value add_strings(Runtime& rt, const Value& a, const Value& b) {
    Builder out(rt);
    const bool markup = a.is_markup() || b.is_markup();
    out.append(markup && !a.is_markup() ? escape(rt, a.text()) : a.text());
    out.append(markup && !b.is_markup() ? escape(rt, b.text()) : b.text());
    return out.value(markup);
}

}  // namespace

Value arithmetic(Runtime& rt, Op op, const Value& a, const Value& b) {
    if (a.is_number() && b.is_number()) {
        const bool trusted = a.number_trusted() && b.number_trusted();
        if (a.is_integral() && b.is_integral())
            return integer_arithmetic(rt, op, a.as_integer(), b.as_integer(), trusted);
        return real_arithmetic(rt, op, a.as_real(), b.as_real(), trusted);
    }
    if (op == Op::modulo && a.is_string()) return percent_format(rt, a, b);
    if (op == Op::add && a.is_string() && b.is_string()) return add_strings(rt, a, b);
    if (op == Op::add && a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple))) {
        const auto &x = a.as<List>().items, &y = b.as<List>().items;
        rt.reserve_values(x.size() + y.size());
        std::vector<Value> items;
        items.reserve(x.size() + y.size());
        items.insert(items.end(), x.begin(), x.end());
        items.insert(items.end(), y.begin(), y.end());
        return rt.list(std::move(items), a.kind());
    }
    if (op == Op::multiply && is_sequence(a) && b.is_integral()) return repeat(rt, a, b.as_integer());
    if (op == Op::multiply && is_sequence(b) && a.is_integral()) return repeat(rt, b, a.as_integer());
    unsupported(rt, op, a, b);
}

Value negate(Runtime& rt, const Value& value, bool minus) {
    if (value.is_undefined()) rt.fail_undefined(value);
    if (!value.is_number()) rt.fail("bad operand type for unary {}: '{}'", minus ? '-' : '+', type_name(value));
    if (value.is(Kind::real)) return Value::real(minus ? -value.as_real() : value.as_real(), value.number_trusted());
    Integer result = value.as_integer();
    if (minus && __builtin_sub_overflow(Integer{0}, result, &result)) overflow(rt);
    return Value::integer(result, value.number_trusted());
}

bool less(Runtime& rt, const Value& a, const Value& b) {
    return compare(rt, Comparison::lt, a, b);
}

bool contains(Runtime& rt, const Value& container, const Value& item) {
    switch (container.kind()) {
        case Kind::string:
            if (!item.is_string()) rt.fail("'in <string>' requires string as left operand, not {}", type_name(item));
            rt.charge_bytes(container.text().size());
            return find_in(container.text().view(), item.text().view(), 0) != std::string::npos;
        case Kind::dict: {
            size_t hash;
            if (!hash_of(item, hash)) rt.fail("unhashable type: '{}'", type_name(item));
            return container.as<Dict>().find(item) != nullptr;
        }
        default:
            break;
    }
    if (!is_iterable(container)) rt.fail("argument of type '{}' is not iterable", type_name(container));
    Cursor cursor(rt, container);
    for (Value other; cursor.next(other);) {
        rt.charge_walk(other);
        if (equal(other, item)) return true;
    }
    return false;
}

bool compare(Runtime& rt, Comparison comparison, const Value& a, const Value& b) {
    switch (comparison) {
        case Comparison::in:
            return contains(rt, b, a);
        case Comparison::not_in:
            return !contains(rt, b, a);
        case Comparison::eq:
        case Comparison::ne:
            rt.charge(std::min(a.weight(), b.weight()) / 8);
            return equal(a, b) == (comparison == Comparison::eq);
        default:
            break;
    }
    rt.check_stack();
    if (a.is_undefined()) rt.fail_undefined(a);
    if (b.is_undefined()) rt.fail_undefined(b);
    int order = 0;
    if (a.is_number() && b.is_number()) {
        bool ordered;
        order = compare_numbers(a, b, ordered);
        if (!ordered) return false;
    } else if (a.is_string() && b.is_string()) {
        rt.charge_bytes(std::min(a.text().size(), b.text().size()));
        order = a.bytes().compare(b.bytes());  // UTF-8 sorts as its code points do
    } else if (a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple))) {
        const auto &x = a.as<List>().items, &y = b.as<List>().items;
        for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
            rt.charge(1 + std::min(x[i].weight(), y[i].weight()) / 8);
            if (!equal(x[i], y[i])) return compare(rt, comparison, x[i], y[i]);
        }
        order = x.size() < y.size() ? -1 : x.size() > y.size();
    } else {
        rt.fail("expected values with an order, got '{}' and '{}'", type_name(a), type_name(b));
    }
    switch (comparison) {
        case Comparison::lt:
            return order < 0;
        case Comparison::le:
            return order <= 0;
        case Comparison::gt:
            return order > 0;
        default:
            return order >= 0;
    }
}

Value integer_of(Runtime& rt, const Value& value) {
    if (value.is_undefined()) rt.fail_undefined(value);
    if (!value.is_integral()) rt.fail("expected an integer, got '{}'", type_name(value));
    return Value::integer(value.as_integer(), value.number_trusted());
}

}  // namespace busbar::jinja
