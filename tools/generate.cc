#include "generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "flags.h"
#include "llm/engine/stop_text.h"
#include "progress.h"

namespace busbar {

void add_generate(CLI::App& app, GenerateOptions& o) {
    constexpr double no_limit = std::numeric_limits<double>::infinity();
    app.add_option("-n,--max-tokens", o.max_tokens, "most tokens to generate; 0 = to the end of the context")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(0, INT64_MAX));
    app.add_option("--temperature", o.sample.temperature, "0 = greedy: always the best token")
        ->type_name("T")
        ->capture_default_str()
        ->check(number(0, no_limit));
    app.add_option("--top-k", o.sample.top_k, "keep the K best tokens; 0 = all")
        ->type_name("K")
        ->capture_default_str()
        ->check(whole_number(0, INT64_MAX));
    app.add_option("--top-p", o.sample.top_p, "keep the best tokens that hold this share of probability")
        ->type_name("P")
        ->capture_default_str()
        ->check(number(0, 1, true));
    app.add_option("--min-p", o.sample.min_p, "keep tokens with this share of the best one's probability")
        ->type_name("P")
        ->capture_default_str()
        ->check(number(0, 1));
    app.add_option("--repeat-penalty", o.sample.repeat_penalty, "divides the logits of the last 64 tokens; 1 = none")
        ->type_name("X")
        ->capture_default_str()
        ->check(number(0, no_limit, true));
    app.add_option("--seed", o.sample.seed, "same seed, same tokens, on any number of threads")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(0, INT64_MAX));
    app.add_option("--stop", o.stop, "ends the answer before this text (repeatable)")
        ->type_name("TEXT")
        ->allow_extra_args(false)
        ->check(some_text());
    app.add_option("--logprobs", o.logprobs, "report the K best tokens at each position; 0 = none")
        ->type_name("K")
        ->capture_default_str()
        ->check(whole_number(0, 1000));
    app.add_option("--speculate", o.speculate, "guess next tokens and verify them: auto (where it pays), on, off")
        ->type_name("WORD")
        ->capture_default_str()
        ->check(one_of({"auto", "on", "off"}));
}

static void run_request(Engine& engine, int number, const Answer& answer, size_t prompt) {
    {
        Progress progress("prompt", "tokens");
        while (engine.finish_of(number) == Finish::none && answer.tokens.empty() && !interrupted()) {
            progress.update(static_cast<double>(engine.computed_of(number)), static_cast<double>(prompt));
            engine.step();
        }
    }
    while (engine.finish_of(number) == Finish::none && !interrupted()) engine.step();
}

Answer generate(Session& session, const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                std::optional<Cache::Sequence> past, const GenerateOptions& o, void (*sink)(std::string_view)) {
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
    for (int64_t id : session.model().end_ids) request.end_ids.push_back(static_cast<int32_t>(id));
    request.logprobs = o.logprobs;
    request.on_token = [&](int32_t token, const std::vector<TokenScore>& best) {
        if (answer.tokens.empty()) first_token = seconds_since_start();
        answer.tokens.push_back(token);
        if (o.logprobs > 0) answer.logprobs.push_back(best);
        emit(filter.add(decoder.add(token)));
        return !filter.stopped();
    };
    const SpeculationCounts before = session.engine().drafts();
    const double begin = seconds_since_start();
    int number = session.engine().add(request, std::move(past));
    while (true) {
        try {
            run_request(session.engine(), number, answer, ids.size());
            break;
        } catch (const ChipLost& lost) {
            if (!session.go_on_without(lost)) throw;
            request.resume = answer.tokens;
            number = session.engine().add(request);
        }
    }
    Engine& engine = session.engine();
    answer.finish = engine.finish_of(number) == Finish::none ? Finish::interrupted : engine.finish_of(number);
    if (!filter.stopped()) emit(filter.add(decoder.finish()));
    emit(filter.finish());
    const double end = seconds_since_start();
    answer.first_token = first_token;
    answer.prefill_seconds = (answer.tokens.empty() ? end : first_token) - begin;
    answer.decode_seconds = answer.tokens.empty() ? 0 : end - first_token;
    answer.speculate = o.speculate;
    answer.why_no_drafts = engine.why_no_drafts();
    answer.drafts = engine.drafts();
    if (engine.drafts().steps >= before.steps) answer.drafts -= before;  // else a chip was lost: another engine
    answer.past = engine.take_past(number);
    return answer;
}

Json answer_json(const Answer& a, const std::vector<int32_t>& prompt, const OpenModel& m) {
    Json out = {{"prompt_tokens", prompt},
                {"tokens", a.tokens},
                {"text", a.text},
                {"finish", name_of(a.finish)},
                {"placement", placement_json(*m.loaded)},
                {"timing",
                 {{"load_s", m.load_seconds},
                  {"prefill_s", a.prefill_seconds},
                  {"decode_s", a.decode_seconds},
                  {"first_token_s", a.first_token}}},
                {"speculation",
                 {{"mode", a.speculate},
                  {"off_because", a.why_no_drafts},
                  {"steps", a.drafts.steps},
                  {"drafted", a.drafts.drafted},
                  {"accepted", a.drafts.accepted}}},
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

static std::string draft_words(const SpeculationCounts& c) {
    if (c.drafted == 0) return "";
    return fmt::format("; {} of {} drafts right ({:.0f} %)", c.accepted, c.drafted,
                       100 * static_cast<double>(c.accepted) / static_cast<double>(c.drafted));
}

static std::string copied_words(const CopyUse& c) {
    if (c.copies == 0) return "";
    return fmt::format("; {} copies between chips, {:.1f} MB, {:.1f} ms", with_commas(c.copies),
                       static_cast<double>(c.bytes) / 1e6, 1e3 * c.seconds);
}

std::string speed_line(const Answer& a, size_t prompt_tokens, const LoadedModel& model) {
    const auto rate = [](double n, double s) { return s > 0 ? fmt::format("{:.1f}", n / s) : std::string("-"); };
    return fmt::format("prompt {} tokens, {} tok/s; answer {} tokens, {} tok/s; memory {} MB planned, {} MB peak",
                       prompt_tokens, rate(static_cast<double>(prompt_tokens), a.prefill_seconds), a.tokens.size(),
                       rate(static_cast<double>(a.tokens.size()) - 1, a.decode_seconds),
                       (model.memory().total() + 500000) / 1000000, (peak_resident_bytes() + 500000) / 1000000) +
           draft_words(a.drafts) + copied_words(model.copied());
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
