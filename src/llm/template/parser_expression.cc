#include <algorithm>

#include "llm/template/parser.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

// Long chains (a + b + c ...) lean to the left without nesting in the text.
constexpr int max_height = 600;

}  // namespace

Value Parser::string_constant(std::string text) const {
    auto object = std::make_shared<String>();
    object->ascii = is_ascii(text);
    object->weight = 1 + text.size() / 64;
    object->text = Text(std::move(text), true);
    return Value(Kind::string, std::move(object));
}

ExprPtr Parser::make(Op op, int line) {
    auto expr = std::make_unique<Expr>();
    expr->op = op;
    expr->line = line;
    return expr;
}

void Parser::raise(Expr& parent, const Expr& child) const {
    parent.height = std::max(parent.height, child.height + 1);
    if (parent.height > max_height)
        fail_at(parent.line, "expected an expression at most {} operations deep", max_height);
}

void Parser::add(Expr& parent, ExprPtr child) {
    if (child) raise(parent, *child);
    parent.children.push_back(std::move(child));
}

ExprPtr Parser::parse_tuple(bool with_condition, bool parenthesised) {
    const int line = current().line;
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    for (;;) {
        if (!items.empty()) expect_op(",");
        const Token kind = current().kind;
        if (kind == Token::variable_end || kind == Token::block_end || is_op(")")) break;
        items.push_back(parse_expression(with_condition));
        if (!is_op(",")) break;
        is_tuple = true;
    }
    if (!is_tuple) {
        if (!items.empty()) return std::move(items[0]);
        if (!parenthesised) fail_at(line, "expected an expression, got {}", described(current()));
    }
    ExprPtr tuple = make(Op::tuple, line);
    for (ExprPtr& item : items) add(*tuple, std::move(item));
    return tuple;
}

ExprPtr Parser::parse_expression(bool with_condition) {
    const Level level(*this);
    return with_condition ? parse_conditional() : parse_or();
}

ExprPtr Parser::parse_conditional() {
    const Level level(*this);
    const int line = current().line;
    ExprPtr value = parse_or();
    while (skip_name("if")) {
        ExprPtr condition = parse_or();
        ExprPtr otherwise = skip_name("else") ? parse_conditional() : nullptr;
        value = make(Op::conditional, line, std::move(condition), std::move(value), std::move(otherwise));
    }
    return value;
}

ExprPtr Parser::parse_or() {
    ExprPtr left = parse_and();
    while (is_name("or")) {
        const int line = next().line;
        left = make(Op::logical_or, line, std::move(left), parse_and());
    }
    return left;
}

ExprPtr Parser::parse_and() {
    ExprPtr left = parse_not();
    while (is_name("and")) {
        const int line = next().line;
        left = make(Op::logical_and, line, std::move(left), parse_not());
    }
    return left;
}

ExprPtr Parser::parse_not() {
    if (!is_name("not")) return parse_compare();
    const Level level(*this);
    const int line = next().line;
    return make(Op::logical_not, line, parse_not());
}

ExprPtr Parser::parse_compare() {
    const int line = current().line;
    ExprPtr first = parse_sum();
    ExprPtr compare;
    for (;;) {
        static constexpr std::pair<std::string_view, Comparison> operators[] = {
            {"==", Comparison::eq}, {"!=", Comparison::ne}, {"<=", Comparison::le},
            {">=", Comparison::ge}, {"<", Comparison::lt},  {">", Comparison::gt},
        };
        const auto* found =
            std::find_if(std::begin(operators), std::end(operators), [&](const auto& o) { return is_op(o.first); });
        Comparison comparison;
        if (found != std::end(operators)) {
            comparison = found->second;
            next();
        } else if (skip_name("in")) {
            comparison = Comparison::in;
        } else if (is_name("not") && look().kind == Token::name && look().text == "in") {
            next();
            next();
            comparison = Comparison::not_in;
        } else {
            break;
        }
        if (!compare) compare = make(Op::compare, line, std::move(first));
        add(*compare, parse_sum());
        compare->comparisons.push_back(comparison);
    }
    return compare ? std::move(compare) : std::move(first);
}

ExprPtr Parser::parse_sum() {
    ExprPtr left = parse_concat();
    while (is_op("+") || is_op("-")) {
        const Lexeme& token = next();
        left = make(token.text == "+" ? Op::add : Op::subtract, token.line, std::move(left), parse_concat());
    }
    return left;
}

