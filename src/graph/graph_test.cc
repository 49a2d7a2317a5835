#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "base/error.h"
#include "graph/graph.h"

namespace busbar {

namespace {

std::shared_ptr<const StoredTensor> tensor(std::string name, std::vector<int64_t> shape) {
    StoredTensor t;
    t.name = std::move(name);
    t.encoding = &encoding_f32;
    t.shape = std::move(shape);
    return std::make_shared<StoredTensor>(std::move(t));
}

/// embed, norm, product: small, with a composite in the middle.
Graph small_graph() {
    Graph g;
    g.title = "small";
    const int ids = g.step_input("token_ids", {Kind::index, Shape({Symbol::rows})});
    const int x = g.named("embed").one(op_gather_rows, {g.weight(tensor("token_embd", {10, 4})), ids});
    g.scope("layer.0");
    const int n = g.named("norm").one(op_rms_norm, {x, g.weight(tensor("norm.weight", {4}))}, {{"epsilon", 1e-5}});
    const int y = g.one(op_matmul, {n, g.weight(tensor("w", {6, 4}))});
    g.outputs = {y};
    return g;
}

/// Runs a graph of core ops on host arrays: the op rows' own definitions, nothing else.
std::vector<Array> evaluate(const Graph& g, std::map<int, Array> values) {
    for (size_t v = 0; v < g.values().size(); ++v)
        if (g.values()[v].source == Source::constant) values[static_cast<int>(v)] = g.values()[v].constant;
    for (const Node& n : g.nodes()) {
        std::vector<const Array*> in;
        for (int v : n.inputs) in.push_back(&values.at(v));
        std::vector<Array> out;
        for (int v : n.outputs) {
            Array a{g.type_of(v).shape.bind({}), {}};
            a.data.resize(a.count());
            out.push_back(std::move(a));
        }
        n.op->evaluate(in, out, n.attributes);
        for (size_t o = 0; o < out.size(); ++o) values[n.outputs[o]] = std::move(out[o]);
    }
    std::vector<Array> outputs;
    for (int v : g.outputs) outputs.push_back(values.at(v));
    return outputs;
}

TEST(Graph, prints_stably) {
    const Graph g = small_graph();
    g.verify();
    const std::string text = g.print();
    EXPECT_EQ(text, small_graph().print());
    for (const char* piece : {"graph  small", "token_ids", "f32 token_embd", "rms_norm", "epsilon=1e-05",
                              "-> real[rows, 6]", "# layer.0.norm", "return %"})
        EXPECT_NE(text.find(piece), std::string::npos) << piece << " in\n" << text;
}

TEST(Graph, same_inputs_are_one_value) {
    Graph g;
    const auto w = tensor("w", {2, 2});
    EXPECT_EQ(g.weight(w), g.weight(w));
    EXPECT_EQ(g.step_input("positions", {Kind::index, Shape({Symbol::rows})}),
              g.step_input("positions", {Kind::index, Shape({Symbol::rows})}));
    EXPECT_NE(g.scalar(1), g.scalar(1));
}

TEST(Graph, a_misfit_names_the_node) {
    Graph g;
    g.scope("layer.7");
    const int x = g.scalar(1);
    try {
        g.named("query").matmul(x, g.weight(tensor("w", {6, 4})));
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.address(), "node layer.7.query");
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
    }
}

TEST(Graph, compact_drops_what_nothing_needs) {
    Graph g;
    const int x = g.constant({{3}, {1, 2, 3}});
    const int used = g.exp(x), unused = g.add(x, g.scalar(2));
    g.exp(unused);
    const int cache = g.state("keys", {Kind::state, Shape({1, 3}), StateRole::key});
    const ValueType rows{Kind::index, Shape({Symbol::rows})};
    const int table = g.step_input("block_table", {Kind::index, Shape({1, 1})});
    const int k = g.reshape(g.constant({{1, 3}, {4, 5, 6}}), {1, 1, 3});
    g.one(op_cache_append, {cache, k, g.step_input("positions", rows), g.step_input("sequences", rows), table});
    g.outputs = {used};
    const size_t before = g.nodes().size();
    g.compact();
    g.verify();
    EXPECT_EQ(before - g.nodes().size(), 2u);  // the unused add and its exp
    EXPECT_EQ(g.nodes().back().op, &op_cache_append) << "what changes a state is never dead";
    EXPECT_EQ(g.nodes()[0].op, &op_exp);
    const std::string text = g.print();
    g.compact();
    EXPECT_EQ(g.print(), text);
}

TEST(Graph, replace_uses_reaches_nodes_and_outputs) {
    Graph g;
    const int x = g.constant({{2}, {1, 2}}), y = g.constant({{2}, {3, 4}});
    const int e = g.exp(x);
    g.outputs = {e, x};
    g.replace_uses(x, y);
    EXPECT_EQ(g.nodes()[0].inputs[0], y);
    EXPECT_EQ(g.outputs[1], y);
}

TEST(GraphDeathTest, verify_finds_broken_graphs) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    Graph g;
    const int x = g.constant({{2}, {1, 2}});
    const int a = g.exp(x);
    g.exp(a);
    std::vector<Node> nodes = g.nodes();
    std::swap(nodes[0], nodes[1]);
    Graph swapped = g;
    swapped.set_nodes(nodes);
    EXPECT_EXIT(swapped.verify(), testing::ExitedWithCode(70), "reads a value that nothing before it makes");
    nodes = g.nodes();
    nodes[1].outputs = nodes[0].outputs;
    Graph twice = g;
    twice.set_nodes(nodes);
    EXPECT_EXIT(twice.verify(), testing::ExitedWithCode(70), "");
    nodes = g.nodes();
    nodes[0].op = &op_sum;
    Graph wrong_type = g;
    wrong_type.set_nodes(nodes);
    EXPECT_EXIT(wrong_type.verify(), testing::ExitedWithCode(70), "type");
    Graph no_output = g;
    no_output.outputs = {77};
    EXPECT_EXIT(no_output.verify(), testing::ExitedWithCode(70), "output");
}

