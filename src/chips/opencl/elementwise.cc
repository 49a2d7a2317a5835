// Ops on each element and moves: elementwise.cl.
#include "base/check.h"
#include "chips/opencl/step.h"
#include "ops/infer.h"

namespace busbar::opencl {

namespace {

const char* kernel_name(const OpRow* op) {
    static const std::pair<const OpRow*, const char*> names[] = {
        {&op_add, "add"},       {&op_subtract, "subtract"}, {&op_multiply, "multiply"},
        {&op_divide, "divide"}, {&op_exp, "exp_"},          {&op_rsqrt, "rsqrt_"},
        {&op_cos, "cos_"},      {&op_sin, "sin_"},          {&op_silu, "silu"},
    };
    for (const auto& [of, name] : names)
        if (of == op) return name;
    BUSBAR_CHECK(false, "an op without a kernel: " + std::string(op->name));
    return "";
}

constexpr const char* file = "elementwise";

std::vector<int64_t> strides_of(const std::vector<int64_t>& extents) {
    std::vector<int64_t> s(extents.size(), 1);
    for (size_t i = extents.size(); i-- > 1;) s[i - 1] = s[i] * extents[i];
    return s;
}

// Words of x to words of y over the extents of `over`, whose leading axis may be in part in use.
void move(Maker& m, const Place& over, const std::vector<int64_t>& extents, Place x, std::vector<int64_t> x_strides,
          Place y, std::vector<int64_t> y_strides) {
    int64_t inner = 1;
    for (size_t i = 1; i < extents.size(); ++i) inner *= extents[i];
    m.call(file, "", "move", over, inner)
        .place(x)
        .place(y)
        .eight(extents, 1)
        .eight(x_strides, 0)
        .eight(y_strides, 0)
        .flat();
}

}  // namespace

void make_elementwise(Maker& m) {
    const Place y = m.out(0), a = m.in(0);
    auto call = m.call(file, "", kernel_name(m.step.row->op), y, y.inner());
    call.place(a);
    if (m.step.inputs.size() == 1) {
        call.place(y).flat();
        return;
    }
    const Place b = m.in(1);
    call.place(b)
        .place(y)
        .eight(y.extents, 1)
        .eight(broadcast_strides(a.extents, y.extents), 0)
        .eight(broadcast_strides(b.extents, y.extents), 0)
        .flat();
}

void make_gated_silu(Maker& m) {
    const Place y = m.out(0);
    m.call(file, "", "gated_silu", y, y.inner()).place(m.in(0)).place(m.in(1)).place(y).flat();
}

void make_select(Maker& m) {
    const Place y = m.out(0), mask = m.in(0), a = m.in(1), b = m.in(2);
    m.call(file, "", "select_", y, y.inner())
        .place(mask)
        .place(a)
        .place(b)
        .place(y)
        .eight(y.extents, 1)
        .eight(broadcast_strides(mask.extents, y.extents), 0)
        .eight(broadcast_strides(a.extents, y.extents), 0)
        .eight(broadcast_strides(b.extents, y.extents), 0)
        .number(a.kind == Kind::index)
        .number(b.kind == Kind::index)
        .flat();
}

void make_transpose(Maker& m) {
    const Place x = m.in(0), y = m.out(0);
    const auto& order = m.step.attributes.integers("order");
    BUSBAR_CHECK(!order.empty(), "a transposed scalar");
    const std::vector<int64_t> from = strides_of(x.extents);
    std::vector<int64_t> strides;
    for (int64_t axis : order) strides.push_back(from[axis]);
    move(m, y, y.extents, x, strides, y, strides_of(y.extents));
}

void make_slice(Maker& m) {
    Place x = m.in(0);
    const Place y = m.out(0);
    std::vector<int64_t> strides = strides_of(x.extents);
    x.at += static_cast<uint64_t>(m.step.attributes.integer("begin"));
    if (!strides.empty()) strides.back() *= m.step.attributes.integer("step");
    move(m, y, y.extents, x, strides, y, strides_of(y.extents));
}

void make_concat(Maker& m) {
    const Place whole = m.out(0);
    Place y = whole;
    for (size_t i = 0; i < m.step.inputs.size(); ++i) {
        const Place x = m.in(i);
        // Over the input's extents; of a vector the leading axis is the one that is joined.
        move(m, x, x.extents, x, strides_of(x.extents), y, strides_of(whole.extents));
        y.at += static_cast<uint64_t>(x.width());
    }
}

void make_gather_rows(Maker& m) {
    const Place ids = m.in(1), y = m.out(0);
    const int64_t entries = m.step.inputs[0].extents[0];
    if (const Weight* w = m.weight(0)) {
        const Planes& p = w->planes();
        m.call("product", w->shape().options(), "gather_packed", y, y.inner() / w->shape().per_word())
            .buffer(w->memory())
            .number64(p.scales)
            .number64(p.minimums)
            .number64(p.small_scales)
            .number64(p.small_minimums)
            .number(entries)
            .place(ids)
            .place(y)
            .number(y.inner())
            .failure()
            .flat();
        return;
    }
    m.call(file, "", "gather", y, y.inner()).place(m.in(0)).number(entries).place(ids).place(y).failure().flat();
}

void make_batch_matmul(Maker& m) {
    const Place a = m.in(0), b = m.in(1), y = m.out(0);
    const size_t rank = y.extents.size();
    const std::vector<int64_t> batch(y.extents.begin(), y.extents.end() - 2);
    const auto strides = [&](const Place& p) {
        return broadcast_strides({p.extents.begin(), p.extents.end() - 2}, batch);
    };
    m.call(file, "", "batch_matmul", y, y.inner())
        .place(a)
        .place(b)
        .place(y)
        .number(y.extents[rank - 2])
        .number(a.width())
        .number(y.width())
        .eight(batch, 1)
        .eight(strides(a), 0)
        .eight(strides(b), 0)
        .flat();
}

void make_rotary_table(Maker& m) {
    const Place c = m.out(0), s = m.out(1);
    m.call(file, "", "rotary_table", c, c.inner())
        .place(m.in(0))
        .place(m.in(1))
        .place(c)
        .place(s)
        .real(m.step.attributes.real("scale"))
        .flat();
}

void make_rotate(Maker& m) {
    const Place x = m.in(0), c = m.in(1), y = m.out(0);
    m.call(file, "", "rotate_", y, y.inner())
        .place(x)
        .place(c)
        .place(m.in(2))
        .place(y)
        .number(x.width())
        .number(c.width())
        .number(m.step.attributes.word("pairing") == "half")
        .flat();
}

}  // namespace busbar::opencl
