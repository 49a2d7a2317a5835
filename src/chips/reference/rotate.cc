#include "chips/reference/kernels.h"

namespace busbar::reference {

// Each head's pairs (a, b) turn by the row's angles: (a cos - b sin, b cos + a sin). What lies past the pairs passes
// through.
void rotate(const Call& call) {
    const int64_t heads = call.in(0).extents[1], width = call.in(0).extents[2], angles = call.in(1).extents[1];
    const bool interleaved = call.step.attributes.word("pairing") == "interleaved";
    for (int64_t r = 0; r < call.leading(call.in(0)); ++r) {
        const double *cos = call.reals(call.in(1)) + r * angles, *sin = call.reals(call.in(2)) + r * angles;
        for (int64_t h = 0; h < heads; ++h) {
            const double* x = call.reals(call.in(0)) + (r * heads + h) * width;
            double* y = call.reals(call.out(0)) + (r * heads + h) * width;
            for (int64_t i = 0; i < angles; ++i) {
                const int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + angles;
                const double a = x[first], b = x[second];
                y[first] = a * cos[i] - b * sin[i];
                y[second] = b * cos[i] + a * sin[i];
            }
            for (int64_t i = 2 * angles; i < width; ++i) y[i] = x[i];
        }
    }
}

}  // namespace busbar::reference
