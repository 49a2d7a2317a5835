#include "chips/reference/kernels.h"

namespace busbar::reference {

// y = silu(gate) * up
void gated_silu(const Call& call) {
    const double *gate = call.reals(call.in(0)), *up = call.reals(call.in(1));
    double* y = call.reals(call.out(0));
    for (int64_t i = 0; i < call.count(call.in(0)); ++i) y[i] = silu_of(gate[i]) * up[i];
}

}  // namespace busbar::reference
