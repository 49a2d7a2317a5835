#include "llm/sample/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

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

TEST(Sample, PenaltiesCountWhatWasGenerated) {
    const std::vector<float> logits = {4, 3, 2};
    const std::vector<int32_t> past = {1, 1, 0, 0, 1};  // the first two are the prompt's
    SampleOptions presence, frequency;
    presence.presence_penalty = 1.5;
    EXPECT_EQ(Sampler(presence, 3, 2).choose(logits, past, 5), 0);  // 2.5, 1.5, 2
    frequency.frequency_penalty = 1.1;
    EXPECT_EQ(Sampler(frequency, 3, 2).choose(logits, past, 5), 2);  // 1.8, 1.9, 2
    EXPECT_EQ(Sampler(frequency, 3, 0).choose(logits, past, 5), 2);  // 1.8, -0.3, 2
    EXPECT_EQ(Sampler(frequency, 3, 5).choose(logits, past, 5), 0);  // nothing was generated
    frequency.frequency_penalty = -1;
    EXPECT_EQ(Sampler(frequency, 3, 4).choose(std::vector<float>{4, 3.5f, 2}, past, 5), 1);
}

TEST(Sample, BiasComesFirstAndBans) {
    SampleOptions o;
    o.logit_bias = {{0, -INFINITY}, {2, 1.5f}, {99, 100.f}, {-1, 100.f}};
    EXPECT_EQ(Sampler(o, 3).choose(std::vector<float>{9, 3, 2}, {}, 0), 2);
    o.temperature = 1;
    o.logit_bias = {{0, -INFINITY}};
    Sampler s(o, 3);
    for (int64_t p = 0; p < 500; ++p) EXPECT_NE(s.choose(std::vector<float>{9, 3, 2}, {}, p), 0);
}

// The same choice with everything sorted, as the header words it, for a draw that is `off` by so much of the sum.
int32_t plain_choice(const SampleOptions& o, const std::vector<float>& logits, int64_t position, double off) {
    std::vector<std::pair<double, int32_t>> all;
    for (size_t i = 0; i < logits.size(); ++i) all.emplace_back(-logits[i], static_cast<int32_t>(i));
    std::ranges::sort(all);
    if (o.top_k > 0 && o.top_k < static_cast<int64_t>(all.size())) all.resize(o.top_k);
    const double best = all[0].first;
    double total = 0, mass = 0;
    for (const auto& c : all) total += std::exp(best - c.first);
    size_t kept = 0;
    while (kept < all.size() && (kept == 0 || (mass < o.top_p * total && std::exp(best - all[kept].first) >= o.min_p)))
        mass += std::exp(best - all[kept++].first);
    all.resize(kept);
    std::ranges::sort(all, {}, &std::pair<double, int32_t>::second);
    double sum = 0, passed = 0;
    for (const auto& c : all) sum += std::exp((best - c.first) / o.temperature);
    for (const auto& c : all)
        if ((passed += std::exp((best - c.first) / o.temperature)) > (uniform_at(o.seed, position) + off) * sum)
            return c.second;
    return all.back().second;
}

TEST(Sample, ChoosesAsTheDefinition) {
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 random(seed);
    int beside = 0;
    for (int i = 0; i < 300; ++i) {
        std::vector<float> logits(1 + random() % 3000);
        const double spread = i % 3 == 0 ? 0.01 : 8;  // flat ones make it look far down
        for (float& x : logits) x = static_cast<float>(spread * (static_cast<double>(random() % 20001) / 10000 - 1));
        SampleOptions o;
        o.temperature = i % 5 == 0 ? 1.0 : 0.1 + static_cast<double>(random() % 20) / 10;
        if (random() % 2) o.top_k = static_cast<int64_t>(random() % 200);
        if (random() % 2) o.top_p = static_cast<double>(random() % 100) / 100;
        if (random() % 2) o.min_p = static_cast<double>(random() % 100) / 400;
        o.seed = random();
        Sampler s(o, static_cast<int64_t>(logits.size()));
        for (int64_t position = 0; position < 10; ++position) {
            const int32_t chosen = s.choose(logits, {}, position);
            if (chosen == plain_choice(o, logits, position, 0)) continue;
            // The sum of all weights is known to 1e-6: within that, the neighbour may be chosen.
            EXPECT_TRUE(chosen == plain_choice(o, logits, position, 1e-6) ||
                        chosen == plain_choice(o, logits, position, -1e-6))
                << "seed " << seed << ", case " << i << ", position " << position << ": " << chosen;
            ++beside;
        }
    }
    EXPECT_LE(beside, 3) << "seed " << seed;  // of 3000
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
