// Every kernel row of every chip against the oracle: same inputs, within what the row declares that it rounds.
#include <gtest/gtest.h>

#include "chips.h"

namespace busbar::conform {

namespace {

struct PrintSeed : testing::Environment {
    void SetUp() override { fmt::print("seed {0} (BUSBAR_SEED={0} repeats this run)\n", seed()); }
};
const auto* const print_seed = testing::AddGlobalTestEnvironment(new PrintSeed);

class Conformance : public testing::TestWithParam<const OpRow*> {};

bool bit_equal(const Array& a, size_t a_at, const Array& b, size_t b_at, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        const double x = a.data[a_at + i], y = b.data[b_at + i];
        if (x != y && !(x != x && y != y)) return false;
    }
    return true;
}

TEST_P(Conformance, agrees_with_the_oracle) {
    const Prepared& p = prepared(*GetParam());
    for (Chip& chip : chips()) {
        double worst = 0;
        int checked = 0, failed = 0;
        for (size_t i = 0; i < p.cases.size(); ++i)
            for (const KernelRow* row : rows_for(*chip.device, p.cases[i])) {
                const Outcome got = run_case(*chip.device, chip.is_oracle ? for_oracle(p.cases[i]) : p.cases[i], row);
                const Verdict v =
                    judge(p.cases[i], row->rounding, chip.device->profile().real, p.expected[i], got, p.suite->bound);
                if (!v.agrees && ++failed <= 5)  // the first few tell the story
                    ADD_FAILURE() << chip.label << " " << row->name << " case " << p.cases[i].title() << ": " << v.why
                                  << " (seed " << seed() << ")";
                if (chip.is_oracle) {
                    EXPECT_EQ(v.worst, 0) << "the oracle against itself is exact: " << p.cases[i].title();
                }
                worst = std::max(worst, v.worst);
                ++checked;
            }
        if (failed > 5) ADD_FAILURE() << chip.label << ": " << failed << " failures in all";
        if (checked > 0)
            fmt::print("{:<14} {:<20} {:>4} runs, worst {:.0f} % of its bound\n", GetParam()->name, chip.label, checked,
                       100 * worst);
    }
}

// Order invariant: a row of a step has the same bits alone, whatever stands beside it.
TEST_P(Conformance, invariant_rows_are_bit_equal_alone) {
    const Prepared& p = prepared(*GetParam());
    for (Chip& chip : chips())
        for (const Case& c : p.cases)
            for (const KernelRow* row : rows_for(*chip.device, c)) {
                if (row->order != Order::invariant || GetParam()->updates_input >= 0) continue;
                const Outcome together = run_case(*chip.device, c, row);
                for (int64_t r : {0, c.record.header().rows - 1}) {
                    Case alone = c;
                    if (!take_row(alone, r) || row->min_rows > 1) continue;
                    const Outcome one = run_case(*chip.device, alone, row);
                    const Graph graph = c.graph();
                    for (size_t o = 0; o < one.outputs.size(); ++o) {
                        if (graph.type_of(graph.outputs[o]).shape[0].symbol != Symbol::rows) continue;
                        const size_t n = one.outputs[o].data.size();
                        EXPECT_TRUE(bit_equal(one.outputs[o], 0, together.outputs[o], n * r, n))
                            << chip.label << " " << row->name << " case " << c.title() << " row " << r << " (seed "
                            << seed() << ")";
                    }
                }
            }
}

// ... and for any number of threads.
TEST_P(Conformance, invariant_rows_are_bit_equal_for_any_threads) {
    const Prepared& p = prepared(*GetParam());
    for (const ChipSpec& spec : chip_table()) {
        if (spec.word == oracle_chip() || spec.isas().empty()) continue;
        const std::string isa = spec.isas().at(0);
        const std::unique_ptr<Device> one = spec.open({1, isa}), three = spec.open({3, isa});
        for (const Case& c : p.cases)
            for (size_t k = 0; k < rows_for(*one, c).size(); ++k) {
                const KernelRow *row = rows_for(*one, c)[k], *same = rows_for(*three, c)[k];
                if (row->order != Order::invariant) continue;
                const Outcome a = run_case(*one, c, row), b = run_case(*three, c, same);
                for (size_t o = 0; o < a.outputs.size(); ++o)
                    EXPECT_TRUE(a.outputs[o].extents == b.outputs[o].extents &&
                                bit_equal(a.outputs[o], 0, b.outputs[o], 0, a.outputs[o].data.size()))
                        << spec.word << " " << row->name << " case " << c.title() << " (seed " << seed() << ")";
            }
    }
}

// A composite's own kernel in the oracle against its definition, written out to core ops.
TEST_P(Conformance, composites_equal_their_definitions) {
    const OpRow& op = *GetParam();
    if (op.is_core()) return;  // its own definition
    const Prepared& p = prepared(op);
    int compared = 0;
    for (size_t i = 0; i < p.cases.size(); ++i) {
        const Case& c = p.cases[i];
        bool comparable = true;
        double work = 1;
        for (const Input& in : c.inputs)
            if (in.is == Input::Is::state) {
                // A definition multiplies what it does not see by zero: infinities there become NaN.
                for (double x : in.data.data) comparable &= std::isfinite(x);
                work *= static_cast<double>(c.binding.sequences * c.binding.context * c.record.header().rows);
            }
        if (!comparable || work > 4e6) continue;
        ++compared;
        const Outcome got = run_expanded(oracle(), c);
        ASSERT_TRUE(got.damage.empty()) << got.damage[0];
        ASSERT_EQ(got.outputs.size(), p.expected[i].outputs.size());
        for (size_t o = 0; o < got.outputs.size(); ++o) {
            const Array &y = p.expected[i].outputs[o], &g = got.outputs[o];
            ASSERT_EQ(y.extents, g.extents) << c.title();
            const int64_t width = y.extents.back();
            for (int64_t at = 0; at < y.count(); ++at) {
                double largest = 0;  // of the row: sums that cancel are only as good as their terms
                for (int64_t k = at / width * width; k < (at / width + 1) * width; ++k)
                    if (std::isfinite(y.data[k])) largest = std::max(largest, std::abs(y.data[k]));
                const double a = y.data[at], b = g.data[at];
                const bool equal = (a != a && b != b) || a == b || std::abs(a - b) <= 1e-12 * (std::abs(a) + largest);
                ASSERT_TRUE(equal) << c.title() << " output " << o << " number " << at << ": kernel " << a
                                   << ", definition " << b << " (seed " << seed() << ")";
            }
        }
    }
    EXPECT_GE(compared, 3);
}

INSTANTIATE_TEST_SUITE_P(Ops, Conformance, testing::ValuesIn(op_table().begin(), op_table().end()),
                         [](const auto& info) { return std::string(info.param->name); });

// What a script checks of the op table (architecture.md section 8, rule 3).
TEST(Completeness, every_op_has_an_oracle_a_case_and_a_line) {
    for (const OpRow* op : op_table()) {
        const Prepared& p = prepared(*op);
        EXPECT_GE(p.cases.size(), 2u) << op->name << " has no conformance cases: src/agree/conform/, see suite.h";
        EXPECT_FALSE(op->doc.empty()) << op->name;
        EXPECT_EQ(op->doc.find('\n'), std::string_view::npos) << op->name;
        const auto& rows = oracle().profile().rows;
        EXPECT_TRUE(std::any_of(rows.begin(), rows.end(), [op](const KernelRow& r) { return r.op == op; }))
            << op->name << " has no oracle kernel";
        EXPECT_TRUE(op->is_core() || op->define) << op->name;
    }
    for (const Suite& s : suites())
        EXPECT_EQ(std::count_if(suites().begin(), suites().end(), [&](const Suite& t) { return t.op == s.op; }), 1)
            << s.op->name;
}

TEST(Completeness, every_kernel_row_is_exercised) {
    for (Chip& chip : chips())
        for (const KernelRow& row : chip.device->profile().rows) {
            bool exercised = false;
            for (const Case& c : prepared(*row.op).cases)
                for (const KernelRow* candidate : rows_for(*chip.device, c)) exercised |= candidate == &row;
            EXPECT_TRUE(exercised) << chip.label << " " << row.name << ": no conformance case reaches it";
            EXPECT_TRUE(row.form.empty() || chip.device->profile().find_form(row.form)) << row.name;
        }
}

TEST(Completeness, every_encoding_of_every_form_is_multiplied) {
    for (Chip& chip : chips())
        for (const PackedForm& form : chip.device->profile().forms)
            for (const Encoding* e : form.encodings) {
                bool used = false;
                for (const Case& c : prepared(op_matmul).cases)
                    if (c.inputs[1].is == Input::Is::weight && c.inputs[1].weight->encoding == e)
                        for (const KernelRow* row : rows_for(*chip.device, c)) used |= row->form == form.name;
                EXPECT_TRUE(used) << chip.label << " " << form.name << " " << e->name;
            }
}

}  // namespace

}  // namespace busbar::conform
