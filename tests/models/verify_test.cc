// verify, levels 2 and 3: an honest chip agrees, planted faults are seen and blamed on the right kernel.
#include "agree/verify.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "agree/bisect.h"
#include "agree/identity.h"
#include "harness.h"

namespace busbar::test {
namespace {

using agree::Verdict;
using testing::HasSubstr;

std::string model_path() {
    return from_environment("BUSBAR_TINY_MODELS") + "/llama_q4_1.gguf";
}

std::vector<int32_t> random_ids(size_t n) {
    static const uint64_t seed = std::random_device{}();
    fmt::print("ids of seed {}\n", seed);
    std::mt19937_64 random(seed);
    std::vector<int32_t> ids(n);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 128);
    return ids;
}

std::string faulty(const std::string& options) {
    return std::string("plugin:") + BUSBAR_BINARY_DIR + "/libbusbar_chip_faulty.so?" + options;
}

Loaded on(std::string_view chip) {
    return load_model(model_path(), strict(128, 64), chip);
}

agree::VerifyReport level_2(std::string_view chip, int64_t positions, const std::string& cache = "") {
    const Loaded tested = on(chip), oracle = on(fallback_chip());
    agree::VerifyOptions o;
    o.ids = random_ids(600);
    o.positions = positions;
    o.bar_positions = 128;
    o.model_hash = "tiny";
    o.text = "random tokens";
    o.chip = chip;
    o.cache = cache;
    const std::function<LoadedModel&()> open = [&]() -> LoadedModel& { return *oracle.model; };
    return agree::verify(*tested.model, open, o);
}

agree::BisectReport level_3(std::string_view chip, const std::string& save = "") {
    const Loaded tested = on(chip), oracle = on(fallback_chip());
    const auto reference = open_chip(oracle_chip());
    agree::BisectOptions o;
    o.ids = random_ids(120);
    o.prompt = 100;
    o.save = save;
    o.chip = chip;
    return agree::bisect(*tested.model, *reference, oracle.model.get(), o);
}

TEST(Verify, TheOracleAgainstItselfIsExact) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const agree::VerifyReport r = level_2(fallback_chip(), 500);
    EXPECT_TRUE(r.exact);
    EXPECT_EQ(r.verdict, Verdict::agrees) << r.text_form();
}

TEST(Verify, AnHonestChipAgreesAndAFewPositionsCannotSaySo) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const std::string cache = std::filesystem::temp_directory_path() / fmt::format("busbar-verify-{}", getpid());
    std::filesystem::create_directories(cache);
    const agree::VerifyReport r = level_2(oracle_chip(), 500, cache);  // doubles against floats
    EXPECT_EQ(r.verdict, Verdict::agrees) << r.text_form();
    EXPECT_FALSE(r.exact);
    EXPECT_FALSE(r.oracle_was_kept);
    ASSERT_EQ(r.figures.size(), 4u);
    EXPECT_GT(r.figures[1].found.value, 0) << "two ways to round never agree to the last bit";
    EXPECT_GT(r.figures[1].bar, r.figures[1].found.high);
    EXPECT_EQ(r.json()["verdict"], "agrees");
    const agree::VerifyReport few = level_2(oracle_chip(), 100);
    EXPECT_EQ(few.verdict, Verdict::not_enough_evidence) << few.text_form();
    EXPECT_THAT(few.text_form(), HasSubstr("cannot carry a verdict"));
    std::filesystem::remove_all(cache);
}

TEST(Verify, AChipThatLiesDoesNotAgree) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    for (const char* fault : {"rope_layout", "scale_off_by_one", "mask_off_by_one"}) {
        const agree::VerifyReport r = level_2(faulty(fmt::format("fault={}", fault)), 400);
        EXPECT_EQ(r.verdict, Verdict::does_not_agree) << fault << "\n" << r.text_form();
    }
    const agree::VerifyReport honest = level_2(faulty("fault=none"), 400);
    EXPECT_EQ(honest.verdict, Verdict::agrees) << honest.text_form();
}

TEST(Bisect, HonestChipsHaveNoFinding) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    for (const std::string& chip : {std::string(fallback_chip()), std::string(oracle_chip()), faulty("fault=none")}) {
        const agree::BisectReport r = level_3(chip);
        EXPECT_TRUE(r.agrees()) << chip << "\n" << r.text_form();
        EXPECT_GE(r.steps, 8u);
        EXPECT_GT(r.outputs, 10000);
    }
}

