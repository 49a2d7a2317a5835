// What each route answers.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/trace.h"
#include "serve/http/http_text.h"
#include "serve/request/fields.h"
#include "serve/server_state.h"

namespace busbar {

namespace {

// What the core says about a request's own text is the client's to read; it names no files there.
template <typename F>
auto from_request(const char* param, F f) {
    try {
        return f();
    } catch (const Error& e) {
        if (e.code() == ErrorCode::bad_input) throw ApiError(400, e.what(), param);
        throw;
    }
}

}  // namespace

void Server::State::health(Call& call) {
    if (is_ready) return answer(call, 200, {{"status", "ok"}});
    ApiError e(503, "the model is loading");
    e.retry_after = 2;
    throw e;
}

// For load balancers: should new work come here?
void Server::State::ready_now(Call& call) {
    if (is_ready && !draining && router->usable()) return answer(call, 200, {{"status", "ready"}});
    ApiError e(503, draining ? "the server is stopping" : is_ready ? "no chip works" : "the model is loading");
    e.retry_after = 1;
    throw e;
}

void Server::State::version(Call& call) {
    answer(call, 200, {{"version", options.version}});
}

// Why a chip may answer: what the gate looked at, of which file, when.
Json Server::State::verdict_of(size_t chip) {
    const std::scoped_lock lock(mutex);
    const Json& v = chips[chip].verdict;
    if (!v.is_object()) return {{"gate", "off"}};
    return {{"gate", "passed"},
            {"date", v.value("date", "")},
            {"model_hash", v.value("model", "")},
            {"outputs_checked", v.value("outputs", int64_t{0})},
            {"steps_checked", v.value("steps", int64_t{0})},
            {"numerics", v.value("numerics", "")},
            {"order", v.value("order", "")}};
}

Json Server::State::model_card() {
    Json on = Json::array(), verdicts = Json::array();
    for (size_t i = 0; i < chips.size(); ++i) {
        on.push_back(chips[i].name);
        verdicts.push_back(verdict_of(i));
        verdicts.back()["chip"] = chips[i].name;
        verdicts.back()["detail"] = chips[i].detail;
    }
    return {{"id", options.model_name}, {"object", "model"}, {"created", started},  {"owned_by", "busbar"},
            {"max_model_len", context}, {"chips", on},       {"verdicts", verdicts}};
}

void Server::State::models(Call& call) {
    answer(call, 200, {{"object", "list"}, {"data", Json::array({model_card()})}});
}

void Server::State::one_model(Call& call) {
    check_model(percent_decoded(std::string_view(call.request.path).substr(std::string_view("/v1/models/").size())));
    answer(call, 200, model_card());
}

void Server::State::check_model(const std::string& name) const {
    if (name.empty() || name == options.model_name) return;
    throw ApiError(404,
                   fmt::format("this server has the model {} only, got {}", quote(options.model_name), quote(name)),
                   "model", "model_not_found");
}

void Server::State::metrics_text(Call& call) {
    ReplicaStatus all;
    double longest = 0, usable = 0;
    std::vector<Metrics::Gauge> verdicts;
    for (size_t i = 0; is_ready && i < chips.size(); ++i) {
        const Json v = verdict_of(i);
        verdicts.push_back({"busbar_gate_outputs",
                            "",
                            "gauge",
                            "outputs that the gate checked before this chip might answer; 0 = it was off",
                            static_cast<double>(v.value("outputs_checked", int64_t{0})),
                            {{"replica", std::to_string(i)},
                             {"chip", chips[i].name},
                             {"gate", v.value("gate", "")},
                             {"model_hash", v.value("model_hash", "")},
                             {"date", v.value("date", "")}}});
    }
    if (is_ready)
        for (const ReplicaStatus& s : router->statuses()) {
            all.running += s.running;
            all.waiting += s.waiting;
            all.pages += s.pages;
            all.free_pages += s.free_pages;
            all.steps += s.steps;
            all.prompt_tokens += s.prompt_tokens;
            all.generated_tokens += s.generated_tokens;
            all.cached_tokens += s.cached_tokens;
            all.tokens_per_second += s.tokens_per_second;
            longest = std::max(longest, s.longest_step);
            usable += s.usable;
            all.probe.steps += s.probe.steps;
            all.probe.products += s.probe.products;
            all.probe.outputs += s.probe.outputs;
            all.probe.seconds += s.probe.seconds;
            all.probe.weights += s.probe.weights;
            all.probe.watched += s.probe.watched;
        }
    const double used = all.pages > 0 ? 1 - static_cast<double>(all.free_pages) / static_cast<double>(all.pages) : 0;
    const auto n = [](auto x) { return static_cast<double>(x); };
    std::vector<Metrics::Gauge> figures = {
        {"busbar_requests_running", "vllm:num_requests_running", "gauge", "answers in the batch", n(all.running)},
        {"busbar_requests_waiting", "vllm:num_requests_waiting", "gauge", "answers that wait", n(all.waiting)},
        {"busbar_cache_use", "vllm:kv_cache_usage_perc", "gauge", "share of the cache's pages in use, 0 to 1", used},
        {"busbar_cache_pages", "", "gauge", "pages of the cache", n(all.pages)},
        {"busbar_cache_pages_free", "", "gauge", "pages that no answer uses", n(all.free_pages)},
        {"busbar_prefix_queried_tokens_total", "vllm:prefix_cache_queries", "counter",
         "prompt tokens looked up among kept pasts", n(all.prompt_tokens)},
        {"busbar_prefix_found_tokens_total", "vllm:prefix_cache_hits", "counter", "prompt tokens found there",
         n(all.cached_tokens)},
        {"busbar_prompt_tokens_total", "vllm:prompt_tokens_total", "counter", "tokens of prompts",
         n(all.prompt_tokens)},
        {"busbar_generated_tokens_total", "vllm:generation_tokens_total", "counter", "tokens generated",
         n(all.generated_tokens)},
        {"busbar_steps_total", "", "counter", "steps of the model", n(all.steps)},
        {"busbar_longest_step_seconds", "", "gauge", "the longest step of the last ten seconds", longest},
        {"busbar_tokens_per_second", "", "gauge", "generated, over two seconds", all.tokens_per_second},
        {"busbar_replicas_usable", "", "gauge", "chips that work", usable},
        {"busbar_replicas_lost_total", "", "counter", "chips that failed, hung or lied",
         is_ready ? n(router->losses()) : 0},
        {"busbar_replicas_reopened_total", "", "counter", "chips that came back through the gate",
         is_ready ? n(router->reopened()) : 0},
        {"busbar_probe_failures_total", "", "counter", "wrong results that the live probe found",
         is_ready ? n(router->lies()) : 0},
        {"busbar_probe_steps_total", "", "counter", "steps that the live probe checked", n(all.probe.steps)},
        {"busbar_probe_products_total", "", "counter", "products that it checked", n(all.probe.products)},
        {"busbar_probe_outputs_total", "", "counter", "outputs that it checked", n(all.probe.outputs)},
        {"busbar_probe_seconds_total", "", "counter", "what it cost", all.probe.seconds},
        {"busbar_probe_weights", "", "gauge", "weights that it can check now", n(all.probe.watched)},
        {"busbar_replicas_hung_total", "", "counter", "chips that were lost because a step did not end",
         is_ready ? n(router->hung()) : 0},
        {"busbar_failover",
         "",
         "gauge",
         "1: what becomes now of an answer whose chip is lost",
         1,
         {{"level", is_ready ? std::string(router->failover_level()) : "none"}}},
        {"busbar_answers_moved_total", "", "counter", "answers that another chip went on with",
         is_ready ? n(router->moves()) : 0},
        {"busbar_connections", "", "gauge", "open connections", n(http->connections())}};
    figures.insert(figures.end(), verdicts.begin(), verdicts.end());
    answer_text(call, 200, "text/plain; version=0.0.4; charset=utf-8", metrics.text(figures, options.model_name));
}

void Server::State::status(Call& call) {
    Json on = Json::array();
    const std::vector<ReplicaStatus> all = is_ready ? router->statuses() : std::vector<ReplicaStatus>{};
    for (size_t i = 0; i < all.size(); ++i) {
        const ReplicaStatus& s = all[i];
        on.push_back({{"name", chips[i].name},
                      {"detail", chips[i].detail},
                      {"verdict", verdict_of(i)},
                      {"usable", s.usable},
                      {"loss", name_of(s.loss)},
                      {"trouble", s.usable ? "" : std::string(name_of(s.loss)) + "; the log says why"},
                      {"running", s.running},
                      {"waiting", s.waiting},
                      {"pages", s.pages},
                      {"free_pages", s.free_pages},
                      {"tokens_per_second", s.tokens_per_second},
                      {"generated_tokens", s.generated_tokens},
                      {"steps", s.steps},
                      {"longest_step", s.longest_step},
                      {"probe",
                       {{"steps", s.probe.steps},
                        {"products", s.probe.products},
                        {"outputs", s.probe.outputs},
                        {"seconds", s.probe.seconds},
                        {"weights", s.probe.weights},
                        {"watched", s.probe.watched}}}});
    }
    answer(call, 200,
           {{"model", options.model_name},
            {"version", options.version},
            {"state", draining   ? "stopping"
                      : is_ready ? "ready"
                                 : "loading"},
            {"connections", http->connections()},
            {"context", is_ready ? context : 0},
            {"has_chat", is_ready && model.chat != nullptr},
            {"failover", is_ready ? router->failover_level() : "none"},
            {"lost", is_ready ? router->losses() : 0},
            {"lies", is_ready ? router->lies() : 0},
            {"moved", is_ready ? router->moves() : 0},
            {"reopened", is_ready ? router->reopened() : 0},
            {"chips", on}});
}

void Server::State::page(Call& call) {
    answer_text(call, 200, "text/html; charset=utf-8", std::string(page_html),
                {{"Content-Security-Policy",
                  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
                  "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}});
}

void Server::State::embeddings(Call&) {
    throw ApiError(400, "this server makes no embeddings: its models are for text");
}

std::vector<TokenId> Server::State::chat_prompt(const Json& conversation) const {
    if (!model.chat) throw ApiError(400, model.no_chat);
    return from_request("messages", [&] { return model.chat->encode(model.chat->render(conversation)); });
}

void Server::State::tokenize(Call& call) {
    const Json body = parse_body(call.request.body);
    Fields f(body, "");
    check_model(f.text("model", 256).value_or(""));
    std::vector<TokenId> ids;
    if (const Json* messages = f.find("messages")) {
        Json conversation = {{"messages", checked_messages(messages)}};
        conversation["add_generation_prompt"] = f.boolean("add_generation_prompt").value_or(true);
        ids = chat_prompt(conversation);
    } else {
        auto text = f.text("prompt", SIZE_MAX);
        if (!text) text = f.text("content", SIZE_MAX);
        if (!text) throw refusal("prompt", "expected a text in 'prompt' (or 'content'), or 'messages'");
        bool special = true;
        for (const char* name : {"add_special_tokens", "add_special"}) special = f.boolean(name).value_or(special);
        ids = from_request("prompt", [&] { return model.tokenizer->encode(*text, special); });
    }
    const bool pieces = f.boolean("return_token_strs").value_or(false);
    f.refuse_unknown();
    Json out = {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", context}};
    if (pieces)
        for (const TokenId id : ids) out["token_strs"].push_back(model.tokenizer->piece(id));
    answer(call, 200, out);
}

void Server::State::detokenize(Call& call) {
    const Json body = parse_body(call.request.body);
    Fields f(body, "");
    check_model(f.text("model", 256).value_or(""));
    const Json* tokens = f.find("tokens");
    if (!tokens || !tokens->is_array()) throw refusal("tokens", "expected 'tokens' to be a list of token ids");
    std::vector<TokenId> ids;
    for (const Json& id : *tokens) {
        if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(model.tokenizer->size()))
            throw refusal("tokens", "expected token ids below {}, got {}", model.tokenizer->size(), shown(id));
        ids.push_back(id.get<TokenId>());
    }
    f.refuse_unknown();
    const std::string text = model.tokenizer->decode(ids, true);
    answer(call, 200, {{"prompt", text}, {"content", text}});
}

void Server::State::chat(Call& call) {
    complete(call, parse_chat_request(call.request.body, options.request));
}

void Server::State::text(Call& call) {
    complete(call, parse_text_request(call.request.body, options.request));
}

void Server::State::complete(Call& call, CompletionRequest r) {
    check_model(r.model);
    if (r.has_tools && tool_style == ToolStyle::none)
        throw refusal("tools", "the model's chat template knows no tools; leave them out");
    std::vector<std::vector<TokenId>> prompts;
    if (r.chat) prompts.push_back(chat_prompt(r.conversation));
    for (const auto& p : r.prompts)
        prompts.push_back(
            std::holds_alternative<std::string>(p)
                ? from_request("prompt", [&] { return model.tokenizer->encode(std::get<std::string>(p), true); })
                : std::get<std::vector<int32_t>>(p));
    const int64_t vocabulary = model.tokenizer->size(), most = most_positions;
    for (const auto& p : prompts) {
        const auto n = static_cast<int64_t>(p.size());
        if (n == 0) throw refusal("prompt", "expected at least one token in the prompt, got none");
        for (const TokenId id : p)
            if (id >= vocabulary) throw refusal("prompt", "expected token ids below {}, got {}", vocabulary, id);
        if (n >= most)
            throw ApiError(
                400, fmt::format("the prompt has {} tokens; the context holds {}, and the answer needs room", n, most),
                r.chat ? "messages" : "prompt", "context_length_exceeded");
    }

    std::vector<int32_t> end_ids = r.ignore_eos ? std::vector<int32_t>{} : model.end_ids;
    end_ids.insert(end_ids.end(), r.stop_ids.begin(), r.stop_ids.end());
    if (r.ignore_eos)
        for (const int32_t id : model.end_ids) r.sample.logit_bias.emplace_back(id, -INFINITY);
    const uint64_t seed = r.seed.value_or(random_number());

    const Completion::Shape shape{fmt::format("{}-{}", r.chat ? "chatcmpl" : "cmpl", call.id),
                                  options.model_name,
                                  "busbar-" + options.version,
                                  started + static_cast<int64_t>(seconds_since_start()),
                                  r.has_tools ? tool_style : ToolStyle::none,
                                  std::string(router->failover_level())};
    const uint64_t number = call.request.number;
    Call logged;  // without the body, which may be large
    logged.request.method = call.request.method;
    logged.request.path = call.request.path;
    logged.request.remote = call.request.remote;
    logged.begin = call.begin;
    logged.id = call.id;
    const CompletionRequest& q = r;
    const int64_t n = q.n, max_tokens = q.max_tokens, top = q.top_logprobs;
    const bool logprobs = q.logprobs;
    const SampleOptions sample = q.sample;
    auto jobs_of = std::make_shared<std::vector<std::shared_ptr<Job>>>();
    auto completion = std::make_shared<Completion>(
        std::move(r), shape, *model.tokenizer, call.reply, [this, logged, number, jobs_of](const Outcome& outcome) {
            for (const auto& job : *jobs_of) {
                if (job->first_token == 0) continue;
                const auto tokens = static_cast<double>(job->generated.size());
                metrics.observe(Metrics::first_token, job->first_token - logged.begin);
                metrics.observe(Metrics::queue_time, job->admitted - job->submitted);
                metrics.observe(Metrics::prompt_time, job->first_token - job->admitted);
                metrics.observe(Metrics::decode_time, job->last_token - job->first_token);
                metrics.observe(Metrics::whole_request, job->last_token - logged.begin);
                if (tokens > 1)
                    metrics.observe(Metrics::between_tokens, (job->last_token - job->first_token) / (tokens - 1),
                                    static_cast<uint64_t>(tokens) - 1);
            }
            jobs_of->clear();
            for (const std::string& finish : outcome.finishes) metrics.finished(finish);
            log_call(logged, outcome.status, &outcome);
            const std::scoped_lock lock(mutex);
            live.erase(number);
        });
    for (const auto& prompt : prompts) {
        std::shared_ptr<Job> first;
        for (int64_t k = 0; k < n; ++k) {
            auto job = std::make_shared<Job>();
            Request& e = job->request;
            e.prompt = prompt;
            const int64_t room = most - static_cast<int64_t>(prompt.size());
            e.max_tokens = max_tokens == 0 ? room : std::min(max_tokens, room);
            e.sample = sample;
            e.sample.seed = seed + 0x9e3779b97f4a7c15ull * jobs_of->size();
            e.vocabulary = vocabulary;
            e.end_ids = end_ids;
            e.logprobs = logprobs ? top : 0;
            e.with_chosen = logprobs;
            e.space = call.tenant;
            job->sibling = first;
            if (!first) first = job;
            completion->add(job, k == 0);
            jobs_of->push_back(job);
        }
    }
    {
        const std::scoped_lock lock(mutex);
        live.emplace(number, completion);
    }
    const std::weak_ptr<Completion> weak = completion;
    completion->begin_when([&] {
        const Router::Verdict verdict = router->submit(*jobs_of);
        if (verdict == Router::Verdict::accepted) return;
        {
            const std::scoped_lock lock(mutex);
            live.erase(number);
        }
        ApiError e = verdict == Router::Verdict::full ? ApiError(429, "too many requests wait; ask again")
                                                      : ApiError(503, "no chip works");
        e.retry_after = verdict == Router::Verdict::full ? 2 : 5;
        throw e;
    });
    call.reply->on_gone([this, weak] {
        const auto c = weak.lock();
        if (!c) return;
        for (const auto& job : c->stop("")) router->cancel(*job);
    });
}

}  // namespace busbar
