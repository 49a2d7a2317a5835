// Products of weights in panels with rows of x as integers. The products themselves are kernels/integer.cc.
#include "chips/cpu/panels.h"
#include "chips/cpu/rounded_matmul.h"

namespace busbar::cpu {

namespace {

class PanelMatmul : public RoundedMatmul {
  public:
    explicit PanelMatmul(const Prepare& p) : RoundedMatmul(p) {
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
            weights_.push_back({weight->tensor().encoding, layout, weight->panels()});
            outputs_.push_back({outputs, p.out(i - 1),
                                chunk(std::min(even, 65536 / std::max<int64_t>(panel, 1) * panel_outputs)),
                                chunk(std::min<int64_t>(even, 64))});
        }
    }
    size_t scratch_floats() const override {
        return std::max(
            {kernels_->scratch_floats(), tiles_ ? tiles_->scratch_floats() : 0, static_cast<size_t>(x_.width())});
    }

  private:
    struct Matrix {
        const Encoding* encoding;
        const PanelLayout* layout;
        const std::byte* panels;
    };
    const IntegerKernels& kernels_for(int64_t rows) const {
        return tiles_ != nullptr && rows >= tile_integer_rows ? *tiles_ : *kernels_;
    }
    int64_t row_bytes(const IntegerKernels& kernels) const {
        return x_.width() / 32 * static_cast<int64_t>(kernels.block_bytes);
    }
    size_t rounded_bytes() const override {
        const int64_t row = std::max(row_bytes(*kernels_), tiles_ ? row_bytes(*tiles_) : 0);
        return (x_.capacity_rows() + spare_rows) * row;
    }
    bool round(const Run& run, int64_t row) const override {
        const IntegerKernels& kernels = kernels_for(x_.rows(run));
        std::byte* to = run.shared + row * row_bytes(kernels);
        const bool held = kernels.round_row(row_of_x(run, row), x_.width(), to);
        if (!held) std::memset(to, 0, row_bytes(kernels));
        return held;
    }
    void multiply(const Run& run, const Part& part, float* scratch) const override {
        const Matrix& m = weights_[part.weight];
        const Outputs& o = outputs_[part.weight];
        const IntegerKernels& kernels = kernels_for(x_.rows(run));
        kernels.product({m.encoding, m.panels, x_.width(), part.begin, part.end, run.shared, row_bytes(kernels),
                         x_.rows(run), o.y.reals(run), o.count, scratch});
    }
    // An infinity or a NaN comes out as the definition has it.
    void multiply_odd(const Run& run, const Part& part, int64_t row, float* scratch) const override {
        const Matrix& m = weights_[part.weight];
        const Outputs& o = outputs_[part.weight];
        const float* x = row_of_x(run, row);
        for (int64_t n = part.begin; n < part.end; ++n) {
            decode_panel_row(*m.layout, m.panels, n, x_.width(), scratch);
            double sum = 0;
            for (int64_t k = 0; k < x_.width(); ++k) sum += static_cast<double>(x[k]) * static_cast<double>(scratch[k]);
            o.y.reals(run)[row * o.count + n] = static_cast<float>(sum);
        }
    }
    const IntegerKernels *kernels_ = nullptr, *tiles_ = nullptr;
    std::vector<Matrix> weights_;
};

}  // namespace

std::unique_ptr<Step> make_panel_matmul(const Prepare& p) {
    return std::make_unique<PanelMatmul>(p);
}

}  // namespace busbar::cpu
