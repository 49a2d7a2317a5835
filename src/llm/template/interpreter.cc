#include "llm/template/interpreter.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "llm/template/library.h"

namespace busbar::jinja {

struct Interpreter::Call {
    explicit Call(Interpreter& i) : interpreter(i) {
        if (++interpreter.depth_ > interpreter.limits_.depth) {
            --interpreter.depth_;
            interpreter.fail("expected calls nested at most {} deep", interpreter.limits_.depth);
        }
    }
    ~Call() { --interpreter.depth_; }
    Interpreter& interpreter;
};

Value* Scope::own(Name name) {
    for (auto& [key, value] : variables)
        if (key == name) return &value;
    return nullptr;
}

void Scope::set(Name name, Value value) {
    if (Value* existing = own(name)) {
        *existing = std::move(value);
    } else {
        variables.emplace_back(name, std::move(value));
    }
}

Interpreter::Interpreter(const Ast& ast, std::string address, const TemplateLimits& limits, int64_t clock)
    : Runtime(std::move(address), limits, clock), ast_(ast) {}

Interpreter::~Interpreter() {
    // Namespaces and scopes can hold each other in circles; emptied one by one, they let go.
    for (auto& [object, clear] : remembered_) clear(*object);
}

void Interpreter::remember(std::shared_ptr<Object> object, void (*clear)(Object&)) {
    reserve(sizeof(remembered_[0]));
    budget_.used += sizeof(remembered_[0]);
    remembered_.emplace_back(std::move(object), clear);
}

Text Interpreter::render(const nlohmann::ordered_json& variables) {
    context_.resize(ast_.names.size());
    for (size_t i = 0; i < ast_.names.size(); ++i) {
        const auto found = variables.find(ast_.names[i]);
        if (found == variables.end()) continue;
        context_[i] = {true, from_json(*found, ast_.names[i].ends_with("_token"))};
    }
    Builder out(*this);
    out_ = &out;
    root_ = std::make_shared<Scope>();
    run(ast_.body, root_);
    out_ = nullptr;
    return out.take();
}

ScopePtr Interpreter::child(const ScopePtr& parent) {
    auto scope = std::make_shared<Scope>();
    scope->parent = parent;
    return scope;
}

Interpreter::Flow Interpreter::run(const Body& body, const ScopePtr& scope) {
    check_stack();
    for (const auto& stmt : body) {
        charge(1);
        line = stmt->line;
        const Flow flow = run(*stmt, scope);
        if (flow != Flow::on) return flow;
    }
    return Flow::on;
}

void Interpreter::print(const Value& value) {
    append_str(*out_, *this, value);
    if (out_->size() > limits_.output_bytes) fail("expected at most {} bytes of output", limits_.output_bytes);
}

Interpreter::Flow Interpreter::run(const Stmt& stmt, const ScopePtr& scope) {
    switch (stmt.kind) {
        case Do::data:
            print(stmt.data);
            return Flow::on;
        case Do::print:
            for (const ExprPtr& expr : stmt.exprs) print(eval(*expr, scope));
            return Flow::on;
        case Do::branch:
            return run_branch(stmt, scope);
        case Do::loop:
            return run_loop(stmt, scope);
        case Do::set:
            assign(stmt.targets[0], eval(*stmt.exprs[0], scope), scope);
            return Flow::on;
        case Do::set_block: {
            Value value;
            const Flow flow = run_filtered(stmt, scope, value);
            if (flow == Flow::on) assign(stmt.targets[0], value, scope);
            return flow;
        }
        case Do::filter_block: {
            Value value;
            const Flow flow = run_filtered(stmt, scope, value);
            if (flow == Flow::on) print(value);
            return flow;
        }
        case Do::macro:
            scope->set(stmt.name, macro(stmt.signature, stmt.bodies[0], scope));
            return Flow::on;
        case Do::call_block:
            run_call_block(stmt, scope);
            return Flow::on;
        case Do::with:
            return run_with(stmt, scope);
        case Do::scope:
            return run(stmt.bodies[0], child(scope));
        case Do::stop:
            return Flow::stop;
        case Do::skip:
            return Flow::skip;
    }
    return Flow::on;
}

Interpreter::Flow Interpreter::run_branch(const Stmt& stmt, const ScopePtr& scope) {
    for (size_t i = 0; i < stmt.exprs.size(); ++i) {
        if (truthy(eval(*stmt.exprs[i], scope))) return run(stmt.bodies[i], scope);
    }
    return stmt.bodies.size() > stmt.exprs.size() ? run(stmt.bodies.back(), scope) : Flow::on;
}

Interpreter::Flow Interpreter::run_loop(const Stmt& stmt, const ScopePtr& scope) {
    return run_items(stmt, eval(*stmt.exprs[0], scope), scope, 0);
}

Interpreter::Flow Interpreter::run_items(const Stmt& stmt, const Value& iterable, const ScopePtr& scope, int depth0) {
    auto loop = std::make_shared<Loop>();
    auto cursor = std::make_shared<Cursor>(*this, iterable);
    nest(*loop, iterable);
    loop->depth0 = depth0;
    if (stmt.recursive) {
        loop->recursive = &stmt;
        loop->scope = scope;
    }
    if (stmt.condition) {
        loop->source = [this, cursor, &stmt, scope](Value& item) {
            while (cursor->next(item)) {
                const ScopePtr inner = child(scope);
                assign(stmt.targets[0], item, inner);
                if (truthy(eval(*stmt.condition, inner))) return true;
            }
            return false;
        };
    } else {
        loop->source = [cursor](Value& item) { return cursor->next(item); };
    }
    const Value loop_value = adopt(Kind::loop, loop, sizeof(Loop) + 128);
    static const std::string loop_name = "loop";
    const auto found = std::find(ast_.names.begin(), ast_.names.end(), loop_name);
    bool finished = false;  // an iteration that ran to its end; Jinja2's `else` asks for this, not for items
    for (Value item; loop->advance(item);) {
        charge(1);
        const ScopePtr inner = child(scope);
        if (found != ast_.names.end()) inner->set(static_cast<Name>(found - ast_.names.begin()), loop_value);
        assign(stmt.targets[0], item, inner);
        const Flow flow = run(stmt.bodies[0], inner);
        if (flow == Flow::stop) break;
        finished |= flow == Flow::on;
    }
    if (!finished && stmt.bodies.size() > 1) return run(stmt.bodies[1], child(scope));
    return Flow::on;
}

Interpreter::Flow Interpreter::run_with(const Stmt& stmt, const ScopePtr& scope) {
    const ScopePtr inner = child(scope);
    for (size_t i = 0; i < stmt.targets.size(); ++i) assign(stmt.targets[i], eval(*stmt.exprs[i], scope), inner);
    return run(stmt.bodies[0], inner);
}

Interpreter::Flow Interpreter::run_filtered(const Stmt& stmt, const ScopePtr& scope, Value& result) {
    Builder buffer(*this);
    Builder* outer = std::exchange(out_, &buffer);
    const Flow flow = run(stmt.bodies[0], child(scope));
    out_ = outer;
    line = stmt.line;
    result = buffer.value();
    if (flow == Flow::on && stmt.filter) result = eval_filter(*stmt.filter, scope, &result);
    return flow;
}

void Interpreter::run_call_block(const Stmt& stmt, const ScopePtr& scope) {
    const Value caller = macro(stmt.signature, stmt.bodies[0], scope);
    print(eval_call(*stmt.exprs[0], scope, &caller));
}

void Interpreter::assign(const Target& target, const Value& value, const ScopePtr& scope) {
    if (target.is_tuple) {
        line = target.line;
        const std::vector<Value> items = items_of(*this, value);
        if (items.size() != target.parts.size()) {
            fail("expected {} values to unpack, got {}", target.parts.size(), items.size());
        }
        for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i], scope);
    } else if (!target.attribute.empty()) {
        line = target.line;
        Value space;
        for (ScopePtr s = scope; s && space.is_undefined(); s = s->parent)
            if (const Value* found = s->own(target.name)) space = *found;
        if (!space.is(Kind::space)) fail("cannot assign attribute on non-namespace object");
        auto& attributes = space.as<Space>();
        if (Value* existing = attributes.find(target.attribute)) {
            *existing = value;
        } else {
            reserve(sizeof(Value) + 64);
            attributes.attributes.emplace_back(target.attribute, value);
        }
    } else {
        scope->set(target.name, value);
    }
}

