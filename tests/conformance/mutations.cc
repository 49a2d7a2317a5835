// The check must be able to fail: every attribute and every input, changed a little, is caught by some case.
// The chip here is the oracle rounded to f32, which as it is must pass everything.
#include <gtest/gtest.h>

#include <set>

#include "chips.h"

namespace busbar::conform {

namespace {

class Mutations : public testing::TestWithParam<const OpRow*> {};

struct Exemption {
    std::string_view op, mutation, reason;
};
const Exemption exempt[] = {
    {"reshape", "attribute extents", "a view: its numbers do not depend on it, its type is the graph's"},
    {"slice", "attribute end", "decides extents only; begin and end together are mutated"},
    {"cache_mask", "input block_table", "only its extents are read"},
    {"sum", "input x: one column off", "a sum does not depend on the order"},
    {"mean", "input x: one column off", "a mean does not depend on the order"},
    {"max", "input x: one column off", "a maximum does not depend on the order"},
};

bool is_exempt(const OpRow& op, std::string_view mutation) {
    for (const Exemption& e : exempt)
        if (e.op == op.name && mutation.starts_with(e.mutation)) return true;
    return false;
}

std::vector<ValueType> output_types(const Case& c) {
    const Graph g = c.graph();
    std::vector<ValueType> types;
    for (int v : g.outputs) types.push_back(g.type_of(v));
    return types;
}

TEST_P(Mutations, an_honest_f32_chip_passes) {
    const Prepared& p = prepared(*GetParam());
    for (size_t i = 0; i < p.cases.size(); ++i) {
        const Verdict v = judge(p.cases[i], declared_f32(), Element::f32, p.expected[i],
                                rounded_to_f32(p.expected[i], p.cases[i]), p.suite->bound);
        EXPECT_TRUE(v.agrees) << p.cases[i].title() << ": " << v.why << " (seed " << seed() << ")";
    }
}

TEST_P(Mutations, every_change_is_caught) {
    const OpRow& op = *GetParam();
    const Prepared& p = prepared(op);
    std::set<std::string> touched;
    int caught_in_all = 0;
    for (const Mutation& m : mutations_of(*p.suite)) {
        bool applied = false, caught = false;
        for (int attempt = 0; attempt < Mutation::attempts && !caught; ++attempt)
            for (size_t i = 0; i < p.cases.size() && !caught; ++i) {
                Case changed = p.cases[i];
                Outcome got;
                try {
                    if (!m.apply(changed, attempt) || output_types(changed) != output_types(p.cases[i])) continue;
                    got = rounded_to_f32(run_case(oracle(), for_oracle(changed)), p.cases[i]);
                } catch (const Error&) {
                    continue;  // the change does not fit this case: no page there, no such row
                }
                applied = true;
                caught = !judge(p.cases[i], declared_f32(), Element::f32, p.expected[i], got, p.suite->bound).agrees;
            }
        if (caught) touched.insert(m.name);
        caught_in_all += caught;
        EXPECT_TRUE(!applied || caught || is_exempt(op, m.name))
            << op.name << ": no case notices " << m.name << " (seed " << seed() << ")";
    }
    const auto has = [&](const std::string& prefix) {
        return is_exempt(op, prefix) || std::any_of(touched.begin(), touched.end(),
                                                    [&](const std::string& name) { return name.starts_with(prefix); });
    };
    for (const AttributeSpec& a : op.attributes)
        EXPECT_TRUE(has(fmt::format("attribute {}", a.name)))
            << op.name << ": attribute " << a.name << " is never mutated";
    for (const InputSpec& i : op.inputs)
        EXPECT_TRUE(has(fmt::format("input {}", i.name))) << op.name << ": input " << i.name << " is never mutated";
    fmt::print("{:<14} {} changes caught\n", op.name, caught_in_all);
}

INSTANTIATE_TEST_SUITE_P(Ops, Mutations, testing::ValuesIn(op_table().begin(), op_table().end()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace

}  // namespace busbar::conform
