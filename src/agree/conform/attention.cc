#include <algorithm>
#include <cmath>
#include <numeric>

#include "agree/conform/paged.h"

namespace busbar::conform {

namespace {

struct Options {
    int64_t heads = 4, kv_heads = 2, width = 32, value_width = 32;
    double scale = 0;  // 0: 1 / sqrt(width)
    int64_t window = 0;
    Element cache = Element::f32;
    double q_size = 1, k_size = 1;
    int64_t spare_rows = 0;
};

Case attention_case(Random& random, std::string name, std::vector<int64_t> lengths, std::vector<Place> rows,
                    const Options& o) {
    Case c =
        paged_case(random, op_attention, fmt::format("{} {}", name, name_of(o.cache)), lengths, rows, o.spare_rows);
    c.cache = o.cache;
    c.filled = lengths;
    c.attributes = {{"scale", o.scale != 0 ? o.scale : 1 / std::sqrt(static_cast<double>(o.width))},
                    {"window", o.window}};
    c.inputs = {
        values("q", {Symbol::rows, o.heads, o.width}, numbers(random, {c.binding.rows, o.heads, o.width}, o.q_size)),
        cache_state(random, c, "keys", StateRole::key, o.kv_heads, o.width, o.k_size),
        cache_state(random, c, "values", StateRole::value, o.kv_heads, o.value_width),
        step_part("positions", {Symbol::rows}),
        step_part("sequences", {Symbol::rows}),
        block_table_part(c)};
    return c;
}

std::vector<Place> last_of_each(const std::vector<int64_t>& lengths) {
    std::vector<Place> rows;
    for (size_t s = 0; s < lengths.size(); ++s)
        rows.push_back({static_cast<int32_t>(s), static_cast<int32_t>(lengths[s] - 1)});
    return rows;
}

std::vector<Place> span_of(int32_t sequence, int32_t begin, int32_t end) {
    std::vector<Place> rows;
    for (int32_t p = begin; p < end; ++p) rows.push_back({sequence, p});
    return rows;
}

std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, std::vector<int64_t> lengths, std::vector<Place> rows, Options o) -> Case& {
        all.push_back(attention_case(random, std::move(name), std::move(lengths), std::move(rows), o));
        return all.back();
    };
    for (Element cache : {Element::f32, Element::f16, Element::bf16}) {
        add("first token", {1}, {{0, 0}}, {.cache = cache});
        add("one row, two pages, the second partial", {71}, {{0, 70}},
            {.heads = 9, .kv_heads = 3, .width = 64, .value_width = 64, .cache = cache});
        add("several sequences", {5, 64, 65, 130}, last_of_each({5, 64, 65, 130}), {.cache = cache, .spare_rows = 3});
        add("a prompt", {21}, span_of(0, 0, 21),
            {.heads = 6, .kv_heads = 2, .width = 16, .value_width = 16, .cache = cache});
        add("long", {700}, {{0, 699}, {0, 513}, {0, 0}}, {.cache = cache});
        add("window of 100", {200, 90}, {{0, 199}, {0, 120}, {1, 89}, {0, 99}, {0, 100}},
            {.window = 100, .cache = cache});
    }
    for (int64_t window : {1, 2, 63, 64, 65})
        add(fmt::format("window of {}", window), {150}, {{0, 149}, {0, 64}, {0, 1}, {0, 128}}, {.window = window});
    std::vector<Place> mixed = span_of(1, 60, 75);
    mixed.insert(mixed.begin(), {{0, 9}, {2, 300}});
    add("a prompt among tokens", {10, 75, 301}, mixed, {.spare_rows = 2});
    add("one head each", {40}, {{0, 39}, {0, 17}}, {.heads = 1, .kv_heads = 1, .width = 8, .value_width = 8});
    add("all heads share one", {70}, {{0, 69}}, {.heads = 8, .kv_heads = 1, .width = 16, .value_width = 16});
    add("as many key heads", {70}, {{0, 69}, {0, 3}}, {.heads = 5, .kv_heads = 5, .width = 16, .value_width = 16});
    add("odd widths", {70}, {{0, 69}, {0, 31}}, {.width = 13, .value_width = 7});
    add("wide", {130}, {{0, 129}}, {.heads = 2, .kv_heads = 1, .width = 128, .value_width = 128});
    add("width 1", {66}, {{0, 65}}, {.heads = 2, .kv_heads = 1, .width = 1, .value_width = 1});
    add("scale 1", {70}, {{0, 69}}, {.scale = 1});
    add("sharp scores", {300}, {{0, 299}, {0, 150}}, {.q_size = 6});
    add("scores near 1e4", {100}, {{0, 99}}, {.q_size = 50, .k_size = 50});
    Case& zero = add("a query of zeros", {129}, {{0, 128}}, {});
    zero.inputs[0].data = filled_with({1, 4, 32}, 0);
    Case& equal = add("equal keys", {200}, {{0, 199}}, {});
    std::fill(equal.inputs[1].data.data.begin(), equal.inputs[1].data.data.end(), 0.5);
    Case& outlier = add("one value of 1e4", {100}, {{0, 99}}, {});
    for (int64_t i = 0; i < 64; i += 5) outlier.inputs[2].data.data[40 * 64 + i] = 1e4;
    Case& nan_query = add("NaN in one query head", {70}, {{0, 69}, {0, 50}}, {});
    nan_query.inputs[0].data.data[33] = std::nan("");
    Case& infinite = add("an infinite value in view of one row", {70}, {{0, 69}, {0, 20}}, {});
    infinite.inputs[2].data.data[30 * 64 + 5] = INFINITY;
    return all;
}

