#include "base/error.h"

#include <gtest/gtest.h>

namespace busbar {
namespace {

TEST(Error, SaysWhereAndWhatAndItsCodeIsTheExitCode) {
    const Error e = bad_input("model.gguf: offset 24", "[gguf] expected version 2 or 3, got {}", 7);
    EXPECT_STREQ(e.what(), "model.gguf: offset 24: [gguf] expected version 2 or 3, got 7");
    EXPECT_EQ(e.address(), "model.gguf: offset 24");
    EXPECT_EQ(static_cast<int>(e.code()), 3);
    EXPECT_STREQ(usage_error("no {}", "flag").what(), "no flag");
    EXPECT_EQ(static_cast<int>(usage_error("x").code()), 2);
    EXPECT_EQ(static_cast<int>(chip_error("cpu", "x").code()), 4);
    EXPECT_EQ(static_cast<int>(does_not_fit("x").code()), 5);
    EXPECT_EQ(static_cast<int>(ErrorCode::internal), 70);
    EXPECT_EQ(static_cast<int>(ErrorCode::interrupted), 130);
}

TEST(WithCommas, GroupsThousands) {
    EXPECT_EQ(with_commas(0), "0");
    EXPECT_EQ(with_commas(999), "999");
    EXPECT_EQ(with_commas(1000), "1,000");
    EXPECT_EQ(with_commas(1234567), "1,234,567");
    EXPECT_EQ(with_commas(18446744073709551615u), "18,446,744,073,709,551,615");
}

TEST(Quote, ShowsAStrangersTextSafely) {
    EXPECT_EQ(quote("plain"), "'plain'");
    EXPECT_EQ(quote(""), "''");
    EXPECT_EQ(quote("a\nb\x1b[31m"), "'a\\x0ab\\x1b[31m'");
    EXPECT_EQ(quote("\x7f"), "'\\x7f'");
    EXPECT_EQ(quote("é😀"), "'é😀'");
    EXPECT_EQ(quote("\xff\xc3"), "'\\xff\\xc3'");
    EXPECT_EQ(quote(std::string_view("a\0b", 3)), "'a\\x00b'");
    EXPECT_EQ(quote(std::string(200, 'x'), 10), "'xxxxxxxxx...'");
    EXPECT_LT(quote(std::string(1000000, '\xff')).size(), 100u);
}

}  // namespace
}  // namespace busbar
