#include "import/safetensors/header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "base/error.h"

namespace busbar::safetensors {
namespace {

using testing::HasSubstr;

std::string file_of(const std::string& header, size_t data) {
    const uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data, '\x3C');
}

std::vector<Entry> parse(const std::string& file) {
    const std::vector<char> copy(file.begin(), file.end());  // exactly sized, for the sanitizers
    return parse_header({reinterpret_cast<const std::byte*>(copy.data()), copy.size()}, "m.safetensors");
}

std::string error_of(const std::string& file) {
    try {
        parse(file);
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
        EXPECT_EQ(e.address().rfind("m.safetensors", 0), 0u) << e.what();
        return e.what();
    }
    return "nothing thrown";
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
    return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

/// The error of a header with this one tensor.
std::string error_with(const std::string& shape, const std::string& offsets, size_t data,
                       const std::string& dtype = "F32") {
    return error_of(file_of("{" + tensor("w", dtype, shape, offsets) + "}", data));
}

const std::string valid = "{\"__metadata__\":{\"format\":\"pt\"}," + tensor("b", "BF16", "[]", "[24,26]") + "," +
                          tensor("a", "F32", "[2,3]", "[0,24]") + "," + tensor("c", "F16", "[0,5]", "[26,26]") + "}  ";

TEST(SafetensorsHeader, ReadsInAnyOrder) {
    const std::vector<Entry> entries = parse(file_of(valid, 26));
    ASSERT_EQ(entries.size(), 3u);
    EXPECT_EQ(entries[0].name, "a");
    EXPECT_EQ(entries[0].encoding, &encoding_f32);
    EXPECT_THAT(entries[0].shape, testing::ElementsAre(2, 3));
    EXPECT_EQ(entries[0].offset, 8 + valid.size());
    EXPECT_EQ(entries[0].size, 24u);
    EXPECT_EQ(entries[1].encoding, &encoding_bf16);
    EXPECT_TRUE(entries[1].shape.empty());
    EXPECT_EQ(entries[2].encoding, &encoding_f16);
    EXPECT_EQ(entries[2].size, 0u);
    EXPECT_TRUE(parse(file_of("{}", 0)).empty());
    // Legal and unaligned: the reader says where the bytes lie, the consumer loads them unaligned.
    const std::vector<Entry> odd =
        parse(file_of("{" + tensor("h", "F16", "[1]", "[0,2]") + "," + tensor("w", "F32", "[1]", "[2,6]") + "}", 6));
    EXPECT_EQ(odd[1].offset - odd[0].offset, 2u);
}

TEST(SafetensorsHeader, RefusesDtypesByTensorAndName) {
    for (const char* dtype : {"F64", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "f32", "", "F32 "})
        EXPECT_THAT(error_with("[1]", "[0,4]", 4, dtype),
                    HasSubstr("tensor 'w' has dtype '" + std::string(dtype) +
                              "', which this build does not read. Known: F32, F16, BF16"));
}

TEST(SafetensorsHeader, RefusesBadLengths) {
    EXPECT_THAT(error_of(""), HasSubstr("at least 8 bytes, got 0"));
    EXPECT_THAT(error_of("1234567"), HasSubstr("at least 8 bytes, got 7"));
    EXPECT_THAT(error_of(std::string(8, '\xff') + "{}"), HasSubstr("claims 18,446,744,073,709,551,615 bytes"));
    EXPECT_THAT(error_of(std::string("\x03\0\0\0\0\0\0\0{}", 10)),
                HasSubstr("claims 3 bytes, but the file ends after 2"));
    EXPECT_THAT(error_of(std::string(16, '\0')), HasSubstr("an empty one"));
    EXPECT_THAT(error_of(file_of("[]", 0)), HasSubstr("starts with '{', got '['"));
    EXPECT_THAT(error_of(file_of(" {}", 0)), HasSubstr("starts with '{'"));
    std::string big = file_of("{}", 0);
    big.resize(100'000'100, ' ');
    const uint64_t length = 100'000'001;
    std::memcpy(big.data(), &length, 8);
    EXPECT_THAT(error_of(big), HasSubstr("at most 100,000,000 are legal"));
}

TEST(SafetensorsHeader, RefusesWhatIsNotTheGrammar) {
    const auto header = [](const std::string& text) { return error_of(file_of(text, 4)); };
    EXPECT_THAT(header("{\"w\""), HasSubstr("valid JSON"));
    EXPECT_THAT(header("{}{}"), HasSubstr("valid JSON"));
    EXPECT_THAT(header("{\"\xff\":{}}"), HasSubstr("valid JSON"));
    EXPECT_THAT(header("{\"w\":1}"), HasSubstr("expected an object, got a number"));
    EXPECT_THAT(header("{\"w\":[]}"), HasSubstr("expected an object, got an array"));
    EXPECT_THAT(header("{\"w\":null}"), HasSubstr("got null"));
    EXPECT_THAT(header("{\"w\":{}}"), HasSubstr("tensor 'w' has no 'dtype'"));
    EXPECT_THAT(header("{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}"), HasSubstr("has no 'data_offsets'"));
    EXPECT_THAT(header("{\"w\":{\"dtype\":7}}"), HasSubstr("'w', 'dtype': expected a string, got a number"));
    EXPECT_THAT(header("{\"w\":{\"shape\":\"x\"}}"),
                HasSubstr("expected an array of at most 8 whole numbers, got a string"));
    EXPECT_THAT(header("{\"w\":{\"shape\":[[1]]}}"), HasSubstr("got an array"));
    EXPECT_THAT(header("{\"w\":{\"shape\":[-1]}}"), HasSubstr("got a negative number"));
    EXPECT_THAT(header("{\"w\":{\"shape\":[1.0]}}"), HasSubstr("got a fraction"));
    EXPECT_THAT(header("{\"w\":{\"shape\":[true]}}"), HasSubstr("got a bool"));
    EXPECT_THAT(header("{\"w\":{\"shape\":[18446744073709551616]}}"), HasSubstr("too large a number"));
    EXPECT_THAT(header("{\"w\":{\"shape\":[1,1,1,1,1,1,1,1,1]}}"), HasSubstr("more than 8 numbers"));
    EXPECT_THAT(header("{\"w\":{\"shape\":{}}}"), HasSubstr("got an object"));
    EXPECT_THAT(header("{\"w\":{\"strides\":[1]}}"), HasSubstr("only dtype, shape and data_offsets, got 'strides'"));
    EXPECT_THAT(header("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F16\"}}"), HasSubstr("'w': key 'dtype' appears twice"));
    EXPECT_THAT(header("{\"__metadata__\":{\"a\":1}}"), HasSubstr("expected a string, got a number"));
    EXPECT_THAT(header("{\"__metadata__\":{\"a\":{}}}"), HasSubstr("got an object"));
    EXPECT_THAT(header("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}"), HasSubstr("appears twice"));
    EXPECT_THAT(header("{" + tensor("w", "F32", "[1]", "[0,4]") + "," + tensor("w", "F32", "[0]", "[4,4]") + "}"),
                HasSubstr("tensor 'w' appears twice"));
    EXPECT_THAT(header("{" + tensor("", "F32", "[1]", "[0,4]") + "}"), HasSubstr("to have a name"));
    EXPECT_THAT(error_of(file_of("{\"a\":" + std::string(1000000, '['), 0)), HasSubstr("got an array"));
}

TEST(SafetensorsHeader, RefusesBadPlaces) {
    EXPECT_THAT(error_with("[1]", "[0,5]", 4), HasSubstr("claims data bytes 0..5, but the file has 4"));
    EXPECT_THAT(error_with("[1]", "[4,0]", 4), HasSubstr("claims data bytes 4..0"));
    EXPECT_THAT(error_with("[1]", "[0,18446744073709551615]", 4), HasSubstr("but the file has 4"));
    EXPECT_THAT(error_with("[1]", "[0]", 4), HasSubstr("expected two data_offsets, got 1"));
    EXPECT_THAT(error_with("[1]", "[0,4,4]", 4), HasSubstr("expected two data_offsets, got 3"));
    EXPECT_THAT(error_with("[2]", "[0,4]", 4), HasSubstr("expected 8 bytes for its shape and dtype, got 4"));
    EXPECT_THAT(error_with("[9223372036854775808]", "[0,4]", 4), HasSubstr("overflows at 9,223,372,036,854,775,808"));
    EXPECT_THAT(error_with("[4294967296,4294967296]", "[0,4]", 4), HasSubstr("overflows"));
    EXPECT_THAT(error_with("[4294967296,4294967296,0]", "[0,0]", 0), HasSubstr("overflows"));
    EXPECT_THAT(error_with("[4611686018427387904]", "[0,4]", 4), HasSubstr("expected more than 2^64 bytes"));
    EXPECT_THAT(error_with("[1]", "[0,4]", 5), HasSubstr("the tensors end at byte"));
    EXPECT_THAT(error_with("[1]", "[1,5]", 5), HasSubstr("starts at data byte 1, expected 0"));
    EXPECT_THAT(error_of(file_of("{}", 1)), HasSubstr("the tensors end at byte"));
    const auto two = [](const std::string& second) {
        return error_of(
            file_of("{" + tensor("a", "F32", "[2]", "[0,8]") + "," + tensor("b", "F32", "[1]", second) + "}", 16));
    };
    EXPECT_THAT(two("[4,8]"), HasSubstr("tensor 'b' starts at data byte 4, expected 8"));     // overlap
    EXPECT_THAT(two("[12,16]"), HasSubstr("tensor 'b' starts at data byte 12, expected 8"));  // gap
}

TEST(SafetensorsHeader, EveryTruncationIsAnError) {
    const std::string file = file_of(valid, 26);
    for (size_t n = 0; n < file.size(); ++n) EXPECT_NE(error_of(file.substr(0, n)), "nothing thrown") << n;
    EXPECT_THAT(error_of(file + "x"), HasSubstr("but the file has"));
}

TEST(SafetensorsHeader, BitFlipsNeverDoMoreThanFail) {
    const unsigned seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    const std::string file = file_of(valid, 26);
    const auto survive = [](const std::string& bent) {
        try {
            for (const Entry& e : parse(bent)) {
                ASSERT_LE(e.offset, bent.size());
                ASSERT_LE(e.size, bent.size() - e.offset);
            }
        } catch (const Error&) {
        }
    };
    for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
        std::string bent = file;
        bent[bit / 8] ^= static_cast<char>(1 << bit % 8);
        survive(bent);
    }
    for (int i = 0; i < 5000; ++i) {
        std::string bent = file;
        for (int flips = 2 + random() % 6; flips > 0; --flips)
            bent[random() % bent.size()] = static_cast<char>(random());
        survive(bent);
    }
}

}  // namespace
}  // namespace busbar::safetensors
