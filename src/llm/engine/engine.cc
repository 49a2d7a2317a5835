#include "llm/engine/engine.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "base/trace.h"

namespace busbar {

struct Engine::Active {
    Request request;
    Cache::Sequence past;
    std::vector<int32_t> tokens;  ///< prompt, then what was chosen
    size_t prompt_length = 0;
    std::vector<int32_t> generated;
    Sampler sampler;
    Finish finish = Finish::none;
    int64_t rows = 0;        ///< in this step
    int64_t logit_row = -1;  ///< its entry of the record's logit_rows, -1 while the prompt goes on

    Active(Request r, int64_t vocabulary)
        : request(std::move(r)),
          tokens(request.prompt),
          prompt_length(tokens.size()),
          sampler(request.sample, vocabulary) {}
};

std::string_view name_of(Finish f) {
    static constexpr std::string_view words[] = {"none", "stop", "length", "interrupted"};
    return words[static_cast<int>(f)];
}

Engine::Engine(LoadedModel& model) : model_(model), cache_(model), record_(model.layout()) {}
Engine::~Engine() = default;

void Engine::check(const Request& request) const {
    if (request.prompt.empty()) throw bad_input("prompt", "[engine] expected at least one token, got an empty prompt");
    for (size_t i = 0; i < request.prompt.size(); ++i)
        if (request.prompt[i] < 0 || request.prompt[i] >= model_.vocabulary())
            throw bad_input("prompt", "[engine] expected token ids below {}, got {} at position {}",
                            model_.vocabulary(), request.prompt[i], i);
    if (static_cast<int64_t>(request.prompt.size()) >= model_.context())
        throw bad_input("prompt",
                        "[engine] the prompt has {} tokens, the context holds {} and the answer needs room: give "
                        "--context {} or a shorter prompt",
                        request.prompt.size(), model_.context(), round_up(request.prompt.size() + 256, page_positions));
}

int Engine::add(Request request, std::optional<Cache::Sequence> past) {
    try {
        check(request);
    } catch (...) {
        if (past) cache_.release(*past);  // what was handed over is ours to give back
        throw;
    }
    const int64_t vocabulary = request.vocabulary > 0 ? request.vocabulary : model_.vocabulary();
    requests_.push_back(std::make_unique<Active>(std::move(request), vocabulary));
    Active& a = *requests_.back();
    if (past) {
        BUSBAR_CHECK(past->length < static_cast<int64_t>(a.tokens.size()),
                     "the last token of a prompt is always computed");
        a.past = std::move(*past);
    }
    return static_cast<int>(requests_.size()) - 1;
}

// The top of the engine: choose rows, run the plan, hand out tokens.
bool Engine::step() {
    make_record();
    if (in_step_.empty()) return false;
    const int64_t rows = record_.header().rows;
    const Span span(rows > static_cast<int64_t>(in_step_.size()) ? "prefill" : "decode", LogLevel::all, rows);
    model_.step(record_);
    hand_out();
    return true;
}

// Decoding sequences first, one row each, so that a long prompt never keeps them waiting for more than one chunk;
// prompts share the rest.
void Engine::make_record() {
    in_step_.clear();
    const StepLayout& layout = model_.layout();
    int64_t rows = 0, logit_rows = 0;
    const auto take = [&](Active& a, int64_t n) {
        cache_.append(a.past, n);
        const auto sequence = static_cast<int32_t>(in_step_.size());
        cache_.fill(a.past, record_.block_row(sequence));
        for (int64_t i = 0; i < n; ++i, ++rows) {
            const int64_t position = a.past.length - n + i;
            record_.token_ids()[rows] = a.tokens[position];
            record_.positions()[rows] = static_cast<int32_t>(position);
            record_.sequences()[rows] = sequence;
        }
        a.logit_row = -1;
        if (a.past.length == static_cast<int64_t>(a.tokens.size())) {
            record_.logit_rows()[logit_rows] = static_cast<int32_t>(rows - 1);
            a.logit_row = logit_rows++;
        }
        a.rows = n;
        in_step_.push_back(&a);
    };
    for (const bool prompts : {false, true})
        for (const auto& a : requests_) {
            if (!a || a->finish != Finish::none) continue;
            const int64_t left = static_cast<int64_t>(a->tokens.size()) - a->past.length;
            if ((left > 1) != prompts || rows == layout.max_rows ||
                static_cast<int64_t>(in_step_.size()) == layout.max_sequences)
                continue;
            if (logit_rows == layout.max_logit_rows) continue;
            take(*a, std::min(left, layout.max_rows - rows));
        }
    record_.header().rows = static_cast<int32_t>(rows);
    record_.header().logit_rows = static_cast<int32_t>(logit_rows);
    record_.header().sequences = static_cast<int32_t>(in_step_.size());
}

void Engine::hand_out() {
    for (Active* a : in_step_) {
        if (a->logit_row < 0) continue;
        const std::span<const float> logits = model_.logits(a->logit_row);
        const int32_t token = a->sampler.choose(logits, a->tokens, static_cast<int64_t>(a->tokens.size()));
        if (std::ranges::find(a->request.end_ids, token) != a->request.end_ids.end()) {
            a->finish = Finish::stop;
            continue;
        }
        a->tokens.push_back(token);
        a->generated.push_back(token);
        std::vector<TokenScore> best;
        if (a->request.logprobs > 0) best = best_tokens(logits, a->request.logprobs);
        if (a->request.on_token && !a->request.on_token(token, best)) {
            a->finish = Finish::stop;
        } else if (static_cast<int64_t>(a->generated.size()) == a->request.max_tokens ||
                   static_cast<int64_t>(a->tokens.size()) == model_.context()) {
            a->finish = Finish::length;
        }
    }
}

void Engine::finish(int request) {
    while (requests_[request]->finish == Finish::none) BUSBAR_CHECK(step());
}

Finish Engine::finish_of(int request) const {
    return requests_[request]->finish;
}
const std::vector<int32_t>& Engine::tokens_of(int request) const {
    return requests_[request]->generated;
}

int64_t Engine::computed_of(int request) const {
    return requests_[request]->past.length;
}

Cache::Sequence Engine::take_past(int request) {
    Cache::Sequence past = std::move(requests_[request]->past);
    requests_[request].reset();
    return past;
}

void Engine::forget(int request) {
    if (!requests_[request]) return;
    cache_.release(requests_[request]->past);
    requests_[request].reset();
}

}  // namespace busbar
