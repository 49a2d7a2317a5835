#include <algorithm>
#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, int64_t rows, Array x) {
        Case c = step_case(op_softmax, std::move(name), rows, x.extents[0]);
        std::vector<Dim> dims(x.extents.begin(), x.extents.end());
        dims[0] = Symbol::rows;
        c.inputs = {values("x", std::move(dims), std::move(x))};
        all.push_back(std::move(c));
    };
    for (int64_t width : {1, 2, 15, 64, 1000})
        add(fmt::format("3 of 4 rows x {}", width), 3, numbers(random, {4, width}, 3));
    add("heads", 2, numbers(random, {3, 3, 70}));
    add("large", 2, numbers(random, {2, 100}, 1e4));
    add("huge", 2, numbers(random, {2, 100}, 1e30));
    add("all equal", 2, filled_with({2, 1000}, 5));
    add("zeros", 1, filled_with({1, 33}, 0));
    add("subnormals", 1, numbers(random, {1, 33}, 1e-40));
    Array outlier = numbers(random, {2, 100}), masked = numbers(random, {3, 100}), edges = numbers(random, {5, 40});
    outlier.data[20] = 1e4;
    outlier.data[150] = 15;
    for (int64_t i = 0; i < masked.count(); ++i)
        if (i % 100 > 10) masked.data[i] = -INFINITY;
    edges.data[3] = std::nan("");
    edges.data[40 + 39] = std::nan("");
    edges.data[80 + 5] = INFINITY;
    std::fill_n(edges.data.begin() + 120, 40, -INFINITY);
    add("one outlier of 1e4", 2, std::move(outlier));
    add("most are minus infinity", 3, std::move(masked));
    add("NaN, infinity, nothing but minus infinity", 5, std::move(edges));
    return all;
}

std::vector<Bound> bound(const Judged& j) {
    const Array &x = j.c.inputs[0].data, &p = j.oracle[0];
    const int64_t width = x.extents.back();
    Bound b{Bound::Kind::absolute, std::vector<double>(p.data.size())};
    for (int64_t row = 0; row * width < p.count(); ++row) {
        const double *xs = x.data.data() + row * width, *ps = p.data.data() + row * width;
        const double m = *std::max_element(xs, xs + width);
        double x_mean = 0;
        for (int64_t i = 0; i < width; ++i)
            if (ps[i] > 0) x_mean += ps[i] * std::abs(xs[i] - m);
        for (int64_t i = 0; i < width; ++i) {
            const double distance = ps[i] > 0 ? std::abs(xs[i] - m) : 0;
            b.limit[row * width + i] = ps[i] * (2 * j.E() + j.u() * (distance + x_mean + 4 * std::sqrt(width))) +
                                       j.half_ulp(ps[i]) + j.smallest_normal();
        }
    }
    return {b};
}

}  // namespace

std::vector<Suite> softmax_suites() {
    return {{&op_softmax, cases, bound}};
}

}  // namespace busbar::conform
