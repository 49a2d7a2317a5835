#include "llm/engine/speculate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace busbar {
namespace {

using Ids = std::vector<int32_t>;

Ids drafted(const Draft& d) {
    return {d.tokens.begin(), d.tokens.begin() + d.count};
}

// By trying every length, longest first, and every place, last first.
Ids slow_look_up(const Ids& text, int64_t& match) {
    const auto n = static_cast<int64_t>(text.size());
    for (match = std::min(longest_match, n - 1); match > 0; --match)
        for (int64_t end = n - 1; end >= match; --end) {
            if (!std::equal(text.end() - match, text.end(), text.begin() + end - match)) continue;
            Ids whole = text;
            for (int64_t i = 0; i < most_drafts; ++i) whole.push_back(whole[end + i]);
            return {whole.end() - most_drafts, whole.end()};
        }
    match = 0;
    return {};
}

TEST(LookUp, Edges) {
    EXPECT_EQ(look_up({}).count, 0);
    EXPECT_EQ(look_up(Ids{7}).count, 0);
    EXPECT_EQ(look_up(Ids{7, 8}).count, 0);
    EXPECT_EQ(drafted(look_up(Ids{7, 7})), (Ids{7, 7, 7}));
    EXPECT_EQ(drafted(look_up(Ids{1, 2, 1})), (Ids{2, 1, 2}));
    EXPECT_EQ(drafted(look_up(Ids{1, 9, 5, 1, 8, 5, 1})), (Ids{8, 5, 1}));           // of equal matches the latest
    EXPECT_EQ(drafted(look_up(Ids{3, 1, 9, 4, 6, 2, 1, 8, 3, 1})), (Ids{9, 4, 6}));  // a longer one before it
    EXPECT_EQ(look_up(Ids(40, 5)).match, longest_match);
}

TEST(LookUp, IsTheSlowOne) {
    const auto seed = std::random_device{}();
    std::mt19937 random(seed);
    for (int round = 0; round < 300; ++round) {
        Ids text(random() % 90);
        const int letters = 1 + static_cast<int>(random() % 6);
        for (int32_t& t : text) t = static_cast<int32_t>(random() % letters);
        if (random() % 2 == 0 && text.size() > 40) std::copy_n(text.begin(), 25, text.end() - 25);
        int64_t match = 0;
        const Ids expected = slow_look_up(text, match);
        const Draft got = look_up(text);
        ASSERT_EQ(drafted(got), expected) << "seed " << seed << " round " << round;
        ASSERT_EQ(got.match, match) << "seed " << seed << " round " << round;
    }
}

// A text that is known beforehand, on a chip where a step of r rows takes seconds[r].
struct Played {
    double seconds = 0;
    int64_t steps = 0;
    SpeculationCounts counts;
};
Played play(Speculate mode, const Ids& text, const std::vector<double>& seconds, size_t begin) {
    Speculation s(mode);
    Played p;
    for (size_t at = begin; at < text.size(); ++p.steps) {
        const auto left = static_cast<int64_t>(text.size() - at) - 1;
        const int64_t drafts = s.propose(std::span(text).first(at), left);
        EXPECT_LE(drafts, std::min(left, most_drafts));
        p.seconds += seconds[1 + drafts];
        s.took(1 + drafts, seconds[1 + drafts]);
        for (int64_t i = 0; s.confirm(i, text[at++]); ++i) {
        }
    }
    p.counts = s.counts();
    return p;
}

Ids repeating(size_t n) {
    Ids text(n);
    for (size_t i = 0; i < n; ++i) text[i] = static_cast<int32_t>(i * i % 41);  // repeats after 41
    return text;
}

const std::vector<double> cheap = {0, 1, 1.1, 1.3, 1.5}, dear = {0, 1, 2, 3, 4};

TEST(Speculation, RepetitionTakesAThirdOfTheStepsOrFewer) {
    const Ids text = repeating(600);
    for (const Speculate mode : {Speculate::on, Speculate::automatic}) {
        const Played p = play(mode, text, cheap, 60);
        EXPECT_LE(p.steps, 540 / 3) << static_cast<int>(mode);
        EXPECT_LT(p.seconds, 540 * 0.45) << static_cast<int>(mode);
        EXPECT_GT(p.counts.accepted, p.counts.drafted * 9 / 10);
    }
    const Played off = play(Speculate::off, text, cheap, 60);
    EXPECT_EQ(off.steps, 540);
    EXPECT_EQ(off.counts.drafted, 0);
}

// Rows that cost as much as steps: nothing to win. And text that does not go on as it did: whatever rows cost.
TEST(Speculation, AutoCostsNearlyNothingWhereItCannotWin) {
    EXPECT_LE(play(Speculate::automatic, repeating(2000), dear, 60).seconds, 1940 * 1.03);
    const auto seed = std::random_device{}();
    std::mt19937 random(seed);
    Ids text(3000);
    for (int32_t& t : text) t = static_cast<int32_t>(random() % 50);  // matches of one and two, by chance
    for (const auto& seconds : {cheap, dear}) {
        const Played p = play(Speculate::automatic, text, seconds, 60);
        EXPECT_LE(p.seconds, 2940 * 1.02) << "seed " << seed;
        EXPECT_EQ(p.steps + p.counts.accepted, 2940) << "seed " << seed;
    }
    // Always on, the same text shows what that would have cost.
    EXPECT_GT(play(Speculate::on, text, cheap, 60).seconds, 2940 * 1.2) << "seed " << seed;
}

TEST(Speculation, ForgetsASlowMoment) {
    Ids text = repeating(3000);
    Speculation s(Speculate::automatic);
    int64_t late = 0;
    for (size_t at = 60, step = 0; at + 4 < text.size(); ++step) {
        const int64_t drafts = s.propose(std::span(text).first(at), most_drafts);
        // The first hundred steps meet a busy machine whenever they have several rows.
        s.took(1 + drafts, drafts > 0 && step < 100 ? 9 : cheap[1 + drafts]);
        for (int64_t i = 0; s.confirm(i, text[at++]); ++i) {
        }
        if (at > 2000) late += drafts;
    }
    EXPECT_GT(late, 500);
}

}  // namespace
}  // namespace busbar