Value Interpreter::macro(const Signature& signature, const Body& body, const ScopePtr& scope) {
    auto macro = std::make_shared<Macro>();
    macro->signature = &signature;
    macro->body = &body;
    macro->scope = scope;
    // The scope holds the macro that holds the scope.
    if (last_captured_ != scope.get()) {
        remember(scope, [](Object& object) { static_cast<Scope&>(object).variables.clear(); });
        last_captured_ = scope.get();
    }
    const Macro* raw = macro.get();
    Value value =
        function(signature.name, [this, raw](Runtime&, Arguments& arguments) { return call_macro(*raw, arguments); });
    value.as<Function>().macro = macro;
    value.as<Function>().repr = fmt::format("<Macro '{}'>", signature.name);
    return value;
}

Value Interpreter::call_macro(const Macro& macro, Arguments& arguments) {
    const Signature& signature = *macro.signature;
    const Call depth(*this);
    const ScopePtr scope = child(macro.scope);
    const int called_from = line;
    auto& named = arguments.named;
    const auto take = [&](std::string_view name, Value& out) {
        const auto found = std::find_if(named.begin(), named.end(), [&](const auto& n) { return n.first == name; });
        if (found == named.end()) return false;
        out = std::move(found->second);
        named.erase(found);
        return true;
    };
    const auto names = [&](std::string_view text) {
        return static_cast<Name>(std::find(ast_.names.begin(), ast_.names.end(), text) - ast_.names.begin());
    };
    bool explicit_caller = false;
    size_t position = 0;
    for (const Parameter& parameter : signature.parameters) {
        Value value;
        explicit_caller |= parameter.text == "caller";
        if (position < arguments.positional.size()) {
            value = arguments.positional[position];
        } else if (!take(parameter.text, value)) {
            value = parameter.otherwise ? eval(*parameter.otherwise, scope)
                                        : undefined(fmt::format("parameter '{}' was not provided", parameter.text));
        }
        ++position;
        scope->set(parameter.name, std::move(value));
    }
    line = called_from;
    if (signature.uses_caller && !explicit_caller) {
        Value caller;
        if (!take("caller", caller) || caller.is(Kind::none)) caller = undefined("No caller defined");
        scope->set(names("caller"), std::move(caller));
    }
    if (signature.uses_kwargs) {
        auto dict = std::make_shared<Dict>();
        for (auto& [name, value] : named) dict->set(literal(name), std::move(value));
        scope->set(names("kwargs"), this->dict(std::move(dict)));
    } else if (!named.empty()) {
        fail("macro '{}' takes no keyword argument '{}'", signature.name, named[0].first);
    }
    if (signature.uses_varargs) {
        std::vector<Value> rest;
        for (size_t i = signature.parameters.size(); i < arguments.positional.size(); ++i)
            rest.push_back(arguments.positional[i]);
        scope->set(names("varargs"), tuple(std::move(rest)));
    } else if (arguments.positional.size() > signature.parameters.size()) {
        fail("macro '{}' takes not more than {} argument(s)", signature.name, signature.parameters.size());
    }
    Builder buffer(*this);
    Builder* outer = std::exchange(out_, &buffer);
    run(*macro.body, scope);
    out_ = outer;
    line = called_from;
    return buffer.value();
}

