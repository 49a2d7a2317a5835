// Core ops over the last axis; it stays, with extent 1.
#include <algorithm>
#include <limits>

#include "ops/infer.h"

namespace busbar {

namespace {

template <const OpRow& op>
std::vector<ValueType> infer(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op, in[0], Kind::real, "x");
    if (in[0].shape.rank() == 0) throw bad_input("", "[{}] expected at least one axis, got a scalar", op.name);
    std::vector<Dim> dims = in[0].shape.dims();
    dims.back() = 1;
    return {{Kind::real, Shape(std::move(dims))}};
}

Cost cost(std::span<const ValueType> in, std::span<const ValueType> out, const Binding& b) {
    const auto n = static_cast<double>(in[0].shape.count(b));
    return {n, 4 * (n + static_cast<double>(out[0].shape.count(b)))};
}

template <typename Fold>
void fold_rows(const Array& x, Array& y, Fold fold) {
    const int64_t width = x.extents.back();
    for (int64_t r = 0; r < y.count(); ++r) y.data[r] = fold(x.data.data() + r * width, width);
}

void evaluate_sum(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    fold_rows(*in[0], out[0], [](const double* x, int64_t n) {
        double s = 0;
        for (int64_t i = 0; i < n; ++i) s += x[i];
        return s;
    });
}

void evaluate_mean(std::span<const Array* const> in, std::span<Array> out, const Attributes& a) {
    evaluate_sum(in, out, a);
    for (double& y : out[0].data) y /= static_cast<double>(in[0]->extents.back());
}

void evaluate_max(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    fold_rows(*in[0], out[0], [](const double* x, int64_t n) {
        double m = -std::numeric_limits<double>::infinity();
        for (int64_t i = 0; i < n; ++i)
            m = x[i] != x[i] ? x[i] : (m != m ? m : std::max(m, x[i]));  // a NaN anywhere wins
        return m;
    });
}

const std::vector<InputSpec> x_rows = {{"x", "..., width"}};

}  // namespace

const OpRow op_mean = {"mean",       "y = sum(x) / width, over the last axis", x_rows, {"y"}, {}, infer<op_mean>, cost,
                       evaluate_mean};
const OpRow op_sum = {"sum", "y = sum(x), over the last axis", x_rows, {"y"}, {}, infer<op_sum>, cost, evaluate_sum};
const OpRow op_max = {
    "max", "y = max(x), over the last axis; NaN if any is", x_rows, {"y"}, {}, infer<op_max>, cost, evaluate_max};

}  // namespace busbar
