#include "ops/builder.h"
#include "ops/infer.h"

namespace busbar {

namespace {

std::vector<ValueType> infer_same(std::span<const ValueType> in, const Attributes&) {
    for (const ValueType& t : in)
        if (t != in[0])
            throw bad_input("", "[activation] expected equal extents, got {} and {}", in[0].print(), t.print());
    return {in[0]};
}

Cost cost(std::span<const ValueType> in, std::span<const ValueType>, const Binding& b) {
    const auto n = static_cast<double>(in[0].shape.count(b));
    return {4 * n, 4 * n * static_cast<double>(in.size() + 1)};
}

std::vector<int> define_softmax(Builder& b, std::span<const int> in, const Attributes&) {
    const int e = b.exp(b.subtract(in[0], b.max(in[0])));
    return {b.divide(e, b.sum(e))};
}

std::vector<int> define_silu(Builder& b, std::span<const int> in, const Attributes&) {
    const int one = b.scalar(1);
    return {b.divide(in[0], b.add(one, b.exp(b.multiply(b.scalar(-1), in[0]))))};
}

std::vector<int> define_gated(Builder& b, std::span<const int> in, const Attributes&) {
    return {b.multiply(b.one(op_silu, {in[0]}), in[1])};
}

}  // namespace

const OpRow op_softmax = {"softmax",
                          "y_i = exp(x_i - max x) / sum_j exp(x_j - max x), over the last axis",
                          {{"x", "..., width"}},
                          {"y"},
                          {},
                          infer_same,
                          cost,
                          nullptr,
                          define_softmax};
const OpRow op_silu = {"silu",
                       "y = x / (1 + exp(-x)) [Elfwing et al. 2017]",
                       {{"x", "any extents"}},
                       {"y"},
                       {},
                       infer_same,
                       cost,
                       nullptr,
                       define_silu};
const OpRow op_gated_silu = {"gated_silu",
                             "y = silu(gate) * up: the gated activation in one sweep [Shazeer 2020, SwiGLU]",
                             {{"gate", "any extents"}, {"up", "as gate"}},
                             {"y"},
                             {},
                             infer_same,
                             cost,
                             nullptr,
                             define_gated};

}  // namespace busbar
