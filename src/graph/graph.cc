#include "graph/graph.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "base/check.h"
#include "base/error.h"

namespace busbar {

int Graph::add_value(Value value) {
    values_.push_back(std::move(value));
    return static_cast<int>(values_.size()) - 1;
}

int Graph::step_input(std::string name, ValueType type) {
    for (size_t i = 0; i < values_.size(); ++i)
        if (values_[i].source == Source::step && values_[i].name == name) return static_cast<int>(i);
    return add_value({std::move(name), std::move(type), Source::step, -1, nullptr, {}});
}

int Graph::weight(std::shared_ptr<const StoredTensor> tensor) {
    for (size_t i = 0; i < values_.size(); ++i)
        if (values_[i].source == Source::weight && values_[i].weight->name == tensor->name) return static_cast<int>(i);
    std::vector<Dim> dims(tensor->shape.begin(), tensor->shape.end());
    std::string name = tensor->name;
    return add_value(
        {std::move(name), {Kind::real, Shape(std::move(dims))}, Source::weight, -1, std::move(tensor), {}});
}

int Graph::state(std::string name, ValueType type) {
    return add_value({std::move(name), std::move(type), Source::state, -1, nullptr, {}});
}

int Graph::constant(Array array) {
    std::vector<Dim> dims(array.extents.begin(), array.extents.end());
    return add_value({fmt::format("constant.{}", values_.size()),
                      {Kind::real, Shape(std::move(dims))},
                      Source::constant,
                      -1,
                      nullptr,
                      std::move(array)});
}

std::vector<int> Graph::emit(const OpRow& op, std::span<const int> inputs, Attributes attributes) {
    std::string name = next_name_.empty() ? std::string(op.name) : next_name_;
    next_name_.clear();
    if (!scope_.empty()) name = scope_ + "." + name;
    const bool variadic = op.inputs.back().variadic;
    BUSBAR_CHECK(variadic ? inputs.size() >= op.inputs.size() : inputs.size() == op.inputs.size(), name);
    check_attributes(op, attributes);
    std::vector<ValueType> types;
    for (int v : inputs) {
        BUSBAR_CHECK(v >= 0 && v < static_cast<int>(values_.size()), name);
        types.push_back(values_[v].type);
    }
    std::vector<ValueType> out_types;
    try {
        out_types = op.infer(types, attributes);
    } catch (const Error& e) {
        throw Error(e.code(), fmt::format("node {}", name), e.what());
    }
    Node node{&op, name, {inputs.begin(), inputs.end()}, {}, std::move(attributes)};
    const int index = static_cast<int>(nodes_.size());
    for (size_t i = 0; i < out_types.size(); ++i) {
        const std::string suffix = out_types.size() == 1 ? "" : fmt::format(":{}", i);
        node.outputs.push_back(add_value({name + suffix, std::move(out_types[i]), Source::node, index, nullptr, {}}));
    }
    nodes_.push_back(node);
    return node.outputs;
}

void Graph::set_nodes(std::vector<Node> nodes) {
    nodes_ = std::move(nodes);
    for (size_t i = 0; i < nodes_.size(); ++i)
        for (int v : nodes_[i].outputs) {
            values_[v].source = Source::node;
            values_[v].node = static_cast<int>(i);
        }
}

void Graph::replace_uses(int from, int to) {
    for (Node& n : nodes_)
        for (int& v : n.inputs)
            if (v == from) v = to;
    for (int& v : outputs)
        if (v == from) v = to;
}

void Graph::compact() {
    std::vector<char> live(values_.size(), 0), keep(nodes_.size(), 0);
    for (int v : outputs) live[v] = 1;
    for (size_t i = nodes_.size(); i-- > 0;) {
        const Node& n = nodes_[i];
        keep[i] = n.op->updates_input >= 0;  // what changes a state is never dead
        for (int v : n.outputs) keep[i] |= live[v];
        if (!keep[i]) continue;
        for (int v : n.inputs) live[v] = 1;
        for (int v : n.outputs) live[v] = 1;
    }
    // Inputs stand before what uses them; the step inputs are kept in any case, they are the model's signature.
    std::vector<int> renumbered(values_.size(), -1);
    std::vector<Value> values;
    for (size_t v = 0; v < values_.size(); ++v) {
        if (!live[v] && values_[v].source != Source::step) continue;
        renumbered[v] = static_cast<int>(values.size());
        values.push_back(std::move(values_[v]));
    }
    std::vector<Node> nodes;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        if (!keep[i]) continue;
        Node n = std::move(nodes_[i]);
        for (int& v : n.inputs) v = renumbered[v];
        for (int& v : n.outputs) {
            v = renumbered[v];
            values[v].node = static_cast<int>(nodes.size());
        }
        nodes.push_back(std::move(n));
    }
    for (int& v : outputs) v = renumbered[v];
    values_ = std::move(values);
    nodes_ = std::move(nodes);
}

