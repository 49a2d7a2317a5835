#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, int64_t rows, Array x, int64_t angles, bool unit = true) {
        for (const char* pairing : {"half", "interleaved"}) {
            Case c = step_case(op_rotate, name, rows, x.extents[0]);
            c.attributes = {{"pairing", std::string(pairing)}};
            Array cos = numbers(random, {x.extents[0], angles}), sin = cos;
            for (int64_t i = 0; unit && i < cos.count(); ++i) {
                const double angle = random.uniform(0, 6.28);
                cos.data[i] = static_cast<float>(std::cos(angle));
                sin.data[i] = static_cast<float>(std::sin(angle));
            }
            c.inputs = {values("x", {Symbol::rows, x.extents[1], x.extents[2]}, x),
                        values("cos", {Symbol::rows, angles}, std::move(cos)),
                        values("sin", {Symbol::rows, angles}, std::move(sin))};
            all.push_back(std::move(c));
        }
    };
    add("3 of 4 rows, 9 heads of 64", 3, numbers(random, {4, 9, 64}), 32);
    add("one pair", 1, numbers(random, {1, 1, 2}), 1);
    add("odd angles", 3, numbers(random, {3, 2, 26}), 13);
    add("part of the head passes through", 2, numbers(random, {2, 3, 80}), 16);
    add("an odd rest", 2, numbers(random, {2, 2, 9}), 3);
    add("128 wide", 2, numbers(random, {2, 2, 128}), 64);
    add("edges", 3, edge_numbers(random, {3, 2, 48}, 1e30), 20);
    Array outlier = numbers(random, {2, 3, 64});
    outlier.data[70] = 1e4;
    add("one outlier of 1e4", 2, std::move(outlier), 32);
    return all;
}

std::vector<Bound> bound(const Judged& j) {
    const Array &x = j.c.inputs[0].data, &cos = j.c.inputs[1].data, &sin = j.c.inputs[2].data;
    const int64_t heads = x.extents[1], width = x.extents[2], angles = cos.extents[1];
    const bool interleaved = j.c.attributes.word("pairing") == "interleaved";
    Bound b{Bound::Kind::absolute, {}};
    for (int64_t i = 0; i < j.oracle[0].count(); ++i) {
        const int64_t at = i % width, row = i / (heads * width);
        double terms = 0;
        if (at < 2 * angles) {
            const int64_t pair = interleaved ? at / 2 : at % angles,
                          partner = interleaved ? at ^ 1 : (at + angles) % (2 * angles);
            terms = std::abs(x.data[i] * cos.data[row * angles + pair]) +
                    std::abs(x.data[i - at + partner] * sin.data[row * angles + pair]);
        }
        // What passes through is a move: any error there is above half an ULP of nothing.
        b.limit.push_back(at < 2 * angles ? 2 * j.u() * terms + 2 * ulp_at(0, j.out) + j.half_ulp(j.oracle[0].data[i])
                                          : 0);
    }
    return {b};
}

}  // namespace

std::vector<Suite> rotate_suites() {
    return {{&op_rotate, cases, bound}};
}

}  // namespace busbar::conform
