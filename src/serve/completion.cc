#include "serve/completion.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "serve/request/api_error.h"

namespace busbar {

std::string wire(const Json& document) {
    return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

namespace {

std::string event(const Json& document) {
    return "data: " + wire(document) + "\n\n";
}

Json call_json(const ToolCall& call, const std::string& request, size_t choice, size_t index, bool chunk) {
    Json out = Json::object();
    if (chunk) out["index"] = index;
    out["id"] = fmt::format("call_{}_{}_{}", request.substr(request.find('-') + 1), choice, index);
    out["type"] = "function";
    out["function"] = {{"name", call.name}, {"arguments", call.arguments}};
    return out;
}

// A token's bytes as text; those of half a character as the API spells them, so that no two look alike.
std::string label(const std::string& bytes) {
    if (utf8_valid(bytes)) return bytes;
    std::string out = "bytes:";
    for (const unsigned char c : bytes) out += fmt::format("\\x{:02x}", c);
    return out;
}

Json byte_list(const std::string& bytes) {
    Json out = Json::array();
    for (const unsigned char c : bytes) out.push_back(c);
    return out;
}

}  // namespace

Completion::Completion(CompletionRequest request, Shape shape, const Tokenizer& tokenizer,
                       std::shared_ptr<HttpReply> reply, std::function<void(const Outcome&)> done)
    : request_(std::move(request)),
      shape_(std::move(shape)),
      tokenizer_(tokenizer),
      reply_(std::move(reply)),
      done_(std::move(done)) {}

void Completion::add(const std::shared_ptr<Job>& job, bool new_prompt) {
    const size_t index = choices_.size();
    choices_.push_back({StreamDecoder(tokenizer_),
                        StopFilter(request_.stop),
                        ToolParser(shape_.tools, request_.tool_names),
                        "",
                        {},
                        0,
                        Json::array(),
                        0,
                        ""});
    if (new_prompt) outcome_.prompt_tokens += static_cast<int64_t>(job->request.prompt.size());
    job->on_token = [self = shared_from_this(), index](int32_t id, const std::vector<TokenScore>& best) {
        return self->token(index, id, best);
    };
    job->on_moved = [self = shared_from_this()] { self->moved(); };
    job->on_end = [self = shared_from_this(), index](Finish finish, const std::string& error) {
        self->ended(index, finish, error);
    };
    jobs_.push_back(job);
}

void Completion::begin_when(const std::function<void()>& submit) {
    const std::scoped_lock lock(mutex_);
    try {
        submit();
    } catch (...) {
        withdraw();
        throw;
    }
    begin();
}

void Completion::begin() {
    if (!request_.stream) return;
    reply_->begin_stream({{"X-Request-Id", shape_.id}, {"X-Busbar-Failover", shape_.failover}});
    if (!request_.chat) return;
    for (size_t i = 0; i < choices_.size(); ++i) {
        Json chunk = frame(true);
        chunk["choices"] = Json::array({{{"index", i},
                                         {"delta", {{"role", "assistant"}, {"content", ""}}},
                                         {"logprobs", nullptr},
                                         {"finish_reason", nullptr}}});
        reply_->write(event(chunk));
    }
}

Json Completion::frame(bool chunk) const {
    Json out = {{"id", shape_.id},
                {"object", !request_.chat ? "text_completion"
                           : chunk        ? "chat.completion.chunk"
                                          : "chat.completion"},
                {"created", shape_.created},
                {"model", shape_.model},
                {"system_fingerprint", shape_.fingerprint}};
    if (chunk && request_.include_usage) out["usage"] = nullptr;
    return out;
}

Json Completion::score(Choice& c, int32_t id, const std::vector<TokenScore>& best) const {
    const auto chosen = std::ranges::find(best, id, &TokenScore::id);
    const double logprob = chosen == best.end() ? -9999 : std::max(-9999.0, chosen->logprob);
    const size_t top = std::min(best.size(), static_cast<size_t>(request_.top_logprobs));
    const auto entry = [&](int32_t token, double value) {
        const std::string bytes = bytes_of(token);
        return Json{{"token", label(bytes)}, {"logprob", std::max(-9999.0, value)}, {"bytes", byte_list(bytes)}};
    };
    if (request_.chat) {
        Json out = entry(id, logprob);
        out["top_logprobs"] = Json::array();
        for (size_t i = 0; i < top; ++i) out["top_logprobs"].push_back(entry(best[i].id, best[i].logprob));
        return out;
    }
    Json tops = Json::object();
    for (size_t i = 0; i < top; ++i) tops.emplace(label(bytes_of(best[i].id)), std::max(-9999.0, best[i].logprob));
    const std::string bytes = bytes_of(id);
    Json out = {{"token", label(bytes)}, {"logprob", logprob}, {"top", tops}, {"offset", c.text_offset}};
    c.text_offset += static_cast<int64_t>(bytes.size());
    return out;
}

Json Completion::logprobs_json(const Choice& c) const {
    if (!request_.logprobs) return nullptr;
    if (request_.chat) return {{"content", c.logprobs}, {"refusal", nullptr}};
    Json out = {{"text_offset", Json::array()},
                {"token_logprobs", Json::array()},
                {"tokens", Json::array()},
                {"top_logprobs", Json::array()}};
    for (const Json& e : c.logprobs) {
        out["text_offset"].push_back(e["offset"]);
        out["token_logprobs"].push_back(e["logprob"]);
        out["tokens"].push_back(e["token"]);
        out["top_logprobs"].push_back(e["top"]);
    }
    return out;
}

void Completion::take(Choice& c, const ToolParser::Out& out) const {
    c.text += out.text;
    for (const ToolCall& call : out.calls)
        if (c.calls.empty() || request_.parallel_tool_calls) c.calls.push_back(call);
}

bool Completion::token(size_t index, int32_t id, const std::vector<TokenScore>& best) {
    const std::scoped_lock lock(mutex_);
    Choice& c = choices_[index];
    ++outcome_.completion_tokens;
    if (request_.logprobs) c.logprobs.push_back(score(c, id, best));
    take(c, c.tools.add(c.stop.add(c.decoder.add(id))));
    if (request_.stream) send_chunk(index, false);
    const bool one_call_is_enough = !request_.parallel_tool_calls && !c.calls.empty();
    return !c.stop.stopped() && !one_call_is_enough;
}

// A comment, which clients pass over: for people and tests who look at what a pause was.
void Completion::moved() {
    const std::scoped_lock lock(mutex_);
    if (request_.stream) reply_->write(": moved\n\n");
}

void Completion::ended(size_t index, Finish finish, const std::string& error) {
    const std::scoped_lock lock(mutex_);
    Choice& c = choices_[index];
    if (!c.stop.stopped()) take(c, c.tools.add(c.stop.add(c.decoder.finish())));
    take(c, c.tools.add(c.stop.finish()));
    take(c, c.tools.finish());
    c.finish = finish == Finish::length ? "length" : !c.calls.empty() ? "tool_calls" : "stop";
    if (finish == Finish::interrupted || finish == Finish::none) c.finish = error.empty() ? "cancelled" : "error";
    if (error_.empty()) error_ = error;
    if (request_.stream && !outcome_.client_gone && error.empty()) send_chunk(index, true);
    outcome_.finishes.push_back(c.finish);
    if (++ended_ == choices_.size()) all_ended();
}

void Completion::send_chunk(size_t index, bool last) {
    Choice& c = choices_[index];
    const bool something = !c.text.empty() || !c.logprobs.empty() || c.calls_sent < c.calls.size();
    Json chunk = frame(true);
    const auto send = [&](Json choice) {
        chunk["choices"] = Json::array({std::move(choice)});
        reply_->write(event(chunk));
    };
    if (something) {
        Json choice = {{"index", index}};
        if (request_.chat) {
            Json delta = Json::object();
            if (!c.text.empty() || c.calls_sent == c.calls.size()) delta["content"] = c.text;
            for (; c.calls_sent < c.calls.size(); ++c.calls_sent)
                delta["tool_calls"].push_back(call_json(c.calls[c.calls_sent], shape_.id, index, c.calls_sent, true));
            choice["delta"] = delta;
        } else {
            choice["text"] = c.text;
        }
        choice["logprobs"] = logprobs_json(c);
        choice["finish_reason"] = nullptr;
        c.text.clear();
        c.logprobs = Json::array();
        send(std::move(choice));
    }
    if (!last) return;
    Json choice = {{"index", index}};
    if (request_.chat)
        choice["delta"] = Json::object();
    else
        choice["text"] = "";
    choice["logprobs"] = nullptr;
    choice["finish_reason"] = c.finish;
    send(std::move(choice));
}

Json Completion::message(const Choice& c) const {
    Json out = {{"role", "assistant"}, {"content", c.text}, {"refusal", nullptr}};
    if (c.calls.empty()) return out;
    if (c.text.empty()) out["content"] = nullptr;
    const size_t index = &c - choices_.data();
    for (size_t i = 0; i < c.calls.size(); ++i)
        out["tool_calls"].push_back(call_json(c.calls[i], shape_.id, index, i, false));
    return out;
}

Json Completion::usage() const {
    return {{"prompt_tokens", outcome_.prompt_tokens},
            {"completion_tokens", outcome_.completion_tokens},
            {"total_tokens", outcome_.prompt_tokens + outcome_.completion_tokens},
            {"prompt_tokens_details", {{"cached_tokens", outcome_.cached_tokens}}}};
}

void Completion::all_ended() {
    // Of the answers to one prompt the first says what was found; its siblings found all of it, of course.
    for (size_t i = 0; i < jobs_.size(); i += request_.n) outcome_.cached_tokens += jobs_[i]->cached;
    if (outcome_.client_gone) outcome_.status = 499;
    if (!error_.empty() && !outcome_.client_gone) {
        ApiError e(503, error_);
        e.retry_after = 1;
        outcome_.status = 503;
        if (request_.stream) {
            reply_->write(event(e.body()));
            reply_->end_stream();
        } else {
            reply_->send(503, "application/json", wire(e.body()), {{"Retry-After", "1"}});
        }
    } else if (request_.stream) {
        if (request_.include_usage) {
            Json chunk = frame(true);
            chunk["choices"] = Json::array();
            chunk["usage"] = usage();
            reply_->write(event(chunk));
        }
        reply_->write("data: [DONE]\n\n");
        reply_->end_stream();
    } else {
        Json out = frame(false);
        out["choices"] = Json::array();
        for (const Choice& c : choices_) {
            Json choice = {{"index", &c - choices_.data()}};
            if (request_.chat)
                choice["message"] = message(c);
            else
                choice["text"] = c.text;
            choice["logprobs"] = logprobs_json(c);
            choice["finish_reason"] = c.finish;
            out["choices"].push_back(std::move(choice));
        }
        out["usage"] = usage();
        reply_->send(200, "application/json", wire(out),
                     {{"X-Request-Id", shape_.id}, {"X-Busbar-Failover", shape_.failover}});
    }
    done_(outcome_);
    reply_.reset();
    jobs_.clear();
}

void Completion::withdraw() {
    for (const auto& job : jobs_) {
        job->on_token = nullptr;  // they hold this
        job->on_end = nullptr;
        job->on_moved = nullptr;
    }
    jobs_.clear();
    reply_.reset();
    done_ = nullptr;
}

std::vector<std::shared_ptr<Job>> Completion::stop(const std::string& error) {
    const std::scoped_lock lock(mutex_);
    if (error.empty())
        outcome_.client_gone = true;
    else if (error_.empty())
        error_ = error;
    return jobs_;
}

}  // namespace busbar
