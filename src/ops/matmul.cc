// Products. A weight is stored as {outputs, inputs}, so matmul is x W^T, as checkpoints and chips have it.
#include "ops/builder.h"
#include "ops/infer.h"

namespace busbar {

namespace {

ValueType product_type(const OpRow& op, const ValueType& x, const ValueType& w) {
    expect_kind(op, x, Kind::real, "x");
    expect_kind(op, w, Kind::real, "w");
    expect_rank(op, w, 2, "w");
    if (x.shape.rank() == 0) throw bad_input("", "[{}] expected x of rows, got a scalar", op.name);
    expect_dim(op, w.shape[1], x.shape.last(), "the columns of w");
    std::vector<Dim> dims = x.shape.dims();
    dims.back() = w.shape[0];
    return {Kind::real, Shape(std::move(dims))};
}

std::vector<ValueType> infer_matmul(std::span<const ValueType> in, const Attributes&) {
    return {product_type(op_matmul, in[0], in[1])};
}

std::vector<ValueType> infer_multi(std::span<const ValueType> in, const Attributes&) {
    std::vector<ValueType> out;
    for (size_t i = 1; i < in.size(); ++i) out.push_back(product_type(op_multi_matmul, in[0], in[i]));
    return out;
}

// Bytes of the weights are the plan's to add: only it knows how they are stored.
Cost cost_products(std::span<const ValueType> in, std::span<const ValueType> out, const Binding& b) {
    Cost c;
    const auto width = static_cast<double>(in[0].shape.last().bind(b));
    c.bytes = 4.0 * static_cast<double>(in[0].shape.count(b));
    for (const ValueType& t : out) {
        const auto n = static_cast<double>(t.shape.count(b));
        c.flops += 2 * width * n;
        c.bytes += 4 * n;
    }
    return c;
}

void evaluate_matmul(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    const Array &x = *in[0], &w = *in[1];
    const int64_t width = w.extents[1], outputs = w.extents[0], rows = x.count() / std::max<int64_t>(width, 1);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t n = 0; n < outputs; ++n) {
            double s = 0;
            for (int64_t k = 0; k < width; ++k) s += x.data[r * width + k] * w.data[n * width + k];
            out[0].data[r * outputs + n] = s;
        }
}

std::vector<ValueType> infer_batch(std::span<const ValueType> in, const Attributes&) {
    const Shape &a = in[0].shape, &b = in[1].shape;
    expect_kind(op_batch_matmul, in[0], Kind::real, "a");
    expect_kind(op_batch_matmul, in[1], Kind::real, "b");
    if (a.rank() < 2 || b.rank() < 2)
        throw bad_input("", "[batch_matmul] expected matrices, got {} and {}", a.print(), b.print());
    expect_dim(op_batch_matmul, b[b.rank() - 2], a.last(), "the rows of b");
    const Shape batch_a(std::vector<Dim>(a.dims().begin(), a.dims().end() - 2)),
        batch_b(std::vector<Dim>(b.dims().begin(), b.dims().end() - 2));
    std::vector<Dim> dims = broadcast_shapes(op_batch_matmul, batch_a, batch_b).dims();
    dims.push_back(a[a.rank() - 2]);
    dims.push_back(b.last());
    return {{Kind::real, Shape(std::move(dims))}};
}

Cost cost_batch(std::span<const ValueType> in, std::span<const ValueType> out, const Binding& b) {
    const auto n = static_cast<double>(out[0].shape.count(b));
    return {2 * n * static_cast<double>(in[0].shape.last().bind(b)),
            4 * (n + static_cast<double>(in[0].shape.count(b)) + static_cast<double>(in[1].shape.count(b)))};
}

void evaluate_batch(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    const Array &a = *in[0], &b = *in[1];
    Array& y = out[0];
    const size_t rank = y.extents.size();
    const int64_t m = y.extents[rank - 2], n = y.extents[rank - 1], width = a.extents.back();
    const std::vector<int64_t> batch(y.extents.begin(), y.extents.end() - 2);
    const auto strides_a = broadcast_strides({a.extents.begin(), a.extents.end() - 2}, batch);
    const auto strides_b = broadcast_strides({b.extents.begin(), b.extents.end() - 2}, batch);
    for (int64_t i = 0; i < count_of(batch); ++i) {
        int64_t rest = i, at_a = 0, at_b = 0;
        for (size_t axis = batch.size(); axis-- > 0;) {
            at_a += rest % batch[axis] * strides_a[axis];
            at_b += rest % batch[axis] * strides_b[axis];
            rest /= batch[axis];
        }
        const double *pa = a.data.data() + at_a * m * width, *pb = b.data.data() + at_b * width * n;
        for (int64_t r = 0; r < m; ++r)
            for (int64_t c = 0; c < n; ++c) {
                double s = 0;
                for (int64_t k = 0; k < width; ++k) s += pa[r * width + k] * pb[k * n + c];
                y.data[(i * m + r) * n + c] = s;
            }
    }
}

std::vector<int> define_multi(Builder& b, std::span<const int> in, const Attributes&) {
    std::vector<int> out;
    for (size_t i = 1; i < in.size(); ++i) out.push_back(b.matmul(in[0], in[i]));
    return out;
}

}  // namespace

const OpRow op_matmul = {"matmul",
                         "y = x w^T: every row of x times every row of w",
                         {{"x", "..., inputs"}, {"w", "outputs, inputs; a weight in any encoding, or values"}},
                         {"y"},
                         {},
                         infer_matmul,
                         cost_products,
                         evaluate_matmul};
const OpRow op_batch_matmul = {"batch_matmul",
                               "y = a b over the last two axes, the others broadcasting as NumPy does",
                               {{"a", "..., m, k"}, {"b", "..., k, n"}},
                               {"y"},
                               {},
                               infer_batch,
                               cost_batch,
                               evaluate_batch};
const OpRow op_multi_matmul = {
    "multi_matmul",
    "y_i = x w_i^T: several weights share one activation (Q, K, V; gate and up); nothing is concatenated",
    {{"x", "..., inputs"}, {"w", "outputs_i, inputs; each weight in its own encoding", Kind::real, true}},
    {"y..."},
    {},
    infer_multi,
    cost_products,
    nullptr,
    define_multi};

}  // namespace busbar
