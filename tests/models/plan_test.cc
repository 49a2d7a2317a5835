// Plans are a pure function of graph, profile and options: their printed form is a golden, made on a synthetic chip so
// that no machine changes it. BUSBAR_UPDATE_GOLDENS=1 writes the files anew; look at the difference before committing
// it.
#include <fstream>
#include <random>
#include <tuple>

#include "harness.h"
#include "import/model.h"
#include "plan/scratch.h"

namespace busbar::test {
namespace {

// A chip that has a row for everything importers and passes write, and round figures for its predictions.
Profile toy_chip() {
    Profile p;
    p.chip = "toy";
    p.detail = "1 lane";
    p.cache_elements = {Element::f32, Element::bf16};
    p.read_bytes_per_s = {1e10, Figure::Origin::datasheet};
    p.flops_per_s = {1e11, Figure::Origin::datasheet};
    p.step_overhead_s = 1e-6;
    p.forms.push_back({"as_stored", {encodings().begin(), encodings().end()}, true, 0, 0, nullptr, 0, "the toy reads anything"});
    for (const OpRow* op : op_table()) {
        const bool multiplies = op == &op_matmul || op == &op_multi_matmul || op == &op_gather_rows;
        KernelRow row;
        row.op = op;
        row.name = "toy." + std::string(op->name);
        p.rows.push_back(row);
        if (!multiplies) continue;
        row.form = "as_stored";
        row.name += ".as_stored";
        p.rows.push_back(row);
    }
    return p;
}

Graph passed_graph(const std::string& name, const Profile& chip, int64_t context) {
    Graph graph = import_model(open_model_file(from_environment("BUSBAR_TINY_MODELS") + "/" + name), context).graph;
    const Profile* chips[] = {&chip};
    run_passes(graph, {chips});
    return graph;
}

Plan plan_of(const Graph& graph, const Profile& chip, int64_t rows, int64_t context) {
    PlanOptions o;
    o.binding = {rows, 1, 2, context};
    const Profile* chips[] = {&chip};
    return make_plan(graph, chips, o);
}

class PlanGolden : public testing::TestWithParam<std::tuple<std::string, int64_t>> {};

TEST_P(PlanGolden, PrintsAsBefore) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const auto& [model, rows] = GetParam();
    const Profile chip = toy_chip();
    const std::string got = plan_of(passed_graph(model, chip, 128), chip, rows, 128).print();
    const std::string path =
        std::string(BUSBAR_SOURCE_DIR) + "/tests/goldens/plans/" + model + "_" + std::to_string(rows) + ".txt";
    if (!from_environment("BUSBAR_UPDATE_GOLDENS").empty()) std::ofstream(path) << got;
    EXPECT_EQ(got, read_file(path));
}

INSTANTIATE_TEST_SUITE_P(
    Models, PlanGolden, testing::Combine(testing::Values("llama", "mistral", "qwen2", "qwen3"), testing::Values(1, 32)),
    [](const auto& info) { return std::get<0>(info.param) + "_" + std::to_string(std::get<1>(info.param)); });

TEST(Plan, OneFormPerWeightInEveryBucket) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Profile chip = toy_chip();
    // A second form that the gather of a tied head cannot read: the tied weight must not take it, the others should.
    chip.forms.push_back({"panels", {encodings().begin(), encodings().end()}, false, 8, 0, nullptr, 1, "faster products"});
    for (const OpRow* op : {&op_matmul, &op_multi_matmul}) {
        KernelRow row;
        row.op = op;
        row.form = "panels";
        row.name = "toy." + std::string(op->name) + ".panels";
        chip.rows.push_back(row);
    }
    const Graph graph = passed_graph("llama_tied", chip, 64);
    const Plan one = plan_of(graph, chip, 1, 64), many = plan_of(graph, chip, 32, 64);
    ASSERT_EQ(one.weights.size(), many.weights.size());
    int tied = 0, panels = 0;
    for (size_t i = 0; i < one.weights.size(); ++i) {
        EXPECT_EQ(one.weights[i].form, many.weights[i].form);
        const std::string& name = one.graph.values()[one.weights[i].value].name;
        if (name.find("embed") != std::string::npos) {
            ++tied;
            EXPECT_EQ(one.weights[i].form->name, "as_stored") << name;
        } else {
            ++panels;
            EXPECT_EQ(one.weights[i].form->name, "panels") << name;
        }
    }
    EXPECT_EQ(tied, 1);
    EXPECT_GT(panels, 0);
}

TEST(Plan, RefusesWithReasonsWhatAChipCannotTake) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Profile chip = toy_chip();
    const Graph graph = passed_graph("llama", chip, 64);
    std::erase_if(chip.rows, [](const KernelRow& r) {
        return r.op == &op_cache_append;
    });  // a core op: no definition to fall back on
    try {
        plan_of(graph, chip, 1, 64);
        FAIL() << "a plan without a row for cache_append";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::chip);
        EXPECT_NE(std::string(e.what()).find("cache_append"), std::string::npos) << e.what();
    }
}

TEST(Plan, WritesOutCompositesThatAChipLacks) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Profile chip = toy_chip();
    const Graph graph = passed_graph("qwen3", chip, 64);
    std::erase_if(chip.rows, [](const KernelRow& r) { return !r.op->is_core(); });
    const Plan plan = plan_of(graph, chip, 4, 64);
    for (const PlannedStep& s : plan.steps) EXPECT_TRUE(plan.graph.nodes()[s.node].op->is_core());
}

TEST(Scratch, LivingValuesNeverShareMemory) {
    const uint64_t seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 50; ++round) {
        std::vector<ScratchRequest> requests(1 + random() % 60);
        for (ScratchRequest& r : requests) {
            r.bytes = 64 * (random() % 20);
            r.first = static_cast<int>(random() % 40);
            r.last = r.first + static_cast<int>(random() % 10);
        }
        const ScratchSummary summary = lay_out_scratch(requests);
        EXPECT_LE(summary.bytes, summary.unshared);
        for (size_t i = 0; i < requests.size(); ++i)
            for (size_t j = 0; j < i; ++j) {
                const ScratchRequest &a = requests[i], &b = requests[j];
                const bool both_live = a.first <= b.last && b.first <= a.last;
                const bool overlap = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
                EXPECT_FALSE(both_live && overlap && a.bytes > 0 && b.bytes > 0);
            }
    }
}

}  // namespace
}  // namespace busbar::test
