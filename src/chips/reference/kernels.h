#pragma once
#include <span>

#include "base/error.h"
#include "device/device.h"

namespace busbar::reference {

/// A weight as this chip keeps it: the file's own blocks.
struct StoredWeight : PackedWeight {
    std::shared_ptr<const StoredTensor> tensor;
    explicit StoredWeight(std::shared_ptr<const StoredTensor> t) : tensor(std::move(t)) {}
    uint64_t bytes() const override { return 0; }
};

/// One step of a program at the moment it runs. Kernels compute the leading rows that are in use and leave the others
/// as they are.
struct Call {
    const ProgramStep& step;
    std::span<const int32_t> words;  ///< the step record
    std::span<double> scratch;  ///< the step's own: longest row of an operand, or a whole context if that is longer
    std::span<float> decoded;   ///< the same length, for one decoded row
    std::span<Array> arrays;    ///< for core(): one per input, then one per output, at their full size

    const Operand& in(size_t i) const { return step.inputs[i]; }
    const Operand& out(size_t i) const { return step.outputs[i]; }
    const StepHeader& header() const { return *reinterpret_cast<const StepHeader*>(words.data()); }
    /// The leading extent in use in this step.
    int64_t leading(const Operand& o) const;
    /// Rows in use, counting every axis but the last.
    int64_t rows(const Operand& o) const;
    /// Numbers in use.
    int64_t count(const Operand& o) const { return o.extents.empty() ? 1 : rows(o) * o.extents.back(); }
    double* reals(const Operand& o) const;
    const int32_t* indices(const Operand& o) const;
    /// Row r of a matrix: of a weight decoded into `scratch`, of values in place.
    const double* row(const Operand& matrix, int64_t r) const;
    /// Where a state (input 0, 1 ...) keeps a position of a sequence: heads x width numbers. nullptr if it has no page.
    double* slot(const Operand& state, const Operand& block_table, int64_t sequence, int64_t position) const;
    Error error(const std::string& expected_and_got) const {
        return chip_error("node " + step.name, "[reference] {}", expected_and_got);
    }
};

// One per file of this folder. core() runs the op row's own definition: for the ops that are a formula and no more.
void core(const Call&);
void matmul(const Call&);
void multi_matmul(const Call&);
void gather_rows(const Call&);
void rms_norm(const Call&);
void add_rms_norm(const Call&);
void softmax(const Call&);
void silu(const Call&);
void gated_silu(const Call&);
void rotary_table(const Call&);
void rotate(const Call&);
void attention(const Call&);
void cache_append(const Call&);
void cache_gather(const Call&);

/// Shared by the two ops that end in a norm: y = x / sqrt(mean(x^2) + epsilon) * weight for one row.
void norm_row(const double* x, const double* weight, double epsilon, int64_t width, double* y);
double silu_of(double x);

}  // namespace busbar::reference