void Graph::verify() const {
    std::vector<char> defined(values_.size(), 0);
    for (size_t v = 0; v < values_.size(); ++v) defined[v] = values_[v].source != Source::node;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        const Node& n = nodes_[i];
        const std::string where = fmt::format("node {} {}", i, n.name);
        check_attributes(*n.op, n.attributes);
        std::vector<ValueType> types;
        for (int v : n.inputs) {
            BUSBAR_CHECK(v >= 0 && v < static_cast<int>(values_.size()) && defined[v],
                         where + " reads a value that nothing before it makes");
            types.push_back(values_[v].type);
        }
        const std::vector<ValueType> expected = n.op->infer(types, n.attributes);
        BUSBAR_CHECK(expected.size() == n.outputs.size(), where);
        for (size_t o = 0; o < n.outputs.size(); ++o) {
            const int v = n.outputs[o];
            BUSBAR_CHECK(!defined[v], where + " makes a value twice");
            BUSBAR_CHECK(values_[v].source == Source::node && values_[v].node == static_cast<int>(i),
                         where + " is not its output's producer");
            BUSBAR_CHECK(values_[v].type == expected[o],
                         where + fmt::format(": type {} is not {}", values_[v].type.print(), expected[o].print()));
            defined[v] = 1;
        }
    }
    for (int v : outputs)
        BUSBAR_CHECK(v >= 0 && v < static_cast<int>(values_.size()) && defined[v], "an output that nothing makes");
}

std::string Graph::print() const {
    std::string out = fmt::format("graph  {}\n", title);
    static const char* const words[] = {"step", "weight", "constant", "state"};
    std::vector<std::string> labels;
    for (size_t v = 0; v < values_.size(); ++v) {
        labels.push_back(fmt::format("%{}", v));
        const Value& value = values_[v];
        if (value.source == Source::node) continue;
        out += fmt::format("{:>6} = {:<8} {}", labels[v], words[static_cast<int>(value.source)], value.type.print());
        if (value.source == Source::weight) out += fmt::format(" {} {}", value.weight->encoding->name, value.name);
        if (value.source == Source::step || value.source == Source::state) out += " " + value.name;
        if (value.source == Source::constant && value.constant.data.size() == 1)
            out += fmt::format(" {}", value.constant.data[0]);
        out += '\n';
    }
    for (const Node& n : nodes_) {
        std::vector<std::string> outs, ins;
        for (int v : n.outputs) outs.push_back(labels[v]);
        for (int v : n.inputs) ins.push_back(labels[v]);
        out += fmt::format("{:>6} = {:<13} {}", fmt::join(outs, " "), n.op->name, fmt::join(ins, " "));
        if (!n.attributes.items().empty()) out += "  " + n.attributes.print();
        out += fmt::format("  -> {}  # {}\n", values_[n.outputs[0]].type.print(), n.name);
    }
    std::vector<std::string> outs;
    for (int v : outputs) outs.push_back(labels[v]);
    return out + fmt::format("return {}\n", fmt::join(outs, " "));
}

Graph expand(const Graph& graph, bool deep, const std::function<bool(const Node&)>& wanted) {
    Graph current = graph;
    while (true) {
        Graph next;
        next.title = current.title;
        std::map<int, int> renamed;
        for (size_t v = 0; v < current.values().size(); ++v)
            if (current.values()[v].source != Source::node)
                renamed[static_cast<int>(v)] = next.add_value(current.values()[v]);
        bool changed = false;
        for (const Node& n : current.nodes()) {
            std::vector<int> inputs;
            for (int v : n.inputs) inputs.push_back(renamed.at(v));
            std::vector<int> outs;
            if (!n.op->is_core() && (!wanted || wanted(n))) {
                next.scope(n.name);
                outs = n.op->define(next, inputs, n.attributes);
                next.scope("");
                changed = true;
            } else {
                outs = next.named(n.name).emit(*n.op, inputs, n.attributes);
            }
            BUSBAR_CHECK(outs.size() == n.outputs.size(), n.name);
            for (size_t o = 0; o < outs.size(); ++o) renamed[n.outputs[o]] = outs[o];
        }
        for (int v : current.outputs) next.outputs.push_back(renamed.at(v));
        current = std::move(next);
        if (!deep || !changed) break;
    }
    current.verify();
    return current;
}

}  // namespace busbar
