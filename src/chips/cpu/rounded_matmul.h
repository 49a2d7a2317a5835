#pragma once
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "chips/cpu/step.h"

namespace busbar::cpu {

/// matmul and multi_matmul with rows of x that are rounded once for all weights of the node; then the threads share the
/// outputs. Rows that the rounding cannot hold are left to plain numbers, one by one.
class RoundedMatmul : public Step {
  public:
    int phases() const override { return 2; }
    int64_t units(const Run& run, int phase) const override {
        const int64_t rows = x_.rows(run);
        if (rows == 0) return 0;
        // Rounding a few rows is less work than handing it out.
        if (phase == 0) return rows <= few_rows ? 1 : rows;
        int64_t n = 0;
        for (const Outputs& o : outputs_) n += units_of(o.count, chunk_of(o, rows));
        return n;
    }
    void work(const Run& run, int phase, int64_t unit, float* scratch) const override {
        const int64_t rows = x_.rows(run);
        if (phase == 0) {
            if (rows > few_rows) return note(run, unit);
            for (int64_t row = 0; row < rows; ++row) note(run, row);
            return;
        }
        for (size_t weight = 0; weight < outputs_.size(); ++weight) {
            const Outputs& o = outputs_[weight];
            const int64_t size = chunk_of(o, rows), units = units_of(o.count, size);
            if (unit >= units) {
                unit -= units;
                continue;
            }
            const Part part = {weight, unit * size, std::min((unit + 1) * size, o.count)};
            multiply(run, part, scratch);
            for (int64_t row = 0; row < rows; ++row)
                if (is_odd(run)[row]) multiply_odd(run, part, row, scratch);
            return;
        }
    }
    size_t shared_bytes() const override { return rounded_bytes() + x_.capacity_rows(); }

  protected:
    static constexpr int64_t few_rows = few_integer_rows;
    /// Of one weight. A unit has few_chunk of them for few rows, else many_chunk.
    struct Outputs {
        int64_t count;
        Place y;
        int64_t few_chunk, many_chunk;
    };
    struct Part {
        size_t weight;
        int64_t begin, end;  ///< outputs
    };
    explicit RoundedMatmul(const Prepare& p) : x_(p.in(0)) {}

    /// Of all rows at capacity, at the start of what the step shares.
    virtual size_t rounded_bytes() const = 0;
    /// False if it cannot; what stands for the row is harmless then.
    virtual bool round(const Run& run, int64_t row) const = 0;
    virtual void multiply(const Run& run, const Part& part, float* scratch) const = 0;
    virtual void multiply_odd(const Run& run, const Part& part, int64_t row, float* scratch) const = 0;

    const float* row_of_x(const Run& run, int64_t row) const { return x_.reals(run) + row * x_.width(); }

    Place x_;
    std::vector<Outputs> outputs_;

  private:
    static int64_t chunk_of(const Outputs& o, int64_t rows) { return rows <= few_rows ? o.few_chunk : o.many_chunk; }
    // By row: the rounding could not hold it.
    bool* is_odd(const Run& run) const { return reinterpret_cast<bool*>(run.shared + rounded_bytes()); }
    void note(const Run& run, int64_t row) const { is_odd(run)[row] = !round(run, row); }
};

}  // namespace busbar::cpu
