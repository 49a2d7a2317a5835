// Ops on rows: reductions, softmax, norms. Units are whole rows.
#include "chips/cpu/step.h"

namespace busbar::cpu {

namespace {

// Calls fn(first row, one past the last) for units of about 4,096 elements.
template <typename F>
class RowStep : public Step {
  public:
    RowStep(const Place& x, F fn)
        : x_(x), fn_(fn), per_unit_(std::max<int64_t>(1, 4096 / std::max<int64_t>(x.width(), 1))) {}
    int64_t units(const Run& run, int) const override { return units_of(x_.rows(run), per_unit_); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t begin = unit * per_unit_, end = std::min(begin + per_unit_, x_.rows(run));
        for (int64_t row = begin; row < end; ++row) fn_(run, row);
    }

  private:
    Place x_;
    F fn_;
    int64_t per_unit_;
};

template <typename F>
std::unique_ptr<Step> row_step(const Place& x, F fn) {
    return std::make_unique<RowStep<F>>(x, fn);
}

std::unique_ptr<Step> reduction(const Prepare& p, float (*kernel)(const float*, int64_t)) {
    return row_step(p.in(0), [kernel, x = p.in(0), y = p.out(0)](const Run& run, int64_t row) {
        y.reals(run)[row] = kernel(x.reals(run) + row * x.width(), x.width());
    });
}

}  // namespace

std::unique_ptr<Step> make_sum(const Prepare& p) {
    return reduction(p, p.kernels.sum);
}
std::unique_ptr<Step> make_mean(const Prepare& p) {
    return reduction(p, p.kernels.mean);
}
std::unique_ptr<Step> make_max(const Prepare& p) {
    return reduction(p, p.kernels.max);
}

std::unique_ptr<Step> make_softmax(const Prepare& p) {
    return row_step(p.in(0), [kernel = p.kernels.softmax, x = p.in(0), y = p.out(0)](const Run& run, int64_t row) {
        kernel(x.reals(run) + row * x.width(), y.reals(run) + row * x.width(), x.width());
    });
}

std::unique_ptr<Step> make_rms_norm(const Prepare& p) {
    const auto epsilon = static_cast<float>(p.step.attributes.real("epsilon"));
    return row_step(
        p.in(0), [=, kernel = p.kernels.rms_norm, x = p.in(0), w = p.in(1), y = p.out(0)](const Run& run, int64_t row) {
            kernel(x.reals(run) + row * x.width(), w.reals(run), y.reals(run) + row * x.width(), x.width(), epsilon);
        });
}

std::unique_ptr<Step> make_add_rms_norm(const Prepare& p) {
    const auto epsilon = static_cast<float>(p.step.attributes.real("epsilon"));
    return row_step(p.in(0), [=, kernel = p.kernels.add_rms_norm, x = p.in(0), delta = p.in(1), w = p.in(2),
                              sum = p.out(0), y = p.out(1)](const Run& run, int64_t row) {
        const int64_t at = row * x.width();
        kernel(x.reals(run) + at, delta.reals(run) + at, w.reals(run), sum.reals(run) + at, y.reals(run) + at,
               x.width(), epsilon);
    });
}

}  // namespace busbar::cpu
