#include <algorithm>

#include "chips/reference/kernels.h"

namespace busbar::reference {

// y[s * context + p] = state[s, p], zeros where there is no page: for definitions, so every slot is written.
void cache_gather(const Call& call) {
    const Operand &state = call.in(0), &block_table = call.in(1);
    const int64_t per_slot = state.type.shape[0].n * state.type.shape[1].n,
                  context = block_table.extents[1] * page_positions;
    double* y = call.reals(call.out(0));
    for (int64_t s = 0; s < block_table.extents[0]; ++s)
        for (int64_t p = 0; p < context; ++p, y += per_slot) {
            const double* slot = call.slot(state, block_table, s, p);
            if (slot)
                std::copy_n(slot, per_slot, y);
            else
                std::fill_n(y, per_slot, 0.0);
        }
}

}  // namespace busbar::reference
