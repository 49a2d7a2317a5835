#include "graph/memory.h"

namespace busbar {

std::vector<int> memory_of_values(const Graph& graph) {
    std::vector<int> root(graph.values().size());
    for (size_t v = 0; v < root.size(); ++v) root[v] = static_cast<int>(v);
    for (const Node& n : graph.nodes()) {
        if (n.op->is_view) root[n.outputs[0]] = root[n.inputs[0]];
        if (n.op->updates_input >= 0) root[n.outputs[0]] = root[n.inputs[n.op->updates_input]];
    }
    return root;
}

}  // namespace busbar
