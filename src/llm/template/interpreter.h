#pragma once
#include <memory>
#include <string>
#include <vector>

#include "llm/template/ast.h"
#include "llm/template/loop.h"
#include "llm/template/runtime.h"

namespace busbar::jinja {

/// The variables of one for body, macro call or the template itself; what it lacks, its parent has.
struct Scope : Object {
    std::shared_ptr<Scope> parent;
    std::vector<std::pair<Name, Value>> variables;

    Value* own(Name name);
    void set(Name name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

/// A macro, or the body of a call block as `caller`.
struct Macro : Object {
    const Signature* signature = nullptr;
    const Body* body = nullptr;
    ScopePtr scope;
};

/// macro.name, macro.arguments, ...
bool macro_attribute(Runtime& rt, const Value& function, const std::string& name, Value& out);

/// One rendering.
class Interpreter : public Runtime {
  public:
    Interpreter(const Ast& ast, std::string address, const TemplateLimits& limits, int64_t clock);
    ~Interpreter() override;

    Text render(const nlohmann::ordered_json& variables);

    Value call(const Value& callee, Arguments& arguments) override;
    Value apply_filter(const std::string& name, const Value& value, Arguments& arguments) override;
    bool apply_test(const std::string& name, const Value& value, Arguments& arguments) override;
    void remember(std::shared_ptr<Object> object, void (*clear)(Object&)) override;

  private:
    enum class Flow { on, stop, skip };
    struct Call;  ///< counts the depth of calls

    // interpreter.cc: statements
    Flow run(const Body& body, const ScopePtr& scope);
    Flow run(const Stmt& stmt, const ScopePtr& scope);
    Flow run_branch(const Stmt& stmt, const ScopePtr& scope);
    Flow run_loop(const Stmt& stmt, const ScopePtr& scope);
    Flow run_items(const Stmt& stmt, const Value& iterable, const ScopePtr& scope, int depth0);
    Flow run_with(const Stmt& stmt, const ScopePtr& scope);
    Flow run_filtered(const Stmt& stmt, const ScopePtr& scope, Value& result);
    void run_call_block(const Stmt& stmt, const ScopePtr& scope);
    void print(const Value& value);
    void assign(const Target& target, const Value& value, const ScopePtr& scope);
    ScopePtr child(const ScopePtr& parent);
    Value macro(const Signature& signature, const Body& body, const ScopePtr& scope);
    Value call_macro(const Macro& macro, Arguments& arguments);

    // evaluate.cc: expressions
    Value eval(const Expr& expr, const ScopePtr& scope);
    Value eval_name(const Expr& expr, const ScopePtr& scope);
    Value eval_compare(const Expr& expr, const ScopePtr& scope);
    Value eval_conditional(const Expr& expr, const ScopePtr& scope);
    Value eval_concat(const Expr& expr, const ScopePtr& scope);
    Value eval_items(const Expr& expr, const ScopePtr& scope);
    Value eval_dict(const Expr& expr, const ScopePtr& scope);
    Value eval_call(const Expr& expr, const ScopePtr& scope, const Value* caller);
    Value eval_filter(const Expr& expr, const ScopePtr& scope, const Value* innermost);
    Value eval_test(const Expr& expr, const ScopePtr& scope);
    void eval_arguments(const Expr& expr, const ScopePtr& scope, size_t first, Arguments& arguments);

    const Ast& ast_;
    std::vector<std::pair<bool, Value>> context_;  ///< by Name: what the caller of the template gave
    Builder* out_ = nullptr;
    ScopePtr root_;
    std::vector<std::pair<std::shared_ptr<Object>, void (*)(Object&)>> remembered_;
    const Object* last_captured_ = nullptr;
};

/// A JSON value as Python's json module would give it. Its strings are untrusted unless `trusted`.
Value from_json(const nlohmann::ordered_json& json, bool trusted);

}  // namespace busbar::jinja
