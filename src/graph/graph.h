#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dtype/stored_tensor.h"
#include "ops/builder.h"

namespace busbar {

/// Where a value comes from.
enum class Source : uint8_t {
    step,      ///< the step record, by name: token_ids, positions, sequences, block_table, logit_rows
    weight,    ///< a stored tensor
    constant,  ///< a small array made by import or by folding
    state,     ///< outlives a step
    node,      ///< an output of a node
};

struct Value {
    std::string name;  ///< unique; for weights and states the model's own word ("blk.3.ffn_up.weight")
    ValueType type;
    Source source = Source::node;
    int node = -1;                               ///< producer, for Source::node
    std::shared_ptr<const StoredTensor> weight;  ///< for Source::weight
    Array constant;                              ///< for Source::constant
};

struct Node {
    const OpRow* op = nullptr;
    std::string name;  ///< "layer.3.attention", for people: errors, plans, verdicts
    std::vector<int> inputs, outputs;
    Attributes attributes;
};

/// A model (or a definition) as plain data. Values are numbered; nodes stand in an order in which they can run.
class Graph : public Builder {
  public:
    std::string title;  ///< "llama 30 layers"

    int step_input(std::string name, ValueType type);
    int weight(std::shared_ptr<const StoredTensor> tensor);  ///< the same tensor twice is the same value
    int state(std::string name, ValueType type);
    int constant(Array array) override;
    std::vector<int> emit(const OpRow& op, std::span<const int> inputs, Attributes attributes) override;
    const ValueType& type_of(int value) const override { return values_[value].type; }

    /// Prefix of the names of nodes emitted from here on: "layer.3".
    void scope(std::string name) { scope_ = std::move(name); }
    /// Name of the next node; without it a node is named after its op.
    Graph& named(std::string name) {
        next_name_ = std::move(name);
        return *this;
    }

    const std::vector<Value>& values() const { return values_; }
    const std::vector<Node>& nodes() const { return nodes_; }
    std::vector<int> outputs;

    /// For passes: replace all nodes; values stay (their producers are set anew), unused ones are allowed until
    /// compact().
    void set_nodes(std::vector<Node> nodes);
    int add_value(Value value);
    /// Every use of `from` (as an input of a node or an output of the graph) becomes `to`.
    void replace_uses(int from, int to);
    /// Drops nodes and values that no output and no state update needs; renumbers.
    void compact();

    /// Checks order, arity, attributes, types, single producers, unique names. A failure is a defect of ours (check).
    void verify() const;
    /// The stable text form: one line per input, weight, state and node.
    std::string print() const;

  private:
    std::vector<Value> values_;
    std::vector<Node> nodes_;
    std::string scope_, next_name_;
};

/// Writes `node` (a composite) as its definition, until only core ops and views are left where `deep`, else one level.
/// Returns a graph with the same inputs, outputs and states.
Graph expand(const Graph& graph, bool deep, const std::function<bool(const Node&)>& wanted = {});

}  // namespace busbar
