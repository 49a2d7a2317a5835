#pragma once
#include <fmt/core.h>

#include <string>

#include "base/error.h"
#include "llm/template/value.h"

namespace busbar::jinja {

/// What every operation of a rendering needs: where it is (for messages), what it has used up, and how it makes values.
class Runtime {
  public:
    Runtime(std::string address, const TemplateLimits& limits, int64_t clock);
    virtual ~Runtime() = default;

    template <typename... Args>
    [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
        fail_text(fmt::format(format, std::forward<Args>(args)...));
    }
    [[noreturn]] void fail_text(const std::string& message) const;
    [[noreturn]] void fail_undefined(const Value& value) const;

    /// Counts work: one step for each statement and expression, and one for each 32 bytes or 8 values that an operation
    /// walks.
    void charge(uint64_t steps) {
        steps_ += steps;
        if (steps_ > limits_.steps) too_many_steps();
    }
    void charge_bytes(size_t bytes) { charge(bytes / 32); }
    void charge_walk(const Value& value) { charge(value.weight() / 8); }
    /// Refuses what would be made of `bytes`, before it is made.
    void reserve(size_t bytes) const;
    void reserve_values(size_t count) const { reserve(count < (size_t{1} << 48) ? count * sizeof(Value) : size_t(-1)); }

    Value text(Text text, bool markup = false);
    Value literal(std::string text) { return this->text(Text(std::move(text), true)); }
    Value list(std::vector<Value> items, Kind kind = Kind::list, std::string view_name = {});
    Value tuple(std::vector<Value> items) { return list(std::move(items), Kind::tuple); }
    /// `entries` is complete: dictionaries do not change after this.
    Value dict(std::shared_ptr<Dict> entries);
    Value iterator(std::string name, std::function<bool(Value&)> next, const Value& source);
    Value function(std::string name, std::function<Value(Runtime&, Arguments&)> call, const Value& self = {});
    Value undefined(std::string reason);
    /// Counts an object in; every object of a rendering passes here once, complete.
    Value adopt(Kind kind, std::shared_ptr<Object> object, size_t bytes);
    void nest(Object& object, const Value& child) const;

    /// Guards every recursion of the evaluator by the stack it really uses.
    void check_stack() const;

    // What the interpreter knows and the library of filters asks for.
    virtual Value call(const Value& callee, Arguments& arguments) = 0;
    virtual Value apply_filter(const std::string& name, const Value& value, Arguments& arguments) = 0;
    virtual bool apply_test(const std::string& name, const Value& value, Arguments& arguments) = 0;
    /// Keeps an object that can come to hold itself until the rendering ends, and empties it then.
    virtual void remember(std::shared_ptr<Object> object, void (*clear)(Object&)) = 0;

    int line = 1;
    int64_t clock;

  protected:
    Budget budget_;
    TemplateLimits limits_;
    int depth_ = 0;

  private:
    [[noreturn]] void too_many_steps() const;

    std::string address_;
    uint64_t steps_ = 0;
    size_t memory_limit_;
    const char* stack_base_;
};

/// Collects text within the limits.
class Builder {
  public:
    explicit Builder(Runtime& rt) : rt_(rt) {}
    void append(std::string_view bytes, bool trusted) {
        grow(bytes.size());
        text_.append(bytes, trusted);
    }
    void append(const Text& other) { append(other, 0, other.size()); }
    void append(const Text& other, size_t begin, size_t end) {
        grow(end - begin);
        text_.append(other, begin, end);
    }
    void repeat(std::string_view bytes, size_t count, bool trusted) {
        if (bytes.empty() || count == 0) return;
        rt_.reserve(count > (size_t{1} << 40) / bytes.size() ? size_t(-1) : text_.size() + count * bytes.size());
        for (size_t i = 0; i < count; ++i) append(bytes, trusted);
    }
    size_t size() const { return text_.size(); }
    const Text& text() const { return text_; }
    Text take() { return std::move(text_); }
    Value value(bool markup = false) { return rt_.text(std::move(text_), markup); }

  private:
    void grow(size_t bytes) {
        pending_ += bytes + 8;
        if (pending_ >= 4096) {
            rt_.charge_bytes(pending_);
            rt_.reserve(text_.size() + pending_ + text_.run_count() * 16);
            pending_ = 0;
        }
    }
    Runtime& rt_;
    Text text_;
    size_t pending_ = 0;
};

/// Walks anything Python can iterate over; fails on the rest. Keeps what it walks alive.
class Cursor {
  public:
    Cursor(Runtime& rt, const Value& iterable);
    bool next(Value& item);

  private:
    Runtime& rt_;
    Value iterable_;
    size_t position_ = 0;
};

bool is_iterable(const Value& value);
/// len(value), or false.
bool has_length(const Value& value, size_t& length);
/// All items of an iterable, counted against the memory limit.
std::vector<Value> items_of(Runtime& rt, const Value& iterable);

/// The arguments of a call bound to names, as a Python signature does.
class Bound {
  public:
    /// `names`: each parameter in order; the first `required` must be given. Fails on too many, unknown or double ones.
    Bound(Runtime& rt, std::string_view function, Arguments& arguments, std::initializer_list<std::string_view> names,
          size_t required = 0, bool positional_only = false);
    bool has(size_t i) const { return given_[i] != nullptr; }
    const Value& operator[](size_t i) const { return *given_[i]; }
    bool flag(size_t i, bool otherwise) const { return has(i) ? truthy(*given_[i]) : otherwise; }
    /// An index-like argument, cut to 64 bits; fails on other types.
    int64_t integer(size_t i, int64_t otherwise) const;
    const Text& text(size_t i) const;
    bool is_none(size_t i) const { return !has(i) || given_[i]->is(Kind::none); }

  private:
    Runtime& rt_;
    std::string_view function_;
    std::vector<const Value*> given_;
};

/// An integer cut to the range of int64 (where Python would clamp an index or raise OverflowError).
int64_t clamped(Integer value);

}  // namespace busbar::jinja
