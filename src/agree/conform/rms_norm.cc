// rms_norm and add_rms_norm.
#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

template <const OpRow& op>
std::vector<Case> cases(Random& random) {
    constexpr bool with_add = &op == &op_add_rms_norm;
    std::vector<Case> all;
    const auto add = [&](std::string name, int64_t rows, Array x, double epsilon, Input w) -> Case& {
        Case c = step_case(op, std::move(name), rows, x.extents[0]);
        c.attributes = {{"epsilon", epsilon}};
        std::vector<Dim> dims(x.extents.begin(), x.extents.end());
        dims[0] = Symbol::rows;
        const std::vector<int64_t> extents = x.extents;
        double size = 0;
        for (double v : x.data) size = std::isfinite(v) ? std::max(size, std::min(std::abs(v), 1.0)) : size;
        c.inputs = {values("x", dims, std::move(x))};
        if (with_add) c.inputs.push_back(values("delta", dims, numbers(random, extents, size)));
        c.inputs.push_back(std::move(w));
        c.inputs.back().name = "weight";
        all.push_back(std::move(c));
        return all.back();
    };
    const auto plain = [&](int64_t width) { return values("weight", {width}, numbers(random, {width})); };
    for (int64_t width : {1, 7, 16, 64, 577, 4096})
        add(fmt::format("3 of 4 rows x {}", width), 3, numbers(random, {4, width}), 1e-5, plain(width));
    for (const Encoding* e : {&encoding_f32, &encoding_f16, &encoding_bf16})
        add(fmt::format("weight stored as {}", e->name), 2, numbers(random, {2, 576}), 1e-5,
            weight(random_weight(random, *e, {576})));
    add("heads (q and k norm)", 3, numbers(random, {3, 4, 64}), 1e-6, plain(64));
    add("heads, a stored weight", 3, numbers(random, {4, 4, 32}), 1e-6,
        weight(random_weight(random, encoding_f32, {32})));
    // The epsilon shows only where the mean square is near it.
    add("mean square 1e-4, epsilon 1e-5", 2, numbers(random, {2, 96}, 1e-2), 1e-5, plain(96));
    add("mean square 1e-6, epsilon 1e-6", 2, numbers(random, {2, 96}, 1e-3), 1e-6, plain(96));
    add("mean square 1e-10", 2, numbers(random, {2, 96}, 1e-5), 1e-5,
        weight(random_weight(random, encoding_f32, {96})));
    add("zeros", 2, filled_with({2, 96}, 0), 1e-5, plain(96));
    add("subnormals", 2, numbers(random, {2, 96}, 1e-40), 1e-5, plain(96));
    add("all equal", 2, filled_with({2, 2048}, 0.1), 1e-5, plain(2048));
    add("large", 2, numbers(random, {2, 96}, 1e15), 1e-5, plain(96));
    Array outlier = numbers(random, {2, 576});
    outlier.data[100] = outlier.data[600] = 1e4;
    add("one outlier of 1e4", 2, std::move(outlier), 1e-5, plain(576));
    Array edges = numbers(random, {4, 33});
    edges.data[5] = std::nan("");
    edges.data[33 + 7] = INFINITY;
    edges.data[66 + 7] = -0.0;
    add("NaN in one row, infinity in another", 4, std::move(edges), 1e-5, plain(33));
    return all;
}

Bound norm_bound(const Judged& j, const Array& y, double roundings) {
    const auto width = static_cast<double>(j.c.inputs[0].data.extents.back());
    const Array& weight = j.c.inputs.back().data;
    Bound b{Bound::Kind::absolute, {}};
    for (int64_t i = 0; i < y.count(); ++i) {
        const double v = std::abs(y.data[i]), w = std::abs(weight.data[i % weight.count()]);
        // Among subnormals a rounding is not relative: one before the weight, one after.
        const double least = (j.rounding.flushes_denormals ? j.smallest_normal() : ulp_at(0, j.out)) * (1 + w);
        b.limit.push_back(v * j.u() * (2 * std::sqrt(width) + roundings) + j.half_ulp(v) + least);
    }
    return b;
}

std::vector<Bound> bound(const Judged& j) {
    return {norm_bound(j, j.oracle[0], 12)};
}

std::vector<Bound> bound_add(const Judged& j) {
    Bound sum{Bound::Kind::absolute, {}};
    for (double v : j.oracle[0].data) sum.limit.push_back(2 * j.half_ulp(v));
    return {sum, norm_bound(j, j.oracle[1], 14)};  // the sum's own rounding, in every term
}

}  // namespace

std::vector<Suite> rms_norm_suites() {
    return {
        {&op_rms_norm, cases<op_rms_norm>, bound},
        {&op_add_rms_norm, cases<op_add_rms_norm>, bound_add},
    };
}

}  // namespace busbar::conform
