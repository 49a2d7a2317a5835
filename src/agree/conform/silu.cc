// silu and gated_silu.
#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

template <const OpRow& op>
std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, int64_t rows, Array x, Array up) {
        Case c = step_case(op, std::move(name), rows, x.extents[0]);
        std::vector<Dim> dims(x.extents.begin(), x.extents.end());
        dims[0] = Symbol::rows;
        c.inputs = {values("x", dims, std::move(x))};
        if (&op == &op_gated_silu) c.inputs.push_back(values("up", dims, std::move(up)));
        all.push_back(std::move(c));
    };
    for (int64_t width : {1, 7, 16, 33, 1536})
        add(fmt::format("3 of 4 rows x {}", width), 3, numbers(random, {4, width}, 3), numbers(random, {4, width}));
    Array wide = numbers(random, {2, 500});
    for (double& x : wide.data) x = static_cast<float>(random.uniform(-120, 120));
    add("the whole range", 2, std::move(wide), numbers(random, {2, 500}));
    add("small", 2, numbers(random, {2, 100}, 1e-6), numbers(random, {2, 100}, 1e-3));
    Array both = numbers(random, {3, 100});
    add("edges", 3, edge_numbers(random, {3, 100}, 1e4), std::move(both));
    add("edges of up", 3, numbers(random, {3, 100}), edge_numbers(random, {3, 100}, 1e30));
    add("zeros", 1, filled_with({1, 20}, 0), filled_with({1, 20}, 0));
    return all;
}

// E of the exponential, then an addition, a division and a product; below exp's range the sigmoid may be cut to zero.
std::vector<Bound> bound(const Judged& j) {
    const bool gated = j.c.op == &op_gated_silu;
    Bound b{Bound::Kind::absolute, {}};
    for (size_t i = 0; i < j.oracle[0].data.size(); ++i) {
        const double y = j.oracle[0].data[i], x = std::abs(j.c.inputs[0].data.data[i]),
                     up = gated ? std::abs(j.c.inputs[1].data.data[i]) : 1;
        const double cut = j.smallest_normal() * (1 + (std::isfinite(x) ? x : 0) * (std::isfinite(up) ? 1 + up : 1));
        b.limit.push_back(std::abs(y) * (j.E() + (gated ? 6 : 4) * j.u()) + j.half_ulp(y) + cut);
    }
    return {b};
}

}  // namespace

std::vector<Suite> silu_suites() {
    return {
        {&op_silu, cases<op_silu>, bound},
        {&op_gated_silu, cases<op_gated_silu>, bound},
    };
}

}  // namespace busbar::conform
