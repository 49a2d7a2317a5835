// Ops that move numbers and compute nothing: bit-equal. (gather_rows has its own file.)
#include <fmt/format.h>
#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

Case one_input(Random& random, const OpRow& op, Attributes attributes, std::vector<int64_t> extents, int64_t rows,
               bool edges = false) {
    Case c = step_case(op, fmt::format("{} of {}{}", rows, fmt::join(extents, "x"), edges ? " edges" : ""), rows,
                       extents[0]);
    c.attributes = std::move(attributes);
    std::vector<Dim> dims(extents.begin(), extents.end());
    dims[0] = Symbol::rows;
    c.inputs = {values("x", std::move(dims), edges ? edge_numbers(random, extents) : numbers(random, extents))};
    return c;
}

std::vector<Case> reshape(Random& random) {
    std::vector<Case> all;
    for (bool edges : {false, true}) {
        all.push_back(one_input(random, op_reshape, {{"extents", std::vector<int64_t>{0, 6, 4}}}, {5, 24}, 3, edges));
        all.push_back(one_input(random, op_reshape, {{"extents", std::vector<int64_t>{0, 24}}}, {5, 6, 4}, 5, edges));
    }
    return all;
}

std::vector<Case> transpose(Random& random) {
    std::vector<Case> all;
    // The rows stay in front where not all of them are in use.
    all.push_back(one_input(random, op_transpose, {{"order", std::vector<int64_t>{0, 2, 1}}}, {4, 3, 5}, 3));
    all.push_back(one_input(random, op_transpose, {{"order", std::vector<int64_t>{0, 2, 1}}}, {2, 7, 7}, 2, true));
    Case c = step_case(op_transpose, "all axes", 1, 1);
    c.attributes = {{"order", std::vector<int64_t>{2, 0, 1}}};
    c.inputs = {values("x", {4, 4, 4}, numbers(random, {4, 4, 4}))};
    all.push_back(c);
    c.inputs = {values("x", {3, 17, 2}, numbers(random, {3, 17, 2}))};
    all.push_back(std::move(c));
    return all;
}

std::vector<Case> slice(Random& random) {
    std::vector<Case> all;
    for (auto [begin, end, step] : std::vector<std::array<int64_t, 3>>{
             {0, 8, 1}, {8, 16, 1}, {0, 16, 2}, {1, 16, 2}, {3, 4, 1}, {2, 15, 5}, {1, 5, 2}})
        all.push_back(
            one_input(random, op_slice, {{"begin", begin}, {"end", end}, {"step", step}}, {4, 3, 17}, 3, step == 2));
    return all;
}

// Begin, end and step move together so that the extents stay.
std::vector<Mutation> slice_mutations() {
    const auto moved = [](int64_t by) {
        return [by](Case& c, int) {
            c.attributes.set("begin", c.attributes.integer("begin") + by);
            c.attributes.set("end", c.attributes.integer("end") + by);
            return c.attributes.integer("begin") >= 0 && c.attributes.integer("end") <= c.inputs[0].type.shape.last().n;
        };
    };
    return {{"attribute begin and end one later", moved(1)}, {"attribute begin and end one earlier", moved(-1)}};
}

std::vector<Case> concat(Random& random) {
    std::vector<Case> all;
    for (auto [a, b] : std::vector<std::array<int64_t, 2>>{{1, 1}, {8, 8}, {16, 3}, {5, 33}}) {
        Case c = step_case(op_concat, fmt::format("{} and {}", a, b), 3, 4);
        c.inputs = {values("a", {Symbol::rows, 2, a}, numbers(random, {4, 2, a})),
                    values("b", {Symbol::rows, 2, b}, edge_numbers(random, {4, 2, b}))};
        all.push_back(std::move(c));
    }
    return all;
}

std::vector<Case> select(Random& random) {
    std::vector<Case> all;
    const auto mask = [&](std::vector<int64_t> extents) {
        Array m{std::move(extents), {}};
        for (int64_t i = 0; i < m.count(); ++i)
            m.data.push_back(static_cast<double>(random.below(3) - 1));  // any number but 0 is yes
        return m;
    };
    Case c = step_case(op_select, "equal extents", 3, 4);
    c.inputs = {indices("mask", {Symbol::rows, 33}, mask({4, 33})),
                values("a", {Symbol::rows, 33}, numbers(random, {4, 33})),
                values("b", {Symbol::rows, 33}, edge_numbers(random, {4, 33}))};
    all.push_back(c);
    c.name = "a mask over heads, one number for no";
    c.inputs = {indices("mask", {Symbol::rows, 1, 1, 20}, mask({4, 1, 1, 20})),
                values("a", {Symbol::rows, 2, 3, 20}, numbers(random, {4, 2, 3, 20})),
                values("b", {}, filled_with({}, -INFINITY))};
    all.push_back(c);
    c.name = "whole numbers become real";
    c.inputs = {indices("mask", {Symbol::rows, 1}, mask({4, 1})), indices("a", {Symbol::rows, 1}, mask({4, 1})),
                indices("b", {Symbol::rows, 1}, mask({4, 1}))};
    all.push_back(std::move(c));
    return all;
}

}  // namespace

std::vector<Suite> move_suites() {
    return {
        {&op_reshape, reshape, exact}, {&op_transpose, transpose, exact}, {&op_slice, slice, exact, slice_mutations},
        {&op_concat, concat, exact},   {&op_select, select, exact},
    };
}

}  // namespace busbar::conform
