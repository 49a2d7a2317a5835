// Core ops that move values and compute nothing. In `extents` of reshape, 0 keeps the leading extent of the input (a
// symbol).
#include "ops/infer.h"

namespace busbar {

namespace {

std::vector<ValueType> infer_gather(std::span<const ValueType> in, const Attributes&) {
    expect_rank(op_gather_rows, in[0], 2, "table");
    expect_kind(op_gather_rows, in[1], Kind::index, "ids");
    expect_rank(op_gather_rows, in[1], 1, "ids");
    return {{in[0].kind, Shape({in[1].shape[0], in[0].shape[1]})}};
}

Cost cost_moved(std::span<const ValueType>, std::span<const ValueType> out, const Binding& b) {
    return {0, 8.0 * static_cast<double>(out[0].shape.count(b))};
}

void evaluate_gather(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    const int64_t width = in[0]->extents[1];
    for (int64_t r = 0; r < out[0].extents[0]; ++r) {
        const auto id = static_cast<int64_t>(in[1]->data[r]);
        for (int64_t k = 0; k < width; ++k) out[0].data[r * width + k] = in[0]->data[id * width + k];
    }
}

std::vector<ValueType> infer_reshape(std::span<const ValueType> in, const Attributes& a) {
    std::vector<Dim> dims;
    Binding ones;
    int64_t before = 1, after = 1;
    const auto& extents = a.integers("extents");
    for (size_t i = 0; i < in[0].shape.rank(); ++i)
        if (i > 0 || extents.empty() || extents[0] != 0) before *= in[0].shape[i].n;
    for (size_t i = 0; i < extents.size(); ++i) {
        if (extents[i] == 0 && i == 0 && in[0].shape.rank() > 0) {
            dims.push_back(in[0].shape[0]);
        } else {
            dims.push_back(extents[i]);
            after *= extents[i];
        }
    }
    if (before != after)
        throw bad_input("", "[reshape] expected {} elements a row, got {} from {}", after, before, in[0].print());
    return {{in[0].kind, Shape(std::move(dims))}};
}

void evaluate_reshape(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    out[0].data = in[0]->data;
}

std::vector<ValueType> infer_transpose(std::span<const ValueType> in, const Attributes& a) {
    const auto& order = a.integers("order");
    if (order.size() != in[0].shape.rank())
        throw bad_input("", "[transpose] expected an order of {} axes, got {}", in[0].shape.rank(), order.size());
    std::vector<Dim> dims;
    for (int64_t axis : order) {
        if (axis < 0 || axis >= static_cast<int64_t>(order.size()))
            throw bad_input("", "[transpose] expected axes below {}, got {}", order.size(), axis);
        dims.push_back(in[0].shape[axis]);
    }
    return {{in[0].kind, Shape(std::move(dims))}};
}

void evaluate_transpose(std::span<const Array* const> in, std::span<Array> out, const Attributes& a) {
    const auto& order = a.integers("order");
    const Array& x = *in[0];
    Array& y = out[0];
    std::vector<int64_t> strides(order.size(), 1);
    for (size_t i = 0; i < order.size(); ++i)
        for (size_t axis = order[i] + 1; axis < x.extents.size(); ++axis) strides[i] *= x.extents[axis];
    for (int64_t i = 0; i < y.count(); ++i) {
        int64_t rest = i, from = 0;
        for (size_t axis = order.size(); axis-- > 0;) {
            from += rest % y.extents[axis] * strides[axis];
            rest /= y.extents[axis];
        }
        y.data[i] = x.data[from];
    }
}

std::vector<ValueType> infer_slice(std::span<const ValueType> in, const Attributes& a) {
    const int64_t begin = a.integer("begin"), end = a.integer("end"), step = a.integer("step");
    if (in[0].shape.rank() == 0 || in[0].shape.last().symbol != Symbol::none)
        throw bad_input("", "[slice] expected a last axis of fixed extent, got {}", in[0].print());
    if (begin < 0 || begin > end || end > in[0].shape.last().n || step < 1)
        throw bad_input("", "[slice] expected 0 <= begin <= end <= {}, got {}..{} step {}", in[0].shape.last().n, begin,
                        end, step);
    std::vector<Dim> dims = in[0].shape.dims();
    dims.back() = (end - begin + step - 1) / step;
    return {{in[0].kind, Shape(std::move(dims))}};
}

void evaluate_slice(std::span<const Array* const> in, std::span<Array> out, const Attributes& a) {
    const int64_t begin = a.integer("begin"), step = a.integer("step"), from = in[0]->extents.back(),
                  to = out[0].extents.back();
    for (int64_t i = 0; i < out[0].count(); ++i) out[0].data[i] = in[0]->data[i / to * from + begin + i % to * step];
}

std::vector<ValueType> infer_concat(std::span<const ValueType> in, const Attributes&) {
    const Shape &a = in[0].shape, &b = in[1].shape;
    if (a.rank() == 0 || a.rank() != b.rank())
        throw bad_input("", "[concat] expected equal ranks above 0, got {} and {}", a.print(), b.print());
    for (size_t i = 0; i + 1 < a.rank(); ++i) expect_dim(op_concat, b[i], a[i], "an axis of b");
    std::vector<Dim> dims = a.dims();
    dims.back() = a.last().n + b.last().n;
    return {{in[0].kind, Shape(std::move(dims))}};
}

void evaluate_concat(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    const int64_t a = in[0]->extents.back(), b = in[1]->extents.back();
    for (int64_t i = 0; i < out[0].count(); ++i) {
        const int64_t row = i / (a + b), at = i % (a + b);
        out[0].data[i] = at < a ? in[0]->data[row * a + at] : in[1]->data[row * b + at - a];
    }
}

std::vector<ValueType> infer_select(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op_select, in[0], Kind::index, "mask");
    return {
        {Kind::real, broadcast_shapes(op_select, in[0].shape, broadcast_shapes(op_select, in[1].shape, in[2].shape))}};
}

void evaluate_select(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    Array& y = out[0];
    std::vector<int64_t> strides[3];
    for (int i = 0; i < 3; ++i) strides[i] = broadcast_strides(in[i]->extents, y.extents);
    for (int64_t i = 0; i < y.count(); ++i) {
        int64_t at[3] = {0, 0, 0}, rest = i;
        for (size_t axis = y.extents.size(); axis-- > 0;) {
            for (int s = 0; s < 3; ++s) at[s] += rest % y.extents[axis] * strides[s][axis];
            rest /= y.extents[axis];
        }
        y.data[i] = in[0]->data[at[0]] != 0 ? in[1]->data[at[1]] : in[2]->data[at[2]];
    }
}

}  // namespace

