#include <algorithm>
#include <cmath>

#include "chips/reference/kernels.h"

namespace busbar::reference {

// y_i = exp(x_i - max x) / sum_j exp(x_j - max x); the maximum only keeps exp() in range.
void softmax(const Call& call) {
    const int64_t width = call.in(0).extents.back();
    for (int64_t r = 0; r < call.rows(call.in(0)); ++r) {
        const double* x = call.reals(call.in(0)) + r * width;
        double* y = call.reals(call.out(0)) + r * width;
        const double largest = width > 0 ? *std::max_element(x, x + width) : 0;
        double sum = 0;
        for (int64_t i = 0; i < width; ++i) {
            y[i] = std::exp(x[i] - largest);
            sum += y[i];  // a NaN anywhere in x arrives here and makes the whole row NaN
        }
        for (int64_t i = 0; i < width; ++i) y[i] /= sum;
    }
}

}  // namespace busbar::reference
