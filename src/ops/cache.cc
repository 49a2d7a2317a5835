// The paged cache as a state value. A sequence s holds position p in page block_table[s][p / 64], slot p % 64; -1 = no
// page. How a page is laid out inside is the chip's business, so append and gather have no definition in numbers, only
// this text.
#include "ops/infer.h"

namespace busbar {

namespace {

std::vector<ValueType> infer_append(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op_cache_append, in[0], Kind::state, "state");
    expect_rank(op_cache_append, in[1], 3, "x");
    expect_dim(op_cache_append, in[1].shape[1], in[0].shape[0], "the heads of x");
    expect_dim(op_cache_append, in[1].shape[2], in[0].shape[1], "the width of x");
    return {in[0]};
}

Cost cost_append(std::span<const ValueType> in, std::span<const ValueType>, const Binding& b) {
    return {0, 8.0 * static_cast<double>(in[1].shape.count(b))};
}

std::vector<ValueType> infer_gather(std::span<const ValueType> in, const Attributes&) {
    expect_kind(op_cache_gather, in[0], Kind::state, "state");
    return {{Kind::real, Shape({Symbol::slots, in[0].shape[0], in[0].shape[1]})}};
}

Cost cost_gather(std::span<const ValueType>, std::span<const ValueType> out, const Binding& b) {
    return {0, 8.0 * static_cast<double>(out[0].shape.count(b))};
}

std::vector<ValueType> infer_mask(std::span<const ValueType> in, const Attributes&) {
    expect_rank(op_cache_mask, in[0], 1, "positions");
    return {{Kind::index, Shape({in[0].shape[0], 1, 1, Symbol::slots})}};  // ready to stretch over heads
}

void evaluate_mask(std::span<const Array* const> in, std::span<Array> out, const Attributes& a) {
    const int64_t window = a.integer("window"), slots = out[0].extents[3], context = in[2]->extents[1] * page_positions;
    for (int64_t r = 0; r < out[0].extents[0]; ++r)
        for (int64_t slot = 0; slot < slots; ++slot) {
            const double distance = in[0]->data[r] - static_cast<double>(slot % context);
            const bool same = static_cast<double>(slot / context) == in[1]->data[r];
            out[0].data[r * slots + slot] =
                same && distance >= 0 && (window == 0 || distance < static_cast<double>(window));
        }
}

const InputSpec positions = {"positions", "rows; of each row in its sequence, from 0", Kind::index};
const InputSpec sequences = {"sequences", "rows; which row of the block table", Kind::index};
const InputSpec block_table = {"block_table", "sequences, pages; page numbers, -1 where none", Kind::index};

}  // namespace

const OpRow op_cache_append = {
    "cache_append",
    "state[sequences[r], positions[r]] = x[r]: the rows of a step enter the cache",
    {{"state", "heads, width", Kind::state}, {"x", "rows, heads, width"}, positions, sequences, block_table},
    {"state"},
    {},
    infer_append,
    cost_append,
    nullptr,
    nullptr,
    0};
const OpRow op_cache_gather = {
    "cache_gather",
    "y[s * context + p] = state[s, p], zeros where there is no page; used by definitions only",
    {{"state", "heads, width", Kind::state}, block_table},
    {"y"},
    {},
    infer_gather,
    cost_gather};
const OpRow op_cache_mask = {
    "cache_mask",
    "1 where slot (s, p) is visible to row r: s = sequences[r], 0 <= positions[r] - p (< window, if window > 0)",
    {positions, sequences, block_table},
    {"mask"},
    {{"window", AttributeType::integer, "positions seen, 0 = all"}},
    infer_mask,
    cost_gather,
    evaluate_mask};

}  // namespace busbar
