#include "import/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace busbar {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view text) {
    try {
        parse_json(text, "config.json");
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
        EXPECT_EQ(e.address().rfind("config.json", 0), 0u);
        return e.what();
    }
    return "nothing thrown";
}

std::string nested(int depth) {
    return std::string(depth, '[') + std::string(depth, ']');
}

TEST(Json, KeepsValuesAndTheOrderOfKeys) {
    const Json j =
        parse_json(R"({"z": 1, "a": -2, "m": [1.5, true, null, "x\u00e9\ud83d\ude00"], "o": {"b": {}, "a": []}})", "x");
    EXPECT_EQ(j.dump(), R"({"z":1,"a":-2,"m":[1.5,true,null,"xé😀"],"o":{"b":{},"a":[]}})");
    EXPECT_EQ(j["m"][3].get<std::string>(), "xé😀");
    EXPECT_TRUE(j["z"].is_number_unsigned());
    EXPECT_EQ(parse_json("18446744073709551615", "x").get<uint64_t>(), UINT64_MAX);
    EXPECT_EQ(parse_json(" \"text\" ", "x").get<std::string>(), "text");
    // The same document as the library's own parser makes.
    const std::string text = R"([{"a": [1, 2, {"b": [[], {}]}]}, -0.0, 1e-300, "\\\"\n"])";
    EXPECT_EQ(parse_json(text, "x"), Json::parse(text));
}

TEST(Json, RefusesWithTheOffset) {
    EXPECT_THAT(error_of("{\"a\": nope}"), HasSubstr("config.json: offset 8: [json] expected valid JSON"));
    for (const char* bad : {"",
                            " ",
                            "[1,]",
                            "{\"a\" 1}",
                            "[1 2]",
                            "nul",
                            "'a'",
                            "\"\\x\"",
                            "\"open",
                            "{",
                            "[",
                            "01",
                            "+1",
                            "1e999",
                            "NaN",
                            "// c\n1",
                            "{1:2}",
                            "[1]x",
                            "\"\\ud800\"",
                            "\"\\ud800\\u0041\"",
                            "\"tab\tinside\""})
        EXPECT_THAT(error_of(bad), HasSubstr("[json] expected valid JSON")) << bad;
    EXPECT_THAT(error_of(std::string_view("\"a\0b\"", 5)), HasSubstr("expected valid JSON"));
}

TEST(Json, RefusesInvalidUtf8) {
    for (const char* bad : {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"",
                            "{\"\xff\":1}", "\xff"})
        EXPECT_THAT(error_of(bad), HasSubstr("expected valid JSON")) << quote(bad);
    EXPECT_LT(error_of("\"" + std::string(1000000, 'x') + "\xff\"").size(), 400u);  // a message, not the file
}

TEST(Json, RefusesDuplicateKeysAtAnyDepth) {
    EXPECT_THAT(error_of(R"({"a":1,"b":2,"a":3})"), HasSubstr("[json] key 'a' appears twice in one object"));
    EXPECT_THAT(error_of(R"([{"x":{"k":1,"k":1}}])"), HasSubstr("key 'k' appears twice"));
    EXPECT_THAT(error_of(R"({"a":1,"\u0061":2})"), HasSubstr("key 'a' appears twice"));
    EXPECT_THAT(error_of(R"({"":1,"":2})"), HasSubstr("key '' appears twice"));
    EXPECT_EQ(parse_json(R"({"a":{"a":{"a":1}},"b":{"a":1}})", "x").size(), 2u);
}

TEST(Json, RefusesDeepNestingWithoutRecursion) {
    EXPECT_EQ(parse_json(nested(512), "x").size(), 1u);
    EXPECT_THAT(error_of(nested(513)), HasSubstr("nested at most 512 deep"));
    EXPECT_THAT(error_of(std::string(10'000'000, '[')), HasSubstr("nested at most 512 deep"));
    std::string objects;
    for (int i = 0; i < 600; ++i) objects += "{\"a\":";
    EXPECT_THAT(error_of(objects), HasSubstr("nested at most 512 deep"));
}

TEST(Json, EveryTruncationIsAnError) {
    const std::string text = R"({"a": [1, -2.5e3, "é\n", {"b": null, "c": [true, false]}], "d": {}})";
    parse_json(text, "x");
    for (size_t n = 0; n < text.size(); ++n)
        EXPECT_NE(error_of(std::string_view(text).substr(0, n)), "nothing thrown") << n;
}

// A vocabulary is one object of 150,000 keys. Searching it at every insertion would take minutes.
TEST(Json, ALargeVocabularyTakesLinearTime) {
    std::string text = "{";
    for (int i = 0; i < 150000; ++i)
        text += (i ? ",\"piece" : "\"piece") + std::to_string(i) + "\":" + std::to_string(i);
    const auto begin = std::chrono::steady_clock::now();
    const Json j = parse_json(text + "}", "x");
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    std::printf("parsed in %.0f ms\n", ms);
    EXPECT_EQ(j.size(), 150000u);
    EXPECT_LT(ms, 10000);
    EXPECT_THAT(error_of(text + ",\"piece77777\":0}"), HasSubstr("'piece77777' appears twice"));
}

}  // namespace
}  // namespace busbar
