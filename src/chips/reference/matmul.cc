#include "chips/reference/kernels.h"

namespace busbar::reference {

// y = x w^T. The weight's rows are the outer loop: each is decoded once and used for all rows of x.
static void product(const Call& call, const Operand& x, const Operand& w, const Operand& y) {
    const int64_t width = w.extents[1], outputs = w.extents[0], rows = call.rows(x);
    const double* xs = call.reals(x);
    double* ys = call.reals(y);
    for (int64_t n = 0; n < outputs; ++n) {
        const double* weight = call.row(w, n);
        for (int64_t r = 0; r < rows; ++r) {
            double sum = 0;
            for (int64_t k = 0; k < width; ++k) sum += xs[r * width + k] * weight[k];
            ys[r * outputs + n] = sum;
        }
    }
}

void matmul(const Call& call) {
    product(call, call.in(0), call.in(1), call.out(0));
}

void multi_matmul(const Call& call) {
    for (size_t i = 0; i < call.step.outputs.size(); ++i) product(call, call.in(0), call.in(i + 1), call.out(i));
}

}  // namespace busbar::reference
