#include <cmath>

#include "chips/reference/kernels.h"

namespace busbar::reference {

double silu_of(double x) {
    return x / (1 + std::exp(-x));
}

void silu(const Call& call) {
    const double* x = call.reals(call.in(0));
    double* y = call.reals(call.out(0));
    for (int64_t i = 0; i < call.count(call.in(0)); ++i) y[i] = silu_of(x[i]);
}

}  // namespace busbar::reference
