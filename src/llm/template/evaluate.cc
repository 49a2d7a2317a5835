#include "llm/template/interpreter.h"
#include "llm/template/library.h"

namespace busbar::jinja {

Value Interpreter::eval(const Expr& expr, const ScopePtr& scope) {
    charge(1);
    check_stack();
    line = expr.line;
    switch (expr.op) {
        case Op::constant:
            return expr.constant;
        case Op::name:
            return eval_name(expr, scope);
        case Op::list:
        case Op::tuple:
            return eval_items(expr, scope);
        case Op::dict:
            return eval_dict(expr, scope);
        case Op::attribute: {
            const Value object = eval(*expr.children[0], scope);
            line = expr.line;
            return attribute(*this, object, expr.text);
        }
        case Op::item: {
            const Value object = eval(*expr.children[0], scope), key = eval(*expr.children[1], scope);
            line = expr.line;
            return item(*this, object, key);
        }
        case Op::slice: {
            Value parts[4];
            for (size_t i = 0; i < 4; ++i) parts[i] = expr.children[i] ? eval(*expr.children[i], scope) : Value::none();
            line = expr.line;
            return slice(*this, parts[0], parts[1], parts[2], parts[3]);
        }
        case Op::call:
            return eval_call(expr, scope, nullptr);
        case Op::filter:
            return eval_filter(expr, scope, nullptr);
        case Op::test:
            return eval_test(expr, scope);
        case Op::negate:
        case Op::plus: {
            const Value value = eval(*expr.children[0], scope);
            line = expr.line;
            return negate(*this, value, expr.op == Op::negate);
        }
        case Op::logical_not:
            return Value::boolean(!truthy(eval(*expr.children[0], scope)));
        case Op::logical_and:
        case Op::logical_or: {
            Value left = eval(*expr.children[0], scope);
            return truthy(left) == (expr.op == Op::logical_or) ? left : eval(*expr.children[1], scope);
        }
        case Op::conditional:
            return eval_conditional(expr, scope);
        case Op::concat:
            return eval_concat(expr, scope);
        case Op::compare:
            return eval_compare(expr, scope);
        default: {
            const Value a = eval(*expr.children[0], scope), b = eval(*expr.children[1], scope);
            line = expr.line;
            return arithmetic(*this, expr.op, a, b);
        }
    }
}

Value Interpreter::eval_name(const Expr& expr, const ScopePtr& scope) {
    for (const Scope* s = scope.get(); s; s = s->parent.get()) {
        if (const Value* found = const_cast<Scope*>(s)->own(expr.name)) return *found;
    }
    const auto& [given, value] = context_[static_cast<size_t>(expr.name)];
    if (given) return value;
    const std::string& name = ast_.names[static_cast<size_t>(expr.name)];
    bool found = false;
    Value out = global(*this, name, found);
    return found ? out : undefined(fmt::format("{} is undefined", quote(name)));
}

Value Interpreter::eval_compare(const Expr& expr, const ScopePtr& scope) {
    Value left = eval(*expr.children[0], scope);
    for (size_t i = 0; i < expr.comparisons.size(); ++i) {
        Value right = eval(*expr.children[i + 1], scope);
        line = expr.line;
        if (!compare(*this, expr.comparisons[i], left, right)) return Value::boolean(false);
        left = std::move(right);
    }
    return Value::boolean(true);
}

Value Interpreter::eval_conditional(const Expr& expr, const ScopePtr& scope) {
    if (truthy(eval(*expr.children[0], scope))) return eval(*expr.children[1], scope);
    if (expr.children[2]) return eval(*expr.children[2], scope);
    return undefined("the inline if-expression evaluated to false and no else section was defined");
}

Value Interpreter::eval_concat(const Expr& expr, const ScopePtr& scope) {
    Builder out(*this);
    for (const ExprPtr& part : expr.children) append_str(out, *this, eval(*part, scope));
    return out.value();
}

Value Interpreter::eval_items(const Expr& expr, const ScopePtr& scope) {
    std::vector<Value> items;
    items.reserve(expr.children.size());
    for (const ExprPtr& child : expr.children) items.push_back(eval(*child, scope));
    return list(std::move(items), expr.op == Op::list ? Kind::list : Kind::tuple);
}

Value Interpreter::eval_dict(const Expr& expr, const ScopePtr& scope) {
    auto out = std::make_shared<Dict>();
    for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
        Value key = eval(*expr.children[i], scope), value = eval(*expr.children[i + 1], scope);
        size_t hash;
        line = expr.line;
        if (!hash_of(key, hash)) fail("unhashable type: '{}'", type_name(key));
        out->set(std::move(key), std::move(value));
    }
    return dict(std::move(out));
}

void Interpreter::eval_arguments(const Expr& expr, const ScopePtr& scope, size_t first, Arguments& arguments) {
    for (size_t i = first; i < expr.children.size(); ++i)
        arguments.positional.push_back(eval(*expr.children[i], scope));
    for (const auto& [name, value] : expr.named) arguments.named.emplace_back(name, eval(*value, scope));
    if (expr.star) {
        for (Value& item : items_of(*this, eval(*expr.star, scope))) arguments.positional.push_back(std::move(item));
    }
    if (expr.star_star) {
        const Value more = eval(*expr.star_star, scope);
        if (!more.is(Kind::dict)) fail("argument after ** must be a mapping, not {}", type_name(more));
        for (const auto& [key, value] : more.as<Dict>().entries) {
            if (!key.is_string()) fail("keywords must be strings");
            arguments.named.emplace_back(key.bytes(), value);
        }
    }
    for (size_t i = 0; i < arguments.named.size(); ++i)
        for (size_t j = 0; j < i; ++j)
            if (arguments.named[i].first == arguments.named[j].first) {
                fail("got multiple values for keyword argument {}", quote(arguments.named[i].first));
            }
}

Value Interpreter::eval_call(const Expr& expr, const ScopePtr& scope, const Value* caller) {
    const Value callee = eval(*expr.children[0], scope);
    Arguments arguments;
    eval_arguments(expr, scope, 1, arguments);
    if (caller) arguments.named.emplace_back("caller", *caller);
    line = expr.line;
    return call(callee, arguments);
}

Value Interpreter::eval_filter(const Expr& expr, const ScopePtr& scope, const Value* innermost) {
    check_stack();
    Value value;
    if (!expr.children[0]) {
        value = *innermost;
    } else if (expr.children[0]->op == Op::filter) {
        value = eval_filter(*expr.children[0], scope, innermost);
    } else {
        value = eval(*expr.children[0], scope);
    }
    charge(1);
    Arguments arguments;
    eval_arguments(expr, scope, 1, arguments);
    line = expr.line;
    return apply_filter(expr.text, value, arguments);
}

Value Interpreter::eval_test(const Expr& expr, const ScopePtr& scope) {
    const Value value = eval(*expr.children[0], scope);
    Arguments arguments;
    eval_arguments(expr, scope, 1, arguments);
    line = expr.line;
    return Value::boolean(apply_test(expr.text, value, arguments));
}

}  // namespace busbar::jinja