TEST(Expand, one_level_or_down_to_core_ops) {
    Graph g;
    const int x = g.constant({{2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}}), w = g.constant({{4}, {1, 1, 2, 2}});
    const std::vector<int> both = {x, x, w};
    g.outputs = g.named("norm").emit(op_add_rms_norm, both, {{"epsilon", 1e-5}});
    const Graph once = expand(g, false), deep = expand(g, true);
    ASSERT_EQ(once.nodes().size(), 2u);
    EXPECT_EQ(once.nodes()[1].op, &op_rms_norm);
    EXPECT_TRUE(once.nodes()[1].name.starts_with("norm.")) << once.nodes()[1].name;
    for (const Node& n : deep.nodes()) EXPECT_TRUE(n.op->is_core()) << n.op->name;
    EXPECT_EQ(deep.outputs.size(), 2u);
    EXPECT_EQ(expand(deep, true).print(), deep.print()) << "nothing is left to write out";
}

TEST(Expand, only_what_is_wanted) {
    const Graph g = small_graph();
    const Graph same = expand(g, true, [](const Node& n) { return n.op == &op_softmax; });
    ASSERT_EQ(same.nodes().size(), g.nodes().size());
    for (size_t i = 0; i < g.nodes().size(); ++i) {
        EXPECT_EQ(same.nodes()[i].op, g.nodes()[i].op);
        EXPECT_EQ(same.nodes()[i].name, g.nodes()[i].name);
    }
    const Graph e = expand(g, true, [](const Node& n) { return n.op == &op_rms_norm; });
    EXPECT_GT(e.nodes().size(), g.nodes().size());
    EXPECT_EQ(e.nodes().back().name, "layer.0.matmul") << "other nodes keep their names";
}

