#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "base/error.h"
#include "ops/op.h"

namespace busbar {

namespace {

ValueType real(std::initializer_list<Dim> dims) {
    return {Kind::real, Shape(dims)};
}
ValueType index(std::initializer_list<Dim> dims) {
    return {Kind::index, Shape(dims)};
}
ValueType state(int64_t heads, int64_t width) {
    return {Kind::state, Shape({heads, width}), StateRole::key};
}

std::vector<ValueType> infer(const OpRow& op, std::vector<ValueType> in, Attributes attributes = {}) {
    check_attributes(op, attributes);
    return op.infer(in, attributes);
}

/// The op's own definition on numbers, its outputs' extents from its shape rule.
Array evaluate(const OpRow& op, std::vector<Array> in, Attributes attributes = {}, std::vector<Kind> kinds = {}) {
    std::vector<ValueType> types;
    std::vector<const Array*> pointers;
    for (size_t i = 0; i < in.size(); ++i) {
        types.push_back({i < kinds.size() ? kinds[i] : Kind::real,
                         Shape(std::vector<Dim>(in[i].extents.begin(), in[i].extents.end()))});
        pointers.push_back(&in[i]);
    }
    Array y{infer(op, types, attributes)[0].shape.bind({}), {}};
    y.data.resize(y.count());
    op.evaluate(pointers, {&y, 1}, attributes);
    return y;
}

/// The message of the Error that an op's shape rule throws.
std::string refused(const OpRow& op, std::vector<ValueType> in, Attributes attributes = {}) {
    try {
        infer(op, std::move(in), std::move(attributes));
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
        return e.what();
    }
    return "accepted";
}

TEST(OpTable, names_are_unique_and_found) {
    std::set<std::string_view> names;
    for (const OpRow* op : op_table()) {
        EXPECT_TRUE(names.insert(op->name).second) << op->name;
        EXPECT_EQ(find_op(op->name), op);
    }
    EXPECT_EQ(find_op("rms_nrom"), nullptr);
    EXPECT_EQ(find_op(""), nullptr);
}

TEST(OpTable, every_row_is_whole) {
    for (const OpRow* op : op_table()) {
        EXPECT_NE(op->infer, nullptr) << op->name;
        EXPECT_NE(op->cost, nullptr) << op->name;
        EXPECT_FALSE(op->doc.empty()) << op->name;
        EXPECT_FALSE(op->outputs.empty()) << op->name;
        EXPECT_TRUE(op->is_core() || op->evaluate == nullptr) << op->name << " has two definitions";
        // Only what touches a state, whose layout is the chip's, has no definition in numbers.
        if (op->is_core() && !op->evaluate) {
            EXPECT_EQ(op->inputs[0].kind, Kind::state) << op->name;
        }
        std::set<std::string_view> names;
        for (const InputSpec& i : op->inputs) {
            EXPECT_TRUE(names.insert(i.name).second) << op->name;
            EXPECT_FALSE(i.meaning.empty()) << op->name;
            EXPECT_TRUE(!i.variadic || &i == &op->inputs.back()) << op->name;
        }
        for (const AttributeSpec& a : op->attributes) EXPECT_FALSE(a.meaning.empty()) << op->name;
        if (op->updates_input >= 0) {
            EXPECT_EQ(op->inputs.at(op->updates_input).kind, Kind::state) << op->name;
        }
    }
}

TEST(Attributes, print_in_a_stable_order_and_keep_their_types) {
    Attributes a{{"window", int64_t{64}},
                 {"pairing", std::string("half")},
                 {"epsilon", 1e-5},
                 {"order", std::vector<int64_t>{1, 0}}};
    EXPECT_EQ(a.print(), "epsilon=1e-05 order=[1,0] pairing=half window=64");
    EXPECT_EQ(a.integer("window"), 64);
    EXPECT_EQ(a.real("epsilon"), 1e-5);
    EXPECT_EQ(a.word("pairing"), "half");
    a.set("window", int64_t{0});
    EXPECT_EQ(a.integer("window"), 0);
    EXPECT_EQ(Attributes{}.print(), "");
}

TEST(AttributesDeathTest, wrong_ones_are_our_mistake) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(check_attributes(op_rms_norm, {}), testing::ExitedWithCode(70), "lacks attribute epsilon");
    EXPECT_EXIT(check_attributes(op_rms_norm, {{"epsilon", int64_t{1}}}), testing::ExitedWithCode(70), "another type");
    EXPECT_EXIT(check_attributes(op_silu, {{"epsilon", 1e-5}}), testing::ExitedWithCode(70), "unknown attribute");
    EXPECT_EXIT(Attributes{}.real("epsilon"), testing::ExitedWithCode(70), "epsilon");
}

TEST(Shapes, broadcast_as_numpy_does) {
    EXPECT_EQ(infer(op_add, {real({Symbol::rows, 8}), real({8})})[0], real({Symbol::rows, 8}));
    EXPECT_EQ(infer(op_add, {real({}), real({3, 1})})[0], real({3, 1}));
    EXPECT_EQ(infer(op_multiply, {real({Symbol::rows, 1, 7}), real({4, 1})})[0], real({Symbol::rows, 4, 7}));
    EXPECT_EQ(infer(op_select, {index({Symbol::rows, 1, 1, Symbol::slots}), real({Symbol::rows, 2, 3, Symbol::slots}),
                                real({})})[0],
              real({Symbol::rows, 2, 3, Symbol::slots}));
    EXPECT_NE(
        refused(op_add, {real({3}), real({4})}).find("[add] expected extents that match or are 1, got [3] and [4]"),
        std::string::npos);
    // A symbol is not any number: rows never stretch over logit rows.
    EXPECT_NE(refused(op_add, {real({Symbol::rows}), real({Symbol::logit_rows})}), "accepted");
    EXPECT_NE(refused(op_add, {real({3}), index({3})}), "accepted");
}

TEST(Shapes, of_products_and_moves) {
    EXPECT_EQ(infer(op_matmul, {real({Symbol::rows, 576}), real({1536, 576})})[0], real({Symbol::rows, 1536}));
    EXPECT_EQ(infer(op_matmul, {real({Symbol::rows, 9, 64}), real({3, 64})})[0], real({Symbol::rows, 9, 3}));
    EXPECT_NE(refused(op_matmul, {real({Symbol::rows, 576}), real({576, 1536})}), "accepted");
    EXPECT_NE(refused(op_matmul, {real({}), real({5, 1})}), "accepted");
    const auto many = infer(op_multi_matmul, {real({Symbol::rows, 8}), real({4, 8}), real({2, 8}), real({1, 8})});
    ASSERT_EQ(many.size(), 3u);
    EXPECT_EQ(many[2], real({Symbol::rows, 1}));
    EXPECT_EQ(infer(op_batch_matmul, {real({Symbol::rows, 3, 2, 8}), real({3, 8, Symbol::slots})})[0],
              real({Symbol::rows, 3, 2, Symbol::slots}));
    EXPECT_NE(refused(op_batch_matmul, {real({3, 4}), real({5, 3})}), "accepted");
    EXPECT_EQ(infer(op_gather_rows, {real({49152, 576}), index({Symbol::rows})})[0], real({Symbol::rows, 576}));
    EXPECT_EQ(infer(op_gather_rows, {index({4, 2}), index({Symbol::rows})})[0], index({Symbol::rows, 2}));
    EXPECT_NE(refused(op_gather_rows, {real({4, 2}), real({3})}), "accepted");
    EXPECT_EQ(infer(op_reshape, {real({Symbol::rows, 24})}, {{"extents", std::vector<int64_t>{0, 4, 6}}})[0],
              real({Symbol::rows, 4, 6}));
    EXPECT_EQ(infer(op_reshape, {index({Symbol::rows})}, {{"extents", std::vector<int64_t>{0, 1}}})[0],
              index({Symbol::rows, 1}));
    EXPECT_NE(refused(op_reshape, {real({Symbol::rows, 24})}, {{"extents", std::vector<int64_t>{0, 5, 5}}}),
              "accepted");
    EXPECT_EQ(infer(op_transpose, {real({Symbol::slots, 3, 8})}, {{"order", std::vector<int64_t>{1, 2, 0}}})[0],
              real({3, 8, Symbol::slots}));
    EXPECT_NE(refused(op_transpose, {real({2, 3})}, {{"order", std::vector<int64_t>{0, 2}}}), "accepted");
    EXPECT_NE(refused(op_transpose, {real({2, 3})}, {{"order", std::vector<int64_t>{0}}}), "accepted");
    EXPECT_EQ(infer(op_slice, {real({Symbol::rows, 9})},
                    {{"begin", int64_t{1}}, {"end", int64_t{8}}, {"step", int64_t{3}}})[0],
              real({Symbol::rows, 3}));
    for (auto [begin, end, step] : std::vector<std::array<int64_t, 3>>{{-1, 3, 1}, {0, 10, 1}, {5, 4, 1}, {0, 9, 0}})
        EXPECT_NE(refused(op_slice, {real({Symbol::rows, 9})}, {{"begin", begin}, {"end", end}, {"step", step}}),
                  "accepted")
            << begin;
    EXPECT_NE(refused(op_slice, {real({3, Symbol::slots})},
                      {{"begin", int64_t{0}}, {"end", int64_t{0}}, {"step", int64_t{1}}}),
              "accepted");
    EXPECT_EQ(infer(op_concat, {real({Symbol::rows, 3}), real({Symbol::rows, 4})})[0], real({Symbol::rows, 7}));
    EXPECT_NE(refused(op_concat, {real({2, 3}), real({3, 3})}), "accepted");
    EXPECT_EQ(infer(op_sum, {real({Symbol::rows, 7})})[0], real({Symbol::rows, 1}));
    EXPECT_NE(refused(op_max, {real({})}), "accepted");
}

TEST(Shapes, of_composites_and_states) {
    const Attributes epsilon{{"epsilon", 1e-5}};
    EXPECT_EQ(infer(op_rms_norm, {real({Symbol::rows, 8}), real({8})}, epsilon)[0], real({Symbol::rows, 8}));
    EXPECT_NE(refused(op_rms_norm, {real({Symbol::rows, 8}), real({7})}, epsilon), "accepted");
    EXPECT_EQ(infer(op_add_rms_norm, {real({Symbol::rows, 8}), real({Symbol::rows, 8}), real({8})}, epsilon).size(),
              2u);
    EXPECT_NE(refused(op_add_rms_norm, {real({Symbol::rows, 8}), real({8}), real({8})}, epsilon), "accepted");
    EXPECT_NE(refused(op_gated_silu, {real({3}), real({4})}), "accepted");
    const auto tables = infer(op_rotary_table, {index({Symbol::rows}), real({32})}, {{"scale", 1.0}});
    EXPECT_EQ(tables[1], real({Symbol::rows, 32}));
    const Attributes half{{"pairing", std::string("half")}}, other{{"pairing", std::string("quarter")}};
    const ValueType x = real({Symbol::rows, 9, 64}), angles = real({Symbol::rows, 32}), wide = real({Symbol::rows, 33});
    EXPECT_EQ(infer(op_rotate, {x, angles, angles}, half)[0], x);
    EXPECT_NE(refused(op_rotate, {x, wide, wide}, half), "accepted");
    EXPECT_NE(refused(op_rotate, {x, angles, wide}, half), "accepted");
    EXPECT_NE(refused(op_rotate, {x, angles, angles}, other).find("quarter"), std::string::npos);

    const ValueType rows = index({Symbol::rows}), table = index({2, 4});
    const Attributes a{{"scale", 0.125}, {"window", int64_t{0}}};
    EXPECT_EQ(infer(op_attention, {x, state(3, 64), state(3, 16), rows, rows, table}, a)[0],
              real({Symbol::rows, 9, 16}));
    EXPECT_NE(refused(op_attention, {x, state(2, 64), state(2, 64), rows, rows, table}, a),
              "accepted");  // 9 heads over 2
    EXPECT_NE(refused(op_attention, {x, state(3, 32), state(3, 64), rows, rows, table}, a), "accepted");
    EXPECT_NE(refused(op_attention, {x, x, state(3, 64), rows, rows, table}, a), "accepted");
    EXPECT_EQ(infer(op_cache_append, {state(3, 64), real({Symbol::rows, 3, 64}), rows, rows, table})[0], state(3, 64));
    EXPECT_NE(refused(op_cache_append, {state(3, 64), real({Symbol::rows, 4, 64}), rows, rows, table}), "accepted");
    EXPECT_EQ(infer(op_cache_gather, {state(3, 64), table})[0], real({Symbol::slots, 3, 64}));
}

TEST(Evaluate, products_by_hand) {
    EXPECT_EQ(evaluate(op_matmul, {{{2, 3}, {1, 2, 3, 4, 5, 6}}, {{2, 3}, {1, 0, -1, 2, 2, 2}}}).data,
              (std::vector<double>{-2, 12, -2, 30}));
    // {2, 1, 2} times {2, 2, 2}, batch by batch: [1 2] [[5 6] [7 8]], [3 4] [[1 0] [0 1]]
    EXPECT_EQ(evaluate(op_batch_matmul, {{{2, 1, 2}, {1, 2, 3, 4}}, {{2, 2, 2}, {5, 6, 7, 8, 1, 0, 0, 1}}}).data,
              (std::vector<double>{19, 22, 3, 4}));
    EXPECT_EQ(evaluate(op_batch_matmul, {{{2, 1, 2}, {1, 2, 3, 4}}, {{2, 1}, {1, 10}}}).data,
              (std::vector<double>{21, 43}));
}

TEST(Evaluate, reductions) {
    const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
    const Array x{{4, 3}, {1, -2, 4, nan, 1, 2, 5, nan, 9, -inf, -inf, -inf}};
    const Array sum = evaluate(op_sum, {x}), mean = evaluate(op_mean, {x}), max = evaluate(op_max, {x});
    EXPECT_EQ(sum.extents, (std::vector<int64_t>{4, 1}));
    EXPECT_EQ(sum.data[0], 3);
    EXPECT_EQ(mean.data[0], 1);
    EXPECT_EQ(max.data[0], 4);
    for (int r : {1, 2}) EXPECT_TRUE(std::isnan(max.data[r]) && std::isnan(sum.data[r])) << r;
    EXPECT_EQ(max.data[3], -inf);
}

TEST(Evaluate, moves_by_index) {
    std::mt19937_64 engine(20240607);
    Array x{{3, 4, 5}, {}};
    for (int i = 0; i < 60; ++i) x.data.push_back(static_cast<double>(engine() % 1000));
    const std::vector<int64_t> order = {2, 0, 1};
    const Array t = evaluate(op_transpose, {x}, {{"order", order}});
    ASSERT_EQ(t.extents, (std::vector<int64_t>{5, 3, 4}));
    for (int64_t i = 0; i < 5; ++i)
        for (int64_t j = 0; j < 3; ++j)
            for (int64_t k = 0; k < 4; ++k) EXPECT_EQ(t.data[(i * 3 + j) * 4 + k], x.data[(j * 4 + k) * 5 + i]);
    const Array s = evaluate(op_slice, {x}, {{"begin", int64_t{1}}, {"end", int64_t{5}}, {"step", int64_t{2}}});
    ASSERT_EQ(s.extents, (std::vector<int64_t>{3, 4, 2}));
    for (int64_t r = 0; r < 12; ++r)
        for (int64_t k = 0; k < 2; ++k) EXPECT_EQ(s.data[r * 2 + k], x.data[r * 5 + 1 + 2 * k]);
    const Array c = evaluate(op_concat, {s, x});
    ASSERT_EQ(c.extents, (std::vector<int64_t>{3, 4, 7}));
    for (int64_t r = 0; r < 12; ++r)
        for (int64_t k = 0; k < 7; ++k) EXPECT_EQ(c.data[r * 7 + k], k < 2 ? s.data[r * 2 + k] : x.data[r * 5 + k - 2]);
    EXPECT_EQ(
        evaluate(op_gather_rows, {{{3, 2}, {1, 2, 3, 4, 5, 6}}, {{4}, {2, 0, 2, 1}}}, {}, {Kind::real, Kind::index})
            .data,
        (std::vector<double>{5, 6, 1, 2, 5, 6, 3, 4}));
    EXPECT_EQ(evaluate(op_select, {{{2, 1}, {0, 7}}, {{3}, {1, 2, 3}}, {{}, {9}}}, {}, {Kind::index}).data,
              (std::vector<double>{9, 9, 9, 1, 2, 3}));
    EXPECT_EQ(evaluate(op_subtract, {{{2, 1}, {10, 20}}, {{1, 2}, {1, 2}}}).data, (std::vector<double>{9, 8, 19, 18}));
}

TEST(Evaluate, mask_shows_a_sequence_its_own_past) {
    // Two sequences of one page; the row is at position 5 of sequence 1.
    for (int64_t window : {0, 1, 3, 100}) {
        const Array position{{1}, {5}}, sequence{{1}, {1}}, table{{2, 1}, {0, 1}};
        const std::vector<const Array*> in = {&position, &sequence, &table};
        Array mask{{1, 1, 1, 2 * page_positions}, std::vector<double>(2 * page_positions)};
        op_cache_mask.evaluate(in, std::span(&mask, 1), {{"window", window}});
        for (int64_t slot = 0; slot < 2 * page_positions; ++slot) {
            const int64_t p = slot - page_positions;
            const bool visible = p >= 0 && p <= 5 && (window == 0 || p > 5 - window);
            EXPECT_EQ(mask.data[slot], visible) << slot << " window " << window;
        }
    }
}

TEST(Cost, counts_what_a_node_does) {
    Binding b;
    b.rows = 10;
    b.sequences = 2;
    b.context = 128;
    const std::vector<ValueType> in = {real({Symbol::rows, 576}), real({1536, 576})},
                                 out = {real({Symbol::rows, 1536})};
    const Cost product = op_matmul.cost(in, out, b);
    EXPECT_EQ(product.flops, 2.0 * 10 * 576 * 1536);
    EXPECT_EQ(product.bytes, 4.0 * 10 * (576 + 1536));  // the weight is the plan's to add
    const std::vector<ValueType> x = {real({Symbol::rows, 8})};
    EXPECT_EQ(op_exp.cost(x, x, b).bytes, 2.0 * 4 * 80);
    for (const OpRow* op : op_table()) {
        if (op->inputs.size() != 1 || op->inputs[0].kind != Kind::real) continue;
        const Cost c = op->cost(x, x, b);
        EXPECT_GE(c.flops, 0) << op->name;
        EXPECT_GT(c.bytes, 0) << op->name;
    }
}

}  // namespace

}  // namespace busbar
