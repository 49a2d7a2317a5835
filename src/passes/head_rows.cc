#include <algorithm>

#include "passes/pass.h"

namespace busbar {

// The graph computes logits of every row. Of a prompt only the last row is asked for, so everything after the last node
// that mixes rows - here: a chain of row-wise ops that ends in the output - moves behind a gather of the rows asked
// for.
int head_rows(Graph& graph, const PassContext& context) {
    if (!context.any_has(op_gather_rows) || graph.outputs.size() != 1) return 0;
    int logit_rows = -1;
    for (size_t v = 0; v < graph.values().size(); ++v)
        if (graph.values()[v].source == Source::step && graph.values()[v].name == "logit_rows")
            logit_rows = static_cast<int>(v);
    if (logit_rows < 0) return 0;

    // Walk up from the output while the chain is row-wise and nobody else reads it.
    const std::vector<int> uses = count_uses(graph);
    std::vector<int> chain;  // nodes, last first
    int v = graph.outputs[0];
    while (graph.values()[v].source == Source::node && uses[v] == 1) {
        const Node& n = graph.nodes()[graph.values()[v].node];
        if (n.op != &op_matmul && n.op != &op_rms_norm) break;
        chain.push_back(graph.values()[v].node);
        v = n.inputs[0];
    }
    if (chain.empty() || graph.type_of(v).shape.rank() != 2 || graph.type_of(v).shape[0] != Dim(Symbol::rows)) return 0;

    const std::vector<Node> nodes = graph.nodes();
    std::vector<Node> kept;
    for (size_t i = 0; i < nodes.size(); ++i)
        if (std::find(chain.begin(), chain.end(), static_cast<int>(i)) == chain.end()) kept.push_back(nodes[i]);
    graph.set_nodes(std::move(kept));
    int x = graph.named("head_rows").one(op_gather_rows, {v, logit_rows});
    for (size_t i = chain.size(); i-- > 0;) {
        const Node& n = nodes[chain[i]];
        x = graph.named(n.name).one(*n.op, {x, n.inputs[1]}, n.attributes);
    }
    graph.outputs = {x};
    return 1;
}

}  // namespace busbar
