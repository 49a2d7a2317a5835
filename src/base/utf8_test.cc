#include "base/utf8.h"

#include <gtest/gtest.h>

namespace busbar {
namespace {

// The definition of RFC 3629, straight: decode arithmetically, then refuse what is overlong, a surrogate or out of
// range.
size_t plain_length(std::string_view text) {
    if (text.empty()) return 0;
    const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
    const uint32_t c = byte(0);
    const size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
    if (n == 0 || text.size() < n) return 0;
    uint32_t cp = n == 1 ? c : c & (0x7F >> n);
    for (size_t i = 1; i < n; ++i) {
        if (byte(i) >> 6 != 2) return 0;
        cp = cp << 6 | (byte(i) & 0x3F);
    }
    constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    return cp < least[n] || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF) ? 0 : n;
}

TEST(Utf8, EveryCodePointGoesThereAndBack) {
    for (uint32_t cp = 0; cp <= 0x10FFFF; ++cp) {
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        std::string text;
        utf8_append(text, cp);
        size_t pos = 0;
        ASSERT_EQ(utf8_length(text), text.size()) << cp;
        ASSERT_EQ(utf8_next(text, pos), cp);
        ASSERT_EQ(pos, text.size());
        for (size_t n = 1; n < text.size(); ++n) {
            ASSERT_TRUE(utf8_is_cut(std::string_view(text).substr(0, n))) << cp;
            ASSERT_EQ(utf8_length(std::string_view(text).substr(0, n)), 0u);
        }
        ASSERT_FALSE(utf8_is_cut(text));
    }
}

TEST(Utf8, EveryStartOfThreeBytesAgreesWithTheDefinition) {
    for (uint32_t i = 0; i < 1 << 24; ++i) {
        const char text[4] = {static_cast<char>(i >> 16), static_cast<char>(i >> 8), static_cast<char>(i), '\x80'};
        // Three bytes followed by the smallest continuation: that reaches every branch of the four-byte forms too.
        if (utf8_length({text, 4}) != plain_length({text, 4})) FAIL() << i;
        if (i % 257 == 0 && utf8_length({text, 3}) != plain_length({text, 3})) FAIL() << i;
    }
}

TEST(Utf8, CutMeansThatMoreBytesMayComplete) {
    EXPECT_FALSE(utf8_is_cut(""));
    EXPECT_FALSE(utf8_is_cut("a"));
    EXPECT_TRUE(utf8_is_cut("\xf0\x9f\x98"));
    EXPECT_FALSE(utf8_is_cut("\xed\xa0"));      // would be a surrogate
    EXPECT_FALSE(utf8_is_cut("\xc0"));          // always overlong
    EXPECT_FALSE(utf8_is_cut("\xf4\x90"));      // beyond U+10FFFF
    EXPECT_FALSE(utf8_is_cut("\xe2\x82\xac"));  // whole
    EXPECT_FALSE(utf8_is_cut("\xe2z"));         // broken, not cut
}

TEST(Utf8, InvalidBytesAreReplacedOneByOne) {
    const std::string_view text = "a\xff\xe2\x82z";
    size_t pos = 0;
    EXPECT_EQ(utf8_next(text, pos), 'a');
    for (int i = 0; i < 3; ++i) EXPECT_EQ(utf8_next(text, pos), 0xFFFDu);
    EXPECT_EQ(utf8_next(text, pos), 'z');
    EXPECT_EQ(pos, text.size());
}

TEST(Utf8, FirstInvalidByte) {
    EXPECT_EQ(utf8_first_invalid("caf\xc3\xa9"), std::string_view::npos);
    EXPECT_EQ(utf8_first_invalid("caf\xc3"), 3u);
    EXPECT_EQ(utf8_first_invalid("\xc3\xa9\x80"), 2u);
    EXPECT_TRUE(utf8_valid(""));
    EXPECT_TRUE(utf8_valid(std::string_view("\0", 1)));
    EXPECT_FALSE(utf8_valid("\xed\xa0\x80"));
    EXPECT_FALSE(utf8_valid("\xc0\x80"));
}

}  // namespace
}  // namespace busbar
