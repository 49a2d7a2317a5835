// Core ops on each element: two inputs with NumPy's broadcasting, or one.
#include <cmath>

#include "ops/infer.h"

namespace busbar {

namespace {

template <const OpRow& op>
std::vector<ValueType> infer_two(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op, in[0], Kind::real, "a");
    expect_kind(op, in[1], Kind::real, "b");
    return {{Kind::real, broadcast_shapes(op, in[0].shape, in[1].shape)}};
}

template <const OpRow& op>
std::vector<ValueType> infer_one(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op, in[0], Kind::real, "x");
    return {in[0]};
}

Cost cost_each(std::span<const ValueType> in, std::span<const ValueType> out, const Binding& b) {
    Cost c;
    c.flops = static_cast<double>(out[0].shape.count(b));
    for (const ValueType& t : in) c.bytes += 4.0 * static_cast<double>(t.shape.count(b));
    c.bytes += 4 * c.flops;
    return c;
}

template <double (*f)(double, double)>
void evaluate_two(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    Array& y = out[0];
    const auto strides_a = broadcast_strides(in[0]->extents, y.extents),
               strides_b = broadcast_strides(in[1]->extents, y.extents);
    for (int64_t i = 0; i < y.count(); ++i) {
        int64_t rest = i, a = 0, b = 0;
        for (size_t axis = y.extents.size(); axis-- > 0;) {
            const int64_t at = rest % y.extents[axis];
            rest /= y.extents[axis];
            a += at * strides_a[axis];
            b += at * strides_b[axis];
        }
        y.data[i] = f(in[0]->data[a], in[1]->data[b]);
    }
}

template <double (*f)(double)>
void evaluate_one(std::span<const Array* const> in, std::span<Array> out, const Attributes&) {
    for (int64_t i = 0; i < out[0].count(); ++i) out[0].data[i] = f(in[0]->data[i]);
}

double add(double a, double b) {
    return a + b;
}
double subtract(double a, double b) {
    return a - b;
}
double multiply(double a, double b) {
    return a * b;
}
double divide(double a, double b) {
    return a / b;
}
double exponential(double x) {
    return std::exp(x);
}
double reciprocal_root(double x) {
    return 1 / std::sqrt(x);
}
double cosine(double x) {
    return std::cos(x);
}
double sine(double x) {
    return std::sin(x);
}

const std::vector<InputSpec> a_and_b = {{"a", "any extents"}, {"b", "extents that match a's or are 1"}};
const std::vector<InputSpec> only_x = {{"x", "any extents"}};

}  // namespace

const OpRow op_add = {"add",     "y = a + b, element by element, broadcasting as NumPy does",
                      a_and_b,   {"y"},
                      {},        infer_two<op_add>,
                      cost_each, evaluate_two<add>};
const OpRow op_subtract = {"subtract", "y = a - b, element by element", a_and_b,   {"y"},
                           {},         infer_two<op_subtract>,          cost_each, evaluate_two<subtract>};
const OpRow op_multiply = {"multiply", "y = a * b, element by element", a_and_b,   {"y"},
                           {},         infer_two<op_multiply>,          cost_each, evaluate_two<multiply>};
const OpRow op_divide = {"divide",  "y = a / b, element by element",
                         a_and_b,   {"y"},
                         {},        infer_two<op_divide>,
                         cost_each, evaluate_two<divide>};
const OpRow op_exp = {"exp", "y = e^x", only_x, {"y"}, {}, infer_one<op_exp>, cost_each, evaluate_one<exponential>};
const OpRow op_rsqrt = {"rsqrt", "y = 1 / sqrt(x)",   only_x,    {"y"},
                        {},      infer_one<op_rsqrt>, cost_each, evaluate_one<reciprocal_root>};
const OpRow op_cos = {"cos", "y = cos(x), x in radians", only_x,    {"y"},
                      {},    infer_one<op_cos>,          cost_each, evaluate_one<cosine>};
const OpRow op_sin = {"sin", "y = sin(x), x in radians", only_x,    {"y"},
                      {},    infer_one<op_sin>,          cost_each, evaluate_one<sine>};

}  // namespace busbar
