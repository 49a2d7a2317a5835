#pragma once
#include <fmt/core.h>

#include "base/error.h"
#include "ops/op.h"

namespace busbar {

/// Helpers of the shape rules: each throws Error{bad_input} "[op] expected ..., got ..." (the graph adds the node's
/// address).

inline void expect_rank(const OpRow& op, const ValueType& t, size_t rank, std::string_view what) {
    if (t.shape.rank() != rank)
        throw bad_input("", "[{}] expected {} of rank {}, got {}", op.name, what, rank, t.print());
}

inline void expect_kind(const OpRow& op, const ValueType& t, Kind kind, std::string_view what) {
    if (t.kind != kind)
        throw bad_input("", "[{}] expected {} to be {}, got {}", op.name, what, ValueType{kind, t.shape}.print(),
                        t.print());
}

inline void expect_dim(const OpRow& op, const Dim& got, const Dim& expected, std::string_view what) {
    if (got != expected)
        throw bad_input("", "[{}] expected {} of extent {}, got {}", op.name, what, Shape({expected}).print(),
                        Shape({got}).print());
}

/// NumPy's rule: aligned at the last axis, an extent of 1 stretches.
Shape broadcast_shapes(const OpRow& op, const Shape& a, const Shape& b);

/// Strides that walk `extents` along the axes of `over`, 0 where it stretches. Both outermost first.
std::vector<int64_t> broadcast_strides(const std::vector<int64_t>& extents, const std::vector<int64_t>& over);

}  // namespace busbar
