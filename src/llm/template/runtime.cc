#include "llm/template/runtime.h"

#include <algorithm>
#include <limits>

#include "base/utf8.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

constexpr int max_nesting = 200;
constexpr uint64_t max_weight = uint64_t{1} << 26;
// A thread's stack is 8 MiB by default; the rest is for the caller and for the library functions below us.
constexpr ptrdiff_t max_stack = 3 << 20;

const char* stack_pointer() {
    return static_cast<const char*>(__builtin_frame_address(0));
}

}  // namespace

Runtime::Runtime(std::string address, const TemplateLimits& limits, int64_t clock)
    : clock(clock), limits_(limits), address_(std::move(address)), stack_base_(stack_pointer()) {
    memory_limit_ =
        limits.output_bytes > (size_t{1} << 60) ? size_t{1} << 62 : 4 * limits.output_bytes + (size_t{1} << 20);
}

void Runtime::fail_text(const std::string& message) const {
    throw Error(ErrorCode::bad_input, fmt::format("{}, line {}", address_, line), "[template] " + message);
}

void Runtime::fail_undefined(const Value& value) const {
    fail_text(value.object() ? value.as<Reason>().text : "value is undefined");
}

void Runtime::too_many_steps() const {
    fail("expected at most {} steps, and the template is not done", limits_.steps);
}

void Runtime::reserve(size_t bytes) const {
    if (bytes > limits_.output_bytes + (size_t{1} << 16)) {
        fail("expected values of at most {} bytes, got one of {}", limits_.output_bytes,
             bytes == size_t(-1) ? std::string("far more") : std::to_string(bytes));
    }
    if (budget_.used + bytes > memory_limit_) {
        fail("expected at most {} bytes of values at once, and the template asks for more", memory_limit_);
    }
}

Value Runtime::adopt(Kind kind, std::shared_ptr<Object> object, size_t bytes) {
    bytes += 64;
    reserve(bytes);
    object->budget = &budget_;
    object->counted = bytes;
    budget_.used += bytes;
    return Value(kind, std::move(object));
}

void Runtime::nest(Object& object, const Value& child) const {
    object.nesting = std::max(object.nesting, child.nesting() + 1);
    object.weight += child.weight();
    if (object.nesting > max_nesting) fail("expected values nested at most {} deep", max_nesting);
    if (object.weight > max_weight) fail("expected a value of at most {} parts", max_weight);
}

void Runtime::check_stack() const {
    if (std::abs(stack_base_ - stack_pointer()) > max_stack) fail("expected less nesting of calls and expressions");
}

Value Runtime::text(Text text, bool markup) {
    auto object = std::make_shared<String>();
    object->markup = markup;
    object->ascii = is_ascii(text.view());
    object->weight = 1 + text.size() / 64;
    charge_bytes(text.size());
    const size_t bytes = text.footprint() + sizeof(String);
    object->text = std::move(text);
    return adopt(Kind::string, std::move(object), bytes);
}

Value Runtime::list(std::vector<Value> items, Kind kind, std::string view_name) {
    auto object = std::make_shared<List>();
    for (const Value& item : items) nest(*object, item);
    object->name = std::move(view_name);
    const size_t bytes = sizeof(List) + items.capacity() * sizeof(Value);
    charge(items.size() / 8);
    object->items = std::move(items);
    return adopt(kind, std::move(object), bytes);
}

Value Runtime::dict(std::shared_ptr<Dict> entries) {
    for (const auto& [key, value] : entries->entries) {
        nest(*entries, key);
        nest(*entries, value);
    }
    const size_t bytes = sizeof(Dict) + entries->entries.size() * (2 * sizeof(Value) + 48);
    charge(entries->entries.size() / 4);
    return adopt(Kind::dict, std::move(entries), bytes);
}

Value Runtime::iterator(std::string name, std::function<bool(Value&)> next, const Value& source) {
    auto object = std::make_shared<Iterator>();
    object->name = std::move(name);
    object->next = std::move(next);
    nest(*object, source);
    return adopt(Kind::iterator, std::move(object), sizeof(Iterator) + 256);
}

Value Runtime::function(std::string name, std::function<Value(Runtime&, Arguments&)> call, const Value& self) {
    auto object = std::make_shared<Function>();
    object->repr = "<function " + name + ">";
    object->name = std::move(name);
    object->call = std::move(call);
    nest(*object, self);
    return adopt(Kind::function, std::move(object), sizeof(Function) + 128);
}

Value Runtime::undefined(std::string reason) {
    auto object = std::make_shared<Reason>();
    object->text = std::move(reason);
    const size_t bytes = sizeof(Reason) + object->text.capacity();
    return adopt(Kind::undefined, std::move(object), bytes);
}

