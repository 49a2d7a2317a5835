// add, subtract, multiply, divide, exp, rsqrt, cos, sin: one operation and one rounding per number.
#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

template <const OpRow& op>
std::vector<Case> two_inputs(Random& random) {
    std::vector<Case> cases;
    const auto add = [&](std::string name, int64_t rows, std::vector<Dim> a, Array a_data, Input b) {
        Case c =
            step_case(op, std::move(name), rows, a.empty() || a[0].symbol == Symbol::none ? rows : a_data.extents[0]);
        c.inputs = {values("a", std::move(a), std::move(a_data)), std::move(b)};
        c.inputs[1].name = "b";
        cases.push_back(std::move(c));
    };
    for (int64_t width : {1, 7, 16, 33, 576})
        add(fmt::format("3 of 5 rows x {}", width), 3, {Symbol::rows, width}, numbers(random, {5, width}),
            values("b", {Symbol::rows, width}, numbers(random, {5, width})));
    add("one row", 1, {Symbol::rows, 100}, numbers(random, {1, 100}),
        values("b", {Symbol::rows, 100}, numbers(random, {1, 100})));
    add("edges", 4, {Symbol::rows, 33}, edge_numbers(random, {4, 33}),
        values("b", {Symbol::rows, 33}, edge_numbers(random, {4, 33})));
    add("a bias for every row", 4, {Symbol::rows, 48}, numbers(random, {4, 48}),
        values("b", {48}, numbers(random, {48})));
    add("one number for all", 2, {Symbol::rows, 3, 5}, numbers(random, {2, 3, 5}),
        values("b", {}, numbers(random, {})));
    add("both stretch", 3, {Symbol::rows, 1, 7}, numbers(random, {3, 1, 7}),
        values("b", {4, 1}, numbers(random, {4, 1})));
    add("a column for each row", 3, {Symbol::rows, 9}, numbers(random, {3, 9}),
        values("b", {Symbol::rows, 1}, numbers(random, {3, 1})));
    for (const Encoding* e : {&encoding_f32, &encoding_f16, &encoding_bf16})
        add(fmt::format("a bias stored as {}", e->name), 3, {Symbol::rows, 33}, numbers(random, {3, 33}),
            weight(random_weight(random, *e, {33})));
    return cases;
}

template <const OpRow& op, bool positive>
std::vector<Case> one_input(Random& random) {
    std::vector<Case> cases;
    const auto add = [&](std::string name, int64_t rows, Array data) {
        Case c = step_case(op, std::move(name), rows, data.extents[0]);
        std::vector<Dim> dims(data.extents.begin(), data.extents.end());
        dims[0] = Symbol::rows;
        c.inputs = {values("x", std::move(dims), std::move(data))};
        cases.push_back(std::move(c));
    };
    for (int64_t width : {1, 15, 16, 100}) {
        Array x = numbers(random, {4, width}, 3);
        if (positive)
            for (double& v : x.data) v = std::abs(v) + 1e-3f;
        add(fmt::format("3 of 4 rows x {}", width), 3, std::move(x));
    }
    Array wide = numbers(random, {2, 500});
    for (double& v : wide.data)
        v = static_cast<float>(positive ? std::exp2(random.uniform(-120, 120)) : random.uniform(-85, 85));
    add("the whole range", 2, std::move(wide));
    add("edges", 3, edge_numbers(random, {3, 64}, 100));
    return cases;
}

}  // namespace

std::vector<Suite> elementwise_suites() {
    return {
        {&op_add, two_inputs<op_add>, within_ulps<1>},
        {&op_subtract, two_inputs<op_subtract>, within_ulps<1>},
        {&op_multiply, two_inputs<op_multiply>, within_ulps<1>},
        {&op_divide, two_inputs<op_divide>, within_ulps<4>},
        {&op_exp, one_input<op_exp, false>, transcendental},
        {&op_rsqrt, one_input<op_rsqrt, true>, transcendental},
        {&op_cos, one_input<op_cos, false>, transcendental},
        {&op_sin, one_input<op_sin, false>, transcendental},
    };
}

}  // namespace busbar::conform
