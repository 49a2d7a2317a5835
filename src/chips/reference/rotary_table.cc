#include <cmath>

#include "chips/reference/kernels.h"

namespace busbar::reference {

// cos and sin of position * frequency, both times `scale`.
void rotary_table(const Call& call) {
    const int64_t rows = call.leading(call.in(0)), angles = call.in(1).extents[0];
    const int32_t* positions = call.indices(call.in(0));
    const double *frequencies = call.reals(call.in(1)), scale = call.step.attributes.real("scale");
    double *cos = call.reals(call.out(0)), *sin = call.reals(call.out(1));
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < angles; ++i) {
            const double angle = positions[r] * frequencies[i];
            cos[r * angles + i] = std::cos(angle) * scale;
            sin[r * angles + i] = std::sin(angle) * scale;
        }
}

}  // namespace busbar::reference
