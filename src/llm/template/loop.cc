#include "llm/template/loop.h"

#include "llm/template/library.h"

namespace busbar::jinja {

bool Loop::peek(Value& item) {
    if (ahead_position < ahead.size()) {
        item = ahead[ahead_position];
        return true;
    }
    if (exhausted) return false;
    Value next;
    if (!source(next)) {
        exhausted = true;
        return false;
    }
    ahead.assign(1, next);
    ahead_position = 0;
    item = std::move(next);
    return true;
}

bool Loop::advance(Value& item) {
    if (!peek(item)) return false;
    ahead[ahead_position++] = Value();
    ++index0;
    before = std::move(current);
    current = item;
    return true;
}

int64_t Loop::length(Runtime& rt) {
    std::vector<Value> rest(ahead.begin() + static_cast<ptrdiff_t>(ahead_position), ahead.end());
    for (Value item; !exhausted && source(item);) {
        rest.push_back(std::move(item));
        if ((rest.size() & 255) == 0) rt.reserve_values(rest.size());
    }
    exhausted = true;
    ahead = std::move(rest);
    ahead_position = 0;
    return index0 + 1 + static_cast<int64_t>(ahead.size());
}

bool loop_attribute(Runtime& rt, const Value& value, const std::string& name, Value& out) {
    auto& loop = value.as<Loop>();
    Value item;
    if (name == "index")
        out = Value::integer(loop.index0 + 1);
    else if (name == "index0")
        out = Value::integer(loop.index0);
    else if (name == "first")
        out = Value::boolean(loop.index0 == 0);
    else if (name == "last")
        out = Value::boolean(!loop.peek(item));
    else if (name == "length")
        out = Value::integer(loop.length(rt));
    else if (name == "revindex")
        out = Value::integer(loop.length(rt) - loop.index0);
    else if (name == "revindex0")
        out = Value::integer(loop.length(rt) - loop.index0 - 1);
    else if (name == "depth")
        out = Value::integer(loop.depth0 + 1);
    else if (name == "depth0")
        out = Value::integer(loop.depth0);
    else if (name == "previtem")
        out = loop.index0 > 0 && loop.before ? *loop.before : rt.undefined("there is no previous item");
    else if (name == "nextitem")
        out = loop.peek(item) ? item : rt.undefined("there is no next item");
    else if (name == "cycle") {
        out = rt.function(
            name,
            [value](Runtime& rt, Arguments& arguments) {
                if (arguments.positional.empty()) rt.fail("loop.cycle() has no items to cycle through");
                return arguments.positional[static_cast<size_t>(value.as<Loop>().index0) % arguments.positional.size()];
            },
            value);
    } else if (name == "changed") {
        out = rt.function(
            name,
            [value](Runtime& rt, Arguments& arguments) {
                auto& loop = value.as<Loop>();
                const auto& now = arguments.positional;
                bool same = loop.has_changed_value && now.size() == loop.changed_value.size();
                for (size_t i = 0; same && i < now.size(); ++i) {
                    rt.charge_walk(now[i]);
                    same = equal(now[i], loop.changed_value[i]);
                }
                if (!loop.has_changed_value) {
                    rt.remember(value.shared(),
                                [](Object& object) { static_cast<Loop&>(object).changed_value.clear(); });
                }
                loop.has_changed_value = true;
                loop.changed_value = now;
                return Value::boolean(!same);
            },
            value);
    } else {
        return false;
    }
    return true;
}

}  // namespace busbar::jinja
