#include <algorithm>

#include "base/utf8.h"
#include "llm/template/interpreter.h"
#include "llm/template/library.h"
#include "llm/template/loop.h"

namespace busbar::jinja {

namespace {

std::string missing_message(Runtime& rt, const Value& object, const Value& key) {
    const std::string_view type = type_name(object);
    if (key.is_string()) {
        return fmt::format("'{}{}' has no attribute {}", type, object.is(Kind::none) ? "" : " object",
                           quote(key.bytes()));
    }
    return fmt::format("{} object has no element {}", type, quote(str_of(rt, key).bytes()));
}

Value text_key(Runtime& rt, const std::string& name) {
    return rt.text(Text(name, true));
}

// obj[key] where Python's subscript would succeed.
bool subscript(Runtime& rt, const Value& object, const Value& key, Value& out) {
    switch (object.kind()) {
        case Kind::dict:
            if (const Value* found = object.as<Dict>().find(key)) {
                out = *found;
                return true;
            }
            return false;
        case Kind::list:
        case Kind::tuple:
        case Kind::range:
        case Kind::string: {
            if (!key.is_integral()) return false;
            size_t length = 0;
            has_length(object, length);
            Integer index = key.as_integer();
            if (index < 0) index += static_cast<Integer>(length);
            if (index < 0 || index >= static_cast<Integer>(length)) return false;
            const auto i = static_cast<size_t>(index);
            if (object.is(Kind::range)) {
                out = Value::integer(object.as<Range>().start + Integer{object.as<Range>().step} * index);
            } else if (object.is_string()) {
                rt.charge_bytes(object.string().ascii ? 0 : object.text().size());
                const size_t begin = offset_of(object.string(), i);
                size_t end = begin;
                utf8_next(object.text().view(), end);
                out = rt.text(object.text().slice(begin, end), object.is_markup());
            } else {
                out = object.as<List>().items[i];
            }
            return true;
        }
        default:
            return false;
    }
}

bool number_attribute(const Value& object, const std::string& name, Value& out) {
    if (name == "real" || name == "numerator") {
        if (name == "numerator" && object.is(Kind::real)) return false;
        out = object.is(Kind::boolean) ? Value::integer(object.as_integer()) : object;
        return true;
    }
    if (name == "imag") {
        out = object.is(Kind::real) ? Value::real(0) : Value::integer(0);
        return true;
    }
    if (name == "denominator" && object.is_integral()) {
        out = Value::integer(1);
        return true;
    }
    return false;
}

// getattr(obj, name) where Python would find one: fields of the template's own objects, then methods.
bool member(Runtime& rt, const Value& object, const std::string& name, Value& out) {
    switch (object.kind()) {
        case Kind::space:
            if (const Value* found = object.as<Space>().find(name)) {
                out = *found;
                return true;
            }
            return false;
        case Kind::loop:
            return loop_attribute(rt, object, name, out);
        case Kind::cycler:
            if (name == "current") {
                auto& cycler = object.as<Cycler>();
                out = cycler.items[cycler.position];
                return true;
            }
            break;
        case Kind::range: {
            const auto& range = object.as<Range>();
            if (name == "start" || name == "stop" || name == "step") {
                out = Value::integer(name == "start" ? range.start : name == "stop" ? range.stop : range.step);
                return true;
            }
            break;
        }
        case Kind::tuple:
            if (object.as<List>().name == "group" && (name == "grouper" || name == "list")) {
                out = object.as<List>().items[name == "list"];
                return true;
            }
            break;
        case Kind::boolean:
        case Kind::integer:
        case Kind::real:
            if (number_attribute(object, name, out)) return true;
            break;
        case Kind::function:
            return macro_attribute(rt, object, name, out);
        default:
            break;
    }
    bool blocked = false;
    if (!find_method(rt, object, name, out, blocked)) return false;
    if (blocked) {
        out = rt.undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe", name, type_name(object)));
    }
    return true;
}

bool is_dunder(const std::string& name) {
    return name.size() > 4 && name.starts_with("__") && name.ends_with("__");
}

Value unsafe(Runtime& rt, const Value& object, const std::string& name) {
    return rt.undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe", name, type_name(object)));
}

}  // namespace

size_t offset_of(const String& string, size_t index) {
    if (string.ascii) return std::min(index, string.text.size());
    size_t p = 0;
    for (; index > 0 && p < string.text.size(); --index) utf8_next(string.text.view(), p);
    return p;
}

Value attribute(Runtime& rt, const Value& object, const std::string& name) {
    if (object.is_undefined()) rt.fail_undefined(object);
    if (is_dunder(name)) return unsafe(rt, object, name);
    Value out;
    if (member(rt, object, name, out)) return out;
    if (object.is(Kind::dict)) {
        if (const Value* found = object.as<Dict>().find(name)) return *found;
    }
    return rt.undefined(missing_message(rt, object, text_key(rt, name)));
}

Value item(Runtime& rt, const Value& object, const Value& key) {
    if (object.is_undefined()) rt.fail_undefined(object);
    Value out;
    if (subscript(rt, object, key, out)) return out;
    if (key.is_string()) {
        if (is_dunder(key.bytes())) return unsafe(rt, object, key.bytes());
        if (member(rt, object, key.bytes(), out)) return out;
    }
    return rt.undefined(missing_message(rt, object, key));
}

Value slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step) {
    if (object.is_undefined()) rt.fail_undefined(object);
    size_t size = 0;
    if (!(object.is_string() || object.is(Kind::list) || object.is(Kind::tuple) || object.is(Kind::range)) ||
        !has_length(object, size)) {
        rt.fail("'{}' object cannot be sliced", type_name(object));
    }
    const auto bound = [&](const Value& v) { return v.is(Kind::none) ? Integer{0} : integer_of(rt, v).as_integer(); };
    const auto length = static_cast<Integer>(size);
    const Integer by = step.is(Kind::none) ? 1 : bound(step);
    if (by == 0) rt.fail("slice step cannot be zero");
    // Python's rule: negative counts from the end, then both bounds are cut to what a walk in this direction can meet.
    const auto cut = [&](const Value& v, Integer otherwise) {
        if (v.is(Kind::none)) return otherwise;
        Integer i = bound(v);
        if (i < 0) i += length;
        return std::clamp<Integer>(i, by > 0 ? 0 : -1, by > 0 ? length : length - 1);
    };
    const Integer first = cut(start, by > 0 ? 0 : length - 1), end = cut(stop, by > 0 ? length : -1);
    Integer count = 0;
    if (by > 0 && first < end) count = (end - first - 1) / by + 1;
    if (by < 0 && first > end) count = (first - end - 1) / -by + 1;
    if (object.is(Kind::range)) {
        const auto& range = object.as<Range>();
        auto out = std::make_shared<Range>();
        out->start = clamped(range.start + Integer{range.step} * first);
        out->step = clamped(range.step * by);
        out->stop = clamped(range.start + Integer{range.step} * end);
        out->count = static_cast<int64_t>(count);
        return rt.adopt(Kind::range, std::move(out), sizeof(Range));
    }
    if (!object.is_string()) {
        std::vector<Value> items;
        items.reserve(static_cast<size_t>(count));
        for (Integer n = 0; n < count; ++n)
            items.push_back(object.as<List>().items[static_cast<size_t>(first + n * by)]);
        return rt.list(std::move(items), object.kind());
    }
    const String& string = object.string();
    rt.charge_bytes(string.text.size());
    if (by == 1) {
        const size_t from = offset_of(string, static_cast<size_t>(first));
        const size_t to = count == 0 ? from : offset_of(string, static_cast<size_t>(end));
        return rt.text(string.text.slice(from, to), string.markup);
    }
    std::vector<uint32_t> offsets;  // of each character, and the end
    rt.reserve(size * sizeof(uint32_t));
    if (string.text.size() > UINT32_MAX) rt.reserve(size_t(-1));
    for (size_t p = 0; p < string.text.size();) {
        offsets.push_back(static_cast<uint32_t>(p));
        utf8_next(string.text.view(), p);
    }
    offsets.push_back(static_cast<uint32_t>(string.text.size()));
    Builder out(rt);
    for (Integer n = 0; n < count; ++n) {
        const auto i = static_cast<size_t>(first + n * by);
        out.append(string.text, offsets[i], offsets[i + 1]);
    }
    return out.value(string.markup);
}

}  // namespace busbar::jinja