// Everything anew from the case's numbers; only the outputs' extents are the oracle's.
std::vector<Bound> bound(const Judged& j) {
    const Case& c = j.c;
    const Array &q = c.inputs[0].data, &keys = c.inputs[1].data, &values = c.inputs[2].data, &y = j.oracle[0];
    const int64_t heads = q.extents[1], width = q.extents[2], kv_heads = keys.extents[2],
                  value_width = values.extents[3], context = keys.extents[1];
    const double scale = c.attributes.real("scale"), u = j.u();
    const int64_t window = c.attributes.integer("window");
    const StepLayout& layout = c.record.layout();
    const int32_t *positions = c.record.words().data() + layout.positions(),
                  *sequences = c.record.words().data() + layout.sequences();
    Bound b{Bound::Kind::absolute, {}};
    for (int64_t r = 0; r < y.extents[0]; ++r)
        for (int64_t h = 0; h < heads; ++h) {
            const int64_t last = positions[r], first = window > 0 ? std::max<int64_t>(0, last - window + 1) : 0,
                          n = last - first + 1;
            const int64_t base = sequences[r] * context + first, head = h / (heads / kv_heads);
            std::vector<double> p(n), e(n);
            double m = -INFINITY, sum = 0;
            for (int64_t i = 0; i < n; ++i) {
                double terms = 0;
                for (int64_t k = 0; k < width; ++k) {
                    const double term =
                        q.data[(r * heads + h) * width + k] * keys.data[((base + i) * kv_heads + head) * width + k];
                    p[i] += term * scale;
                    terms += std::abs(term);
                }
                e[i] = std::abs(scale) * 4 * std::sqrt(width) * u * terms;
                m = std::max(m, p[i]);
            }
            for (int64_t i = 0; i < n; ++i) {
                e[i] += 2 * j.E() + u * std::abs(p[i] - m);
                p[i] = std::exp(p[i] - m);
                sum += p[i];
            }
            double mean_e = 0;
            for (int64_t i = 0; i < n; ++i) mean_e += (p[i] /= sum) * e[i];
            for (int64_t k = 0; k < value_width; ++k) {
                double limit = 0;
                for (int64_t i = 0; i < n; ++i)
                    limit += (p[i] * (e[i] + mean_e + 4 * std::sqrt(n) * u) + j.smallest_normal()) *
                             std::abs(values.data[((base + i) * kv_heads + head) * value_width + k]);
                b.limit.push_back(limit + j.half_ulp(y.data[(r * heads + h) * value_width + k]));
            }
        }
    return {b};
}

std::vector<Mutation> mutations() {
    return {{"input q: one head off", [](Case& c, int) {
                 Array& q = c.in("q").data;
                 if (q.extents[1] < 2) return false;
                 for (int64_t at = 0; at < q.count(); at += q.extents[1] * q.extents[2])
                     std::rotate(q.data.begin() + at, q.data.begin() + at + q.extents[2],
                                 q.data.begin() + at + q.extents[1] * q.extents[2]);
                 return true;
             }}};
}

}  // namespace

std::vector<Suite> attention_suites() {
    return {{&op_attention, cases, bound, mutations}};
}

}  // namespace busbar::conform
