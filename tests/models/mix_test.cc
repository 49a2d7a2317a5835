// One model over several chips: who gets which layer, what crosses, and that nobody sees it in the numbers.
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "harness.h"
#include "plan/placement.h"

namespace busbar::test {
namespace {

// A chip as data, with every row; rates and memory as a test likes them.
Profile chip_of(const std::string& name, double rate, double memory) {
    Profile p;
    p.chip = name;
    p.cache_elements = {Element::f32};
    p.read_bytes_per_s = {rate, Figure::Origin::datasheet};
    p.flops_per_s = {10 * rate, Figure::Origin::datasheet};
    p.memory_bytes = {memory, Figure::Origin::datasheet};
    p.link_bytes_per_s = {1e9, Figure::Origin::datasheet};
    p.step_overhead_s = 1e-6;
    p.forms.push_back({"as_stored", {encodings().begin(), encodings().end()}, true, 0, 0, nullptr, 0, ""});
    for (const OpRow* op : op_table())
        for (const char* form : {"", "as_stored"}) {
            if (*form && op != &op_matmul && op != &op_multi_matmul && op != &op_gather_rows) continue;
            KernelRow row;
            row.op = op;
            row.name = name + "." + std::string(op->name) + "." + form;
            row.form = form;
            p.rows.push_back(row);
        }
    return p;
}

void keep_only(Profile& p, std::initializer_list<const OpRow*> ops) {
    std::erase_if(p.rows, [&](const KernelRow& r) { return std::find(ops.begin(), ops.end(), r.op) == ops.end(); });
}

std::string tiny(const std::string& name) {
    return from_environment("BUSBAR_TINY_MODELS") + "/" + name;
}

struct Mixed {
    std::vector<Profile> profiles;
    std::vector<const Profile*> chips;
    Graph graph;
    PlanOptions options;

    Mixed(std::vector<Profile> p, size_t asked) : profiles(std::move(p)) {
        for (const Profile& profile : profiles) chips.push_back(&profile);
        graph = import_model(open_model_file(tiny("llama")), 64).graph;
        run_passes(graph, {chips});
        options.asked = asked;
        options.binding = {1, 1, 1, 64};
    }
    Placement place() const { return place_layers(graph, chips, options, 1); }
    Plan plan() const { return make_plan(graph, chips, options); }
};

TEST(Placement, TheFastestChipTakesAllThatFits) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const Mixed mixed({chip_of("slow", 1e9, 1e12), chip_of("quick", 1e10, 1e12)}, 2);
    const Placement placement = mixed.place();
    for (int chip : placement.layers) EXPECT_EQ(chip, 1);
    ASSERT_EQ(placement.why.size(), 2u);
    EXPECT_NE(placement.why[0].find("quick takes layers 0-"), std::string::npos) << placement.why[0];
    EXPECT_NE(placement.why[1].find("slow takes none"), std::string::npos) << placement.why[1];
}

TEST(Placement, AModelTooLargeForOneChipIsSplit) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Mixed mixed({chip_of("quick", 1e10, 1e12), chip_of("large", 1e9, 1e12)}, 2);
    double all = 0;
    for (const Value& v : mixed.graph.values())
        if (v.weight) all += static_cast<double>(v.weight->bytes.size());
    mixed.profiles[0].memory_bytes.value = 0.75 * all;
    Placement placement = mixed.place();
    std::set<int> used(placement.layers.begin(), placement.layers.end());
    EXPECT_EQ(used, (std::set<int>{0, 1}));
    int changes = 0;
    for (size_t i = 1; i < placement.layers.size(); ++i) changes += placement.layers[i] != placement.layers[i - 1];
    EXPECT_EQ(changes, 1) << "runs of neighbouring layers: one crossing";

    mixed.options.layers = placement.layers;
    const Plan plan = mixed.plan();
    EXPECT_GE(plan.copies(), 1);
    EXPECT_LE(plan.copies(), 2) << "the residual, and what is added to it";
    EXPECT_EQ(plan.nodes_per_chip().size(), 2u);
    EXPECT_TRUE(plan.refused.empty());

    mixed.profiles[1].memory_bytes.value = 0.1 * all;
    try {
        mixed.place();
        FAIL() << "a model that does not fit was placed";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::does_not_fit);
        EXPECT_NE(std::string(e.what()).find("more than there is"), std::string::npos) << e.what();
    }
}

