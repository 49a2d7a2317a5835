#pragma once
#include <span>
#include <vector>

#include "ops/op.h"

namespace busbar {

/// Where definitions are written to. Values are numbers; a graph (graph/graph.h) is one implementation.
/// emit() checks arity, attributes and types; a misfit is Error{bad_input} with the node's address.
class Builder {
  public:
    virtual ~Builder() = default;
    virtual std::vector<int> emit(const OpRow& op, std::span<const int> inputs, Attributes attributes) = 0;
    virtual int constant(Array array) = 0;
    virtual const ValueType& type_of(int value) const = 0;

    int one(const OpRow& op, std::initializer_list<int> inputs, Attributes attributes = {}) {
        return emit(op, std::span<const int>(inputs.begin(), inputs.size()), std::move(attributes))[0];
    }
    int scalar(double x) { return constant({{}, {x}}); }
    int add(int a, int b) { return one(op_add, {a, b}); }
    int subtract(int a, int b) { return one(op_subtract, {a, b}); }
    int multiply(int a, int b) { return one(op_multiply, {a, b}); }
    int divide(int a, int b) { return one(op_divide, {a, b}); }
    int exp(int x) { return one(op_exp, {x}); }
    int rsqrt(int x) { return one(op_rsqrt, {x}); }
    int mean(int x) { return one(op_mean, {x}); }
    int sum(int x) { return one(op_sum, {x}); }
    int max(int x) { return one(op_max, {x}); }
    int matmul(int x, int w) { return one(op_matmul, {x, w}); }
    int batch_matmul(int a, int b) { return one(op_batch_matmul, {a, b}); }
    int reshape(int x, std::vector<int64_t> extents) { return one(op_reshape, {x}, {{"extents", std::move(extents)}}); }
    int transpose(int x, std::vector<int64_t> order) { return one(op_transpose, {x}, {{"order", std::move(order)}}); }
    int slice(int x, int64_t begin, int64_t end, int64_t step = 1) {
        return one(op_slice, {x}, {{"begin", begin}, {"end", end}, {"step", step}});
    }
    int concat(int a, int b) { return one(op_concat, {a, b}); }
};

}  // namespace busbar
