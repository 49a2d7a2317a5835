#include "llm/sample/ranking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace busbar {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

// Lengths around blocks and lanes; ties; now and then NaN and infinities.
std::vector<float> random_logits(std::mt19937_64& random) {
    const size_t lengths[] = {0, 1, 15, 16, 17, 63, 64, 65, 1000, 4096, 9001};
    std::vector<float> logits(lengths[random() % std::size(lengths)]);
    const bool ties = random() % 2, odd = random() % 2;
    for (float& x : logits) {
        x = ties ? static_cast<float>(random() % 7) : std::normal_distribution<float>(0, 5)(random);
        if (odd && random() % 10 == 0) x = random() % 2 ? nan : -infinity;
    }
    return logits;
}

TEST(Ranking, IsTheSortedVocabulary) {
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 random(seed);
    Ranking ranking;
    for (int i = 0; i < 200; ++i) {
        const std::vector<float> logits = random_logits(random);
        std::vector<std::pair<float, int32_t>> sorted;
        for (size_t id = 0; id < logits.size(); ++id)
            if (!std::isnan(logits[id])) sorted.emplace_back(-logits[id], static_cast<int32_t>(id));
        std::ranges::sort(sorted);
        EXPECT_EQ(largest(logits), sorted.empty() ? -1 : sorted[0].second) << "seed " << seed << ", case " << i;
        ranking.reset(logits);
        ASSERT_EQ(ranking.size(), static_cast<int64_t>(sorted.size())) << "seed " << seed << ", case " << i;
        const int64_t looked_at = random() % 2 ? ranking.size() : std::min<int64_t>(ranking.size(), 100);
        for (int64_t place = 0; place < looked_at; ++place)
            ASSERT_EQ(ranking[place].id, sorted[place].second)
                << "seed " << seed << ", case " << i << ", place " << place;
    }
}

TEST(Ranking, SumOfExponentialsIsThatOfTheDefinition) {
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 random(seed);
    for (int i = 0; i < 200; ++i) {
        std::vector<float> logits = random_logits(random);
        const float spread = static_cast<float>(1 << (random() % 6));
        for (float& x : logits) x *= spread;
        const int32_t best = largest(logits);
        if (best < 0 || std::isinf(logits[best])) continue;
        const float scales[] = {1, 0.3f, 5, 1e30f}, scale = scales[random() % 4];
        double sum = 0;
        for (const float x : logits)
            if (!std::isnan(x)) sum += std::exp((static_cast<double>(x) - logits[best]) * scale);
        EXPECT_NEAR(exponential_sum(logits, logits[best], scale) / sum, 1, 1e-6) << "seed " << seed << ", case " << i;
    }
}

TEST(Ranking, DrawIsWhereTheSumExceedsTheNumber) {
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 random(seed);
    std::vector<float> sums;
    int beside = 0;
    for (int i = 0; i < 400; ++i) {
        const std::vector<float> logits = random_logits(random);
        const int32_t best = largest(logits);
        if (best < 0 || std::isinf(logits[best])) continue;
        std::vector<double> passed = {0};
        for (const float x : logits)
            passed.push_back(passed.back() + (std::isnan(x) ? 0 : std::exp(double{x} - logits[best])));
        const double uniform = i % 10 == 0   ? 0
                               : i % 10 == 1 ? 1 - 0x1p-53
                                             : static_cast<double>(random() >> 11) * 0x1p-53;
        const int32_t id = draw_exponential(logits, logits[best], 1, uniform, sums);
        ASSERT_TRUE(id >= 0 && id < static_cast<int32_t>(logits.size()) && logits[id] > -infinity)
            << "seed " << seed << ", case " << i;
        const double wanted = uniform * passed.back(), error = 1e-6 * passed.back();
        EXPECT_TRUE(passed[id] <= wanted + error && passed[id + 1] >= wanted - error)
            << "seed " << seed << ", case " << i;
        beside += passed[id] > wanted || passed[id + 1] <= wanted;
    }
    EXPECT_LE(beside, 60) << "seed " << seed;  // the two ends' 80 may be, of the others hardly one
}

}  // namespace
}  // namespace busbar
