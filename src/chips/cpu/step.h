#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "chips/cpu/kernels.h"
#include "device/device.h"

namespace busbar::cpu {

/// A weight as it lies in the mapping.
class Weight : public PackedWeight {
  public:
    explicit Weight(std::shared_ptr<const StoredTensor> tensor) : tensor_(std::move(tensor)) {}
    const StoredTensor& tensor() const { return *tensor_; }
    /// The numbers as f32, for the small weights that are not multiplied as matrices (norms, biases): in place where
    /// they lie aligned as f32, else decoded once. Called while preparing only.
    const float* floats() const;
    uint64_t bytes() const override { return floats_.size() * sizeof(float); }

  private:
    std::shared_ptr<const StoredTensor> tensor_;
    mutable std::vector<float> floats_;
};

/// A weight in panels (panel_layout.h).
class PanelWeight : public PackedWeight {
  public:
    PanelWeight(std::shared_ptr<const StoredTensor> tensor, Bytes panels, std::shared_ptr<const void> owner)
        : tensor_(std::move(tensor)), panels_(panels), owner_(std::move(owner)) {}
    const StoredTensor& tensor() const { return *tensor_; }
    const std::byte* panels() const { return panels_.data(); }
    uint64_t bytes() const override { return panels_.size(); }

  private:
    std::shared_ptr<const StoredTensor> tensor_;
    Bytes panels_;
    std::shared_ptr<const void> owner_;
};

class Step;

/// What one run of a program shares among its threads.
struct Run {
    const int32_t* words = nullptr;
    std::byte* shared = nullptr;  ///< shared_bytes() of the step at work, aligned to a page
    const StepHeader& header() const { return *reinterpret_cast<const StepHeader*>(words); }

    /// The first misfit that data of the step showed, such as an id past the end of its table. Kernels go on, without
    /// the row.
    mutable std::atomic<const Step*> failed{nullptr};
    mutable std::atomic<const char*> failure{nullptr};
    void fail(const Step& step, const char* what) const;
};

/// Where an operand lies, resolved once.
class Place {
  public:
    Place() = default;
    explicit Place(const Operand& operand);

    float* reals(const Run&) const { return reinterpret_cast<float*>(base_); }
    int32_t* indices(const Run& run) const {
        return base_ ? reinterpret_cast<int32_t*>(base_) : const_cast<int32_t*>(run.words) + words_;
    }
    std::byte* bytes() const { return base_; }
    bool in_step() const { return base_ == nullptr; }

    /// Entries of the leading axis in use this step.
    int64_t leading(const Run& run) const {
        const int64_t n = symbol_ == Symbol::rows         ? run.header().rows
                          : symbol_ == Symbol::logit_rows ? run.header().logit_rows
                                                          : first_;
        return n < first_ ? n : first_;
    }
    int64_t inner() const { return inner_; }  ///< elements of one leading entry
    int64_t count(const Run& run) const { return leading(run) * inner_; }
    /// Rows of `width()` elements: all axes but the last.
    int64_t capacity_rows() const { return rank_ < 2 ? 1 : first_ * (inner_ / (width_ > 0 ? width_ : 1)); }
    int64_t rows(const Run& run) const { return rank_ < 2 ? 1 : leading(run) * (inner_ / (width_ > 0 ? width_ : 1)); }
    int64_t width() const { return width_; }
    int64_t extent(size_t axis) const { return extents_[axis]; }
    const std::vector<int64_t>& extents() const { return extents_; }
    Kind kind() const { return kind_; }
    Symbol symbol() const { return symbol_; }

  private:
    std::byte* base_ = nullptr;
    int64_t words_ = 0;
    Symbol symbol_ = Symbol::none;
    Kind kind_ = Kind::real;
    int64_t first_ = 1, inner_ = 1, width_ = 1;
    size_t rank_ = 0;
    std::vector<int64_t> extents_;
};

/// One resolved call: its work is cut into units. Threads take runs of neighbouring ones, and what is left of each
/// other's. What a unit computes never depends on who takes it.
class Step {
  public:
    virtual ~Step() = default;
    /// Units of a phase; all threads must get the same answer. A phase begins when the one before it is done.
    virtual int64_t units(const Run& run, int phase) const = 0;
    virtual void work(const Run& run, int phase, int64_t unit, float* scratch) const = 0;
    virtual int phases() const { return 1; }
    /// The answer of units() depends on memory that earlier steps write.
    virtual bool units_read_memory() const { return false; }
    /// Memory in which one phase leaves for the next what is no value of the plan.
    virtual size_t shared_bytes() const { return 0; }
    /// Floats of scratch that each thread needs, 64-byte aligned.
    virtual size_t scratch_floats() const { return 0; }
    std::string name;
};

/// What a step is made from.
struct Prepare {
    const ProgramStep& step;
    const Kernels& kernels;
    int threads = 1;
    StepLayout layout;
    Place in(size_t i) const { return Place(step.inputs[i]); }
    Place out(size_t i) const { return Place(step.outputs[i]); }
};

/// One row of the chip's table (rows.cc), from which its profile's kernel rows follow.
struct Offer {
    const OpRow* op;
    bool values;                ///< takes values alone
    bool weights;               ///< takes weights as stored
    Element rounds;             ///< takes weights with activations rounded to this: bf16 ones as stored, else in
                                ///< panels (f32: unrounded); f64: it does not
    double transcendental_ulp;  ///< declared; tested by the kernels' tests
    double share_of_peak;
    std::unique_ptr<Step> (*make)(const Prepare&);
};
std::span<const Offer> offers();

using Make = std::unique_ptr<Step>(const Prepare&);
Make make_add, make_subtract, make_multiply, make_divide, make_exp, make_rsqrt, make_cos, make_sin, make_silu,
    make_gated_silu, make_select;
Make make_sum, make_mean, make_max, make_softmax, make_rms_norm, make_add_rms_norm;
Make make_matmul, make_panel_matmul, make_bf16_matmul, make_batch_matmul;  // the first three serve multi_matmul too
Make make_gather_rows, make_transpose, make_slice, make_concat;
Make make_rotary_table, make_rotate;
Make make_cache_append, make_cache_gather, make_cache_mask, make_attention;

/// Elements of one page of a state, and how one is kept.
int64_t page_elements(const std::vector<int64_t>& state_extents);
PageElement page_element(Element element);

/// Hands out ranges: units of `grain` elements.
inline int64_t units_of(int64_t n, int64_t grain) {
    return n <= 0 ? 0 : (n + grain - 1) / grain;
}

}  // namespace busbar::cpu
