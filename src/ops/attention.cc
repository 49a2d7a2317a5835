#include <limits>

#include "ops/builder.h"
#include "ops/infer.h"

namespace busbar {

namespace {

std::vector<ValueType> infer(std::span<const ValueType> in, const Attributes&) {
    expect_rank(op_attention, in[0], 3, "q");
    expect_kind(op_attention, in[1], Kind::state, "keys");
    expect_kind(op_attention, in[2], Kind::state, "values");
    expect_dim(op_attention, in[1].shape[1], in[0].shape[2], "the width of keys");
    expect_dim(op_attention, in[2].shape[0], in[1].shape[0], "the heads of values");
    const int64_t heads = in[0].shape[1].n, kv_heads = in[1].shape[0].n;
    if (kv_heads < 1 || heads % kv_heads != 0)
        throw bad_input("", "[attention] expected query heads to be a multiple of {} key heads, got {}", kv_heads,
                        heads);
    return {{Kind::real, Shape({in[0].shape[0], in[0].shape[1], in[2].shape[1]})}};
}

// Counted at half the context, the mean depth of a sequence that fills it.
Cost cost(std::span<const ValueType> in, std::span<const ValueType> out, const Binding& b) {
    const auto rows_heads = static_cast<double>(in[0].shape[0].bind(b) * in[0].shape[1].n),
               depth = static_cast<double>(b.context) / 2;
    const auto widths = static_cast<double>(in[1].shape[1].n + in[2].shape[1].n);
    return {2 * rows_heads * depth * widths,
            4 * (static_cast<double>(in[0].shape.count(b) + out[0].shape.count(b)) +
                 static_cast<double>(b.sequences * in[1].shape[0].n) * depth * widths)};
}

std::vector<int> define(Builder& b, std::span<const int> in, const Attributes& a) {
    const int q = in[0], block_table = in[5];
    const int64_t heads = b.type_of(q).shape[1].n, width = b.type_of(q).shape[2].n,
                  kv_heads = b.type_of(in[1]).shape[0].n;
    const int64_t value_width = b.type_of(in[2]).shape[1].n;
    const int keys = b.transpose(b.one(op_cache_gather, {in[1], block_table}), {1, 2, 0});    // kv_heads, width, slots
    const int values = b.transpose(b.one(op_cache_gather, {in[2], block_table}), {1, 0, 2});  // kv_heads, slots, width
    const int grouped = b.reshape(q, {0, kv_heads, heads / kv_heads, width});  // query head h reads key head h / group
    const int scores =
        b.multiply(b.batch_matmul(grouped, keys), b.scalar(a.real("scale")));  // rows, kv_heads, group, slots
    const int mask = b.one(op_cache_mask, {in[3], in[4], block_table}, {{"window", a.integer("window")}});
    const int seen = b.one(op_select, {mask, scores, b.scalar(-std::numeric_limits<double>::infinity())});
    const int p = b.one(op_softmax, {seen});
    return {b.reshape(b.batch_matmul(p, values), {0, heads, value_width})};
}

}  // namespace

const OpRow op_attention = {"attention",
                            "y = softmax(scale * q k^T over the visible slots) v, each group of query heads sharing a "
                            "key head [Vaswani et al. 2017; Ainslie et al. 2023]",
                            {{"q", "rows, heads, width"},
                             {"keys", "kv_heads, width", Kind::state},
                             {"values", "kv_heads, value_width", Kind::state},
                             {"positions", "rows", Kind::index},
                             {"sequences", "rows", Kind::index},
                             {"block_table", "sequences, pages", Kind::index}},
                            {"y"},
                            {{"scale", AttributeType::real, "factor on the scores"},
                             {"window", AttributeType::integer, "positions seen, 0 = all"}},
                            infer,
                            cost,
                            nullptr,
                            define};

}  // namespace busbar
