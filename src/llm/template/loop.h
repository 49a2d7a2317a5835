#pragma once
#include <optional>
#include <string>
#include <vector>

#include "llm/template/ast.h"
#include "llm/template/runtime.h"

namespace busbar::jinja {

struct Scope;

/// The variable `loop`: walks its items as they are asked for, one ahead when `last` or `nextitem` is read, to the end
/// when `length` is (so a loop's own `if` sees what the body has set so far, as in Jinja2).
struct Loop : Object {
    std::function<bool(Value&)> source;
    std::vector<Value> ahead;  ///< read but not yet current, in order
    size_t ahead_position = 0;
    bool exhausted = false;
    std::optional<Value> current, before;
    int64_t index0 = -1;
    int depth0 = 0;
    const Stmt* recursive = nullptr;  ///< of a loop marked recursive: itself and where it stands
    std::shared_ptr<Scope> scope;
    bool has_changed_value = false;
    std::vector<Value> changed_value;

    bool advance(Value& item);
    bool peek(Value& item);
    int64_t length(Runtime& rt);
};

bool loop_attribute(Runtime& rt, const Value& loop, const std::string& name, Value& out);

}  // namespace busbar::jinja
