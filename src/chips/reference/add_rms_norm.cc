#include "chips/reference/kernels.h"

namespace busbar::reference {

// sum = x + delta; y = rms_norm(sum)
void add_rms_norm(const Call& call) {
    const int64_t width = call.in(0).extents.back();
    const double *x = call.reals(call.in(0)), *delta = call.reals(call.in(1)), *weight = call.reals(call.in(2));
    double *sum = call.reals(call.out(0)), *y = call.reals(call.out(1));
    for (int64_t r = 0; r < call.rows(call.in(0)); ++r) {
        for (int64_t i = r * width; i < (r + 1) * width; ++i) sum[i] = x[i] + delta[i];
        norm_row(sum + r * width, weight, call.step.attributes.real("epsilon"), width, y + r * width);
    }
}

}  // namespace busbar::reference
