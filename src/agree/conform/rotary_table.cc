#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto frequencies = [](int64_t angles, double theta) {
        Array f{{angles}, {}};
        for (int64_t i = 0; i < angles; ++i)
            f.data.push_back(
                static_cast<float>(std::pow(theta, -static_cast<double>(i) / static_cast<double>(angles))));
        return f;
    };
    const auto add = [&](std::string name, int64_t rows, int64_t capacity, int64_t longest, Array f, double scale) {
        Case c = step_case(op_rotary_table, std::move(name), rows, capacity, 1, 1);
        c.attributes = {{"scale", scale}};
        for (int64_t r = 0; r < rows; ++r) c.record.positions()[r] = static_cast<int32_t>(random.below(longest));
        const int64_t angles = f.count();
        c.inputs = {step_part("positions", {Symbol::rows}), values("frequencies", {angles}, std::move(f))};
        all.push_back(std::move(c));
    };
    add("theta 10000", 5, 6, 300, frequencies(32, 1e4), 1.0);
    add("theta 500000, far", 5, 5, 131072, frequencies(64, 5e5), 1.0);
    add("one angle", 3, 3, 100, frequencies(1, 1e4), 1.0);
    add("yarn's factor", 2, 4, 40000, frequencies(17, 1e6), 1.3465735902799727);
    add("position 0", 1, 1, 1, frequencies(32, 1e4), 1.0);
    add("position 1", 1, 1, 2, frequencies(32, 1e4), 1.0);
    all.back().record.positions()[0] = 1;
    return all;
}

// The angle itself may be rounded once to the accumulator's element.
std::vector<Bound> bound(const Judged& j) {
    const int64_t angles = j.c.inputs[1].data.count();
    const double scale = std::abs(j.c.attributes.real("scale"));
    std::vector<Bound> both(2, {Bound::Kind::absolute, {}});
    const int32_t* at = j.c.record.words().data() + j.c.record.layout().positions();
    for (size_t o = 0; o < 2; ++o)
        for (int64_t i = 0; i < j.oracle[o].count(); ++i) {
            const double angle = at[i / angles] * j.c.inputs[1].data.data[i % angles], y = j.oracle[o].data[i];
            both[o].limit.push_back(scale * j.u() * std::abs(angle) + std::abs(y) * (j.E() + j.u()) + j.half_ulp(y));
        }
    return both;
}

}  // namespace

std::vector<Suite> rotary_table_suites() {
    return {{&op_rotary_table, cases, bound}};
}

}  // namespace busbar::conform
