#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "llm/cache/cache.h"
#include "llm/engine/speculate.h"
#include "llm/sample/sample.h"

namespace busbar {

enum class Finish : uint8_t { none, stop, length, interrupted };
std::string_view name_of(Finish f);

/// A prompt and how to go on from it.
struct Request {
    std::vector<int32_t> prompt;
    /// Generated before, elsewhere: replayed, not handed out again. With the same seed the answer goes on as if nothing
    /// had happened, since a draw depends on seed and position alone.
    std::vector<int32_t> resume;
    int64_t max_tokens = 0;  ///< resumed ones included; 0 = until an end token or the end of the context
    SampleOptions sample;
    int64_t vocabulary = 0;  ///< ids below this may be chosen; 0 = all
    std::vector<int32_t> end_ids;
    int64_t logprobs = 0;      ///< best tokens reported with each chosen one
    bool with_chosen = false;  ///< the chosen token is reported too: last, where it is not among the best
    uint64_t space = 0;        ///< requests of different spaces share no kept past
    int sibling = -1;          ///< has the same prompt: this one waits until the sibling's is computed and forks it
    /// Called for each new token, end tokens not included; false stops the request. Must not throw.
    std::function<bool(int32_t token, const std::vector<TokenScore>& best)> on_token;
};

/// Sees every step of an engine; may watch some of them kernel by kernel.
class StepWatch {
  public:
    virtual ~StepWatch() = default;
    /// Before a step of so many rows: what it shall run under, null for nothing.
    virtual StepObserver* begin(int64_t rows) = 0;
    /// After it, if it did not throw.
    virtual void end(int64_t rows, double seconds) = 0;
};

struct EngineOptions {
    /// About how long a step may take while answers are being generated: prompts get that many rows. The first steps
    /// learn what a row costs. 0 = as many rows as the largest bucket has.
    double step_seconds = 0;
    double prompt_step_seconds = 0;  ///< the same while there are only prompts: how soon a newcomer or a cancel is seen
    bool keep_prefixes = false;      ///< pasts are kept for later requests that begin alike
    /// While one answer is generated alone, drafts of its next tokens are verified with it: the same tokens, in fewer
    /// steps. Off with why_no_drafts() where a step of a few rows may give other bits than steps of one.
    Speculate speculate = Speculate::off;
    /// Requests that resume nothing run as long as fewer than this run; the sequences beyond are for those that were
    /// under way elsewhere. 0 = there is no such difference.
    int64_t most_fresh = 0;
    StepWatch* watch = nullptr;  ///< what it throws is thrown by step(), before a token is handed out
};

/// Generates for several requests at once: every step takes rows of all of them, prompts in chunks. Requests are
/// admitted in the order they came, as soon as there is a sequence for them and memory for the longest answer they may
/// give: what was admitted never runs out of memory. Not thread-safe.
class Engine {
  public:
    explicit Engine(LoadedModel& model, const EngineOptions& options = {});
    ~Engine();

    /// Queues a request, one that resumes before all others; returns its number. Throws Error{bad_input} for an empty
    /// prompt, ids outside the vocabulary, or a prompt longer than the context, Error{does_not_fit} for one that memory
    /// can never hold, with the numbers. `past` continues a sequence whose tokens are the prompt's first past->length
    /// ones.
    int add(Request request, std::optional<Cache::Sequence> past = {});
    /// One step over everything admitted. False if there was nothing to do. After an Error nothing is known of the
    /// sequences in the step: their requests can only be started again, from their token ids.
    bool step();
    /// Steps until the request is done.
    void finish(int request);
    /// Ends a request now, Finish::interrupted, and frees what it holds.
    void cancel(int request);

    Finish finish_of(int request) const;
    const std::vector<int32_t>& tokens_of(int request) const;  ///< generated ones, an end token not included
    int64_t computed_of(int request) const;                    ///< positions done so far, of prompt and answer
    int64_t cached_of(int request) const;                      ///< positions of the prompt that were found kept
    bool admitted(int request) const;
    /// Gives up the request; its past stays usable as a sequence for a later add(), or is released.
    Cache::Sequence take_past(int request);
    void forget(int request);

    /// Drafts of all requests so far; why there are none though they were asked for, "" if there may be.
    SpeculationCounts drafts() const { return speculation_ ? speculation_->counts() : SpeculationCounts{}; }
    const std::string& why_no_drafts() const { return why_no_drafts_; }

    int64_t running() const { return static_cast<int64_t>(running_.size()); }
    int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
    Cache& cache() { return cache_; }
    LoadedModel& model() { return model_; }

  private:
    struct Active;
    Active& at(int request) const;
    void check(const Request& request) const;
    int64_t pages_of(const Active& a) const;
    int64_t pages_promised(const Active& a) const;
    bool admit(Active& a);
    void admit_waiting();
    int64_t prompt_rows(bool decoding) const;
    void take_rows(Active& a, int64_t n);
    void take_with_drafts(Active& a);
    void make_record();
    void learn(double seconds);
    void hand_out();
    void hand_out(Active& a);
    int32_t hand_out_token(Active& a, int64_t logit_row);

    LoadedModel& model_;
    EngineOptions options_;
    Cache cache_;
    StepRecord record_;
    std::map<int, std::unique_ptr<Active>> requests_;  ///< until forgotten
    int next_number_ = 0;
    std::deque<Active*> waiting_;
    std::vector<Active*> running_;  ///< in the order of admission
    std::vector<Active*> in_step_;  ///< by sequence number of this step
    size_t turn_ = 0;               ///< which prompt is served first: another one each step
    double row_seconds_ = 0;        ///< what a row of a prompt costs, learnt
    std::optional<Speculation> speculation_;
    std::string why_no_drafts_;
    int64_t most_drafts_ = 0;  ///< that fit a step
    bool drafted_ = false;     ///< this step is of one sequence, and drafts were looked up for it
    int64_t drafts_ = 0;       ///< how many of its rows are drafts, after the one that is none
};

}  // namespace busbar
