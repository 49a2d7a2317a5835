#include <map>

#include "passes/pass.h"

namespace busbar {

// Q, K, V and gate, up: products of one activation with several weights become one node, placed where the first of them
// stood. Nothing is concatenated, so each weight keeps its own encoding.
int share_activations(Graph& graph, const PassContext& context) {
    if (!context.any_has(op_multi_matmul)) return 0;
    std::map<int, std::vector<size_t>> readers;  // activation -> its matmuls with weights, in order
    const std::vector<Node>& nodes = graph.nodes();
    for (size_t i = 0; i < nodes.size(); ++i)
        if (nodes[i].op == &op_matmul && graph.values()[nodes[i].inputs[1]].source == Source::weight)
            readers[nodes[i].inputs[0]].push_back(i);

    int changes = 0;
    std::vector<Node> out;
    for (size_t i = 0; i < nodes.size(); ++i) {
        const Node& n = nodes[i];
        const auto group = n.op == &op_matmul ? readers.find(n.inputs[0]) : readers.end();
        if (group == readers.end() || group->second.size() < 2 ||
            graph.values()[n.inputs[1]].source != Source::weight) {
            out.push_back(n);
            continue;
        }
        if (group->second.front() != i) continue;  // it went in with the first of its group
        Node shared{&op_multi_matmul, "", {n.inputs[0]}, {}, {}};
        const size_t dot = n.name.rfind('.');
        std::string leaves;
        for (size_t member : group->second) {
            const Node& m = nodes[member];
            shared.inputs.push_back(m.inputs[1]);
            shared.outputs.push_back(m.outputs[0]);
            leaves += (leaves.empty() ? "" : "+") + m.name.substr(m.name.rfind('.') + 1);
        }
        shared.name = (dot == std::string::npos ? "" : n.name.substr(0, dot + 1)) + leaves;
        out.push_back(std::move(shared));
        ++changes;
    }
    graph.set_nodes(std::move(out));
    return changes;
}

}  // namespace busbar
