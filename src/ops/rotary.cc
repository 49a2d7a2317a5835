// Rotary position embedding [Su et al. 2021]: a table of angles once per step, then a rotation per head.
#include "ops/builder.h"
#include "ops/infer.h"

namespace busbar {

namespace {

std::vector<ValueType> infer_table(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op_rotary_table, in[0], Kind::index, "positions");
    expect_rank(op_rotary_table, in[0], 1, "positions");
    expect_rank(op_rotary_table, in[1], 1, "frequencies");
    const ValueType t{Kind::real, Shape({in[0].shape[0], in[1].shape[0]})};
    return {t, t};
}

std::vector<int> define_table(Builder& b, std::span<const int> in, const Attributes& a) {
    // Positions are whole numbers; adding them to a real makes them real.
    const int64_t half = b.type_of(in[1]).shape[0].n;
    const int column = b.reshape(in[0], {0, 1});
    const int row = b.reshape(in[1], {1, half});
    const int angles = b.one(op_multiply, {b.one(op_select, {column, column, column}), row});
    const int scale = b.scalar(a.real("scale"));
    return {b.multiply(b.one(op_cos, {angles}), scale), b.multiply(b.one(op_sin, {angles}), scale)};
}

std::vector<ValueType> infer_rotate(std::span<const ValueType> in, const Attributes& a) {
    expect_rank(op_rotate, in[0], 3, "x");
    expect_rank(op_rotate, in[1], 2, "cos");
    if (in[1] != in[2])
        throw bad_input("", "[rotate] expected cos and sin of equal extents, got {} and {}", in[1].print(),
                        in[2].print());
    expect_dim(op_rotate, in[1].shape[0], in[0].shape[0], "the rows of cos");
    if (2 * in[1].shape[1].n > in[0].shape[2].n)
        throw bad_input("", "[rotate] expected at most {} angles, got {}", in[0].shape[2].n / 2, in[1].shape[1].n);
    const std::string& pairing = a.word("pairing");
    if (pairing != "half" && pairing != "interleaved")
        throw bad_input("", "[rotate] expected pairing half or interleaved, got {}", quote(pairing));
    return {in[0]};
}

std::vector<int> define_rotate(Builder& b, std::span<const int> in, const Attributes& a) {
    const int x = in[0];
    const int64_t half = b.type_of(in[1]).shape[1].n, heads = b.type_of(x).shape[1].n, width = b.type_of(x).shape[2].n;
    const int cos = b.reshape(in[1], {0, 1, half}), sin = b.reshape(in[2], {0, 1, half});
    const bool interleaved = a.word("pairing") == "interleaved";
    const int first = interleaved ? b.slice(x, 0, 2 * half, 2) : b.slice(x, 0, half);
    const int second = interleaved ? b.slice(x, 1, 2 * half, 2) : b.slice(x, half, 2 * half);
    const int y1 = b.subtract(b.multiply(first, cos), b.multiply(second, sin));
    const int y2 = b.add(b.multiply(second, cos), b.multiply(first, sin));
    int y = interleaved ? b.reshape(b.concat(b.reshape(y1, {0, heads, half, 1}), b.reshape(y2, {0, heads, half, 1})),
                                    {0, heads, 2 * half})
                        : b.concat(y1, y2);
    if (2 * half < width) y = b.concat(y, b.slice(x, 2 * half, width));
    return {y};
}

Cost cost_rotary(std::span<const ValueType> in, std::span<const ValueType> out, const Binding& b) {
    const auto n = static_cast<double>(out[0].shape.count(b));
    return {3 * n, 8 * n};
}

}  // namespace

const OpRow op_rotary_table = {"rotary_table",
                               "cos = scale * cos(position * frequency), sin likewise: one row per row of the step",
                               {{"positions", "rows", Kind::index}, {"frequencies", "angles; radians per position"}},
                               {"cos", "sin"},
                               {{"scale", AttributeType::real, "factor on both (yarn's attention factor), else 1"}},
                               infer_table,
                               cost_rotary,
                               nullptr,
                               define_table};
const OpRow op_rotate = {"rotate",
                         "pairs (a, b) of each head become (a cos - b sin, b cos + a sin); elements past the angles "
                         "pass through [Su et al. 2021]",
                         {{"x", "rows, heads, width"}, {"cos", "rows, angles"}, {"sin", "rows, angles"}},
                         {"y"},
                         {{"pairing", AttributeType::word, "half: (i, i + angles); interleaved: (2i, 2i + 1)"}},
                         infer_rotate,
                         cost_rotary,
                         nullptr,
                         define_rotate};

}  // namespace busbar
