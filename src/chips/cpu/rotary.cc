#include <cmath>

#include "chips/cpu/step.h"

namespace busbar::cpu {

namespace {

// Once per step, so the math library in double may do it: exact to f32's rounding for any context length.
class TableStep : public Step {
  public:
    explicit TableStep(const Prepare& p)
        : positions_(p.in(0)),
          frequencies_(p.in(1)),
          cos_(p.out(0)),
          sin_(p.out(1)),
          scale_(p.step.attributes.real("scale")) {}
    int64_t units(const Run& run, int) const override { return units_of(cos_.leading(run), rows_per_unit); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t end = std::min((unit + 1) * rows_per_unit, cos_.leading(run)), angles = cos_.inner();
        for (int64_t row = unit * rows_per_unit; row < end; ++row) {
            const double position = positions_.indices(run)[row];
            for (int64_t i = 0; i < angles; ++i) {
                const double angle = position * static_cast<double>(frequencies_.reals(run)[i]);
                cos_.reals(run)[row * angles + i] = static_cast<float>(std::cos(angle) * scale_);
                sin_.reals(run)[row * angles + i] = static_cast<float>(std::sin(angle) * scale_);
            }
        }
    }

  private:
    static constexpr int64_t rows_per_unit = 8;
    Place positions_, frequencies_, cos_, sin_;
    double scale_;
};

class RotateStep : public Step {
  public:
    explicit RotateStep(const Prepare& p) : x_(p.in(0)), cos_(p.in(1)), sin_(p.in(2)), y_(p.out(0)) {
        kernel_ = p.step.attributes.word("pairing") == "half" ? p.kernels.rotate_half : p.kernels.rotate_interleaved;
        per_unit_ = std::max<int64_t>(1, 4096 / std::max<int64_t>(x_.inner(), 1));
    }
    int64_t units(const Run& run, int) const override { return units_of(x_.leading(run), per_unit_); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t begin = unit * per_unit_, end = std::min(begin + per_unit_, x_.leading(run));
        const int64_t heads = x_.extent(1), width = x_.width(), angles = cos_.width();
        for (int64_t row = begin; row < end; ++row)
            for (int64_t head = 0; head < heads; ++head) {
                const int64_t at = (row * heads + head) * width;
                kernel_(x_.reals(run) + at, cos_.reals(run) + row * angles, sin_.reals(run) + row * angles,
                        y_.reals(run) + at, angles, width);
            }
    }

  private:
    void (*kernel_)(const float*, const float*, const float*, float*, int64_t, int64_t);
    Place x_, cos_, sin_, y_;
    int64_t per_unit_ = 1;
};

}  // namespace

std::unique_ptr<Step> make_rotary_table(const Prepare& p) {
    return std::make_unique<TableStep>(p);
}
std::unique_ptr<Step> make_rotate(const Prepare& p) {
    return std::make_unique<RotateStep>(p);
}

}  // namespace busbar::cpu