TEST(Expand, every_composite_of_the_table_keeps_its_types) {
    const ValueType rows{Kind::index, Shape({Symbol::rows})}, table{Kind::index, Shape({2, 3})};
    const auto value = [](Graph& g, std::vector<Dim> dims) {
        Value v;
        v.name = "x";
        v.type = {Kind::real, Shape(std::move(dims))};
        v.source = Source::constant;
        return g.add_value(std::move(v));
    };
    int composites = 0;
    for (const OpRow* op : op_table()) {
        if (op->is_core()) continue;
        ++composites;
        for (const char* pairing : {"half", "interleaved"}) {
            Graph g;
            std::vector<int> in;
            Attributes a;
            for (const AttributeSpec& spec : op->attributes) {
                if (spec.type == AttributeType::real) a.set(std::string(spec.name), 0.5);
                if (spec.type == AttributeType::integer) a.set(std::string(spec.name), int64_t{2});
                if (spec.type == AttributeType::word) a.set(std::string(spec.name), std::string(pairing));
            }
            const bool norm = op == &op_rms_norm || op == &op_add_rms_norm;
            if (op == &op_attention) {
                in = {value(g, {Symbol::rows, 6, 8}),
                      g.state("k", {Kind::state, Shape({3, 8}), StateRole::key}),
                      g.state("v", {Kind::state, Shape({3, 4}), StateRole::value}),
                      g.step_input("positions", rows),
                      g.step_input("sequences", rows),
                      g.step_input("block_table", table)};
            } else if (op == &op_rotary_table) {
                in = {g.step_input("positions", rows), value(g, {4})};
            } else if (op == &op_rotate) {
                in = {value(g, {Symbol::rows, 2, 9}), value(g, {Symbol::rows, 4}), value(g, {Symbol::rows, 4})};
            } else if (op == &op_multi_matmul) {
                in = {value(g, {Symbol::rows, 8}), value(g, {3, 8}), value(g, {5, 8})};
            } else {
                for (size_t i = 0; i < op->inputs.size(); ++i)
                    in.push_back(norm && i + 1 == op->inputs.size() ? value(g, {8}) : value(g, {Symbol::rows, 8}));
            }
            g.outputs = g.emit(*op, in, a);
            const Graph deep = expand(g, true);
            ASSERT_EQ(deep.outputs.size(), g.outputs.size()) << op->name;
            for (size_t o = 0; o < g.outputs.size(); ++o)
                EXPECT_EQ(deep.type_of(deep.outputs[o]).print(), g.type_of(g.outputs[o]).print()) << op->name;
            for (const Node& n : deep.nodes()) EXPECT_TRUE(n.op->is_core()) << op->name << " leaves " << n.op->name;
        }
    }
    EXPECT_GE(composites, 9);
}

TEST(Expand, computes_the_formula) {
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    const double epsilon = 1e-3;
    Graph g;
    Array x{{3, 5}, {}}, w{{5}, {}};
    for (int i = 0; i < 15; ++i) x.data.push_back(normal(engine));
    for (int i = 0; i < 5; ++i) w.data.push_back(normal(engine));
    const int in = g.constant(x);
    g.outputs = {g.one(op_rms_norm, {in, g.constant(w)}, {{"epsilon", epsilon}}), g.one(op_softmax, {in}),
                 g.one(op_silu, {in})};
    const std::vector<Array> y = evaluate(expand(g, true), {});
    for (int r = 0; r < 3; ++r) {
        double squares = 0, exps = 0;
        for (int i = 0; i < 5; ++i) {
            squares += std::pow(x.data[r * 5 + i], 2);
            exps += std::exp(x.data[r * 5 + i]);
        }
        for (int i = 0; i < 5; ++i) {
            const double v = x.data[r * 5 + i];
            EXPECT_NEAR(y[0].data[r * 5 + i], v / std::sqrt(squares / 5 + epsilon) * w.data[i], 1e-13)
                << "seed " << seed;
            EXPECT_NEAR(y[1].data[r * 5 + i], std::exp(v) / exps, 1e-13) << "seed " << seed;
            EXPECT_NEAR(y[2].data[r * 5 + i], v / (1 + std::exp(-v)), 1e-13) << "seed " << seed;
        }
    }
}

TEST(Expand, rotates_pairs_of_either_kind) {
    for (const char* pairing : {"half", "interleaved"}) {
        Graph g;
        Array x{{1, 1, 5}, {1, 2, 3, 4, 9}}, cos{{1, 2}, {0, 1}},
            sin{{1, 2}, {1, 0}};  // the first pair by 90 degrees, the second not
        g.outputs = {
            g.one(op_rotate, {g.constant(x), g.constant(cos), g.constant(sin)}, {{"pairing", std::string(pairing)}})};
        const std::vector<double> expected =
            std::string(pairing) == "half" ? std::vector<double>{-3, 2, 1, 4, 9} : std::vector<double>{-2, 1, 3, 4, 9};
        EXPECT_EQ(evaluate(expand(g, true), {})[0].data, expected) << pairing;
    }
}

}  // namespace

}  // namespace busbar
