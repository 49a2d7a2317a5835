#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "import/json.h"
#include "llm/sample/sample.h"

namespace busbar {

/// What one request may ask for.
struct RequestLimits {
    int64_t choices = 16;      ///< n
    int64_t all_choices = 64;  ///< prompts x n
    int64_t max_tokens = 0;    ///< the longest answer; 0 = as the context allows
    int64_t tools = 128;
    int64_t stop_texts = 16;
    size_t stop_bytes = 256;
    int64_t biases = 1024;
    int64_t top_logprobs = 20;
};

/// A checked request for text: every number is within its bounds, every field was understood or refused.
struct CompletionRequest {
    bool chat = false;
    std::string model;  ///< "" where none was named
    Json conversation;  ///< chat: messages, tools and what else the template is to see
    bool has_tools = false, parallel_tool_calls = true;
    std::vector<std::string> tool_names;
    std::vector<std::variant<std::string, std::vector<int32_t>>> prompts;  ///< completions

    int64_t n = 1;
    int64_t max_tokens = 0;  ///< 0 = as the context and the server allow
    SampleOptions sample;
    std::optional<uint64_t> seed;
    std::vector<std::string> stop;
    std::vector<int32_t> stop_ids;
    bool ignore_eos = false;
    bool logprobs = false;
    int64_t top_logprobs = 0;
    bool stream = false, include_usage = false;
};

/// Both throw ApiError{400} that names the field, what was expected and what was got.
CompletionRequest parse_chat_request(std::string_view body, const RequestLimits& limits);
CompletionRequest parse_text_request(std::string_view body, const RequestLimits& limits);

/// A request's JSON, from a stranger. Throws ApiError{400}.
Json parse_body(std::string_view body);

/// Messages as the API writes them, as templates expect them: text parts joined, "developer" called "system", the
/// arguments of tool calls as objects. Throws ApiError{400}.
Json checked_messages(const Json* messages);

}  // namespace busbar
