#include "ops/builder.h"
#include "ops/infer.h"

namespace busbar {

namespace {

std::vector<ValueType> infer(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op_rms_norm, in[0], Kind::real, "x");
    expect_rank(op_rms_norm, in[1], 1, "weight");
    expect_dim(op_rms_norm, in[1].shape[0], in[0].shape.last(), "weight");
    return {in[0]};
}

std::vector<ValueType> infer_add(std::span<const ValueType> in, const Attributes&) {
    expect_rank(op_add_rms_norm, in[2], 1, "weight");
    expect_dim(op_add_rms_norm, in[2].shape[0], in[0].shape.last(), "weight");
    if (in[0] != in[1])
        throw bad_input("", "[add_rms_norm] expected equal extents, got {} and {}", in[0].print(), in[1].print());
    return {in[0], in[0]};
}

Cost cost(std::span<const ValueType> in, std::span<const ValueType> out, const Binding& b) {
    const auto n = static_cast<double>(in[0].shape.count(b));
    const auto passes = static_cast<double>(in.size() - 1 + out.size());
    return {4 * n, 4 * n * passes};
}

std::vector<int> define(Builder& b, std::span<const int> in, const Attributes& a) {
    const int x = in[0], weight = in[1];
    const int mean_square = b.mean(b.multiply(x, x));
    return {b.multiply(b.multiply(x, b.rsqrt(b.add(mean_square, b.scalar(a.real("epsilon"))))), weight)};
}

std::vector<int> define_add(Builder& b, std::span<const int> in, const Attributes& a) {
    const int sum = b.add(in[0], in[1]);
    return {sum, b.one(op_rms_norm, {sum, in[2]}, a)};
}

}  // namespace

const OpRow op_rms_norm = {
    "rms_norm",
    "y = x / sqrt(mean(x^2) + epsilon) * weight, over the last axis [Zhang & Sennrich 2019, eq. 4]",
    {{"x", "..., width"}, {"weight", "width"}},
    {"y"},
    {{"epsilon", AttributeType::real, "added to the mean square"}},
    infer,
    cost,
    nullptr,
    define};
const OpRow op_add_rms_norm = {
    "add_rms_norm",
    "sum = x + delta; y = rms_norm(sum): the residual add and the norm that follows it, in one sweep",
    {{"x", "..., width"}, {"delta", "as x"}, {"weight", "width"}},
    {"sum", "y"},
    {{"epsilon", AttributeType::real, "added to the mean square"}},
    infer_add,
    cost,
    nullptr,
    define_add};

}  // namespace busbar
