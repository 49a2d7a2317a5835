// Ops that move values and compute nothing. Reals and indices are both 32 bits, so moves do not look at them.
#include <cstring>

#include "base/check.h"
#include "chips/cpu/panels.h"
#include "chips/cpu/step.h"

namespace busbar::cpu {

namespace {

constexpr int64_t grain = 8192;

class GatherStep : public Step {
  public:
    explicit GatherStep(const Prepare& p) : kernels_(*p.kernels.product), ids_(p.in(1)), y_(p.out(0)) {
        const Operand& table = p.step.inputs[0];
        entries_ = table.extents[0];
        if (table.where == Operand::Where::weight) {
            if (const auto* packed = dynamic_cast<const PanelWeight*>(table.weight)) {
                panels_ = panel_layout(*packed->tensor().encoding);
                data_ = packed->panels();
            } else {
                const auto* weight = dynamic_cast<const Weight*>(table.weight);
                BUSBAR_CHECK(weight != nullptr, "a weight that another chip packed");
                encoding_ = weight->tensor().encoding;
                data_ = weight->tensor().bytes.data();
            }
        } else {
            values_ = Place(table);
        }
        per_unit_ = std::max<int64_t>(1, grain / std::max<int64_t>(y_.inner(), 1));
    }
    int64_t units(const Run& run, int) const override { return units_of(y_.leading(run), per_unit_); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t begin = unit * per_unit_, end = std::min(begin + per_unit_, y_.leading(run)), width = y_.inner();
        for (int64_t row = begin; row < end; ++row) {
            const int64_t id = ids_.indices(run)[row];
            float* to = y_.reals(run) + row * width;
            if (id < 0 || id >= entries_) {
                run.fail(*this, "an id outside its table");
                std::memset(to, 0, width * sizeof(float));
            } else if (panels_ != nullptr) {
                decode_panel_row(*panels_, data_, id, width, to);
            } else if (encoding_ != nullptr) {
                kernels_.decode_row(*encoding_, data_ + id * encoding_->row_bytes(width), width, to);
            } else {
                std::memcpy(to, values_.indices(run) + id * width, width * sizeof(float));
            }
        }
    }

  private:
    const ProductKernels& kernels_;
    const Encoding* encoding_ = nullptr;
    const PanelLayout* panels_ = nullptr;
    const std::byte* data_ = nullptr;
    Place values_, ids_, y_;
    int64_t entries_ = 0, per_unit_ = 1;
};

class TransposeStep : public Step {
  public:
    explicit TransposeStep(const Prepare& p) : x_(p.in(0)), y_(p.out(0)) {
        const auto& order = p.step.attributes.integers("order");
        strides_.assign(order.size(), 1);
        for (size_t i = 0; i < order.size(); ++i)
            for (size_t axis = order[i] + 1; axis < order.size(); ++axis) strides_[i] *= x_.extent(axis);
        per_unit_ = std::max<int64_t>(1, grain / std::max<int64_t>(y_.width(), 1));
    }
    int64_t units(const Run& run, int) const override { return units_of(y_.rows(run), per_unit_); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t begin = unit * per_unit_, end = std::min(begin + per_unit_, y_.rows(run)), width = y_.width();
        const int32_t* x = x_.indices(run);
        int32_t* y = y_.indices(run);
        for (int64_t row = begin; row < end; ++row) {
            int64_t rest = row, from = 0;
            for (size_t axis = strides_.size() - 1; axis-- > 0; rest /= y_.extent(axis))
                from += rest % y_.extent(axis) * strides_[axis];
            const int64_t stride = strides_.back();
            if (stride == 1) {
                std::memcpy(y + row * width, x + from, width * sizeof(int32_t));
            } else {
                for (int64_t i = 0; i < width; ++i) y[row * width + i] = x[from + i * stride];
            }
        }
    }

  private:
    Place x_, y_;
    std::vector<int64_t> strides_;
    int64_t per_unit_ = 1;
};

// slice and concat: y's rows are pieces of the inputs' rows.
class PiecesStep : public Step {
  public:
    struct Piece {
        Place from;
        int64_t begin, step, to, count;
    };
    PiecesStep(const Place& y, std::vector<Piece> pieces) : y_(y), pieces_(std::move(pieces)) {
        per_unit_ = std::max<int64_t>(1, grain / std::max<int64_t>(y_.width(), 1));
    }
    int64_t units(const Run& run, int) const override { return units_of(rows(run), per_unit_); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t begin = unit * per_unit_, end = std::min(begin + per_unit_, rows(run));
        for (const Piece& piece : pieces_)
            for (int64_t row = begin; row < end; ++row) {
                const int32_t* x = piece.from.indices(run) + row * piece.from.width() + piece.begin;
                int32_t* y = y_.indices(run) + row * y_.width() + piece.to;
                if (piece.step == 1) {
                    std::memcpy(y, x, piece.count * sizeof(int32_t));
                } else {
                    for (int64_t i = 0; i < piece.count; ++i) y[i] = x[i * piece.step];
                }
            }
    }

  private:
    int64_t rows(const Run& run) const { return y_.width() == 0 ? 0 : y_.rows(run); }
    Place y_;
    std::vector<Piece> pieces_;
    int64_t per_unit_ = 1;
};

}  // namespace

std::unique_ptr<Step> make_gather_rows(const Prepare& p) {
    return std::make_unique<GatherStep>(p);
}
std::unique_ptr<Step> make_transpose(const Prepare& p) {
    BUSBAR_CHECK(!p.step.attributes.integers("order").empty(), "a transposed scalar");
    return std::make_unique<TransposeStep>(p);
}

std::unique_ptr<Step> make_slice(const Prepare& p) {
    const Attributes& a = p.step.attributes;
    const Place y = p.out(0);
    return std::make_unique<PiecesStep>(
        y, std::vector<PiecesStep::Piece>{{p.in(0), a.integer("begin"), a.integer("step"), 0, y.width()}});
}

std::unique_ptr<Step> make_concat(const Prepare& p) {
    const Place a = p.in(0), b = p.in(1);
    return std::make_unique<PiecesStep>(
        p.out(0), std::vector<PiecesStep::Piece>{{a, 0, 1, 0, a.width()}, {b, 0, 1, a.width(), b.width()}});
}

}  // namespace busbar::cpu
