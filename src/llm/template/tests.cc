#include <algorithm>

#include "base/utf8.h"
#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

void none_of(Runtime& rt, Arguments& arguments) {
    const Bound bound(rt, "test", arguments, {});
}

template <bool (*predicate)(const Value&)>
bool plain(Runtime& rt, const Value& value, Arguments& arguments) {
    none_of(rt, arguments);
    return predicate(value);
}

template <Comparison comparison>
bool compared(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "test", arguments, {"other"}, 1, true);
    return compare(rt, comparison, value, bound[0]);
}

bool is_defined(const Value& v) {
    return !v.is_undefined();
}
bool is_undefined(const Value& v) {
    return v.is_undefined();
}
bool is_none(const Value& v) {
    return v.is(Kind::none);
}
bool is_string(const Value& v) {
    return v.is_string();
}
bool is_mapping(const Value& v) {
    return v.is(Kind::dict);
}
bool is_number(const Value& v) {
    return v.is_number();
}
bool is_integer(const Value& v) {
    return v.is(Kind::integer);
}
bool is_float(const Value& v) {
    return v.is(Kind::real);
}
bool is_boolean(const Value& v) {
    return v.is(Kind::boolean);
}
bool is_true(const Value& v) {
    return v.is(Kind::boolean) && v.as_bool();
}
bool is_false(const Value& v) {
    return v.is(Kind::boolean) && !v.as_bool();
}
bool is_escaped(const Value& v) {
    return v.is_markup();
}
bool iterable(const Value& v) {
    return is_iterable(v) || v.is(Kind::loop);
}

bool is_sequence(const Value& v) {
    switch (v.kind()) {
        case Kind::undefined:
        case Kind::string:
        case Kind::list:
        case Kind::tuple:
        case Kind::dict:
        case Kind::range:
            return true;
        default:
            return false;
    }
}

bool is_callable(const Value& v) {
    return v.is_undefined() || v.is(Kind::function) || v.is(Kind::joiner) || v.is(Kind::loop);
}

bool parity(Runtime& rt, const Value& value, Arguments& arguments, Integer wanted) {
    none_of(rt, arguments);
    const Value rest = arithmetic(rt, Op::modulo, value, Value::integer(2));
    return equal(rest, Value::integer(wanted));
}

bool odd(Runtime& rt, const Value& value, Arguments& arguments) {
    return parity(rt, value, arguments, 1);
}
bool even(Runtime& rt, const Value& value, Arguments& arguments) {
    return parity(rt, value, arguments, 0);
}

bool divisible_by(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "divisibleby", arguments, {"num"}, 1);
    return equal(arithmetic(rt, Op::modulo, value, bound[0]), Value::integer(0));
}

bool same_as(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "sameas", arguments, {"other"}, 1);
    const Value& other = bound[0];
    if (value.kind() != other.kind()) return false;
    if (value.object() || other.object()) {
        // Python shares equal short strings more often than not; two of one text are the same here.
        return value.object() == other.object() || (value.is_string() && equal(value, other));
    }
    return equal(value, other);
}

bool is_in(Runtime& rt, const Value& value, Arguments& arguments) {
    const Bound bound(rt, "in", arguments, {"seq"}, 1);
    return contains(rt, bound[0], value);
}

template <bool lower>
bool cased(Runtime& rt, const Value& value, Arguments& arguments) {
    none_of(rt, arguments);
    const Text text = str_of(rt, value);
    bool any = false;
    for (size_t p = 0; p < text.size();) {
        const uint32_t c = utf8_next(text.view(), p);
        if (is_title(c) || (lower ? is_upper(c) : is_lower(c))) return false;
        any |= lower ? is_lower(c) : is_upper(c);
    }
    return any;
}

bool is_filter(Runtime& rt, const Value& value, Arguments& arguments) {
    none_of(rt, arguments);
    return value.is_string() && find_filter(value.bytes()) != nullptr;
}

bool is_test(Runtime& rt, const Value& value, Arguments& arguments) {
    none_of(rt, arguments);
    return value.is_string() && find_test(value.bytes()) != nullptr;
}

constexpr std::pair<std::string_view, Test> tests[] = {
    {"defined", plain<is_defined>},
    {"undefined", plain<is_undefined>},
    {"none", plain<is_none>},
    {"string", plain<is_string>},
    {"mapping", plain<is_mapping>},
    {"sequence", plain<is_sequence>},
    {"iterable", plain<iterable>},
    {"number", plain<is_number>},
    {"integer", plain<is_integer>},
    {"float", plain<is_float>},
    {"boolean", plain<is_boolean>},
    {"true", plain<is_true>},
    {"false", plain<is_false>},
    {"callable", plain<is_callable>},
    {"escaped", plain<is_escaped>},
    {"in", is_in},
    {"eq", compared<Comparison::eq>},
    {"equalto", compared<Comparison::eq>},
    {"==", compared<Comparison::eq>},
    {"ne", compared<Comparison::ne>},
    {"!=", compared<Comparison::ne>},
    {"gt", compared<Comparison::gt>},
    {"greaterthan", compared<Comparison::gt>},
    {">", compared<Comparison::gt>},
    {"ge", compared<Comparison::ge>},
    {">=", compared<Comparison::ge>},
    {"lt", compared<Comparison::lt>},
    {"lessthan", compared<Comparison::lt>},
    {"<", compared<Comparison::lt>},
    {"le", compared<Comparison::le>},
    {"<=", compared<Comparison::le>},
    {"sameas", same_as},
    {"odd", odd},
    {"even", even},
    {"divisibleby", divisible_by},
    {"lower", cased<true>},
    {"upper", cased<false>},
    {"filter", is_filter},
    {"test", is_test},
};

}  // namespace

Test find_test(std::string_view name) {
    const auto found = std::find_if(std::begin(tests), std::end(tests), [&](const auto& t) { return t.first == name; });
    return found == std::end(tests) ? nullptr : found->second;
}

}  // namespace busbar::jinja
