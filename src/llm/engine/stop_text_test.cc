#include "llm/engine/stop_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace busbar {
namespace {

// In whatever pieces the text comes: what stands before the first stop text goes out, and nothing of one ever does.
TEST(StopFilter, AsIfTheTextHadComeWhole) {
    const auto seed = std::random_device{}();
    std::mt19937 random(seed);
    const auto letters = [&](int most) {
        std::string out;
        for (int n = static_cast<int>(random() % most); n >= 0; --n) out += static_cast<char>('a' + random() % 2);
        return out;
    };
    for (int i = 0; i < 5000; ++i) {
        std::vector<std::string> stops;
        for (int n = static_cast<int>(random() % 3); n > 0; --n) stops.push_back(letters(5));
        const std::string text = letters(20);
        size_t first = std::string::npos;  // where the stop text begins that is complete first
        for (size_t n = 1; n <= text.size() && first == std::string::npos; ++n)
            for (const std::string& s : stops) first = std::min(first, text.substr(0, n).find(s));
        StopFilter filter(stops);
        std::string out;
        for (size_t at = 0, n; at < text.size() && !filter.stopped(); at += n) {
            n = 1 + random() % 4;
            out += filter.add(text.substr(at, n));
            ASSERT_LE(out.size(), std::min(first, text.size())) << "seed " << seed;
        }
        out += filter.finish();
        ASSERT_EQ(out, text.substr(0, first)) << "seed " << seed;
        ASSERT_EQ(filter.stopped(), first != std::string::npos) << "seed " << seed;
    }
}

}  // namespace
}  // namespace busbar