ExprPtr Parser::parse_concat() {
    const int line = current().line;
    ExprPtr first = parse_product();
    if (!is_op("~")) return first;
    ExprPtr concat = make(Op::concat, line, std::move(first));
    while (skip_op("~")) add(*concat, parse_product());
    return concat;
}

ExprPtr Parser::parse_product() {
    ExprPtr left = parse_power();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
        const Lexeme& token = next();
        const Op op = token.text == "*"    ? Op::multiply
                      : token.text == "/"  ? Op::divide
                      : token.text == "//" ? Op::floor_divide
                                           : Op::modulo;
        left = make(op, token.line, std::move(left), parse_power());
    }
    return left;
}

ExprPtr Parser::parse_power() {
    ExprPtr left = parse_unary(true);
    while (is_op("**")) {
        const int line = next().line;
        left = make(Op::power, line, std::move(left), parse_unary(true));
    }
    return left;
}

ExprPtr Parser::parse_unary(bool with_filters) {
    const Level level(*this);
    const int line = current().line;
    ExprPtr expr;
    if (skip_op("-")) {
        expr = make(Op::negate, line, parse_unary(false));
    } else if (skip_op("+")) {
        expr = make(Op::plus, line, parse_unary(false));
    } else {
        expr = parse_primary();
    }
    expr = parse_postfix(std::move(expr));
    return with_filters ? parse_filters(std::move(expr)) : std::move(expr);
}

ExprPtr Parser::parse_primary() {
    const Lexeme& token = current();
    const int line = token.line;
    if (token.kind == Token::op) {
        if (token.text == "[") return parse_list();
        if (token.text == "{") return parse_dict();
        if (token.text == "(") {
            next();
            ExprPtr expr = parse_tuple(true, true);
            expect_op(")");
            return expr;
        }
    }
    ExprPtr expr = make(Op::constant, line);
    switch (token.kind) {
        case Token::name: {
            const std::string& name = next().text;
            if (name == "true" || name == "True" || name == "false" || name == "False") {
                expr->constant = Value::boolean(name == "true" || name == "True");
            } else if (name == "none" || name == "None") {
                expr->constant = Value::none();
            } else {
                expr->op = Op::name;
                expr->name = intern(name);
                for (Signature* s : signatures_) {
                    s->uses_caller |= name == "caller";
                    s->uses_varargs |= name == "varargs";
                    s->uses_kwargs |= name == "kwargs";
                }
            }
            return expr;
        }
        case Token::string: {
            std::string text;
            while (current().kind == Token::string) text += next().text;
            expr->constant = string_constant(std::move(text));
            return expr;
        }
        case Token::integer:
            expr->constant = Value::integer(next().integer);
            return expr;
        case Token::real:
            expr->constant = Value::real(next().real);
            return expr;
        default:
            fail_at(line, "expected an expression, got {}", described(token));
    }
}

ExprPtr Parser::parse_list() {
    ExprPtr list = make(Op::list, current().line);
    expect_op("[");
    while (!is_op("]")) {
        if (!list->children.empty()) expect_op(",");
        if (is_op("]")) break;
        add(*list, parse_expression());
    }
    expect_op("]");
    return list;
}

ExprPtr Parser::parse_dict() {
    ExprPtr dict = make(Op::dict, current().line);
    expect_op("{");
    while (!is_op("}")) {
        if (!dict->children.empty()) expect_op(",");
        if (is_op("}")) break;
        add(*dict, parse_expression());
        expect_op(":");
        add(*dict, parse_expression());
    }
    expect_op("}");
    return dict;
}

ExprPtr Parser::parse_postfix(ExprPtr expr) {
    for (;;) {
        if (is_op(".") || is_op("[")) {
            expr = parse_subscript(std::move(expr));
        } else if (is_op("(")) {
            ExprPtr call = make(Op::call, current().line, std::move(expr));
            parse_arguments(*call);
            expr = std::move(call);
        } else {
            return expr;
        }
    }
}

ExprPtr Parser::parse_filters(ExprPtr expr) {
    for (;;) {
        if (is_op("|")) {
            expr = parse_filter(std::move(expr));
        } else if (is_name("is")) {
            expr = parse_test(std::move(expr));
        } else if (is_op("(")) {
            ExprPtr call = make(Op::call, current().line, std::move(expr));
            parse_arguments(*call);
            expr = std::move(call);
        } else {
            return expr;
        }
    }
}

