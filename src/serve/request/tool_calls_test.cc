#include "serve/request/tool_calls.h"

#include <gtest/gtest.h>

#include <random>

namespace busbar {
namespace {

// Fed in pieces of any length, the outcome must be that of the whole.
ToolParser::Out feed(ToolStyle style, const std::string& text, size_t piece) {
    ToolParser parser(style, {"weather", "time"});
    ToolParser::Out all;
    const auto take = [&](const ToolParser::Out& out) {
        all.text += out.text;
        all.calls.insert(all.calls.end(), out.calls.begin(), out.calls.end());
    };
    for (size_t i = 0; i < text.size(); i += piece) take(parser.add(text.substr(i, piece)));
    take(parser.finish());
    return all;
}

struct Case {
    ToolStyle style;
    const char *in, *text;
    std::vector<std::pair<std::string, std::string>> calls;
};

TEST(ToolCalls, SeparatedHoweverTheyCome) {
    const Case cases[] = {
        {ToolStyle::none,
         "<tool_call>{\"name\":\"time\"}</tool_call>",
         "<tool_call>{\"name\":\"time\"}</tool_call>",
         {}},
        {ToolStyle::tagged, "plain <tool text", "plain <tool text", {}},
        {ToolStyle::tagged,
         "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Bern\"}}\n</tool_call>",
         "",
         {{"weather", "{\"place\":\"Bern\"}"}}},
        {ToolStyle::tagged,
         "<tool_call>{\"name\":\"time\",\"arguments\":{}}</"
         "tool_call>\n<tool_call>{\"name\":\"weather\",\"arguments\":\"{}\"}</tool_call>",
         "",
         {{"time", "{}"}, {"weather", "{}"}}},
        {ToolStyle::tagged, "<tool_call>{\"name\":\"time\",\"arguments\":{}}", "", {{"time", "{}"}}},  // ended early
        {ToolStyle::tagged, "<tool_call>no json</tool_call>", "<tool_call>no json</tool_call>", {}},
        {ToolStyle::tagged, "<tool_call>{\"name\":5}</tool_call> x", "<tool_call>{\"name\":5}</tool_call> x", {}},
        {ToolStyle::tagged, "", "", {}},
        {ToolStyle::bare,
         "{\"name\": \"weather\", \"parameters\": {\"place\": \"a } b\"}}",
         "",
         {{"weather", "{\"place\":\"a } b\"}"}}},
        {ToolStyle::bare,
         "<|python_tag|>{\"name\": \"time\", \"parameters\": {}}; {\"name\": \"time\", \"parameters\": {\"a\": "
         "\"\\\"}\"}}",
         "",
         {{"time", "{}"}, {"time", "{\"a\":\"\\\"}\"}"}}},
        {ToolStyle::bare,
         "{\"name\": \"unknown\", \"parameters\": {}}",
         "{\"name\": \"unknown\", \"parameters\": {}}",
         {}},
        {ToolStyle::bare, "{\"name\": \"time\"} and more", "{\"name\": \"time\"} and more", {}},
        {ToolStyle::bare, "  {\"broken", "  {\"broken", {}},
        {ToolStyle::bare, "It is {\"name\": \"time\"}", "It is {\"name\": \"time\"}", {}},
    };
    for (const Case& c : cases)
        for (size_t piece = 1; piece <= 40; ++piece) {
            const ToolParser::Out out = feed(c.style, c.in, piece);
            EXPECT_EQ(out.text, c.text) << c.in << " in pieces of " << piece;
            ASSERT_EQ(out.calls.size(), c.calls.size()) << c.in << " in pieces of " << piece;
            for (size_t i = 0; i < c.calls.size(); ++i) {
                EXPECT_EQ(out.calls[i].name, c.calls[i].first);
                EXPECT_EQ(out.calls[i].arguments, c.calls[i].second);
            }
        }
}

TEST(ToolCalls, TextGoesOutAsSoonAsItCan) {
    ToolParser tagged(ToolStyle::tagged, {});
    EXPECT_EQ(tagged.add("abc <to").text, "abc");
    EXPECT_EQ(tagged.add("y>").text, " <toy>");
    ToolParser bare(ToolStyle::bare, {});
    EXPECT_EQ(bare.add(" ").text, "");
    EXPECT_EQ(bare.add("Hi").text, " Hi");
    EXPECT_EQ(bare.add("{").text, "{");
}

TEST(ToolCalls, NothingIsLostOfTextWithoutCalls) {
    const auto seed = std::random_device{}();
    RecordProperty("seed", std::to_string(seed));
    std::mt19937 random(seed);
    const char* words[] = {"<tool_call>", "</tool_call>",   "<", "{", "}", "\"", "name", " ", "\n",
                           ";",           "<|python_tag|>", "x"};
    for (int i = 0; i < 3000; ++i) {
        std::string text;
        for (int n = random() % 12; n > 0; --n) text += words[random() % std::size(words)];
        for (const ToolStyle style : {ToolStyle::tagged, ToolStyle::bare}) {
            const ToolParser::Out out = feed(style, text, 1 + random() % 5);
            if (out.calls.empty()) {
                ASSERT_EQ(out.text, text) << "seed " << seed;
            }
        }
    }
}

TEST(ToolCalls, StylesByTemplate) {
    EXPECT_EQ(tool_style_of("{{ messages }}"), ToolStyle::none);
    EXPECT_EQ(tool_style_of("{% if tools %}<tool_call>"), ToolStyle::tagged);
    EXPECT_EQ(tool_style_of("{% if tools %}{\"name\": f, \"parameters\": d}"), ToolStyle::bare);
}

}  // namespace
}  // namespace busbar
