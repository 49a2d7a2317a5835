#include "llm/template/parser.h"

#include <fmt/format.h>
#include <algorithm>

namespace busbar::jinja {

std::string Parser::described(const Lexeme& lexeme) {
    switch (lexeme.kind) {
        case Token::data:
            return "text";
        case Token::variable_begin:
            return "'{{'";
        case Token::variable_end:
            return "'}}'";
        case Token::block_begin:
            return "'{%'";
        case Token::block_end:
            return "'%}'";
        case Token::string:
            return "a string";
        case Token::integer:
        case Token::real:
            return "a number";
        case Token::end:
            return "the end of the template";
        default:
            return quote(lexeme.text, 40);
    }
}

void Parser::expect_op(std::string_view op) {
    if (!skip_op(op)) fail_at(current().line, "expected '{}', got {}", op, described(current()));
}

void Parser::expect(Token kind) {
    if (current().kind != kind) {
        fail_at(current().line, "expected {}, got {}", described({kind, 0, {}, 0, 0}), described(current()));
    }
    next();
}

std::string Parser::expect_name() {
    if (current().kind != Token::name) fail_at(current().line, "expected a name, got {}", described(current()));
    return next().text;
}

Name Parser::intern(const std::string& name) {
    const auto [it, is_new] = interned_.emplace(name, static_cast<Name>(names_.size()));
    if (is_new) names_.push_back(name);
    return it->second;
}

Ast Parser::run() {
    Ast ast;
    ast.body = parse_until(nullptr);
    ast.names = std::move(names_);
    return ast;
}

Body Parser::parse_body(Ends ends) {
    skip_op(":");
    expect(Token::block_end);
    return parse_until(&ends);
}

Body Parser::parse_until(const Ends* ends) {
    const Level level(*this);
    Body body;
    for (;;) {
        const Lexeme& token = current();
        const int line = token.line;
        switch (token.kind) {
            case Token::end:
                if (ends) fail_at(line, "expected '{}', got the end of the template", fmt::join(*ends, "' or '"));
                return body;
            case Token::data: {
                auto stmt = std::make_unique<Stmt>();
                stmt->kind = Do::data;
                stmt->line = line;
                stmt->data = string_constant(token.text);
                body.push_back(std::move(stmt));
                next();
                break;
            }
            case Token::variable_begin: {
                next();
                auto stmt = std::make_unique<Stmt>();
                stmt->kind = Do::print;
                stmt->line = line;
                stmt->exprs.push_back(parse_tuple(true, false));
                expect(Token::variable_end);
                body.push_back(std::move(stmt));
                break;
            }
            default: {
                expect(Token::block_begin);
                if (ends && current().kind == Token::name &&
                    std::find(ends->begin(), ends->end(), current().text) != ends->end()) {
                    return body;
                }
                body.push_back(parse_statement());
                expect(Token::block_end);
            }
        }
    }
}

Body Parser::parse_whole(std::string_view end) {
    Body body = parse_body({end});
    next();
    return body;
}

std::unique_ptr<Stmt> Parser::parse_flow(int line, Do kind) {
    if (!in_loop_) fail_at(line, "'break' and 'continue' stand only in a loop");
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = line;
    return stmt;
}

std::unique_ptr<Stmt> Parser::parse_statement() {
    const int line = current().line;
    const std::string tag = expect_name();
    if (tag == "if") return parse_if(line);
    if (tag == "for") return parse_for(line);
    if (tag == "set") return parse_set(line);
    if (tag == "macro") return parse_macro(line);
    if (tag == "call") return parse_call_block(line);
    if (tag == "with") return parse_with(line);
    if (tag == "break") return parse_flow(line, Do::stop);
    if (tag == "continue") return parse_flow(line, Do::skip);
    auto stmt = std::make_unique<Stmt>();
    stmt->line = line;
    if (tag == "filter") {
        stmt->kind = Do::filter_block;
        --pos_;  // parse_filter wants the bar before the name; there is none here
        stmt->filter = parse_filter(nullptr);
        stmt->bodies.push_back(parse_whole("endfilter"));
    } else if (tag == "generation") {
        // Transformers renders the body as a call block, so a `set` in it does not reach out.
        const bool in_loop = std::exchange(in_loop_, false);
        stmt->kind = Do::scope;
        stmt->bodies.push_back(parse_whole("endgeneration"));
        in_loop_ = in_loop;
    } else if (tag == "print") {
        stmt->kind = Do::print;
        while (current().kind != Token::block_end) {
            if (!stmt->exprs.empty()) expect_op(",");
            stmt->exprs.push_back(parse_expression());
        }
    } else if (tag == "include" || tag == "import" || tag == "from" || tag == "extends" || tag == "block" ||
               tag == "autoescape") {
        fail_at(line, "tag '{}' is outside the subset of chat templates (one file, no inheritance, no escaping)", tag);
    } else {
        fail_at(line, "unknown tag {}", quote(tag, 40));
    }
    return stmt;
}

std::unique_ptr<Stmt> Parser::parse_if(int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = Do::branch;
    stmt->line = line;
    for (;;) {
        stmt->exprs.push_back(parse_tuple(false, false));
        stmt->bodies.push_back(parse_body({"elif", "else", "endif"}));
        const std::string end = next().text;
        if (end == "elif") continue;
        if (end == "else") stmt->bodies.push_back(parse_whole("endif"));
        return stmt;
    }
}

std::unique_ptr<Stmt> Parser::parse_for(int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = Do::loop;
    stmt->line = line;
    stmt->targets.push_back(parse_target(false));
    if (!skip_name("in")) fail_at(current().line, "expected 'in', got {}", described(current()));
    stmt->exprs.push_back(parse_tuple(false, false));
    if (skip_name("if")) stmt->condition = parse_expression();
    stmt->recursive = skip_name("recursive");
    const bool in_loop = std::exchange(in_loop_, true);
    stmt->bodies.push_back(parse_body({"endfor", "else"}));
    in_loop_ = in_loop;
    if (next().text == "else") stmt->bodies.push_back(parse_whole("endfor"));
    return stmt;
}

std::unique_ptr<Stmt> Parser::parse_set(int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = Do::set;
    stmt->line = line;
    stmt->targets.push_back(parse_target(true));
    if (skip_op("=")) {
        stmt->exprs.push_back(parse_tuple(true, false));
        return stmt;
    }
    stmt->kind = Do::set_block;
    if (is_op("|")) stmt->filter = parse_filter(nullptr);
    stmt->bodies.push_back(parse_whole("endset"));
    return stmt;
}

void Parser::parse_parameters(Signature& signature) {
    expect_op("(");
    while (!is_op(")")) {
        if (!signature.parameters.empty()) expect_op(",");
        const int line = current().line;
        const std::string name = expect_name();
        for (const Parameter& p : signature.parameters)
            if (p.text == name) fail_at(line, "parameter {} stands twice", quote(name, 40));
        ExprPtr otherwise;
        if (skip_op("=")) {
            otherwise = parse_expression();
        } else if (!signature.parameters.empty() && signature.parameters.back().otherwise) {
            fail_at(line, "parameter {} without a default follows one with a default", quote(name, 40));
        }
        signature.parameters.push_back({intern(name), name, std::move(otherwise)});
    }
    expect_op(")");
}

std::unique_ptr<Stmt> Parser::parse_macro(int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = Do::macro;
    stmt->line = line;
    stmt->signature.name = expect_name();
    stmt->name = intern(stmt->signature.name);
    parse_parameters(stmt->signature);
    const bool in_loop = std::exchange(in_loop_, false);
    signatures_.push_back(&stmt->signature);
    stmt->bodies.push_back(parse_whole("endmacro"));
    signatures_.pop_back();
    in_loop_ = in_loop;
    return stmt;
}

std::unique_ptr<Stmt> Parser::parse_call_block(int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = Do::call_block;
    stmt->line = line;
    stmt->signature.name = "caller";
    if (is_op("(")) parse_parameters(stmt->signature);
    stmt->exprs.push_back(parse_expression());
    if (stmt->exprs[0]->op != Op::call) fail_at(line, "expected a call after 'call'");
    const bool in_loop = std::exchange(in_loop_, false);
    signatures_.push_back(&stmt->signature);
    stmt->bodies.push_back(parse_whole("endcall"));
    signatures_.pop_back();
    in_loop_ = in_loop;
    return stmt;
}

std::unique_ptr<Stmt> Parser::parse_with(int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = Do::with;
    stmt->line = line;
    while (current().kind != Token::block_end) {
        if (!stmt->targets.empty()) expect_op(",");
        stmt->targets.push_back(parse_target(false));
        expect_op("=");
        stmt->exprs.push_back(parse_expression());
    }
    stmt->bodies.push_back(parse_whole("endwith"));
    return stmt;
}

Target Parser::parse_one_target(bool allow_attribute) {
    Target target;
    target.line = current().line;
    if (skip_op("(")) {
        const Level level(*this);
        target = parse_target(false);
        expect_op(")");
        return target;
    }
    const std::string name = expect_name();
    for (const std::string_view reserved : {"true", "True", "false", "False", "none", "None"}) {
        if (name == reserved) fail_at(target.line, "cannot assign to '{}'", name);
    }
    target.name = intern(name);
    if (allow_attribute && skip_op(".")) target.attribute = expect_name();
    return target;
}

Target Parser::parse_target(bool allow_attribute) {
    Target first = parse_one_target(allow_attribute);
    if (!is_op(",")) return first;
    Target tuple;
    tuple.line = first.line;
    tuple.is_tuple = true;
    tuple.parts.push_back(std::move(first));
    while (skip_op(",")) {
        if (is_op(")") || is_op("=") || current().kind == Token::block_end) break;
        tuple.parts.push_back(parse_one_target(allow_attribute));
    }
    return tuple;
}

Ast parse(std::string_view source, const std::string& address) {
    Parser parser(tokenize(source, address), address);
    Ast ast = parser.run();
    check_names(ast, address);
    return ast;
}

}  // namespace busbar::jinja