ExprPtr Parser::parse_subscript(ExprPtr expr) {
    const int line = current().line;
    if (skip_op(".")) {
        if (current().kind == Token::name) {
            ExprPtr attribute = make(Op::attribute, line, std::move(expr));
            attribute->text = next().text;
            return attribute;
        }
        if (current().kind != Token::integer)
            fail_at(line, "expected a name or a number after '.', got {}", described(current()));
        ExprPtr index = make(Op::constant, line);
        index->constant = Value::integer(next().integer);
        return make(Op::item, line, std::move(expr), std::move(index));
    }
    expect_op("[");
    std::vector<ExprPtr> items;
    while (!is_op("]")) {
        if (!items.empty()) expect_op(",");
        items.push_back(parse_subscribed());
    }
    expect_op("]");
    if (items.size() == 1) {
        if (items[0]->op == Op::slice) {
            ExprPtr slice = std::move(items[0]);
            raise(*slice, *expr);
            slice->children.insert(slice->children.begin(), std::move(expr));
            return slice;
        }
        return make(Op::item, line, std::move(expr), std::move(items[0]));
    }
    ExprPtr tuple = make(Op::tuple, line);
    for (ExprPtr& item : items) {
        if (item->op == Op::slice && item->children.size() == 3)
            fail_at(line, "a slice in a tuple subscript is outside the subset");
        add(*tuple, std::move(item));
    }
    return make(Op::item, line, std::move(expr), std::move(tuple));
}

// One part of a subscript: an expression, or a slice whose three bounds are its children (the sliced value comes
// later).
ExprPtr Parser::parse_subscribed() {
    const int line = current().line;
    ExprPtr bounds[3];
    if (!is_op(":")) {
        bounds[0] = parse_expression();
        if (!is_op(":")) return std::move(bounds[0]);
    }
    next();
    const auto at_end = [&] { return is_op("]") || is_op(","); };
    if (!is_op(":") && !at_end()) bounds[1] = parse_expression();
    if (skip_op(":") && !at_end()) bounds[2] = parse_expression();
    return make(Op::slice, line, std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2]));
}

void Parser::parse_arguments(Expr& call) {
    const int line = current().line;
    const auto ensure = [&](bool ok) {
        if (!ok) fail_at(line, "expected positional arguments, then named ones, then * and **");
    };
    expect_op("(");
    bool first = true;
    while (!is_op(")")) {
        if (!first) {
            expect_op(",");
            if (is_op(")")) break;
        }
        first = false;
        if (skip_op("*")) {
            ensure(!call.star && !call.star_star);
            call.star = parse_expression();
            raise(call, *call.star);
        } else if (skip_op("**")) {
            ensure(!call.star_star);
            call.star_star = parse_expression();
            raise(call, *call.star_star);
        } else if (current().kind == Token::name && look().kind == Token::op && look().text == "=") {
            ensure(!call.star_star);
            std::string name = next().text;
            next();
            call.named.emplace_back(std::move(name), parse_expression());
            raise(call, *call.named.back().second);
        } else {
            ensure(!call.star && !call.star_star && call.named.empty());
            add(call, parse_expression());
        }
    }
    expect_op(")");
}

// Filters from the current token on: "|name(arguments)" repeated; in a filter block the first has no bar.
ExprPtr Parser::parse_filter(ExprPtr expr) {
    do {
        next();
        const int line = current().line;
        ExprPtr filter = make(Op::filter, line, std::move(expr));
        filter->text = expect_name();
        while (skip_op(".")) filter->text += "." + expect_name();
        if (is_op("(")) parse_arguments(*filter);
        expr = std::move(filter);
    } while (is_op("|"));
    return expr;
}

ExprPtr Parser::parse_test(ExprPtr expr) {
    const int line = next().line;
    const bool negated = skip_name("not");
    ExprPtr test = make(Op::test, line, std::move(expr));
    test->text = expect_name();
    while (skip_op(".")) test->text += "." + expect_name();
    const Token kind = current().kind;
    if (is_op("(")) {
        parse_arguments(*test);
    } else if ((kind == Token::name && !is_name("else") && !is_name("or") && !is_name("and")) ||
               kind == Token::string || kind == Token::integer || kind == Token::real || is_op("[") || is_op("{")) {
        if (is_name("is")) fail_at(line, "tests cannot be chained with 'is'");
        add(*test, parse_postfix(parse_primary()));
    }
    return negated ? make(Op::logical_not, line, std::move(test)) : std::move(test);
}

}  // namespace busbar::jinja
