#include <algorithm>

#include "chips/reference/kernels.h"

namespace busbar::reference {

// state[sequences[r], positions[r]] = x[r]
void cache_append(const Call& call) {
    const Operand &state = call.in(0), &x = call.in(1);
    const int64_t per_slot = x.extents[1] * x.extents[2];
    const int32_t *positions = call.indices(call.in(2)), *sequences = call.indices(call.in(3));
    for (int64_t r = 0; r < call.leading(x); ++r) {
        double* slot = call.slot(state, call.in(4), sequences[r], positions[r]);
        if (!slot)
            throw call.error(
                fmt::format("expected a page for position {} of sequence {}, got none", positions[r], sequences[r]));
        std::copy_n(call.reals(x) + r * per_slot, per_slot, slot);
    }
}

}  // namespace busbar::reference
