#include "dtype/element.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <random>

namespace busbar {
namespace {

uint32_t bits_of_f32(float x) {
    return std::bit_cast<uint32_t>(x);
}

TEST(Element, NamesAndSizes) {
    EXPECT_EQ(name_of(Element::bf16), "bf16");
    EXPECT_EQ(name_of(Element::e2m1), "e2m1");
    EXPECT_EQ(name_of(Element::table4), "table4");
    EXPECT_EQ(bits_of(Element::i6), 6);
    EXPECT_EQ(bits_of(Element::table4), 4);
    EXPECT_EQ(bytes_of(Element::f64), 8u);
    EXPECT_EQ(bytes_of(Element::f16), 2u);
}

// All 65,536 halves against their definition, computed in double.
TEST(F16, WideningIsTheDefinitionForEveryCode) {
    for (uint32_t h = 0; h < 0x10000; ++h) {
        const int e = h >> 10 & 31, m = h & 1023;
        const double sign = h & 0x8000 ? -1.0 : 1.0;
        const float got = f16_to_f32(static_cast<uint16_t>(h));
        ASSERT_EQ(std::signbit(got), (h & 0x8000) != 0) << h;
        if (e == 31) {
            ASSERT_EQ(std::isnan(got), m != 0) << h;
            ASSERT_EQ(std::isinf(got), m == 0) << h;
        } else {
            const double want = sign * (e == 0 ? std::ldexp(m, -24) : std::ldexp(1024 + m, e - 25));
            ASSERT_EQ(static_cast<double>(got), want) << h;
        }
    }
}

// Between two neighbouring halves there is one tie. The code must change exactly there, so the three values around each
// tie and the two ends decide every f32 in between (the narrowing is monotonic: checked on random pairs below).
TEST(F16, NarrowingRoundsToNearestEvenAtEveryTie) {
    for (uint32_t h = 0; h < 0x7C00; ++h) {
        const float low = f16_to_f32(static_cast<uint16_t>(h));
        const double high = h + 1 == 0x7C00 ? 65536.0 : static_cast<double>(f16_to_f32(static_cast<uint16_t>(h + 1)));
        const float tie = static_cast<float>((static_cast<double>(low) + high) / 2);
        ASSERT_EQ(static_cast<double>(tie), (static_cast<double>(low) + high) / 2);
        const uint16_t even = static_cast<uint16_t>(h & 1 ? h + 1 : h);
        const float below = std::bit_cast<float>(bits_of_f32(tie) - 1),
                    above = std::bit_cast<float>(bits_of_f32(tie) + 1);
        for (const uint16_t sign : {uint16_t{0}, uint16_t{0x8000}}) {
            const float s = sign ? -1.0f : 1.0f;
            ASSERT_EQ(f32_to_f16(s * low), sign | h);
            ASSERT_EQ(f32_to_f16(s * below), sign | h);
            ASSERT_EQ(f32_to_f16(s * tie), sign | even);
            ASSERT_EQ(f32_to_f16(s * above), sign | (h + 1));
        }
    }
}

TEST(F16, NarrowingIsMonotonicAndKeepsSpecials) {
    const unsigned seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    for (int i = 0; i < 1'000'000; ++i) {
        uint32_t a = random() & 0x7FFFFFFF, b = random() & 0x7FFFFFFF;
        if (a > b) std::swap(a, b);
        if (b > 0x7F800000) {
            const uint16_t nan = f32_to_f16(std::bit_cast<float>(b));
            ASSERT_TRUE((nan & 0x7C00) == 0x7C00 && (nan & 0x3FF) != 0);
            continue;
        }
        ASSERT_LE(f32_to_f16(std::bit_cast<float>(a)), f32_to_f16(std::bit_cast<float>(b)));
    }
    EXPECT_EQ(f32_to_f16(HUGE_VALF), 0x7C00);
    EXPECT_EQ(f32_to_f16(-HUGE_VALF), 0xFC00);
    EXPECT_EQ(f32_to_f16(3.4e38f), 0x7C00);
    EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
    EXPECT_EQ(f32_to_f16(std::bit_cast<float>(0x7F800001u)), 0x7E00);  // a NaN whose payload lies below the cut
}

TEST(Bf16, WideningIsTheTopHalf) {
    for (uint32_t h = 0; h < 0x10000; ++h) ASSERT_EQ(bits_of_f32(bf16_to_f32(static_cast<uint16_t>(h))), h << 16);
}

TEST(Bf16, NarrowingRoundsToNearestEvenAtEveryTie) {
    for (uint32_t h = 0; h < 0x7F80; ++h) {
        const uint32_t tie = h << 16 | 0x8000;
        const uint16_t even = static_cast<uint16_t>(h & 1 ? h + 1 : h);
        for (const uint32_t sign : {0u, 0x80000000u}) {
            const uint32_t s = sign >> 16;
            ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(sign | h << 16)), s | h);
            ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(sign | (tie - 1))), s | h);
            ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(sign | tie)), s | even);
            ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(sign | (tie + 1))), s | (h + 1));
        }
    }
    for (const uint32_t nan : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu, 0x7FC00000u}) {
        const uint16_t got = f32_to_bf16(std::bit_cast<float>(nan));
        EXPECT_TRUE(std::isnan(bf16_to_f32(got))) << nan;
        EXPECT_EQ(got >> 15, nan >> 31);
    }
}

}  // namespace
}  // namespace busbar