bool macro_attribute(Runtime& rt, const Value& function, const std::string& name, Value& out) {
    const auto& f = function.as<Function>();
    if (!f.macro) return false;
    const Signature& signature = *static_cast<const Macro&>(*f.macro).signature;
    if (name == "name") {
        out = rt.literal(signature.name);
    } else if (name == "arguments") {
        std::vector<Value> names;
        for (const Parameter& p : signature.parameters) names.push_back(rt.literal(p.text));
        out = rt.tuple(std::move(names));
    } else if (name == "catch_kwargs" || name == "catch_varargs" || name == "caller") {
        out = Value::boolean(name == "caller"         ? signature.uses_caller
                             : name == "catch_kwargs" ? signature.uses_kwargs
                                                      : signature.uses_varargs);
    } else {
        return false;
    }
    return true;
}

Value Interpreter::call(const Value& callee, Arguments& arguments) {
    check_stack();
    switch (callee.kind()) {
        case Kind::function: {
            const Value keep = callee;  // the body may assign over the variable that holds it
            return keep.as<Function>().call(*this, arguments);
        }
        case Kind::joiner: {
            auto& joiner = callee.as<Joiner>();
            return std::exchange(joiner.used, true) ? joiner.separator : literal("");
        }
        case Kind::loop: {
            const Value keep = callee;
            auto& loop = keep.as<Loop>();
            if (!loop.recursive) fail("the loop must have the 'recursive' marker to be called");
            const Bound bound(*this, "loop", arguments, {"iterable"}, 1);
            const Call depth(*this);
            Builder buffer(*this);
            Builder* outer = std::exchange(out_, &buffer);
            run_items(*loop.recursive, bound[0], loop.scope, loop.depth0 + 1);
            out_ = outer;
            return buffer.value();
        }
        case Kind::undefined:
            fail_undefined(callee);
        default:
            fail("'{}' object is not callable", type_name(callee));
    }
}

Value Interpreter::apply_filter(const std::string& name, const Value& value, Arguments& arguments) {
    const Filter filter = find_filter(name);
    if (!filter) fail("no filter named {}", quote(name, 40));
    check_stack();
    return filter(*this, value, arguments);
}

bool Interpreter::apply_test(const std::string& name, const Value& value, Arguments& arguments) {
    const Test test = find_test(name);
    if (!test) fail("no test named {}", quote(name, 40));
    return test(*this, value, arguments);
}

}  // namespace busbar::jinja
