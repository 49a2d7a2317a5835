#include "llm/sample/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

namespace busbar {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

TEST(Sample, GreedyTakesTheBestAndTheLowerIdOnTies) {
    Sampler s({}, 5);
    EXPECT_EQ(s.choose(std::vector<float>{1, 3, 2, 3, 0}, {}, 0), 1);
    EXPECT_EQ(s.choose(std::vector<float>{nan, nan, -5, -7, nan}, {}, 0), 2);
    EXPECT_EQ(s.choose(std::vector<float>{nan, nan, nan, nan, nan}, {}, 0), 0);
}

TEST(Sample, PaddingIsNeverChosen) {
    SampleOptions o;
    o.temperature = 1;
    for (int64_t position = 0; position < 200; ++position)
        EXPECT_LT(Sampler(o, 3).choose(std::vector<float>{0, 0, 0, 90, 90}, {}, position), 3);
    EXPECT_LT(Sampler({}, 3).choose(std::vector<float>{0, 0, 0, 90, 90}, {}, 0), 3);
}

TEST(Sample, DrawIsAFunctionOfSeedAndPosition) {
    SampleOptions o;
    o.temperature = 1;
    o.seed = 7;
    const std::vector<float> logits = {0, 1, 2, 3};
    std::map<int32_t, int> seen;
    Sampler a(o, 4), b(o, 4);
    for (int64_t p = 0; p < 500; ++p) {
        const int32_t token = a.choose(logits, {}, p);
        ++seen[token];
        EXPECT_EQ(b.choose(logits, {}, p), token);
    }
    o.seed = 8;
    Sampler c(o, 4);
    int same = 0;
    for (int64_t p = 0; p < 500; ++p) same += c.choose(logits, {}, p) == a.choose(logits, {}, p);
    EXPECT_LT(same, 400);  // another seed, another text
    EXPECT_EQ(seen.size(), 4u);
}

TEST(Sample, FrequenciesFollowTheSoftmax) {
    SampleOptions o;
    o.temperature = 2;
    const std::vector<float> logits = {0, 1, 3};
    const double z = 1 + std::exp(0.5) + std::exp(1.5);
    Sampler s(o, 3);
    std::map<int32_t, double> share;
    constexpr int n = 40000;
    for (int64_t p = 0; p < n; ++p) share[s.choose(logits, {}, p)] += 1.0 / n;
    for (int32_t id = 0; id < 3; ++id)
        EXPECT_NEAR(share[id], std::exp(logits[id] / 2) / z, 0.012) << id;  // five standard deviations of a share
}

TEST(Sample, FiltersKeepWhatTheySay) {
    const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
    const auto reachable = [&](SampleOptions o) {
        o.temperature = 1;
        Sampler s(o, 4);
        std::map<int32_t, int> seen;
        for (int64_t p = 0; p < 2000; ++p) ++seen[s.choose(logits, {}, p)];
        return seen.size();
    };
    SampleOptions top_k, top_p, top_p_edge, min_p;
    top_k.top_k = 2;
    top_p.top_p = 0.7;
    top_p_edge.top_p = 0.4;
    min_p.min_p = 0.25;
    EXPECT_EQ(reachable({}), 4u);
    EXPECT_EQ(reachable(top_k), 2u);
    EXPECT_EQ(reachable(top_p), 2u);       // 0.5 is not enough, 0.8 is
    EXPECT_EQ(reachable(top_p_edge), 1u);  // the best always stays
    EXPECT_EQ(reachable(min_p), 3u);       // 0.15 / 0.5 = 0.3
}

TEST(Sample, RepeatPenaltyLooksAtTheWindowOnly) {
    SampleOptions o;
    o.repeat_penalty = 2;
    o.repeat_window = 2;
    Sampler s(o, 3);
    const std::vector<float> logits = {4, 3, -1};
    EXPECT_EQ(s.choose(logits, std::vector<int32_t>{0}, 1), 1);        // 4 / 2 < 3
    EXPECT_EQ(s.choose(logits, std::vector<int32_t>{0, 2, 2}, 3), 0);  // 0 has left the window
    EXPECT_EQ(s.choose(std::vector<float>{-1.5f, -1, -9}, std::vector<int32_t>{1}, 1),
              0);  // negative logits go down, not up
}

TEST(Sample, BestTokensAreSortedWithLogProbabilities) {
    const auto best = best_tokens(std::vector<float>{0, nan, 2, 2, -INFINITY}, 3);
    ASSERT_EQ(best.size(), 3u);
    EXPECT_EQ(best[0].id, 2);
    EXPECT_EQ(best[1].id, 3);
    EXPECT_EQ(best[2].id, 0);
    EXPECT_LT(best[0].logprob, 0);
}

TEST(Sample, LogSumExpIsStable) {
    EXPECT_NEAR(log_sum_exp(std::vector<float>{1000, 1000}), 1000 + std::log(2.0), 1e-9);
    EXPECT_NEAR(log_sum_exp(std::vector<float>{-1000, -1001}), -1000 + std::log1p(std::exp(-1.0)), 1e-9);
    EXPECT_EQ(log_sum_exp(std::vector<float>{-INFINITY}), -INFINITY);
}

}  // namespace
}  // namespace busbar
