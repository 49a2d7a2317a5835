#include <algorithm>

#include "chips/reference/kernels.h"

namespace busbar::reference {

// y[i] = table[ids[i]]
void gather_rows(const Call& call) {
    const Operand &table = call.in(0), &y = call.out(0);
    const int64_t width = table.extents[1], entries = call.leading(table);
    const int32_t* ids = call.indices(call.in(1));
    for (int64_t i = 0; i < call.leading(y); ++i) {
        if (ids[i] < 0 || ids[i] >= entries)
            throw call.error(fmt::format("expected a row below {}, got {}", entries, ids[i]));
        if (table.type.kind == Kind::index) {
            auto* to = const_cast<int32_t*>(call.indices(y)) + i * width;
            std::copy_n(call.indices(table) + ids[i] * width, width, to);
        } else {
            std::copy_n(call.row(table, ids[i]), width, call.reals(y) + i * width);
        }
    }
}

}  // namespace busbar::reference
