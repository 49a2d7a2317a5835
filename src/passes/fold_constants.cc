#include <map>

#include "passes/pass.h"

namespace busbar {

namespace {

// Larger weights stay in their encoding: unfolding them would only cost memory.
constexpr int64_t small = 65536;

bool is_known(const Value& v) {
    if (v.source == Source::constant) return true;
    return v.source == Source::weight && v.weight->count() <= small && v.weight->encoding->element == Element::f32;
}

Array array_of(const Value& v) {
    if (v.source == Source::constant) return v.constant;
    std::vector<float> decoded(v.weight->count());
    const Encoding& e = *v.weight->encoding;
    if (!decoded.empty()) e.decode(v.weight->bytes.data(), decoded.data(), decoded.size() / e.block);
    return {v.weight->shape, {decoded.begin(), decoded.end()}};
}

}  // namespace

int fold_constants(Graph& graph, const PassContext&) {
    int changes = 0;
    std::vector<Node> kept;
    std::map<int, int> folded;  // a node's output -> the constant that replaces it
    for (Node node : graph.nodes()) {
        bool known = node.op->evaluate != nullptr && node.outputs.size() == 1;
        bool all_weights = true;  // weights alone are not arithmetic that import left behind
        for (int& v : node.inputs) {
            if (folded.contains(v)) v = folded[v];
            known = known && is_known(graph.values()[v]);
            all_weights = all_weights && graph.values()[v].source == Source::weight;
        }
        for (const Dim& d : graph.type_of(node.outputs[0]).shape.dims()) known = known && d.symbol == Symbol::none;
        if (!known || all_weights) {
            kept.push_back(std::move(node));
            continue;
        }
        std::vector<Array> arrays;
        for (int v : node.inputs) arrays.push_back(array_of(graph.values()[v]));
        std::vector<const Array*> in;
        for (const Array& a : arrays) in.push_back(&a);
        Array out{graph.type_of(node.outputs[0]).shape.bind({}), {}};
        out.data.resize(out.count());
        node.op->evaluate(in, std::span(&out, 1), node.attributes);
        folded[node.outputs[0]] = graph.constant(std::move(out));
        ++changes;
    }
    graph.set_nodes(std::move(kept));
    for (const auto& [from, to] : folded) graph.replace_uses(from, to);
    return changes;
}

}  // namespace busbar
