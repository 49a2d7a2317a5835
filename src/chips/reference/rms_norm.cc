#include <cmath>

#include "chips/reference/kernels.h"

namespace busbar::reference {

void norm_row(const double* x, const double* weight, double epsilon, int64_t width, double* y) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += x[i] * x[i];
    const double factor = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (int64_t i = 0; i < width; ++i) y[i] = x[i] * factor * weight[i];
}

void rms_norm(const Call& call) {
    const int64_t width = call.in(0).extents.back();
    const double *x = call.reals(call.in(0)), *weight = call.reals(call.in(1));
    double* y = call.reals(call.out(0));
    for (int64_t r = 0; r < call.rows(call.in(0)); ++r)
        norm_row(x + r * width, weight, call.step.attributes.real("epsilon"), width, y + r * width);
}

}  // namespace busbar::reference
