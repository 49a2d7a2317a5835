#include "llm/cache/prefix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "ops/op.h"

namespace busbar {
namespace {

std::vector<int32_t> page_of(int kind) {
    std::vector<int32_t> tokens(page_positions);
    for (int64_t i = 0; i < page_positions; ++i) tokens[i] = kind * 1000 + static_cast<int32_t>(i);
    return tokens;
}

TEST(PrefixIndex, ParentsAndTenantsKeepPastsApart) {
    PrefixIndex index;
    const auto one = PrefixIndex::tenant(1), two = PrefixIndex::tenant(2);
    const auto a = index.insert(one, page_of(1), 10);
    EXPECT_EQ(index.find(one, page_of(1)), a);
    EXPECT_EQ(index.find(two, page_of(1)), -1);
    EXPECT_EQ(index.find(a, page_of(1)), -1);
    auto almost = page_of(1);
    ++almost.back();
    EXPECT_EQ(index.find(one, almost), -1);
    const auto b = index.insert(a, page_of(1), 11);
    EXPECT_EQ(index.page_of(b), 11);
}

TEST(PrefixIndex, EvictsLeavesLeastRecentlyUsedFirst) {
    PrefixIndex index;
    const auto root = PrefixIndex::tenant(0);
    const auto a = index.insert(root, page_of(1), 1);
    index.insert(a, page_of(2), 2);
    index.insert(root, page_of(3), 3);
    index.find(root, page_of(1));
    const auto any = [](int32_t) { return true; };
    EXPECT_EQ(index.evict([](int32_t page) { return page != 2; }), 3);  // 1 has one below it
    EXPECT_EQ(index.evict(any), 2);
    EXPECT_EQ(index.evict(any), 1);
    EXPECT_EQ(index.evict(any), -1);
    EXPECT_EQ(index.size(), 0u);
}

// Against a plain map from whole paths to pages.
TEST(PrefixIndex, RandomUseAgreesWithAMap) {
    const auto seed = std::random_device{}();
    std::mt19937 random(seed);
    PrefixIndex index;
    std::map<std::vector<int>, int32_t> plain;
    int32_t next_page = 0;
    for (int i = 0; i < 20000; ++i) {
        std::vector<int> path = {static_cast<int>(random() % 2)};
        PrefixIndex::Entry at = PrefixIndex::tenant(path[0]);
        for (int depth = 0; depth < 3; ++depth) {
            const int kind = static_cast<int>(random() % 3);
            path.push_back(kind);
            const auto found = index.find(at, page_of(kind));
            const auto known = plain.find(path);
            ASSERT_EQ(found >= 0, known != plain.end()) << "seed " << seed;
            if (found < 0) {
                at = index.insert(at, page_of(kind), next_page);
                plain[path] = next_page++;
            } else {
                ASSERT_EQ(index.page_of(found), known->second) << "seed " << seed;
                at = found;
            }
        }
        for (int n = static_cast<int>(random() % 4); n > 0; --n) {
            const int32_t page = index.evict([&](int32_t p) { return p % 7 != 0; });
            if (page < 0) break;
            const auto gone = std::ranges::find_if(plain, [&](const auto& entry) { return entry.second == page; });
            ASSERT_NE(gone, plain.end()) << "seed " << seed;
            for (const auto& [other, p] : plain)
                ASSERT_FALSE(other.size() == gone->first.size() + 1 &&
                             std::equal(gone->first.begin(), gone->first.end(), other.begin()));
            plain.erase(gone);
        }
        ASSERT_EQ(index.size(), plain.size());
    }
}

}  // namespace
}  // namespace busbar