TEST(Bisect, NamesTheKernelAndSavesIt) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const std::string folder = std::filesystem::temp_directory_path() / fmt::format("busbar-bisect-{}", getpid());
    const auto reference = open_chip(oracle_chip());
    for (const auto& [fault, op] : std::vector<std::pair<std::string, std::string>>{{"rope_layout", "rotate"},
                                                                                    {"scale_off_by_one", "matmul"},
                                                                                    {"one_weight", "matmul"},
                                                                                    {"eps_wrong", "rms_norm"},
                                                                                    {"mask_off_by_one", "attention"},
                                                                                    {"half_accumulate", "matmul"}}) {
        const std::string chip = faulty("fault=" + fault + "&layer=1");
        const agree::BisectReport r = level_3(chip, folder);
        ASSERT_FALSE(r.findings.empty()) << fault << "\n" << r.text_form();
        EXPECT_THAT(r.findings[0].what.op, HasSubstr(op)) << r.text_form();
        EXPECT_EQ(r.findings[0].what.layer, 1) << fault << "\n" << r.text_form();
        ASSERT_EQ(r.saved_to, folder) << fault << "\n" << r.text_form();
        // The same op alone: wrong on this chip, right on others.
        const agree::Reproduction saved = agree::load(folder);
        const auto device = open_chip(chip), other = open_chip(fallback_chip());
        bool wrong = false;
        for (const auto& c : agree::replay(saved, *device, *reference)) wrong |= !conform::is_good(c.verdict);
        // A flipped bit lives in the weight as it was loaded with the model, not in the kernel.
        EXPECT_TRUE(wrong || fault == "one_weight") << fault;
        for (const auto& c : agree::replay(saved, *other, *reference))
            EXPECT_TRUE(conform::is_good(c.verdict)) << fault << " " << c.row << ": " << c.why;
    }
    std::filesystem::remove_all(folder);
}

TEST(Replay, RefusesWhatIsNoReproduction) {
    const std::string folder = std::filesystem::temp_directory_path() / fmt::format("busbar-replay-{}", getpid());
    EXPECT_THROW(agree::load(folder), Error);
    std::filesystem::create_directories(folder);
    for (const char* text : {"", "[]", "{}", R"({"busbar reproduction": 1, "op": "abacus"})",
                             R"({"busbar reproduction": 2, "op": "add"})"}) {
        ASSERT_TRUE(agree::keep(folder + "/case.json", text));
        try {
            agree::load(folder);
            ADD_FAILURE() << text;
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), ErrorCode::bad_input);
            EXPECT_THAT(e.what(), HasSubstr("case.json"));
        }
    }
    std::filesystem::remove_all(folder);
}

TEST(Figures, IntervalsAndBars) {
    std::vector<double> flat(320, 2.0), one = flat;
    one[5] = 1000;
    const agree::Interval same = agree::bootstrap(flat, agree::mean_of, 1);
    EXPECT_EQ(same.low, 2);
    EXPECT_EQ(same.high, 2);
    const agree::Interval wide = agree::bootstrap(one, agree::mean_of, 1);
    EXPECT_LT(wide.low, wide.value);
    EXPECT_GT(wide.high, wide.value);
    std::vector<double> hundred;
    for (int i = 100; i >= 1; --i) hundred.push_back(i);
    EXPECT_EQ(agree::percentile_99(hundred), 99);
    EXPECT_DOUBLE_EQ(agree::Bar::of({1, 1, 1}), 1.25);
    EXPECT_DOUBLE_EQ(agree::Bar::of({0, 2}), (1 + 3.1 * std::sqrt(2.0)) * 1.25);
    // A divergence that can be done by hand: two tokens, all kept.
    agree::Outputs oracle(1, 2);
    oracle.set(0, std::vector<float>{0, 0}, 1);
    const agree::Compared c = agree::compare(oracle, 0, std::vector<float>{1, 0}, 1);
    const double q = std::exp(1.0) / (1 + std::exp(1.0));
    EXPECT_NEAR(c.kl, 0.5 * std::log(0.5 / q) + 0.5 * std::log(0.5 / (1 - q)), 1e-12);
    EXPECT_NEAR(c.nll, std::log(0.5) - std::log(1 - q), 1e-12);
    EXPECT_TRUE(agree::compare(oracle, 0, std::vector<float>{NAN, 0}, 1).broken);
    EXPECT_TRUE(agree::compare(oracle, 0, std::vector<float>{0, 0}, 1).equal);
}

}  // namespace
}  // namespace busbar::test
