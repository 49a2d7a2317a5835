// Products of weights in panels: x is rounded to integers once for all weights of the node, then the threads share the
// outputs. The products themselves are kernels/integer.cc.
#include "base/check.h"
#include "chips/cpu/panels.h"
#include "chips/cpu/step.h"

namespace busbar::cpu {

namespace {

struct Matrix {
    const Encoding* encoding;
    const PanelLayout* layout;
    const std::byte* panels;
    int64_t outputs;
    Place y;
    int64_t few_chunk, many_chunk;
};

class PanelMatmulStep : public Step {
  public:
    explicit PanelMatmulStep(const Prepare& p) : x_(p.in(0)) {
        const ProductKernels& kernels = *p.kernels.product;
        const bool bytes = p.step.row->rounding.activation == Element::i8;
        kernels_ = bytes ? kernels.bytes : kernels.words;
        tiles_ = !p.kernels.tiles ? nullptr : bytes ? kernels.tile_bytes : kernels.tile_words;
        for (size_t i = 1; i < p.step.inputs.size(); ++i) {
            const Operand& w = p.step.inputs[i];
            const auto* weight = dynamic_cast<const PanelWeight*>(w.weight);
            BUSBAR_CHECK(weight != nullptr, "a weight that another chip packed");
            const PanelLayout* layout = panel_layout(*weight->tensor().encoding);
            const int64_t outputs = w.extents[0];
            const auto panel = static_cast<int64_t>(panel_bytes(*layout, panel_outputs, x_.width()));
            // About 64 KB of weights per unit: far above the cost of taking one, small enough that all threads finish
            // together.
            const int64_t even = ceil_div(outputs, 4 * p.threads);
            const auto chunk = [](int64_t n) {
                return std::max<int64_t>(panel_outputs, n / panel_outputs * panel_outputs);
            };
            matrices_.push_back({weight->tensor().encoding, layout, weight->panels(), outputs, p.out(i - 1),
                                 chunk(std::min(even, 65536 / std::max<int64_t>(panel, 1) * panel_outputs)),
                                 chunk(std::min<int64_t>(even, 64))});
        }
    }
    int phases() const override { return 2; }
    int64_t units(const Run& run, int phase) const override {
        const int64_t rows = x_.rows(run);
        if (rows == 0) return 0;
        // Rounding a few rows is less work than handing it out.
        if (phase == 0) return rows <= few_integer_rows ? 1 : rows;
        int64_t n = 0;
        for (const Matrix& m : matrices_) n += units_of(m.outputs, chunk_of(m, rows));
        return n;
    }
    void work(const Run& run, int phase, int64_t unit, float* scratch) const override {
        const int64_t rows = x_.rows(run);
        if (phase == 0) {
            if (rows > few_integer_rows) return round(run, unit);
            for (int64_t row = 0; row < rows; ++row) round(run, row);
            return;
        }
        for (const Matrix& m : matrices_) {
            const int64_t size = chunk_of(m, rows), units = units_of(m.outputs, size);
            if (unit >= units) {
                unit -= units;
                continue;
            }
            const int64_t begin = unit * size, end = std::min(begin + size, m.outputs);
            const IntegerKernels& kernels = kernels_for(rows);
            kernels.product({m.encoding, m.panels, x_.width(), begin, end, run.shared, row_bytes(kernels), rows,
                             m.y.reals(run), m.outputs, scratch});
            for (int64_t row = 0; row < rows; ++row)
                if (is_odd(run)[row]) multiply_odd(run, m, row, begin, end, scratch);
            return;
        }
    }
    size_t shared_bytes() const override { return rounded_bytes() + x_.capacity_rows(); }
    size_t scratch_floats() const override {
        return std::max(
            {kernels_->scratch_floats(), tiles_ ? tiles_->scratch_floats() : 0, static_cast<size_t>(x_.width())});
    }

  private:
    const IntegerKernels& kernels_for(int64_t rows) const {
        return tiles_ != nullptr && rows >= tile_integer_rows ? *tiles_ : *kernels_;
    }
    int64_t row_bytes(const IntegerKernels& kernels) const {
        return x_.width() / 32 * static_cast<int64_t>(kernels.block_bytes);
    }
    size_t rounded_bytes() const {
        const int64_t row = std::max(row_bytes(*kernels_), tiles_ ? row_bytes(*tiles_) : 0);
        return (x_.capacity_rows() + spare_rows) * row;
    }
    // By row: integers cannot hold it.
    std::byte* odd(const Run& run) const { return run.shared + rounded_bytes(); }
    const bool* is_odd(const Run& run) const { return reinterpret_cast<const bool*>(odd(run)); }
    void round(const Run& run, int64_t row) const {
        const IntegerKernels& kernels = kernels_for(x_.rows(run));
        std::byte* to = run.shared + row * row_bytes(kernels);
        const bool held = kernels.round_row(x_.reals(run) + row * x_.width(), x_.width(), to);
        odd(run)[row] = std::byte{!held};
        if (!held) std::memset(to, 0, row_bytes(kernels));
    }
    // In plain numbers: an infinity or a NaN comes out as the definition has it.
    void multiply_odd(const Run& run, const Matrix& m, int64_t row, int64_t begin, int64_t end, float* scratch) const {
        const float* x = x_.reals(run) + row * x_.width();
        for (int64_t n = begin; n < end; ++n) {
            decode_panel_row(*m.layout, m.panels, n, x_.width(), scratch);
            double sum = 0;
            for (int64_t k = 0; k < x_.width(); ++k) sum += static_cast<double>(x[k]) * static_cast<double>(scratch[k]);
            m.y.reals(run)[row * m.outputs + n] = static_cast<float>(sum);
        }
    }
    static int64_t chunk_of(const Matrix& m, int64_t rows) {
        return rows <= few_integer_rows ? m.few_chunk : m.many_chunk;
    }
    const IntegerKernels *kernels_ = nullptr, *tiles_ = nullptr;
    Place x_;
    std::vector<Matrix> matrices_;
};

}  // namespace

std::unique_ptr<Step> make_panel_matmul(const Prepare& p) {
    return std::make_unique<PanelMatmulStep>(p);
}

}  // namespace busbar::cpu
