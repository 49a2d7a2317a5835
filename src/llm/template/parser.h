#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "llm/template/ast.h"
#include "llm/template/lexer.h"

namespace busbar::jinja {

/// Parses a template. Throws Error{bad_input} with the line for what Jinja2 refuses and for what is outside the subset.
Ast parse(std::string_view source, const std::string& address);

/// Fails on unknown filters and tests, except under a condition, where Jinja2 too asks only when they are used.
void check_names(const Ast& ast, const std::string& address);

class Parser {
  public:
    Parser(std::vector<Lexeme> tokens, const std::string& address) : tokens_(std::move(tokens)), address_(address) {}
    Ast run();

  private:
    template <typename... Args>
    [[noreturn]] void fail_at(int line, fmt::format_string<Args...> format, Args&&... args) const {
        throw bad_input(fmt::format("{}, line {}", address_, line), "[template] {}",
                        fmt::format(format, std::forward<Args>(args)...));
    }
    /// One level of nesting of the text; the parser, evaluator and destructors recurse along it.
    struct Level {
        explicit Level(Parser& p) : parser(p) {
            if (++parser.level_ > 200) parser.fail_at(parser.current().line, "expected at most 200 levels of nesting");
        }
        ~Level() { --parser.level_; }
        Parser& parser;
    };

    // Tokens.
    const Lexeme& current() const { return tokens_[pos_]; }
    const Lexeme& look() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
    bool is_op(std::string_view op) const { return current().kind == Token::op && current().text == op; }
    bool is_name(std::string_view name) const { return current().kind == Token::name && current().text == name; }
    const Lexeme& next() { return tokens_[pos_ + 1 < tokens_.size() ? pos_++ : pos_]; }
    bool skip_op(std::string_view op) { return is_op(op) && (next(), true); }
    bool skip_name(std::string_view name) { return is_name(name) && (next(), true); }
    void expect_op(std::string_view op);
    void expect(Token kind);
    std::string expect_name();
    static std::string described(const Lexeme& lexeme);
    Name intern(const std::string& name);

    // Statements.
    using Ends = std::initializer_list<std::string_view>;
    Body parse_body(Ends ends);  ///< from after a tag's arguments up to one of `ends`, whose name is current
    Body parse_until(const Ends* ends);
    Body parse_whole(std::string_view end);  ///< parse_body, and past the end tag's name
    std::unique_ptr<Stmt> parse_statement();
    std::unique_ptr<Stmt> parse_if(int line);
    std::unique_ptr<Stmt> parse_for(int line);
    std::unique_ptr<Stmt> parse_set(int line);
    std::unique_ptr<Stmt> parse_macro(int line);
    std::unique_ptr<Stmt> parse_call_block(int line);
    std::unique_ptr<Stmt> parse_with(int line);
    std::unique_ptr<Stmt> parse_flow(int line, Do kind);
    void parse_parameters(Signature& signature);
    Target parse_target(bool allow_attribute);
    Target parse_one_target(bool allow_attribute);

    // Expressions, by falling precedence upwards.
    ExprPtr parse_tuple(bool with_condition, bool parenthesised);
    ExprPtr parse_expression(bool with_condition = true);
    ExprPtr parse_conditional();
    ExprPtr parse_or();
    ExprPtr parse_and();
    ExprPtr parse_not();
    ExprPtr parse_compare();
    ExprPtr parse_sum();
    ExprPtr parse_concat();
    ExprPtr parse_product();
    ExprPtr parse_power();
    ExprPtr parse_unary(bool with_filters);
    ExprPtr parse_primary();
    ExprPtr parse_list();
    ExprPtr parse_dict();
    ExprPtr parse_postfix(ExprPtr expr);
    ExprPtr parse_filters(ExprPtr expr);
    ExprPtr parse_subscript(ExprPtr expr);
    ExprPtr parse_subscribed();
    ExprPtr parse_filter(ExprPtr expr);
    ExprPtr parse_test(ExprPtr expr);
    void parse_arguments(Expr& call);
    ExprPtr make(Op op, int line);
    template <typename... Children>
    ExprPtr make(Op op, int line, Children... children) {
        ExprPtr expr = make(op, line);
        (add(*expr, std::move(children)), ...);
        return expr;
    }
    void add(Expr& parent, ExprPtr child);
    void raise(Expr& parent, const Expr& child) const;
    Value string_constant(std::string text) const;

    std::vector<Lexeme> tokens_;
    const std::string& address_;
    size_t pos_ = 0;
    int level_ = 0;
    std::unordered_map<std::string, Name> interned_;
    std::vector<std::string> names_;
    std::vector<Signature*> signatures_;  ///< macros being parsed, outermost first
    bool in_loop_ = false;
};

}  // namespace busbar::jinja
