#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "llm/template/value.h"

namespace busbar::jinja {

/// A variable's name as a number: scopes compare numbers.
using Name = int;

enum class Op : uint8_t {
    constant,
    name,
    list,
    tuple,
    dict,
    attribute,
    item,
    slice,
    call,
    filter,
    test,
    negate,
    plus,
    logical_not,
    logical_and,
    logical_or,
    conditional,
    concat,
    add,
    subtract,
    multiply,
    divide,
    floor_divide,
    modulo,
    power,
    compare,
};

enum class Comparison : uint8_t { eq, ne, lt, le, gt, ge, in, not_in };

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

/// One expression. `children`: the operands in order; a null child of `slice` and `conditional` is an absent part.
struct Expr {
    Op op;
    int line = 0;
    int height = 1;  ///< bounded by the parser, for the evaluator and the destructor recurse
    Name name = -1;
    std::string text;  ///< attribute, filter or test
    Value constant;
    std::vector<ExprPtr> children;
    std::vector<Comparison> comparisons;                 ///< of a compare: one for each child past the first
    std::vector<std::pair<std::string, ExprPtr>> named;  ///< of a call: name=value
    ExprPtr star, star_star;                             ///< of a call: *args and **kwargs
};

/// What `set`, `for` and `with` assign to: a name, ns.attribute, or a tuple of targets.
struct Target {
    int line = 0;
    Name name = -1;
    std::string attribute;  ///< not empty: the attribute of the namespace `name`
    bool is_tuple = false;
    std::vector<Target> parts;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

enum class Do : uint8_t {
    data,
    print,
    branch,
    loop,
    set,
    set_block,
    macro,
    call_block,
    filter_block,
    with,
    scope,
    stop,
    skip
};

struct Parameter {
    Name name;
    std::string text;
    ExprPtr otherwise;  ///< null: no default
};

/// A macro, or the body of a call block.
struct Signature {
    std::string name;
    std::vector<Parameter> parameters;
    bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

struct Stmt {
    Do kind;
    int line = 0;
    Value data;                  ///< data: the text
    std::vector<ExprPtr> exprs;  ///< print, branch (one condition for each body but the last `else`), set, with, call
    std::vector<Body> bodies;    ///< branch: one for each condition, then else if any; others: the body, loop: and else
    std::vector<Target> targets;
    ExprPtr condition;  ///< loop: its `if`
    bool recursive = false;
    ExprPtr filter;  ///< set_block, filter_block: filters over an empty innermost value
    Name name = -1;  ///< macro
    Signature signature;
};

struct Ast {
    Body body;
    std::vector<std::string> names;  ///< Name -> text
};

}  // namespace busbar::jinja
