// Any bytes as a request's body: an ApiError of status 400 with valid UTF-8, or a request whose every number is in
// bounds. Any bytes as an answer in which a model may call tools: never lost where no call was found.
#include "base/check.h"
#include "base/utf8.h"
#include "serve/request/api_error.h"
#include "serve/request/request.h"
#include "serve/request/tool_calls.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace busbar;
    const std::string text(reinterpret_cast<const char*>(data), size);
    for (const bool chat : {false, true}) {
        try {
            const CompletionRequest r = chat ? parse_chat_request(text, {}) : parse_text_request(text, {});
            BUSBAR_CHECK(r.n >= 1 && r.n <= 16 && r.max_tokens >= 0 && r.max_tokens <= INT32_MAX);
            BUSBAR_CHECK(r.sample.temperature >= 0 && r.sample.temperature <= 2 && r.sample.top_p >= 0 &&
                         r.sample.top_p <= 1);
            BUSBAR_CHECK(r.sample.top_k >= 0 && r.sample.min_p >= 0 && r.sample.min_p <= 1);
            BUSBAR_CHECK(r.top_logprobs >= 0 && r.top_logprobs <= 20);
            for (const std::string& s : r.stop) BUSBAR_CHECK(!s.empty());
            BUSBAR_CHECK(chat ? r.conversation["messages"].is_array() : !r.prompts.empty());
        } catch (const ApiError& e) {
            BUSBAR_CHECK(e.status == 400 && utf8_valid(e.body().dump()));
        }
    }
    for (const ToolStyle style : {ToolStyle::tagged, ToolStyle::bare}) {
        ToolParser parser(style, {"f"});
        const size_t half = size / 2;
        std::string out;
        size_t calls = 0;
        for (const auto& part : {parser.add(text.substr(0, half)), parser.add(text.substr(half)), parser.finish()}) {
            out += part.text;
            calls += part.calls.size();
        }
        BUSBAR_CHECK(calls > 0 || out == text);
    }
    return 0;
}