const OpRow op_gather_rows = {
    "gather_rows",
    "y[i] = table[ids[i]]",
    {{"table", "n, width; a weight in any encoding, or values"}, {"ids", "rows; each in 0..n-1", Kind::index}},
    {"y"},
    {},
    infer_gather,
    cost_moved,
    evaluate_gather};
const OpRow op_reshape = {"reshape",
                          "the same numbers under other extents; a leading 0 keeps the input's first extent",
                          {{"x", "any extents"}},
                          {"y"},
                          {{"extents", AttributeType::integers, "new extents"}},
                          infer_reshape,
                          cost_moved,
                          evaluate_reshape,
                          nullptr,
                          -1,
                          true};
const OpRow op_transpose = {"transpose",
                            "y's axis i is x's axis order[i]",
                            {{"x", "any extents"}},
                            {"y"},
                            {{"order", AttributeType::integers, "a permutation of the axes"}},
                            infer_transpose,
                            cost_moved,
                            evaluate_transpose};
const OpRow op_slice = {"slice",
                        "y = x[..., begin:end:step]",
                        {{"x", "..., width"}},
                        {"y"},
                        {{"begin", AttributeType::integer, "first element"},
                         {"end", AttributeType::integer, "one past the last"},
                         {"step", AttributeType::integer, "at least 1"}},
                        infer_slice,
                        cost_moved,
                        evaluate_slice};
const OpRow op_concat = {"concat",
                         "y = a then b, along the last axis",
                         {{"a", "..., m"}, {"b", "..., n"}},
                         {"y"},
                         {},
                         infer_concat,
                         cost_moved,
                         evaluate_concat};
const OpRow op_select = {"select",
                         "y = a where mask is not 0, else b; broadcasting as NumPy does",
                         {{"mask", "any extents", Kind::index}, {"a", "any"}, {"b", "any"}},
                         {"y"},
                         {},
                         infer_select,
                         cost_moved,
                         evaluate_select};

}  // namespace busbar
