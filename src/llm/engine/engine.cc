#include "llm/engine/engine.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/trace.h"

namespace busbar {

struct Engine::Active {
    int number;
    Request request;
    Cache::Sequence past;
    std::vector<int32_t> tokens;  ///< prompt, then what was chosen
    std::vector<int32_t> generated;
    Sampler sampler;
    Finish finish = Finish::none;
    bool admitted = false;
    int64_t cached = 0;
    Cache::Published published;
    int64_t logit_row = -1;  ///< its entry of the record's logit_rows, -1 while the prompt goes on

    Active(int n, Request r, int64_t vocabulary)
        : number(n),
          request(std::move(r)),
          tokens(request.prompt),
          generated(request.resume),
          sampler(request.sample, vocabulary, static_cast<int64_t>(request.prompt.size())) {
        tokens.insert(tokens.end(), generated.begin(), generated.end());
    }
    int64_t left() const { return static_cast<int64_t>(tokens.size()) - past.length; }
};

std::string_view name_of(Finish f) {
    static constexpr std::string_view words[] = {"none", "stop", "length", "interrupted"};
    return words[static_cast<int>(f)];
}

Engine::Engine(LoadedModel& model, const EngineOptions& options)
    : model_(model), options_(options), cache_(model), record_(model.layout()) {
    if (options_.speculate == Speculate::off) return;
    why_no_drafts_ = why_not_speculate(model, most_drafts_);
    if (why_no_drafts_.empty())
        speculation_.emplace(options_.speculate);
    else
        detail("no drafts: {}", why_no_drafts_);
}
Engine::~Engine() = default;

void Engine::check(const Request& request) const {
    if (request.prompt.empty()) throw bad_input("prompt", "[engine] expected at least one token, got an empty prompt");
    for (size_t i = 0; i < request.prompt.size(); ++i)
        if (request.prompt[i] < 0 || request.prompt[i] >= model_.vocabulary())
            throw bad_input("prompt", "[engine] expected token ids below {}, got {} at position {}",
                            model_.vocabulary(), request.prompt[i], i);
    for (const int32_t id : request.resume)
        if (id < 0 || id >= model_.vocabulary())
            throw bad_input("prompt", "[engine] expected token ids below {}, got {} to go on from", model_.vocabulary(),
                            id);
    if (static_cast<int64_t>(request.prompt.size() + request.resume.size()) >= model_.context())
        throw bad_input("prompt",
                        "[engine] the prompt has {} tokens, the context holds {} and the answer needs room: give "
                        "--context {} or a shorter prompt",
                        request.prompt.size(), model_.context(), round_up(request.prompt.size() + 256, page_positions));
}

int Engine::add(Request request, std::optional<Cache::Sequence> past) {
    const int64_t vocabulary = request.vocabulary > 0 ? request.vocabulary : model_.vocabulary();
    try {
        check(request);
    } catch (...) {
        if (past) cache_.release(*past);  // what was handed over is ours to give back
        throw;
    }
    auto active = std::make_unique<Active>(next_number_, std::move(request), vocabulary);
    if (past) {
        BUSBAR_CHECK(past->length < static_cast<int64_t>(active->tokens.size()),
                     "the last token of a prompt is always computed");
        active->past = std::move(*past);
    }
    if (pages_of(*active) > model_.cache_pages()) {
        cache_.release(active->past);
        throw does_not_fit(
            "[engine] a prompt of {} tokens and an answer of up to {} need {} pages of {} positions, "
            "the cache has {}: ask for fewer tokens, or give more memory",
            active->request.prompt.size(), active->request.max_tokens, pages_of(*active), page_positions,
            model_.cache_pages());
    }
    // One that was under way elsewhere has had its turn: its client sees every moment that it waits.
    const bool under_way = !active->request.resume.empty();
    const auto at = std::find_if(waiting_.begin(), waiting_.end(),
                                 [&](const Active* w) { return under_way && w->request.resume.empty(); });
    waiting_.insert(at, active.get());
    requests_.emplace(next_number_, std::move(active));
    return next_number_++;
}

// The top of the engine: admit, choose rows, run the plan, hand out tokens.
bool Engine::step() {
    admit_waiting();
    make_record();
    if (in_step_.empty()) {
        if (waiting_.empty()) return false;
        throw does_not_fit(
            "[engine] {} pages of {} positions are needed, {} of {} are free, and nothing runs that "
            "would free more",
            pages_of(*waiting_.front()), page_positions, cache_.free_pages(), model_.cache_pages());
    }
    const int64_t rows = record_.header().rows;
    const double begin = seconds_since_start();
    {
        const bool decodes = rows - drafts_ == static_cast<int64_t>(in_step_.size());
        const Span span(decodes ? "decode" : "prefill", LogLevel::all, rows);
        model_.step(record_, options_.watch ? options_.watch->begin(rows) : nullptr);
    }
    const double seconds = seconds_since_start() - begin;
    if (options_.watch) options_.watch->end(rows, seconds);
    learn(seconds);
    if (drafted_) speculation_->took(rows, seconds);
    hand_out();
    return true;
}

// Pages that a request fills at most.
int64_t Engine::pages_of(const Active& a) const {
    const auto prompt = static_cast<int64_t>(a.request.prompt.size()), context = model_.context();
    const int64_t longest =
        a.request.max_tokens > 0 && a.request.max_tokens < context - prompt ? prompt + a.request.max_tokens : context;
    return ceil_div(longest, page_positions);
}

// Pages that an admitted request may still ask for: the cache must always be able to give all of them to all.
int64_t Engine::pages_promised(const Active& a) const {
    return pages_of(a) - static_cast<int64_t>(a.past.pages.size()) + cache_.shares_tail(a.past);
}

bool Engine::admit(Active& a) {
    const bool own_past = !a.past.pages.empty();
    const auto prompt = static_cast<int64_t>(a.request.prompt.size());
    if (!own_past) {
        const auto sibling = requests_.find(a.request.sibling);
        if (sibling != requests_.end() && sibling->second->past.length >= prompt) {
            a.past = cache_.fork(sibling->second->past);
            cache_.truncate(a.past, prompt - 1);  // its last row is computed again: that gives the logits
        } else if (options_.keep_prefixes) {
            a.past = cache_.match(a.tokens, static_cast<int64_t>(a.tokens.size()) - 1, a.request.space);
        }
        a.cached = std::min(a.past.length, prompt);
    }
    int64_t promised = pages_promised(a);
    for (const Active* other : running_) promised += pages_promised(*other);
    // Counting the kept pages costs more than a look; most of the time the free ones are enough.
    if (promised <= cache_.free_pages() || promised <= cache_.free_pages() + cache_.kept_pages()) return true;
    if (!own_past) cache_.release(a.past);
    return false;
}

// In the order they came: a large request is not overtaken for ever by small ones.
void Engine::admit_waiting() {
    for (auto w = waiting_.begin(); w != waiting_.end();) {
        if (running() == model_.layout().max_sequences) return;
        Active& a = **w;
        if (options_.most_fresh > 0 && running() >= options_.most_fresh && a.request.resume.empty()) return;
        const auto sibling = requests_.find(a.request.sibling);
        if (sibling != requests_.end() && sibling->second->finish == Finish::none &&
            sibling->second->past.length < static_cast<int64_t>(a.request.prompt.size())) {
            ++w;  // soon it costs one row instead of a prompt; others need not wait for that
            continue;
        }
        if (!admit(a)) return;
        a.admitted = true;
        running_.push_back(&a);
        w = waiting_.erase(w);
    }
}

// How many rows of prompts fit a step.
int64_t Engine::prompt_rows(bool decoding) const {
    constexpr int64_t least = 16, unknown = 32;
    const int64_t most = model_.layout().max_rows;
    const double seconds = decoding ? options_.step_seconds : options_.prompt_step_seconds;
    if (seconds <= 0) return most;
    if (row_seconds_ <= 0) return std::min(most, decoding ? unknown : most);
    return std::min(most, std::max(least, static_cast<int64_t>(std::min(1e9, seconds / row_seconds_))));
}

void Engine::learn(double seconds) {
    const StepHeader& header = record_.header();
    if (header.rows - header.sequences < 8)
        return;  // no prompts to speak of: reading the weights is what took the time
    const double now = seconds / static_cast<double>(header.rows);
    row_seconds_ = row_seconds_ <= 0 ? now : 0.7 * row_seconds_ + 0.3 * now;
}

void Engine::take_rows(Active& a, int64_t n) {
    StepHeader& header = record_.header();
    cache_.append(a.past, n);
    const auto sequence = static_cast<int32_t>(in_step_.size());
    cache_.fill(a.past, record_.block_row(sequence));
    for (int64_t i = 0; i < n; ++i, ++header.rows) {
        const int64_t position = a.past.length - n + i;
        const auto known = static_cast<int64_t>(a.tokens.size());
        record_.token_ids()[header.rows] =
            position < known ? a.tokens[position] : speculation_->draft(position - known);
        record_.positions()[header.rows] = static_cast<int32_t>(position);
        record_.sequences()[header.rows] = sequence;
    }
    // Logits after the last known token, and after each draft.
    a.logit_row = a.left() <= 0 ? header.logit_rows : -1;
    for (int64_t i = a.left(); i <= 0; ++i)
        record_.logit_rows()[header.logit_rows++] = static_cast<int32_t>(header.rows - 1 + i);
    in_step_.push_back(&a);
    header.sequences = static_cast<int32_t>(in_step_.size());
}

// The only answer under way: its next row, and drafts of what may follow, as far as it may go on at all.
void Engine::take_with_drafts(Active& a) {
    int64_t most = std::min(most_drafts_, model_.context() - static_cast<int64_t>(a.tokens.size()) - 1);
    if (a.request.max_tokens > 0)
        most = std::min(most, a.request.max_tokens - static_cast<int64_t>(a.generated.size()) - 1);
    drafted_ = true;
    drafts_ = speculation_->propose(a.tokens, most);
    take_rows(a, 1 + drafts_);
}

// Decoding sequences first, one row each, so that a long prompt never keeps them waiting for more than one chunk. Then
// answers that were under way elsewhere, whose clients see the pause. Prompts share the rest, so that a short one is
// not kept waiting by a long one.
void Engine::make_record() {
    in_step_.clear();
    drafts_ = 0;
    drafted_ = false;
    StepHeader& header = record_.header();
    header.rows = header.logit_rows = header.sequences = 0;
    if (speculation_ && running() == 1 && running_[0]->left() == 1) return take_with_drafts(*running_[0]);
    const StepLayout& layout = model_.layout();
    std::vector<Active*> prompts;
    for (Active* a : running_) {
        if (a->left() > 1)
            prompts.push_back(a);
        else if (header.rows < layout.max_rows && header.logit_rows < layout.max_logit_rows)
            take_rows(*a, 1);
    }
    constexpr int64_t least = 16;  // fewer rows at a time would be dear
    int64_t rows = std::min(prompt_rows(!in_step_.empty()), layout.max_rows - header.rows);
    if (!prompts.empty())
        std::rotate(prompts.begin(), prompts.begin() + static_cast<int64_t>(turn_++ % prompts.size()), prompts.end());
    const auto replayed = static_cast<size_t>(
        std::stable_partition(prompts.begin(), prompts.end(), [](const Active* a) { return !a->generated.empty(); }) -
        prompts.begin());
    for (size_t i = 0; i < prompts.size() && rows > 0; ++i) {
        if (header.logit_rows == layout.max_logit_rows) break;
        const size_t sharing = (i < replayed ? replayed : prompts.size()) - i;
        const int64_t share = std::max(least, rows / static_cast<int64_t>(sharing));
        const int64_t n = std::min({prompts[i]->left(), share, rows});
        take_rows(*prompts[i], n);
        rows -= n;
    }
}

void Engine::hand_out() {
    for (Active* a : in_step_) {
        if (a->logit_row >= 0) hand_out(*a);
        if (options_.keep_prefixes) cache_.publish(a->past, a->tokens, a->request.space, a->published);
    }
    std::erase_if(running_, [](const Active* a) { return a->finish != Finish::none; });
}

// One token, and one more for every draft that came true. What was computed for the others is forgotten.
void Engine::hand_out(Active& a) {
    const int64_t before = a.past.length - drafts_;
    int64_t right = 0;
    while (true) {
        const int32_t token = hand_out_token(a, a.logit_row + right);
        const bool go_on = drafted_ && speculation_->confirm(right, token);
        if (!go_on || a.finish != Finish::none) break;
        ++right;
    }
    cache_.truncate(a.past, before + right);
}

int32_t Engine::hand_out_token(Active& a, int64_t logit_row) {
    const std::span<const float> logits = model_.logits(logit_row);
    const int32_t token = a.sampler.choose(logits, a.tokens, static_cast<int64_t>(a.tokens.size()));
    if (std::ranges::find(a.request.end_ids, token) != a.request.end_ids.end()) {
        a.finish = Finish::stop;
        return token;
    }
    a.tokens.push_back(token);
    a.generated.push_back(token);
    std::vector<TokenScore> best;
    if (a.request.logprobs > 0 || a.request.with_chosen) {
        // One more than asked for: its score tells the total, which the chosen one's needs too.
        best = best_tokens(logits, std::max<int64_t>(a.request.logprobs, 1));
        const double total = best.empty() ? 0 : logits[best[0].id] - best[0].logprob;
        if (best.size() > static_cast<size_t>(a.request.logprobs)) best.resize(a.request.logprobs);
        if (a.request.with_chosen && std::ranges::find(best, token, &TokenScore::id) == best.end())
            best.push_back({token, logits[token] - total});
    }
    if (a.request.on_token && !a.request.on_token(token, best)) {
        a.finish = Finish::stop;
    } else if (static_cast<int64_t>(a.generated.size()) == a.request.max_tokens ||
               static_cast<int64_t>(a.tokens.size()) == model_.context()) {
        a.finish = Finish::length;
    }
    return token;
}

void Engine::finish(int request) {
    while (at(request).finish == Finish::none) BUSBAR_CHECK(step());
}

Engine::Active& Engine::at(int request) const {
    const auto found = requests_.find(request);
    BUSBAR_CHECK(found != requests_.end(), "a request that was forgotten");
    return *found->second;
}

Finish Engine::finish_of(int request) const {
    return at(request).finish;
}
const std::vector<int32_t>& Engine::tokens_of(int request) const {
    return at(request).generated;
}

int64_t Engine::computed_of(int request) const {
    return at(request).past.length;
}
int64_t Engine::cached_of(int request) const {
    return at(request).cached;
}
bool Engine::admitted(int request) const {
    return at(request).admitted;
}

Cache::Sequence Engine::take_past(int request) {
    Active& a = at(request);
    std::erase(running_, &a);
    std::erase(waiting_, &a);
    Cache::Sequence past = std::move(a.past);
    requests_.erase(request);
    return past;
}

void Engine::cancel(int request) {
    Active& a = at(request);
    if (a.finish == Finish::none) a.finish = Finish::interrupted;
    std::erase(running_, &a);
    std::erase(waiting_, &a);
    cache_.release(a.past);
}

void Engine::forget(int request) {
    if (!requests_.contains(request)) return;
    Cache::Sequence past = take_past(request);
    cache_.release(past);
}

}  // namespace busbar
