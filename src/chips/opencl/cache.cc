// States and attention: cache.cl.
#include <fmt/format.h>

#include "base/check.h"
#include "chips/opencl/step.h"

namespace busbar::opencl {

int64_t page_elements(const ValueType& state) {
    const int64_t heads = state.shape[0].n, width = state.shape[1].n;
    const int64_t kept = state.role == StateRole::key ? width : static_cast<int64_t>(round_up(width, 8));
    return heads * page_positions * kept;
}

namespace {

constexpr const char* file = "cache";

struct State {
    Place place;
    int64_t heads, width, pages;
    bool is_key;
};

State state_of(const Maker& m, size_t input) {
    State s{m.in(input), 0, 0, 0, false};
    s.heads = s.place.extents[0];
    s.width = s.place.extents[1];
    s.is_key = s.place.role == StateRole::key;
    const uint64_t page = static_cast<uint64_t>(page_elements(m.step.inputs[input].type)) * bytes_of(s.place.element);
    s.pages = page == 0 ? 0 : static_cast<int64_t>(std::min<uint64_t>(s.place.bytes / page, INT32_MAX));
    return s;
}

std::string kept_in(Element element) {
    BUSBAR_CHECK(element == Element::f32 || element == Element::f16 || element == Element::bf16,
                 "a state kept in an element that is not offered");
    return fmt::format("-DCACHE={}", element == Element::bf16 ? 17 : bits_of(element));
}

int64_t ranges_of(const ProgramStep& step) {
    return ceil_div(step.inputs[5].extents.back() * page_positions, range_positions);
}

}  // namespace

uint64_t parts_bytes(const ProgramStep& step) {
    if (step.row->op != &op_attention) return 0;
    const std::vector<int64_t>& y = step.outputs[0].extents;
    const uint64_t part = round_up(static_cast<uint64_t>(y[2]), 8) + 8;  // part_size() of cache.cl
    return static_cast<uint64_t>(split_rows * y[1] * ranges_of(step)) * part * 4;
}

void make_cache_append(Maker& m) {
    const State state = state_of(m, 0);
    const Place x = m.in(1), table = m.in(4);
    m.call(file, kept_in(state.place.element), "append", x, x.inner())
        .place(state.place)
        .place(x)
        .place(m.in(2))
        .place(m.in(3))
        .place(table)
        .number(table.first())
        .number(table.width())
        .number(state.pages)
        .number(state.heads)
        .number(state.width)
        .number(state.is_key)
        .failure()
        .flat();
}

void make_cache_gather(Maker& m) {
    const State state = state_of(m, 0);
    const Place table = m.in(1), y = m.out(0);
    m.call(file, kept_in(state.place.element), "gather_cache", y, y.inner())
        .place(state.place)
        .place(table)
        .place(y)
        .number(state.pages)
        .number(state.heads)
        .number(state.width)
        .number(state.is_key)
        .flat();
}

void make_cache_mask(Maker& m) {
    const Place table = m.in(2), mask = m.out(0);
    m.call(file, "-DCACHE=32", "mask_", mask, mask.inner())
        .place(m.in(0))
        .place(m.in(1))
        .place(mask)
        .number(table.width() * page_positions)
        .number(m.step.attributes.integer("window"))
        .flat();
}

void make_attention(Maker& m) {
    const Place q = m.in(0), table = m.in(5), y = m.out(0);
    const State keys = state_of(m, 1), values = state_of(m, 2);
    BUSBAR_CHECK(keys.is_key && !values.is_key && keys.place.element == values.place.element,
                 "attention over states without their roles");
    const Limits& limits = m.context.limits();
    const int64_t per_kv = q.extents[1] / keys.heads, side = page_positions / limits.vector;
    // Two pages' worth of scores and the query must fit in half of the local memory, so that two groups may share a
    // unit.
    const int64_t fit = static_cast<int64_t>(limits.local_memory / 2) / ((2 * page_positions + keys.width) * 4);
    const int64_t heads = std::clamp<int64_t>(std::min<int64_t>(fit, static_cast<int64_t>(limits.largest_group) / side),
                                              1, std::min<int64_t>(per_kv, 8));
    const std::string options = fmt::format("{} -DHEADS={} -DSPANS={}", kept_in(keys.place.element), heads,
                                            ceil_div(values.width, page_positions));
    const int64_t ranges = ranges_of(m.step), window = m.step.attributes.integer("window");
    const bool can_split = ranges > 1 && m.step.inputs[3].where == Operand::Where::step;
    for (const bool split : {false, true}) {
        if (split && !can_split) break;
        auto call = m.call(file, options, "attention", q, 0);
        call.place(q)
            .place(keys.place)
            .place(values.place)
            .place(m.in(3))
            .place(m.in(4))
            .place(table)
            .place(y)
            .number(table.first())
            .number(table.width())
            .number(keys.pages)
            .number(values.pages)
            .number(keys.heads)
            .number(per_kv)
            .number(keys.width)
            .number(values.width)
            .real(m.step.attributes.real("scale"))
            .number(window)
            .failure()
            .local(static_cast<size_t>(heads * keys.width) * 4)
            .parts()
            .number(split ? ranges : 0);
        Launch& l = call.launch();
        l.local[0] = side;
        l.local[1] = heads;
        l.groups[1] = keys.heads * ceil_div(per_kv, heads);
        if (can_split) {
            l.split = split ? 1 : -1;
            l.positions = static_cast<int64_t>(m.step.inputs[3].offset);
            l.ranges = ranges;
            l.by_range = split;
        }
        call.done();
    }
    if (!can_split) return;
    auto join = m.call(file, options, "attention_join", q, 0);
    join.place(m.in(3)).place(y).number(q.extents[1]).number(values.width).number(window).parts().number(ranges);
    Launch& l = join.launch();
    l.local[0] = side;
    l.groups[1] = q.extents[1];
    l.split = 1;
    l.positions = static_cast<int64_t>(m.step.inputs[3].offset);
    l.ranges = ranges;
    join.done();
}

}  // namespace busbar::opencl
