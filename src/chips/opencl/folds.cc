// Ops that fold rows: rows.cl.
#include "chips/opencl/step.h"

namespace busbar::opencl {

static constexpr const char* file = "rows";

// One group per row; a row's arguments begin with its input.
static Maker::Call over_rows(Maker& m, const char* kernel) {
    const Place x = m.in(0);
    return m.call(file, "", kernel, x, x.extents.size() < 2 ? 1 : x.rows_per_entry());
}

static void launch_rows(Maker& m, Maker::Call& call) {
    const Place x = m.in(0);
    if (x.extents.size() < 2) {  // one row, whatever its length
        call.launch().symbol = Symbol::none;
        call.launch().capacity = 1;
    }
    call.rows(x.extents.size() < 2 ? 1 : x.rows_per_entry(), m.context.limits().lanes);
}

void make_reduce(Maker& m) {
    const bool is_max = m.step.row->op == &op_max;
    auto call = over_rows(m, is_max ? "max_" : "sum_");
    call.place(m.in(0)).place(m.out(0)).number(m.in(0).width());
    if (!is_max) call.number(m.step.row->op == &op_mean);
    launch_rows(m, call);
}

void make_softmax(Maker& m) {
    auto call = over_rows(m, "softmax");
    call.place(m.in(0)).place(m.out(0)).number(m.in(0).width());
    launch_rows(m, call);
}

void make_norm(Maker& m) {
    auto call = over_rows(m, "rms_norm");
    call.place(m.in(0)).place(m.in(1)).place(m.out(0)).number(m.in(0).width());
    call.real(m.step.attributes.real("epsilon"));
    launch_rows(m, call);
}

void make_add_norm(Maker& m) {
    auto call = over_rows(m, "add_rms_norm");
    call.place(m.in(0)).place(m.in(1)).place(m.in(2)).place(m.out(0)).place(m.out(1)).number(m.in(0).width());
    call.real(m.step.attributes.real("epsilon"));
    launch_rows(m, call);
}

}  // namespace busbar::opencl
