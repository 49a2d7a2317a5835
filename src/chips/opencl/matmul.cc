// Products: product.cl. Which of its two kernels runs follows the rows in use; both give the same bits.
#include "chips/opencl/step.h"

namespace busbar::opencl {

namespace {

// From here on the kernel that unpacks weights once for many rows wins over the one that unpacks them per row.
constexpr int64_t many_rows = 5;
// SLICES, SIDES and SIDE_ROWS of product.cl.
constexpr int64_t slices = 8, sides = 8, tile = 32;

void product(Maker& m, const Place& x, size_t input, const Place& y) {
    const Weight* w = m.weight(input);
    const int64_t outputs = m.step.inputs[input].extents[0], width = x.width();
    const int64_t rows_per_entry = x.extents.size() < 2 ? 1 : x.rows_per_entry();
    if (w == nullptr) {
        m.call("elementwise", "", "matmul_values", y, y.inner())
            .place(x)
            .place(m.in(input))
            .place(y)
            .number(width)
            .number(outputs)
            .flat();
        return;
    }
    const Planes& p = w->planes();
    const int64_t per_slice = std::max<int64_t>(1, ceil_div(ceil_div(width, 32), slices));
    for (const bool many : {false, true}) {
        auto call =
            m.call("product", w->shape().options(), many ? "product_panel" : "product_vector", x, rows_per_entry);
        call.place(x)
            .buffer(w->memory())
            .number64(p.scales)
            .number64(p.minimums)
            .number64(p.small_scales)
            .number64(p.small_minimums)
            .place(y)
            .number(width)
            .number(outputs)
            .number(per_slice);
        Launch& l = call.launch();
        l.rows_per_entry = rows_per_entry;
        l.per_entry = rows_per_entry;
        l.local[0] = panel_rows / m.context.limits().vector;
        l.local[1] = many ? sides : slices;
        l.groups[0] = ceil_div(outputs, panel_rows);
        if (many) {
            l.axis = 1;
            l.per_group = tile;
            l.least = many_rows;
        } else {
            l.axis = 2;
            l.most = many_rows - 1;
        }
        call.done();
    }
}

}  // namespace

void make_matmul(Maker& m) {
    const Place x = m.in(0);
    for (size_t i = 1; i < m.step.inputs.size(); ++i) product(m, x, i, m.out(i - 1));
}

}  // namespace busbar::opencl