Cursor::Cursor(Runtime& rt, const Value& iterable) : rt_(rt), iterable_(iterable) {
    if (!is_iterable(iterable)) rt.fail("'{}' object is not iterable", type_name(iterable));
}

bool Cursor::next(Value& item) {
    rt_.charge(1);
    switch (iterable_.kind()) {
        case Kind::list:
        case Kind::tuple:
        case Kind::view: {
            const auto& items = iterable_.as<List>().items;
            if (position_ >= items.size()) return false;
            item = items[position_++];
            return true;
        }
        case Kind::dict: {
            const auto& entries = iterable_.as<Dict>().entries;
            if (position_ >= entries.size()) return false;
            item = entries[position_++].first;
            return true;
        }
        case Kind::range: {
            const auto& range = iterable_.as<Range>();
            if (position_ >= static_cast<size_t>(range.count)) return false;
            item = Value::integer(range.start + Integer{range.step} * static_cast<Integer>(position_++));
            return true;
        }
        case Kind::string: {
            const Text& text = iterable_.text();
            if (position_ >= text.size()) return false;
            const size_t begin = position_;
            utf8_next(text.view(), position_);
            item = rt_.text(text.slice(begin, position_));  // plain, also of a Markup
            return true;
        }
        case Kind::iterator:
            return iterable_.as<Iterator>().next(item);
        default:
            return false;  // undefined: iterates over nothing
    }
}

bool is_iterable(const Value& value) {
    switch (value.kind()) {
        case Kind::undefined:
        case Kind::list:
        case Kind::tuple:
        case Kind::view:
        case Kind::dict:
        case Kind::range:
        case Kind::string:
        case Kind::iterator:
            return true;
        default:
            return false;
    }
}

bool has_length(const Value& value, size_t& length) {
    switch (value.kind()) {
        case Kind::undefined:
            length = 0;
            return true;
        case Kind::list:
        case Kind::tuple:
        case Kind::view:
            length = value.as<List>().items.size();
            return true;
        case Kind::dict:
            length = value.as<Dict>().entries.size();
            return true;
        case Kind::range:
            length = static_cast<size_t>(value.as<Range>().count);
            return true;
        case Kind::string:
            length = value.string().ascii ? value.text().size() : count_characters(value.text().view());
            return true;
        default:
            return false;
    }
}

std::vector<Value> items_of(Runtime& rt, const Value& iterable) {
    std::vector<Value> items;
    Cursor cursor(rt, iterable);
    for (Value item; cursor.next(item);) {
        items.push_back(std::move(item));
        if ((items.size() & 255) == 0) rt.reserve_values(items.size());
    }
    return items;
}

Bound::Bound(Runtime& rt, std::string_view function, Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t required, bool positional_only)
    : rt_(rt), function_(function), given_(names.size(), nullptr) {
    if (arguments.positional.size() > names.size()) {
        rt.fail("{}() takes at most {} arguments ({} given)", function, names.size(), arguments.positional.size());
    }
    for (size_t i = 0; i < arguments.positional.size(); ++i) given_[i] = &arguments.positional[i];
    for (const auto& [name, value] : arguments.named) {
        const auto found = std::find(names.begin(), names.end(), name);
        if (found == names.end() || positional_only) {
            rt.fail("{}() got an unexpected keyword argument {}", function, quote(name));
        }
        const Value*& slot = given_[found - names.begin()];
        if (slot) rt.fail("{}() got multiple values for argument {}", function, quote(name));
        slot = &value;
    }
    for (size_t i = 0; i < required; ++i) {
        if (!given_[i]) rt.fail("{}() missing required argument '{}'", function, *(names.begin() + i));
    }
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
    if (!has(i)) return otherwise;
    if (given_[i]->is_undefined()) rt_.fail_undefined(*given_[i]);
    if (!given_[i]->is_integral()) {
        rt_.fail("{}(): expected an integer, got {}", function_, type_name(*given_[i]));
    }
    return clamped(given_[i]->as_integer());
}

const Text& Bound::text(size_t i) const {
    if (given_[i]->is_undefined()) rt_.fail_undefined(*given_[i]);
    if (!given_[i]->is_string()) rt_.fail("{}(): expected a string, got {}", function_, type_name(*given_[i]));
    return given_[i]->text();
}

int64_t clamped(Integer value) {
    constexpr auto low = std::numeric_limits<int64_t>::min(), high = std::numeric_limits<int64_t>::max();
    return static_cast<int64_t>(std::clamp<Integer>(value, low, high));
}

}  // namespace busbar::jinja
