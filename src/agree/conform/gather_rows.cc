// Rows of a table, decoded: bit-equal in every encoding.
#include <numeric>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, int64_t rows, int64_t capacity, Input table, bool from_step) {
        const int64_t entries = table.data.extents[0];
        Case c = step_case(op_gather_rows, std::move(name), rows, capacity);
        for (int32_t& id : c.record.token_ids()) id = static_cast<int32_t>(random.below(entries));
        c.record.token_ids()[0] =
            static_cast<int32_t>(entries - 1);  // the last row: where a read past the end would start
        Array ids{{capacity}, {c.record.token_ids().begin(), c.record.token_ids().end()}};
        c.inputs = {std::move(table), from_step ? step_part("token_ids", {Symbol::rows})
                                                : indices("ids", {Symbol::rows}, std::move(ids))};
        c.inputs[0].name = "table";
        all.push_back(std::move(c));
    };
    for (const Encoding* e : encodings())
        for (int64_t blocks : {1, 3}) {
            const int64_t width = e->block == 1 ? 45 * blocks : e->block * blocks;
            add(fmt::format("{} x {}", e->name, width), 5, 6, weight(random_weight(random, *e, {19, width})), true);
        }
    add("one row of one column", 1, 1, weight(random_weight(random, encoding_f32, {1, 1})), true);
    add("values", 4, 5, values("table", {7, 33}, edge_numbers(random, {7, 33})), true);
    add("rows of the step", 2, 6, values("table", {Symbol::rows, 33}, numbers(random, {6, 33})), false);
    for (int32_t& id : all.back().record.token_ids()) id = 0;
    for (double& id : all.back().inputs[1].data.data) id = static_cast<double>(random.below(2));
    Array whole = filled_with({9, 3}, 0);
    std::iota(whole.data.begin(), whole.data.end(), -5);
    add("a table of whole numbers", 3, 4, indices("table", {9, 3}, std::move(whole)), true);
    return all;
}

}  // namespace

std::vector<Suite> gather_rows_suites() {
    return {{&op_gather_rows, cases, exact}};
}

}  // namespace busbar::conform
