#include <ctime>

#include "llm/template/library.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

constexpr int64_t max_range = 100'000;  // of Jinja2's sandbox

Value make_range(Runtime& rt, Arguments& arguments) {
    const Bound bound(rt, "range", arguments, {"start", "stop", "step"}, 1, true);
    auto range = std::make_shared<Range>();
    range->start = bound.has(1) ? bound.integer(0, 0) : 0;
    range->stop = bound.has(1) ? bound.integer(1, 0) : bound.integer(0, 0);
    range->step = bound.integer(2, 1);
    if (range->step == 0) rt.fail("range() arg 3 must not be zero");
    const Integer distance = Integer{range->stop} - range->start, step = range->step;
    Integer count = 0;
    if (step > 0 && distance > 0) count = (distance - 1) / step + 1;
    if (step < 0 && distance < 0) count = (-distance - 1) / -step + 1;
    if (count > max_range) rt.fail("expected a range of at most {} numbers, got {}", max_range, decimal(count));
    range->count = static_cast<int64_t>(count);
    return rt.adopt(Kind::range, std::move(range), sizeof(Range));
}

// dict(...) and namespace(...): a mapping or pairs, then names.
std::vector<std::pair<Value, Value>> pairs_of(Runtime& rt, std::string_view function, Arguments& arguments) {
    std::vector<std::pair<Value, Value>> pairs;
    if (arguments.positional.size() > 1)
        rt.fail("{} expected at most 1 argument, got {}", function, arguments.positional.size());
    if (arguments.positional.size() == 1) {
        const Value& source = arguments.positional[0];
        if (source.is(Kind::dict)) {
            pairs = source.as<Dict>().entries;
        } else {
            for (const Value& pair : items_of(rt, source)) {
                std::vector<Value> two = items_of(rt, pair);
                if (two.size() != 2) rt.fail("{}: expected pairs, got a sequence of {}", function, two.size());
                pairs.emplace_back(std::move(two[0]), std::move(two[1]));
            }
        }
    }
    for (auto& [name, value] : arguments.named) pairs.emplace_back(rt.literal(name), value);
    return pairs;
}

Value make_dict(Runtime& rt, Arguments& arguments) {
    auto dict = std::make_shared<Dict>();
    for (auto& [key, value] : pairs_of(rt, "dict", arguments)) {
        size_t hash;
        if (!hash_of(key, hash)) rt.fail("unhashable type: '{}'", type_name(key));
        dict->set(std::move(key), std::move(value));
    }
    return rt.dict(std::move(dict));
}

Value make_namespace(Runtime& rt, Arguments& arguments) {
    auto space = std::make_shared<Space>();
    for (auto& [key, value] : pairs_of(rt, "namespace", arguments)) {
        if (!key.is_string()) rt.fail("expected names for the attributes of a namespace, got {}", type_name(key));
        if (Value* existing = space->find(key.bytes()))
            *existing = std::move(value);
        else
            space->attributes.emplace_back(key.bytes(), std::move(value));
    }
    rt.remember(space, [](Object& object) { static_cast<Space&>(object).attributes.clear(); });
    return rt.adopt(Kind::space, std::move(space), sizeof(Space) + 256);
}

Value make_cycler(Runtime& rt, Arguments& arguments) {
    if (arguments.positional.empty() || !arguments.named.empty())
        rt.fail("cycler: expected at least one item and no named ones");
    auto cycler = std::make_shared<Cycler>();
    for (const Value& item : arguments.positional) rt.nest(*cycler, item);
    cycler->items = arguments.positional;
    return rt.adopt(Kind::cycler, std::move(cycler), sizeof(Cycler) + arguments.positional.size() * sizeof(Value));
}

Value make_joiner(Runtime& rt, Arguments& arguments) {
    const Bound bound(rt, "joiner", arguments, {"sep"});
    auto joiner = std::make_shared<Joiner>();
    joiner->separator = bound.has(0) ? bound[0] : rt.literal(", ");
    rt.nest(*joiner, joiner->separator);
    return rt.adopt(Kind::joiner, std::move(joiner), sizeof(Joiner));
}

Value raise_exception(Runtime& rt, Arguments& arguments) {
    const Bound bound(rt, "raise_exception", arguments, {"message"}, 1);
    rt.fail("the template refuses: {}", str_of(rt, bound[0]).bytes());
}

// The C locale's strftime, which is what Python's is here. An empty result of it is no error.
Value strftime_now(Runtime& rt, Arguments& arguments) {
    const Bound bound(rt, "strftime_now", arguments, {"format"}, 1);
    const Text& format = bound.text(0);
    const time_t now = rt.clock >= 0 ? static_cast<time_t>(rt.clock) : std::time(nullptr);
    std::tm local{};
    if (rt.clock >= 0)
        gmtime_r(&now, &local);
    else
        localtime_r(&now, &local);
    std::string out;
    // One conversion at a time: each is short, so no width in the format can ask for memory.
    for (size_t i = 0; i < format.size(); ++i) {
        const char c = format.bytes()[i];
        if (c != '%' || i + 1 >= format.size()) {
            out += c;
            continue;
        }
        std::string one = "%";
        char last = format.bytes()[++i];
        one += last;
        if (last == '-' && i + 1 < format.size()) one += last = format.bytes()[++i];
        if (last == 'f') {
            out += "000000";
            continue;
        }
        if (last == 'z' || last == 'Z') continue;  // Python's datetime.now() has no zone
        char buffer[128];
        const size_t length = is_alpha(static_cast<unsigned char>(last)) || last == '%'
                                  ? std::strftime(buffer, sizeof buffer, one.c_str(), &local)
                                  : 0;
        if (length > 0)
            out.append(buffer, length);
        else if (last != 'p' && last != 'P')
            out += one;
        rt.reserve(out.size());
    }
    return rt.text(Text(std::move(out), format.all_trusted()));
}

}  // namespace

Value global(Runtime& rt, const std::string& name, bool& found) {
    using Call = Value (*)(Runtime&, Arguments&);
    static constexpr std::pair<std::string_view, Call> globals[] = {
        {"range", make_range},          {"dict", make_dict},     {"namespace", make_namespace},
        {"cycler", make_cycler},        {"joiner", make_joiner}, {"raise_exception", raise_exception},
        {"strftime_now", strftime_now},
    };
    for (const auto& [key, call] : globals) {
        if (key != name) continue;
        found = true;
        return rt.function(name, call);
    }
    found = false;
    return {};
}

}  // namespace busbar::jinja
