#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llm/template/text.h"

namespace busbar::jinja {

/// Python's integers have no bound; ours end at 127 bits, past which arithmetic is an error.
using Integer = __int128;

enum class Kind : uint8_t {
    undefined,
    none,
    boolean,
    integer,
    real,
    string,
    list,
    tuple,
    dict,
    view,  ///< what dict.items(), keys() and values() give: can be counted and walked, not subscripted
    range,
    iterator,  ///< a generator: walked once
    space,     ///< namespace(...)
    loop,
    function,  ///< macro, global or bound method
    cycler,
    joiner,
};

/// Memory held by the values of one rendering. Every object counts itself in and out.
struct Budget {
    size_t used = 0;
};

class Runtime;
class Value;

struct Object {
    virtual ~Object() {
        if (budget) budget->used -= counted;
    }
    Budget* budget = nullptr;  ///< null for objects of the program and of the variables
    size_t counted = 0;
    /// Containers within containers; bounded, so that no walk and no destructor runs out of stack.
    int nesting = 0;
    /// Values that a walk of the whole meets, shared ones as often as they are met; bounded, because ten lists that
    /// each hold the one before twice are a walk of a thousand.
    uint64_t weight = 1;
};

struct String : Object {
    Text text;
    bool markup = false;  ///< the filter `safe` was here: + and % then escape what they add, as Python's Markup does
    bool ascii = false;
};

struct Arguments {
    std::vector<Value> positional;
    std::vector<std::pair<std::string, Value>> named;
};

class Value {
  public:
    Value() = default;
    explicit Value(Kind kind) : kind_(kind) {}
    static Value none() { return Value(Kind::none); }
    static Value boolean(bool b) {
        Value v(Kind::boolean);
        v.scalar_.integer = b;
        return v;
    }
    static Value integer(Integer i, bool trusted = true) {
        Value v(Kind::integer);
        v.scalar_.integer = i;
        v.trusted_ = trusted;
        return v;
    }
    static Value real(double d, bool trusted = true) {
        Value v(Kind::real);
        v.scalar_.real = d;
        v.trusted_ = trusted;
        return v;
    }
    Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), object_(std::move(object)) {}

    Kind kind() const { return kind_; }
    bool is(Kind kind) const { return kind_ == kind; }
    bool is_undefined() const { return kind_ == Kind::undefined; }
    bool is_string() const { return kind_ == Kind::string; }
    bool is_integral() const { return kind_ == Kind::integer || kind_ == Kind::boolean; }
    bool is_number() const { return is_integral() || kind_ == Kind::real; }

    bool as_bool() const { return scalar_.integer != 0; }
    Integer as_integer() const { return scalar_.integer; }  ///< of integers and booleans
    double as_real() const { return kind_ == Kind::real ? scalar_.real : static_cast<double>(scalar_.integer); }
    /// Of a number: whether it came from the template. Strings know it byte by byte.
    bool number_trusted() const { return trusted_; }
    void set_number_trusted(bool trusted) { trusted_ = trusted; }

    Object* object() const { return object_.get(); }
    const std::shared_ptr<Object>& shared() const { return object_; }
    template <typename T>
    T& as() const {
        return static_cast<T&>(*object_);
    }

    const String& string() const { return as<String>(); }
    const Text& text() const { return as<String>().text; }
    const std::string& bytes() const { return text().bytes(); }
    bool is_markup() const { return is_string() && string().markup; }
    int nesting() const { return object_ ? object_->nesting : 0; }
    uint64_t weight() const { return object_ ? object_->weight : 1; }

  private:
    Kind kind_ = Kind::undefined;
    bool trusted_ = true;
    union Scalar {
        Integer integer = 0;
        double real;
    } scalar_;
    std::shared_ptr<Object> object_;
};

/// What an undefined value says when it is used: "'x' is undefined".
struct Reason : Object {
    std::string text;
};

struct List : Object {  // of lists, tuples and views
    std::vector<Value> items;
    std::string name;  ///< of a view: dict_items, dict_keys, dict_values
};

/// A dictionary in order of insertion.
struct Dict : Object {
    std::vector<std::pair<Value, Value>> entries;

    /// Null if absent. The key must be hashable (hash_of says).
    const Value* find(const Value& key) const;
    const Value* find(std::string_view key) const;
    /// Inserts, or replaces the value and keeps the place.
    void set(Value key, Value value);

  private:
    size_t place(const Value& key, size_t hash) const;
    std::unordered_multimap<size_t, size_t> index_;  ///< hash -> entry, kept once there are more than a few
};

struct Range : Object {
    int64_t start = 0, stop = 0, step = 1, count = 0;
};

struct Iterator : Object {
    std::string name;
    std::function<bool(Value&)> next;
};

struct Space : Object {
    std::vector<std::pair<std::string, Value>> attributes;
    Value* find(std::string_view name);
};

struct Function : Object {
    std::string name;
    std::function<Value(Runtime&, Arguments&)> call;
    std::string repr;
    std::shared_ptr<Object> macro;  ///< of a macro: what `name`, `arguments` and the like read
};

struct Cycler : Object {
    std::vector<Value> items;
    size_t position = 0;
};

struct Joiner : Object {
    Value separator;
    bool used = false;
};

/// The name of the Python type, for messages.
std::string_view type_name(const Value& value);
bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
/// False if the value has no hash (a list, a dict).
bool hash_of(const Value& value, size_t& hash);
/// Compares two integers or reals exactly as numbers; `ordered` is false with a NaN.
int compare_numbers(const Value& a, const Value& b, bool& ordered);

}  // namespace busbar::jinja
