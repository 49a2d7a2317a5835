#include "serve/request/request.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "llm/chat/chat.h"
#include "serve/request/api_error.h"
#include "serve/request/fields.h"

namespace busbar {

namespace {

constexpr size_t any_size = SIZE_MAX;  // the body's own bound holds
constexpr std::string_view no_grammar =
    "this server cannot constrain an answer yet, and an answer that is not constrained would be wrong; leave it out";

// Text, or a list of parts that are all text.
std::string content_text(const Json& content, const std::string& path) {
    if (content.is_string()) return content.get<std::string>();
    if (!content.is_array())
        throw refusal(path, "expected {} to be a text or a list of parts, got {}", path, shown(content));
    std::string text;
    for (const Json& part : content) {
        Fields f(part, path);
        const std::string type = f.text("type", any_size).value_or("");
        if (type != "text")
            throw refusal(path, "expected parts of {} to have the type \"text\", got {}: this server reads text only",
                          path, quote(type, 40));
        const auto piece = f.text("text", any_size);
        if (!piece) throw refusal(path, "expected a field 'text' in each part of {}", path);
        f.refuse_unknown();
        text += *piece;
    }
    return text;
}

Json checked_call(const Json& call, const std::string& path) {
    Fields f(call, path);
    const auto id = f.text("id", 256);
    f.ignore("index");
    f.only("type", "function", "only calls of functions are known");
    const Json* function = f.find("function");
    if (!function) throw refusal(path, "expected a field 'function' in {}", path);
    Fields g(*function, path + ".function");
    const auto name = g.text("name", 256);
    if (!name) throw refusal(path, "expected a field 'name' in {}.function", path);
    const Json* arguments = g.find("arguments");
    Json given = arguments ? *arguments : Json::object();
    if (given.is_string() && given.get_ref<const std::string&>().empty()) given = Json::object();
    g.refuse_unknown();
    f.refuse_unknown();
    return {{"id", id.value_or("")}, {"type", "function"}, {"function", {{"name", *name}, {"arguments", given}}}};
}

Json checked_message(const Json& message, size_t i) {
    const std::string path = fmt::format("messages[{}]", i);
    Fields f(message, path);
    std::string role = f.text("role", 64).value_or("");
    if (role == "developer") role = "system";  // the newer name of the same thing
    if (role != "system" && role != "user" && role != "assistant" && role != "tool")
        throw refusal(f.path("role"), "expected {} to be system, developer, user, assistant or tool, got {}",
                      f.path("role"), quote(role, 40));
    Json out = {{"role", role}};
    const Json* content = f.find("content");
    const Json* calls = role == "assistant" ? f.find("tool_calls") : nullptr;
    if (!content && !calls) throw refusal(f.path("content"), "expected {} to be a text", f.path("content"));
    out["content"] = content ? content_text(*content, f.path("content")) : "";
    if (const auto name = f.text("name", 256)) out["name"] = *name;
    if (const auto thoughts = f.text("reasoning_content", any_size)) out["reasoning_content"] = *thoughts;
    if (const auto id = f.text("tool_call_id", 256)) out["tool_call_id"] = *id;
    if (calls) {
        if (!calls->is_array() || calls->size() > 128)
            throw refusal(f.path("tool_calls"), "expected {} to be a list of at most 128", f.path("tool_calls"));
        out["tool_calls"] = Json::array();
        for (const Json& call : *calls) out["tool_calls"].push_back(checked_call(call, f.path("tool_calls")));
        if (calls->empty()) out.erase("tool_calls");
    }
    // What other servers' answers carry and clients send back.
    for (const char* field : {"refusal", "annotations", "audio", "function_call"})
        f.only(field, nullptr, "not known here");
    f.refuse_unknown();
    return out;
}

void read_tools(Fields& f, const RequestLimits& limits, CompletionRequest& r) {
    const Json* tools = f.find("tools");
    std::string choice = "auto";
    if (const Json* c = f.find("tool_choice")) {
        choice = c->is_string() ? c->get<std::string>() : "a named function";
        if (choice != "auto" && choice != "none")
            throw refusal("tool_choice", "expected tool_choice to be \"auto\" or \"none\", got {}: {}", shown(*c),
                          no_grammar);
    }
    r.parallel_tool_calls = f.boolean("parallel_tool_calls").value_or(true);
    if (!tools) return;
    if (!tools->is_array() || static_cast<int64_t>(tools->size()) > limits.tools)
        throw refusal("tools", "expected tools to be a list of at most {}, got {}", limits.tools, shown(*tools));
    for (size_t i = 0; i < tools->size(); ++i) {
        Fields tool((*tools)[i], fmt::format("tools[{}]", i));
        const std::string type = tool.text("type", 64).value_or("");
        if (type != "function")
            throw refusal(tool.path("type"), "expected {} to be \"function\", got {}", tool.path("type"),
                          quote(type, 40));
        const Json* function = tool.find("function");
        if (!function) throw refusal(tool.path("function"), "expected a field {}", tool.path("function"));
        Fields g(*function, tool.path("function"));
        const std::string name = g.text("name", 64).value_or("");
        if (name.empty() || !std::ranges::all_of(name, [](unsigned char c) {
                return std::isalnum(c) || c == '_' || c == '-' || c == '.';
            }))
            throw refusal(g.path("name"), "expected {} to be 1 to 64 letters, digits, _, - or ., got {}",
                          g.path("name"), quote(name, 70));
        g.text("description", any_size);
        if (const Json* parameters = g.find("parameters"); parameters && !parameters->is_object())
            throw refusal(g.path("parameters"), "expected {} to be an object, got {}", g.path("parameters"),
                          shown(*parameters));
        g.only("strict", false, no_grammar);
        g.refuse_unknown();
        tool.refuse_unknown();
        r.tool_names.push_back(name);
    }
    if (choice == "none" || tools->empty()) return;
    r.has_tools = true;
    r.conversation["tools"] = *tools;
}

void read_stop(Fields& f, const RequestLimits& limits, CompletionRequest& r) {
    if (const Json* stop = f.find("stop")) {
        const Json list = stop->is_array() ? *stop : Json::array({*stop});
        if (static_cast<int64_t>(list.size()) > limits.stop_texts)
            throw refusal("stop", "expected at most {} stop texts, got {}", limits.stop_texts, list.size());
        for (const Json& s : list) {
            if (!s.is_string() || s.get_ref<const std::string&>().empty() ||
                s.get_ref<const std::string&>().size() > limits.stop_bytes)
                throw refusal("stop", "expected stop texts of 1 to {} bytes, got {}", limits.stop_bytes, shown(s));
            r.stop.push_back(s.get<std::string>());
        }
    }
    if (const Json* ids = f.find("stop_token_ids")) {
        if (!ids->is_array() || ids->size() > 64)
            throw refusal("stop_token_ids", "expected stop_token_ids to be a list of at most 64, got {}", shown(*ids));
        for (const Json& id : *ids) {
            if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
                throw refusal("stop_token_ids", "expected token ids, got {}", shown(id));
            r.stop_ids.push_back(id.get<int32_t>());
        }
    }
}

void read_bias(Fields& f, const RequestLimits& limits, CompletionRequest& r) {
    const Json* bias = f.find("logit_bias");
    if (!bias) return;
    if (!bias->is_object() || static_cast<int64_t>(bias->size()) > limits.biases)
        throw refusal("logit_bias", "expected logit_bias to be an object of at most {} token ids, got {}",
                      limits.biases, shown(*bias));
    for (const auto& [key, value] : bias->items()) {
        const bool digits =
            !key.empty() && key.size() <= 9 && std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
        if (!digits) throw refusal("logit_bias", "expected token ids as keys of logit_bias, got {}", quote(key, 40));
        const double x = value.is_number() ? value.get<double>() : 1e9;
        if (!(x >= -100 && x <= 100))
            throw refusal("logit_bias", "expected values of -100 to 100 in logit_bias, got {}", shown(value));
        r.sample.logit_bias.emplace_back(std::stoi(key), static_cast<float>(x));
    }
}

// What both kinds of request have.
void read_common(Fields& f, const RequestLimits& limits, CompletionRequest& r) {
    r.model = f.text("model", 256).value_or("");
    r.n = f.integer("n", 1, limits.choices).value_or(1);
    const auto max_tokens = f.integer("max_tokens", 1, INT32_MAX);
    const auto max_completion = r.chat ? f.integer("max_completion_tokens", 1, INT32_MAX) : std::nullopt;
    r.max_tokens = std::min(max_tokens.value_or(INT32_MAX), max_completion.value_or(INT32_MAX));
    if (!max_tokens && !max_completion) r.max_tokens = r.chat ? 0 : 16;  // the API's own defaults
    if (limits.max_tokens > 0)
        r.max_tokens = r.max_tokens == 0 ? limits.max_tokens : std::min(r.max_tokens, limits.max_tokens);
    SampleOptions& s = r.sample;
    s.temperature = f.number("temperature", 0, 2).value_or(1);
    s.top_p = f.number("top_p", 0, 1).value_or(1);
    s.top_k = std::max<int64_t>(0, f.integer("top_k", -1, INT32_MAX).value_or(0));
    s.min_p = f.number("min_p", 0, 1).value_or(0);
    s.presence_penalty = f.number("presence_penalty", -2, 2).value_or(0);
    s.frequency_penalty = f.number("frequency_penalty", -2, 2).value_or(0);
    for (const char* name : {"repetition_penalty", "repeat_penalty"})
        if (const auto x = f.number(name, 0.01, 100)) s.repeat_penalty = *x;
    if (const auto seed = f.integer("seed", INT64_MIN, INT64_MAX)) r.seed = static_cast<uint64_t>(*seed);
    read_stop(f, limits, r);
    read_bias(f, limits, r);
    r.ignore_eos = f.boolean("ignore_eos").value_or(false);
    r.stream = f.boolean("stream").value_or(false);
    if (const Json* options = f.find("stream_options")) {
        if (!r.stream) throw refusal("stream_options", "stream_options: expected only with \"stream\": true");
        Fields o(*options, "stream_options");
        r.include_usage = o.boolean("include_usage").value_or(false);
        o.boolean("include_obfuscation");
        o.refuse_unknown();
    }
    if (const Json* format = f.find("response_format")) {
        Fields o(*format, "response_format");
        o.only("type", "text", no_grammar);
    }
    for (const char* name : {"grammar", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "json_schema",
                             "structured_outputs"})
        f.refuse(name, no_grammar);
    for (const char* name : {"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier", "store"})
        f.ignore(name);  // they change what a provider keeps or bills, not the answer
}

}  // namespace

Json parse_body(std::string_view body) {
    try {
        return parse_json(body, "the body");
    } catch (const Error& e) {
        throw ApiError(400, e.what());
    }
}

Json checked_messages(const Json* messages) {
    if (!messages || !messages->is_array() || messages->empty())
        throw refusal("messages", "expected messages to be a list of at least one message, got {}",
                      messages ? shown(*messages) : "none");
    Json out = Json::array();
    for (size_t i = 0; i < messages->size(); ++i) out.push_back(checked_message((*messages)[i], i));
    try {
        return conversation_from_json(std::move(out), "messages").at("messages");
    } catch (const Error& e) {
        throw ApiError(400, e.what(), "messages");
    }
}

CompletionRequest parse_chat_request(std::string_view body, const RequestLimits& limits) {
    const Json document = parse_body(body);
    CompletionRequest r;
    r.chat = true;
    Fields f(document, "");
    r.conversation = {{"messages", checked_messages(f.find("messages"))}};
    if (const Json* more = f.find("chat_template_kwargs")) {
        if (!more->is_object()) throw refusal("chat_template_kwargs", "expected an object, got {}", shown(*more));
        for (const auto& [key, value] : more->items())
            if (key != "messages" && key != "tools") r.conversation[key] = value;
    }
    read_tools(f, limits, r);
    read_common(f, limits, r);
    r.logprobs = f.boolean("logprobs").value_or(false);
    const auto top = f.integer("top_logprobs", 0, limits.top_logprobs);
    if (top && !r.logprobs) throw refusal("top_logprobs", "top_logprobs: expected only with \"logprobs\": true");
    r.top_logprobs = top.value_or(0);
    f.only("modalities", Json::array({"text"}), "this server writes text only");
    for (const char* name : {"functions", "function_call"}) f.refuse(name, "an old name: use tools and tool_choice");
    for (const char* name : {"audio", "prediction", "web_search_options", "reasoning_effort", "verbosity"})
        f.refuse(name, "not known to this server; leave it out");
    f.refuse_unknown();
    return r;
}

CompletionRequest parse_text_request(std::string_view body, const RequestLimits& limits) {
    const Json document = parse_body(body);
    CompletionRequest r;
    Fields f(document, "");
    const Json* prompt = f.find("prompt");
    if (!prompt) throw refusal("prompt", "expected a field 'prompt': a text, a list of token ids, or a list of either");
    const auto ids = [&](const Json& list) {
        std::vector<int32_t> out;
        for (const Json& id : list) {
            if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
                throw refusal("prompt", "expected token ids in the prompt, got {}", shown(id));
            out.push_back(id.get<int32_t>());
        }
        return out;
    };
    if (prompt->is_string())
        r.prompts.emplace_back(prompt->get<std::string>());
    else if (!prompt->is_array() || prompt->empty())
        throw refusal("prompt", "expected prompt to be a text, a list of token ids, or a list of either, got {}",
                      shown(*prompt));
    else if ((*prompt)[0].is_number())
        r.prompts.emplace_back(ids(*prompt));
    else
        for (const Json& p : *prompt) {
            if (p.is_string())
                r.prompts.emplace_back(p.get<std::string>());
            else if (p.is_array())
                r.prompts.emplace_back(ids(p));
            else
                throw refusal("prompt", "expected texts or lists of token ids in prompt, got {}", shown(p));
        }
    read_common(f, limits, r);
    if (static_cast<int64_t>(r.prompts.size()) * r.n > limits.all_choices)
        throw refusal("prompt", "expected at most {} answers in one request, got {} prompts x n = {}",
                      limits.all_choices, r.prompts.size(), r.n);
    if (const auto top = f.integer("logprobs", 0, limits.top_logprobs)) {
        r.logprobs = true;
        r.top_logprobs = *top;
    }
    f.only("echo", false, "this server does not repeat the prompt; leave it out");
    f.only("suffix", nullptr, "this server cannot fill in between two texts");
    f.only("best_of", r.n, "this server gives all of n answers and chooses none; leave it out");
    f.refuse_unknown();
    return r;
}

}  // namespace busbar
