#include "serve/request/request.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "serve/request/api_error.h"

namespace busbar {
namespace {

constexpr std::string_view hello = R"("messages":[{"role":"user","content":"hello"}])";

CompletionRequest chat(std::string_view more) {
    return parse_chat_request(fmt::format("{{{}{}}}", hello, more), {});
}

TEST(Request, DefaultsAreTheApis) {
    const CompletionRequest r = chat("");
    EXPECT_EQ(r.n, 1);
    EXPECT_EQ(r.max_tokens, 0);
    EXPECT_EQ(r.sample.temperature, 1);
    EXPECT_FALSE(r.seed || r.stream || r.logprobs || r.has_tools);
    EXPECT_EQ(parse_text_request(R"({"prompt":"x"})", {}).max_tokens, 16);
    RequestLimits limits;
    limits.max_tokens = 5;
    EXPECT_EQ(parse_text_request(R"({"prompt":"x","max_tokens":9})", limits).max_tokens, 5);
}

TEST(Request, EveryFieldArrives) {
    const CompletionRequest r = chat(
        R"(,"model":"m","n":2,"max_tokens":7,"max_completion_tokens":5,"temperature":0.5,"top_p":0.25,"top_k":3,"min_p":0.125,)"
        R"("presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"seed":-1,"stop":["a","b"],"stop_token_ids":[4],)"
        R"("logit_bias":{"5":-100},"ignore_eos":true,"logprobs":true,"top_logprobs":4,"stream":true,)"
        R"("stream_options":{"include_usage":true},"user":"u")");
    EXPECT_EQ(r.model, "m");
    EXPECT_EQ(r.n, 2);
    EXPECT_EQ(r.max_tokens, 5);
    EXPECT_EQ(r.sample.temperature, 0.5);
    EXPECT_EQ(r.sample.top_p, 0.25);
    EXPECT_EQ(r.sample.top_k, 3);
    EXPECT_EQ(r.sample.min_p, 0.125);
    EXPECT_EQ(r.sample.presence_penalty, 1);
    EXPECT_EQ(r.sample.frequency_penalty, -1);
    EXPECT_EQ(r.sample.repeat_penalty, 1.5);
    EXPECT_EQ(r.seed, UINT64_MAX);
    EXPECT_EQ(r.stop, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(r.stop_ids, std::vector<int32_t>{4});
    EXPECT_EQ(r.sample.logit_bias, (std::vector<std::pair<int32_t, float>>{{5, -100.f}}));
    EXPECT_TRUE(r.ignore_eos && r.logprobs && r.stream && r.include_usage);
    EXPECT_EQ(r.top_logprobs, 4);
}

TEST(Request, MessagesAsTemplatesExpectThem) {
    const CompletionRequest r = parse_chat_request(
        R"({"messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},)"
        R"({"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},)"
        R"({"id":"2","type":"function","function":{"name":"g","arguments":""}}]},{"role":"tool","tool_call_id":"1","content":"c"}],)"
        R"("chat_template_kwargs":{"enable_thinking":false,"messages":[]}})",
        {});
    const Json& m = r.conversation["messages"];
    EXPECT_EQ(m[0], (Json{{"role", "system"}, {"content", "ab"}}));
    EXPECT_EQ(m[1]["content"], "");
    EXPECT_EQ(m[1]["tool_calls"][0]["function"]["arguments"], (Json{{"x", 1}}));
    EXPECT_EQ(m[1]["tool_calls"][1]["function"]["arguments"], Json::object());
    EXPECT_EQ(m.size(), 3u);
    EXPECT_EQ(r.conversation["enable_thinking"], false);
}

TEST(Request, PromptsOfEveryKind) {
    const auto prompts = [](std::string_view p) {
        return parse_text_request(fmt::format("{{\"prompt\":{}}}", p), {}).prompts;
    };
    EXPECT_EQ(std::get<std::string>(prompts("\"x\"")[0]), "x");
    EXPECT_EQ(std::get<std::vector<int32_t>>(prompts("[1,2]")[0]), (std::vector<int32_t>{1, 2}));
    EXPECT_EQ(prompts("[[1],[2,3],\"x\"]").size(), 3u);
    for (const char* bad : {"null", "5", "[]", "[true]", "[1,\"x\"]", "[-1]", "[1.5]", "[4294967296]", "{}", "[[[1]]]"})
        EXPECT_THROW(prompts(bad), ApiError) << bad;
}

// What is refused, and that the message names the field. (Every number at every bound: tests/serve.)
TEST(Request, RefusalsNameTheField) {
    const auto param = [](std::string_view more) -> std::string {
        try {
            chat(more);
        } catch (const ApiError& e) {
            EXPECT_EQ(e.status, 400);
            return e.param;
        }
        return "nothing was refused";
    };
    EXPECT_EQ(param(R"(,"n":18446744073709551615)"), "n");
    EXPECT_EQ(param(R"(,"temperature":2.0001)"), "temperature");
    EXPECT_EQ(param(R"(,"temperature":"1")"), "temperature");
    EXPECT_EQ(param(R"(,"seed":9223372036854775808)"), "seed");
    EXPECT_EQ(param(R"(,"response_format":{"type":"json_object"})"), "response_format.type");
    EXPECT_EQ(param(R"(,"tool_choice":{"type":"function","function":{"name":"f"}})"), "tool_choice");
    EXPECT_EQ(param(R"(,"tools":[{"type":"function","function":{}}])"), "tools[0].function.name");
    EXPECT_EQ(param(R"(,"stream_options":{"include_usage":true})"), "stream_options");
    EXPECT_EQ(param(R"(,"reasoning_effort":"high")"), "reasoning_effort");
    EXPECT_EQ(param(R"(,"response_format":{"type":"text"},"tool_choice":"none","n":null)"), "nothing was refused");
    EXPECT_THROW(chat(R"(,"nobody knows":1)"), ApiError);
}

}  // namespace
}  // namespace busbar
