// Pairs of nodes that sweep the same values become one node that sweeps them once.
#include "passes/pass.h"

namespace busbar {

int fuse_gated_activation(Graph& graph, const PassContext& context) {
    if (!context.any_has(op_gated_silu)) return 0;
    const std::vector<int> uses = count_uses(graph);
    int changes = 0;
    std::vector<Node> out;
    for (Node n : graph.nodes()) {
        for (int side = 0; side < 2 && n.op == &op_multiply; ++side) {
            const Value& v = graph.values()[n.inputs[side]];
            if (v.source != Source::node || uses[n.inputs[side]] != 1) continue;
            const Node& silu = graph.nodes()[v.node];
            if (silu.op != &op_silu || graph.type_of(n.inputs[0]) != graph.type_of(n.inputs[1])) continue;
            n.op = &op_gated_silu;
            n.inputs = {silu.inputs[0], n.inputs[1 - side]};
            ++changes;
        }
        out.push_back(std::move(n));  // the silu, now unused, goes when the graph is compacted
    }
    graph.set_nodes(std::move(out));
    return changes;
}

int fuse_norm_residual(Graph& graph, const PassContext& context) {
    if (!context.any_has(op_add_rms_norm)) return 0;
    // The add moves down to its norm: legal where the norm is its first reader.
    const std::vector<Node>& nodes = graph.nodes();
    std::vector<int> first_reader(graph.values().size(), -1);
    for (size_t i = nodes.size(); i-- > 0;)
        for (int v : nodes[i].inputs) first_reader[v] = static_cast<int>(i);

    std::vector<char> fused(nodes.size(), 0);
    std::vector<Node> out;
    int changes = 0;
    for (size_t i = 0; i < nodes.size(); ++i) {
        const Node& n = nodes[i];
        if (n.op == &op_add && graph.type_of(n.inputs[0]) == graph.type_of(n.inputs[1])) {
            const int reader = first_reader[n.outputs[0]];
            if (reader >= 0 && nodes[reader].op == &op_rms_norm && nodes[reader].inputs[0] == n.outputs[0]) {
                fused[reader] = 1;
                continue;
            }
        }
        if (!fused[i]) {
            out.push_back(n);
            continue;
        }
        const Node& add = nodes[graph.values()[n.inputs[0]].node];
        out.push_back({&op_add_rms_norm,
                       n.name,
                       {add.inputs[0], add.inputs[1], n.inputs[1]},
                       {add.outputs[0], n.outputs[0]},
                       n.attributes});
        ++changes;
    }
    graph.set_nodes(std::move(out));
    return changes;
}

}  // namespace busbar
