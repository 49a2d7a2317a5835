// Products of bf16 weights as stored with rows of x rounded to bf16. The products themselves are kernels/bf16.cc and
// kernels/bf16_tiles.cc.
#include "chips/cpu/rounded_matmul.h"

namespace busbar::cpu {

namespace {

class Bf16Matmul : public RoundedMatmul {
  public:
    explicit Bf16Matmul(const Prepare& p) : RoundedMatmul(p), kernels_(*p.kernels.bf16), plain_(*p.kernels.product) {
        for (size_t i = 1; i < p.step.inputs.size(); ++i) {
            const Operand& w = p.step.inputs[i];
            const auto* weight = dynamic_cast<const Weight*>(w.weight);
            BUSBAR_CHECK(weight != nullptr && weight->tensor().encoding == &encoding_bf16,
                         "a weight that is not stored in bf16");
            const int64_t outputs = w.extents[0], even = ceil_div(outputs, 4 * p.threads),
                          row_bytes = std::max<int64_t>(2 * x_.width(), 1);
            // Whole tiles. About 64 KB of weights per unit for few rows, as elsewhere; for many what stays in the
            // second level cache while all of them pass.
            const auto chunk = [&](int64_t bytes, int64_t most) {
                return std::max<int64_t>(32, std::min({even, bytes / row_bytes, most}) / 32 * 32);
            };
            weights_.push_back(weight->tensor().bytes.data());
            outputs_.push_back({outputs, p.out(i - 1), chunk(65536, outputs), chunk(262144, 64)});
        }
    }
    size_t scratch_floats() const override {
        return std::max(kernels_.scratch_floats(), plain_.scratch_floats(x_.width()));
    }

  private:
    size_t rounded_bytes() const override { return kernels_.rounded_bytes(x_.capacity_rows(), x_.width()); }
    bool round(const Run& run, int64_t row) const override {
        return kernels_.round_row(row_of_x(run, row), x_.width(), row, x_.rows(run), run.shared);
    }
    void multiply(const Run& run, const Part& part, float* scratch) const override {
        const Outputs& o = outputs_[part.weight];
        kernels_.product({weights_[part.weight], x_.width(), part.begin, part.end, run.shared, x_.rows(run),
                          o.y.reals(run), o.count, scratch});
    }
    // As a processor without bf16 would.
    void multiply_odd(const Run& run, const Part& part, int64_t row, float* scratch) const override {
        const Outputs& o = outputs_[part.weight];
        plain_.vector({&encoding_bf16, weights_[part.weight], encoding_bf16.row_bytes(x_.width()), x_.width(),
                       part.begin, part.end, row_of_x(run, row), x_.width(), 1, o.y.reals(run) + row * o.count, o.count,
                       scratch});
    }
    const Bf16Kernels& kernels_;
    const ProductKernels& plain_;
    std::vector<const std::byte*> weights_;
};

}  // namespace

std::unique_ptr<Step> make_bf16_matmul(const Prepare& p) {
    return std::make_unique<Bf16Matmul>(p);
}

}  // namespace busbar::cpu