TEST(Placement, WhatAChipRefusesGoesToTheNextAndStatesStayTogether) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Mixed mixed({chip_of("products", 1e10, 1e12), chip_of("host", 1e9, 1e12)}, 1);
    keep_only(mixed.profiles[0], {&op_matmul});  // multi_matmul is written out: its definition is matmuls
    const Plan plan = mixed.plan();
    for (const PlannedStep& s : plan.steps) {
        if (s.is_copy()) continue;
        const OpRow* op = plan.graph.nodes()[s.node].op;
        EXPECT_EQ(s.chip, op == &op_matmul ? 0 : 1) << op->name;
        EXPECT_NE(op, &op_multi_matmul);
    }
    EXPECT_GT(plan.copies(), 0);
    EXPECT_FALSE(plan.refused.empty());
    EXPECT_NE(plan.placement_line(0).find("refused by products: "), std::string::npos) << plan.placement_line(0);
    for (const PlannedState& s : plan.states) EXPECT_EQ(s.chip, 1);

    // A chip with attention but no append: the cache cannot be cut in two.
    Mixed half({chip_of("half", 1e10, 1e12), chip_of("host", 1e9, 1e12)}, 1);
    std::erase_if(half.profiles[0].rows, [](const KernelRow& r) { return r.op == &op_cache_append; });
    const Plan together = half.plan();
    for (const PlannedStep& s : together.steps)
        if (!s.is_copy() && together.graph.nodes()[s.node].op == &op_attention) {
            EXPECT_EQ(s.chip, 1);
        }

    mixed.options.fallback_allowed = false;
    try {
        mixed.plan();
        FAIL() << "a fallback that was not allowed";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::chip);
        EXPECT_NE(std::string(e.what()).find("products: rms_norm"), std::string::npos) << e.what();
    }
}

TEST(Placement, AChipMayRefuseOneConcreteOp) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Mixed mixed({chip_of("picky", 1e10, 1e12), chip_of("host", 1e9, 1e12)}, 1);
    mixed.profiles[0].refuses = [](const KernelRow& row, const OpInstance& op) -> std::string {
        return op.op == &op_matmul && op.weights[1] && op.weights[1]->name.find("down") != std::string::npos
                   ? "too wide for me"
                   : "";
    };
    const Plan plan = mixed.plan();
    int elsewhere = 0;
    for (const PlannedStep& s : plan.steps)
        if (!s.is_copy() && s.chip == 1) {
            ++elsewhere;
            EXPECT_NE(plan.graph.nodes()[s.node].name.find("down"), std::string::npos);
        }
    EXPECT_EQ(elsewhere, layers_of(plan.graph));
    EXPECT_NE(plan.placement_line(0).find("too wide for me"), std::string::npos) << plan.placement_line(0);
}

TEST(Split, EveryLayerOnceOnChipsThatAreNamed) {
    const std::vector<std::string> names = {"cpu", "plugin:/a/libx.so?fault=none&layer=3", "b:1"};
    EXPECT_EQ(parse_split("cpu:0-1,b:1:2-2", names, 3), (std::vector<int>{0, 0, 2}));
    EXPECT_EQ(parse_split("plugin:/a/libx.so?fault=none&layer=3:0-0,cpu:1-3", names, 4),
              (std::vector<int>{1, 0, 0, 0}));
    for (const char* bad : {"", "cpu", "cpu:0", "cpu:0-", "cpu:0-1x", "cpu:0-3", "cpu:1-2", "cpu:0-1,cpu:1-2",
                            "tpu:0-2", "cpu:0-1,b:1:3-3", "cpu:0--1", "cpu:0-99999999999999999999"})
        try {
            parse_split(bad, names, 3);
            ADD_FAILURE() << bad;
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), ErrorCode::usage) << e.what();
        }
}

struct Pair {
    std::unique_ptr<Device> first, second;
    std::unique_ptr<LoadedModel> model;
};

Pair load_over(const std::string& path, std::vector<int> layers, LoadOptions o = strict(64)) {
    Pair out;
    out.first = open_chip(fallback_chip(), {1, "", ""});
    out.second = open_chip(oracle_chip());
    o.asked = 2;
    o.layers = std::move(layers);
    out.model =
        busbar::load_model(import_model(open_model_file(path), o.context), {out.first.get(), out.second.get()}, o)
            .loaded;
    return out;
}

