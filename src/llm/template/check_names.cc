#include "llm/template/library.h"
#include "llm/template/parser.h"

namespace busbar::jinja {

namespace {

class Checker {
  public:
    explicit Checker(const std::string& address) : address_(address) {}

    // `soft`: under an if or a conditional expression, where an unknown name fails only when it is reached.
    void body(const Body& statements, bool soft) const {
        for (const auto& s : statements) {
            const bool is_branch = s->kind == Do::branch;
            const bool keeps = is_branch || s->kind == Do::print || s->kind == Do::set || s->kind == Do::call_block ||
                               s->kind == Do::loop || s->kind == Do::with;
            for (const ExprPtr& e : s->exprs) expr(e.get(), is_branch || (keeps && soft));
            expr(s->condition.get(), false);
            expr(s->filter.get(), false);
            for (const Parameter& p : s->signature.parameters) expr(p.otherwise.get(), false);
            for (const Body& inner : s->bodies) body(inner, is_branch);
        }
    }

  private:
    void expr(const Expr* e, bool soft) const {
        if (!e) return;
        if (e->op == Op::conditional) soft = true;
        const bool known =
            e->op == Op::filter ? find_filter(e->text) != nullptr : e->op != Op::test || find_test(e->text) != nullptr;
        if (!known && !soft) {
            throw bad_input(fmt::format("{}, line {}", address_, e->line), "[template] no {} named {}",
                            e->op == Op::filter ? "filter" : "test", quote(e->text, 40));
        }
        for (const ExprPtr& child : e->children) expr(child.get(), soft);
        for (const auto& [name, value] : e->named) expr(value.get(), soft);
        expr(e->star.get(), soft);
        expr(e->star_star.get(), soft);
    }

    const std::string& address_;
};

}  // namespace

void check_names(const Ast& ast, const std::string& address) {
    Checker(address).body(ast.body, false);
}

}  // namespace busbar::jinja
