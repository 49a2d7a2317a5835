// sum, mean, max over the last axis.
#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

template <const OpRow& op>
std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, Array x) -> Case& {
        Case c = step_case(op, std::move(name), x.extents[0] > 1 ? x.extents[0] - 1 : 1, x.extents[0]);
        std::vector<Dim> dims(x.extents.begin(), x.extents.end());
        dims[0] = Symbol::rows;
        c.inputs = {values("x", std::move(dims), std::move(x))};
        all.push_back(std::move(c));
        return all.back();
    };
    for (int64_t width : {1, 2, 17, 64, 576, 4096}) add(fmt::format("x {}", width), numbers(random, {9, width}));
    add("heads", numbers(random, {5, 3, 37}));
    Array positive = numbers(random, {9, 1000}), cancels = numbers(random, {9, 1000}),
          outlier = numbers(random, {9, 1000});
    for (double& x : positive.data) x = std::abs(x);
    for (size_t i = 1; i < cancels.data.size(); i += 2) cancels.data[i] = -cancels.data[i - 1];
    for (int64_t r = 0; r < 9; ++r) outlier.data[r * 1000 + 300 + random.below(50)] = 1e4;
    add("all positive", std::move(positive));
    add("cancelling", std::move(cancels));
    add("one outlier of 1e4", std::move(outlier));
    add("all equal", filled_with({3, 4096}, 0.1)).equal_terms = true;
    Array edges = edge_numbers(random, {20, 5}, 1e30);
    for (double& x : edges.data)
        if (x == 0) x = 0;  // which zero a maximum returns is not promised
    add("edges", std::move(edges));
    add("NaN last", [&] {
        Array x = numbers(random, {4, 33});
        for (int64_t r = 0; r < 4; ++r) x.data[r * 33 + 8 * r] = std::nan("");
        return x;
    }());
    return all;
}

template <bool mean>
std::vector<Bound> bound(const Judged& j) {
    const Array& x = j.c.inputs[0].data;
    const int64_t width = x.extents.back();
    const Spread spread(j);
    Bound b{spread.kind(), {}};
    for (size_t r = 0; r < j.oracle[0].data.size(); ++r) {
        const double sigma = spread.sigma(x.data.data() + r * width, nullptr, width);
        // The mean divides (or multiplies by a rounded 1 / width): two roundings more.
        b.limit.push_back(mean ? std::hypot(sigma / static_cast<double>(width), 2 * j.half_ulp(j.oracle[0].data[r]))
                               : sigma);
    }
    return {b};
}

}  // namespace

std::vector<Suite> reduce_suites() {
    return {
        {&op_sum, cases<op_sum>, bound<false>},
        {&op_mean, cases<op_mean>, bound<true>},
        {&op_max, cases<op_max>, exact},
    };
}

}  // namespace busbar::conform
