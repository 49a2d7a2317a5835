#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "llm/cache/cache.h"
#include "llm/sample/sample.h"

namespace busbar {

enum class Finish : uint8_t { none, stop, length, interrupted };
std::string_view name_of(Finish f);

/// A prompt and how to go on from it.
struct Request {
    std::vector<int32_t> prompt;
    int64_t max_tokens = 0;  ///< 0 = until an end token or the end of the context
    SampleOptions sample;
    int64_t vocabulary = 0;  ///< ids below this may be chosen; 0 = all
    std::vector<int32_t> end_ids;
    int64_t logprobs = 0;  ///< best tokens reported with each chosen one
    /// Called for each new token, end tokens not included; false stops the request.
    std::function<bool(int32_t token, const std::vector<TokenScore>& best)> on_token;
};

/// Generates for several requests at once: every step takes rows of all of them, prompts in chunks. Not thread-safe.
class Engine {
  public:
    explicit Engine(LoadedModel& model);
    ~Engine();

    /// Queues a request; returns its number. Throws Error{bad_input} for an empty prompt, ids outside the vocabulary,
    /// or a prompt longer than the context, with the numbers. `past` continues a sequence whose tokens are the prompt's
    /// first past->length ones.
    int add(Request request, std::optional<Cache::Sequence> past = {});
    /// One step over everything queued. False if there was nothing to do.
    bool step();
    /// Steps until the request is done.
    void finish(int request);

    Finish finish_of(int request) const;
    const std::vector<int32_t>& tokens_of(int request) const;  ///< generated ones, an end token not included
    int64_t computed_of(int request) const;                    ///< positions done so far, of prompt and answer
    /// Gives up the request; its past stays usable as a sequence for a later add(), or is released.
    Cache::Sequence take_past(int request);
    void forget(int request);

    Cache& cache() { return cache_; }
    LoadedModel& model() { return model_; }

  private:
    struct Active;
    void check(const Request& request) const;
    void make_record();
    void hand_out();

    LoadedModel& model_;
    Cache cache_;
    StepRecord record_;
    std::vector<std::unique_ptr<Active>> requests_;  ///< by number; null when forgotten
    std::vector<Active*> in_step_;                   ///< by sequence number of this step
};

}  // namespace busbar