// Keeps what each step made that it looks at: all of them, or those it is told.
class Watch : public StepObserver {
  public:
    explicit Watch(std::optional<std::set<size_t>> only = {}) : only_(std::move(only)) {}
    std::map<size_t, std::vector<double>> seen;
    int copies = 0;
    bool wants(size_t, size_t index) override { return !only_ || only_->contains(index); }
    void before(LoadedModel&, size_t, size_t index) override { before_ = index; }
    void after(LoadedModel& model, size_t bucket, size_t index) override {
        EXPECT_EQ(before_, index);
        const PlannedStep& s = model.plans()[bucket].steps[index];
        const Plan& plan = model.plans()[bucket];
        copies += s.is_copy();
        std::vector<double>& made = seen[index];
        const int v = s.is_copy() ? s.value : plan.graph.nodes()[s.node].outputs[0];
        if (plan.graph.type_of(v).kind == Kind::state) return;
        made = model.read_value(bucket, s.chip, v).data;
        for (double x : made) EXPECT_TRUE(std::isfinite(x));
    }

  private:
    std::optional<std::set<size_t>> only_;
    size_t before_ = 0;
};

// The layers of one model on two chips with different elements of value: the same answers, and watching changes no bit.
TEST(Mix, AnswersAsOneChipDoes) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const std::vector<int32_t> ids = {1, 5, 9, 2, 77, 31, 8, 90, 4, 4, 12, 60, 33};
    for (const char* name : {"llama", "qwen3", "qwen2_k_mix.gguf"}) {
        const Loaded alone = load_model(tiny(name), strict(64));
        const std::vector<float> expected = all_logits(*alone.model, ids);
        const auto layers = static_cast<size_t>(layers_of(alone.model->plans()[0].graph));
        for (size_t on_first : {size_t{0}, size_t{1}, layers}) {
            std::vector<int> split(layers, 1);
            std::fill_n(split.begin(), on_first, 0);
            const Pair mixed = load_over(tiny(name), split);
            const std::vector<float> got = all_logits(*mixed.model, ids);
            ASSERT_EQ(got.size(), expected.size());
            for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-4) << name << " " << on_first;
            EXPECT_EQ(mixed.model->copied().copies > 0, on_first > 0 && on_first < layers);

            StepRecord record(mixed.model->layout());
            record.header() = {static_cast<int32_t>(ids.size()), 1, 1};
            for (size_t i = 0; i < ids.size(); ++i) {
                record.token_ids()[i] = ids[i];
                record.positions()[i] = static_cast<int32_t>(i);
                record.sequences()[i] = 0;
            }
            record.logit_rows()[0] = static_cast<int32_t>(ids.size()) - 1;
            record.block_row(0)[0] = 0;
            mixed.model->step(record);
            const std::vector<float> unseen(mixed.model->logits(0).begin(), mixed.model->logits(0).end());
            Watch all;
            mixed.model->step(record, &all);
            const std::vector<float> seen(mixed.model->logits(0).begin(), mixed.model->logits(0).end());
            EXPECT_EQ(seen, unseen);
            const size_t bucket = mixed.model->bucket_for(record.header().rows);
            const size_t steps = mixed.model->plans()[bucket].steps.size();
            EXPECT_EQ(all.seen.size(), steps);
            EXPECT_EQ(all.copies, mixed.model->plans()[bucket].copies());

            // Looking at few of them, neighbours and ends included: the same values, though the rest runs in one go.
            for (const std::set<size_t>& few : {std::set<size_t>{}, {0, steps / 2, steps - 1}, {3, 4, steps - 2}}) {
                mixed.model->fill_scratch(std::byte{0xff});
                Watch some(few);
                mixed.model->step(record, &some);
                EXPECT_EQ(some.seen.size(), few.size());
                for (const auto& [index, made] : some.seen) EXPECT_EQ(made, all.seen.at(index)) << name << " " << index;
                EXPECT_TRUE(std::ranges::equal(mixed.model->logits(0), unseen));
            }
        }
    }
}

}  // namespace
}  // namespace busbar::test
