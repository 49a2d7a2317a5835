// Products: which kernel, and whose share. The products themselves are kernels/product.cc.
#include "base/check.h"
#include "chips/cpu/step.h"
#include "ops/infer.h"

namespace busbar::cpu {

namespace {

// From so many rows on the kernel that unpacks weights once for all rows wins over the one that does so in registers,
// every four rows anew, which costs more where they are blocks (measured on Zen 3, docs/speed.md). Same bits.
constexpr int64_t panel_rows_of_plain = 9, panel_rows_of_blocks = 5;

// One weight, or a matrix of values, which is a weight in f32.
struct Matrix {
    const Encoding* encoding = &encoding_f32;
    const std::byte* data = nullptr;
    size_t row_bytes = 0;
    int64_t outputs = 0;
    Place y;
    int64_t vector_chunk = 16, panel_rows = panel_rows_of_plain;
};

class MatmulStep : public Step {
  public:
    explicit MatmulStep(const Prepare& p) : kernels_(*p.kernels.product), x_(p.in(0)) {
        for (size_t i = 1; i < p.step.inputs.size(); ++i) {
            const Operand& w = p.step.inputs[i];
            Matrix m;
            m.outputs = w.extents[0];
            m.y = p.out(i - 1);
            if (w.where == Operand::Where::weight) {
                const auto* weight = dynamic_cast<const Weight*>(w.weight);
                BUSBAR_CHECK(weight != nullptr, "a weight that another chip packed");
                m.encoding = weight->tensor().encoding;
                m.data = weight->tensor().bytes.data();
            } else {
                m.data = Place(w).bytes();
            }
            BUSBAR_CHECK(x_.width() % m.encoding->block == 0, "a weight whose rows are not whole blocks");
            m.row_bytes = m.encoding->row_bytes(x_.width());
            if (m.encoding->block > 1) m.panel_rows = panel_rows_of_blocks;
            // About 64 KB of weight per unit: far above the cost of taking one, small enough that all threads finish
            // together.
            const int64_t even = ceil_div(m.outputs, 4 * p.threads);
            m.vector_chunk = chunk(std::min<int64_t>(even, 65536 / std::max<int64_t>(m.row_bytes, 1)));
            matrices_.push_back(m);
        }
        panel_chunk_ = balanced_chunk(p.threads);
    }
    int64_t units(const Run& run, int) const override {
        const int64_t rows = x_.rows(run);
        if (rows == 0) return 0;
        int64_t n = 0;
        for (const Matrix& m : matrices_) n += units_of(m.outputs, chunk_of(m, rows));
        return n;
    }
    void work(const Run& run, int, int64_t unit, float* scratch) const override {
        const int64_t rows = x_.rows(run);
        for (const Matrix& m : matrices_) {
            const int64_t size = chunk_of(m, rows), units = units_of(m.outputs, size);
            if (unit >= units) {
                unit -= units;
                continue;
            }
            const Product product = {m.encoding,     m.data,      m.row_bytes,
                                     x_.width(),     unit * size, std::min((unit + 1) * size, m.outputs),
                                     x_.reals(run),  x_.width(),  rows,
                                     m.y.reals(run), m.outputs,   scratch};
            (rows < m.panel_rows ? kernels_.vector : kernels_.panel)(product);
            return;
        }
    }
    size_t scratch_floats() const override { return kernels_.scratch_floats(x_.width()); }

  private:
    static int64_t chunk(int64_t outputs) { return std::max<int64_t>(16, outputs / 16 * 16); }
    int64_t chunk_of(const Matrix& m, int64_t rows) const {
        return rows < m.panel_rows ? m.vector_chunk : panel_chunk_;
    }
    // Outputs per unit of a panel product. The larger the less is packed again, but nine units of 64 keep one of two
    // threads waiting for a tenth of the time where twelve of 48 do not.
    int64_t balanced_chunk(int64_t threads) const {
        int64_t best = 0, least = 0;
        for (const int64_t size : {64, 48, 32, 16}) {
            int64_t n = 0;
            for (const Matrix& m : matrices_) n += units_of(m.outputs, size);
            const int64_t longest = units_of(n, threads) * size;
            if (best != 0 && longest * 103 >= least * 100) continue;
            best = size, least = longest;
        }
        return best;
    }
    const ProductKernels& kernels_;
    Place x_;
    std::vector<Matrix> matrices_;
    int64_t panel_chunk_ = 64;
};

class BatchStep : public Step {
  public:
    explicit BatchStep(const Prepare& p) : kernel_(p.kernels.batch), a_(p.in(0)), b_(p.in(1)), y_(p.out(0)) {
        const std::vector<int64_t>& over = y_.extents();
        rank_ = over.size();
        m_ = over[rank_ - 2];
        n_ = over[rank_ - 1];
        k_ = a_.width();
        batch_.assign(over.begin(), over.end() - 2);
        strides_a_ = broadcast_strides({a_.extents().begin(), a_.extents().end() - 2}, batch_);
        strides_b_ = broadcast_strides({b_.extents().begin(), b_.extents().end() - 2}, batch_);
    }
    // A unit is one row of the result of one matrix; without batch axes the leading axis is the rows.
    int64_t units(const Run& run, int) const override {
        return rank_ > 2 ? y_.leading(run) * (count_of(batch_) / std::max<int64_t>(batch_[0], 1)) * m_
                         : y_.leading(run);
    }
    void work(const Run& run, int, int64_t unit, float*) const override {
        int64_t rest = unit / m_, at_a = 0, at_b = 0;
        for (size_t axis = batch_.size(); axis-- > 0; rest /= batch_[axis]) {
            at_a += rest % batch_[axis] * strides_a_[axis];
            at_b += rest % batch_[axis] * strides_b_[axis];
        }
        kernel_(a_.reals(run) + (at_a * m_ + unit % m_) * k_, b_.reals(run) + at_b * k_ * n_, y_.reals(run) + unit * n_,
                1, k_, n_);
    }

  private:
    void (*kernel_)(const float*, const float*, float*, int64_t, int64_t, int64_t);
    Place a_, b_, y_;
    size_t rank_ = 2;
    int64_t m_ = 0, n_ = 0, k_ = 0;
    std::vector<int64_t> batch_, strides_a_, strides_b_;
};

}  // namespace

std::unique_ptr<Step> make_matmul(const Prepare& p) {
    if (p.step.row->form == "panels") return make_panel_matmul(p);
    if (p.step.row->rounding.activation == Element::bf16) return make_bf16_matmul(p);
    return std::make_unique<MatmulStep>(p);
}
std::unique_ptr<Step> make_batch_matmul(const Prepare& p) {
    return std::make_unique<BatchStep>(p);
}

}  // namespace busbar::cpu
