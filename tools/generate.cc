#include "generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace busbar {

namespace {

// Holds back text that may be the beginning of a stop text, so that no part of one is ever printed.
class StopFilter {
  public:
    StopFilter(const std::vector<std::string>& stops) : stops_(stops) {}

    // Text that may go out now. Sets stopped() when a stop text has appeared; what follows it is dropped.
    std::string add(const std::string& text) {
        held_ += text;
        size_t first = std::string::npos;
        for (const std::string& s : stops_) first = std::min(first, held_.find(s));
        if (first != std::string::npos) {
            stopped_ = true;
            return take(first);
        }
        size_t keep = 0;
        for (const std::string& s : stops_)
            for (size_t n = std::min(s.size() - 1, held_.size()); n > keep; --n)
                if (held_.compare(held_.size() - n, n, s, 0, n) == 0) keep = n;
        return take(held_.size() - keep);
    }
    std::string finish() { return stopped_ ? "" : take(held_.size()); }
    bool stopped() const { return stopped_; }

  private:
    std::string take(size_t n) {
        std::string out = held_.substr(0, n);
        held_.erase(0, n);
        return out;
    }
    const std::vector<std::string>& stops_;
    std::string held_;
    bool stopped_ = false;
};

}  // namespace

void add_generate(CLI::App& app, GenerateOptions& o) {
    app.add_option("-n,--max-tokens", o.max_tokens, "most tokens to generate; 0 = to the end of the context")
        ->capture_default_str();
    app.add_option("--temperature", o.sample.temperature, "0 = greedy")->capture_default_str();
    app.add_option("--top-k", o.sample.top_k, "keep the k best tokens; 0 = all")->capture_default_str();
    app.add_option("--top-p", o.sample.top_p, "keep the best tokens that hold this share of probability")
        ->capture_default_str();
    app.add_option("--min-p", o.sample.min_p, "keep tokens with this share of the best one's probability")
        ->capture_default_str();
    app.add_option("--repeat-penalty", o.sample.repeat_penalty, "divides the logits of the last 64 tokens")
        ->capture_default_str();
    app.add_option("--seed", o.sample.seed, "same seed, same tokens")->capture_default_str();
    app.add_option("--stop", o.stop, "ends the answer where this text appears (repeatable)");
    app.add_option("--logprobs", o.logprobs, "report the K best tokens at each position")->capture_default_str();
}

void check_generate(const GenerateOptions& o) {
    if (o.max_tokens < 0) throw usage_error("[cli] --max-tokens: expected 0 or more, got {}", o.max_tokens);
    if (!(o.sample.temperature >= 0) || !std::isfinite(o.sample.temperature))
        throw usage_error("[cli] --temperature: expected 0 or more, got {}", o.sample.temperature);
    if (o.sample.top_k < 0) throw usage_error("[cli] --top-k: expected 0 or more, got {}", o.sample.top_k);
    if (!(o.sample.top_p > 0 && o.sample.top_p <= 1))
        throw usage_error("[cli] --top-p: expected more than 0, at most 1, got {}", o.sample.top_p);
    if (!(o.sample.min_p >= 0 && o.sample.min_p <= 1))
        throw usage_error("[cli] --min-p: expected 0 to 1, got {}", o.sample.min_p);
    if (!(o.sample.repeat_penalty > 0) || !std::isfinite(o.sample.repeat_penalty))
        throw usage_error("[cli] --repeat-penalty: expected more than 0, got {}", o.sample.repeat_penalty);
    if (o.logprobs < 0 || o.logprobs > 1000)
        throw usage_error("[cli] --logprobs: expected 0 to 1000, got {}", o.logprobs);
    for (const std::string& s : o.stop)
        if (s.empty()) throw usage_error("[cli] --stop: expected some text, got none");
}

Answer generate(Engine& engine, const Tokenizer& tokenizer, const std::vector<int64_t>& more_end_ids,
                const std::vector<int32_t>& ids, std::optional<Cache::Sequence> past, const GenerateOptions& o,
                void (*sink)(std::string_view)) {
    Answer answer;
    StreamDecoder decoder(tokenizer);
    StopFilter filter(o.stop);
    double first_token = 0;
    const auto emit = [&](const std::string& text) {
        answer.text += text;
        if (sink && !text.empty()) sink(text);
    };
    Request request;
    request.prompt = ids;
    request.max_tokens = o.max_tokens;
    request.sample = o.sample;
    request.vocabulary = tokenizer.size();
    request.end_ids = tokenizer.end_ids();
    for (int64_t id : more_end_ids) request.end_ids.push_back(static_cast<int32_t>(id));
    request.logprobs = o.logprobs;
    request.on_token = [&](int32_t token, const std::vector<TokenScore>& best) {
        if (answer.tokens.empty()) first_token = seconds_since_start();
        answer.tokens.push_back(token);
        if (o.logprobs > 0) answer.logprobs.push_back(best);
        emit(filter.add(decoder.add(token)));
        return !filter.stopped();
    };
    const double begin = seconds_since_start();
    const int number = engine.add(std::move(request), std::move(past));
    while (engine.finish_of(number) == Finish::none && !interrupted()) engine.step();
    answer.finish = engine.finish_of(number) == Finish::none ? Finish::interrupted : engine.finish_of(number);
    if (!filter.stopped()) emit(filter.add(decoder.finish()));
    emit(filter.finish());
    const double end = seconds_since_start();
    answer.prefill_seconds = (answer.tokens.empty() ? end : first_token) - begin;
    answer.decode_seconds = answer.tokens.empty() ? 0 : end - first_token;
    answer.past = engine.take_past(number);
    return answer;
}

Json answer_json(const Answer& a, const std::vector<int32_t>& prompt, const OpenModel& m) {
    Json out = {
        {"prompt_tokens", prompt},
        {"tokens", a.tokens},
        {"text", a.text},
        {"finish", name_of(a.finish)},
        {"placement", placement_json(*m.loaded)},
        {"timing", {{"load_s", m.load_seconds}, {"prefill_s", a.prefill_seconds}, {"decode_s", a.decode_seconds}}},
        {"memory", memory_json(*m.loaded)}};
    if (!a.logprobs.empty()) {
        out["logprobs"] = Json::array();
        for (const auto& best : a.logprobs) {
            Json row = Json::array();
            for (const TokenScore& s : best) row.push_back({{"id", s.id}, {"logprob", s.logprob}});
            out["logprobs"].push_back(row);
        }
    }
    return out;
}

std::string speed_line(const Answer& a, size_t prompt_tokens, const LoadedModel& model) {
    const auto rate = [](double n, double s) { return s > 0 ? fmt::format("{:.1f}", n / s) : std::string("-"); };
    return fmt::format("prompt {} tokens, {} tok/s; answer {} tokens, {} tok/s; memory {} MB planned, {} MB peak",
                       prompt_tokens, rate(static_cast<double>(prompt_tokens), a.prefill_seconds), a.tokens.size(),
                       rate(static_cast<double>(a.tokens.size()) - 1, a.decode_seconds),
                       model.memory().total() / 1000000, peak_resident_bytes() / 1000000);
}

void print_logprobs(const Answer& a, const Tokenizer& tokenizer) {
    for (size_t i = 0; i < a.logprobs.size(); ++i) {
        std::string line = fmt::format("{:>4} {:>7} {:<16}", i, a.tokens[i], quote(tokenizer.piece(a.tokens[i]), 14));
        for (const TokenScore& s : a.logprobs[i])
            line += fmt::format("  {} {:.4f}", quote(tokenizer.piece(s.id), 14), s.logprob);
        put(line + "\n");
    }
}

}  // namespace busbar
