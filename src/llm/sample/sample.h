#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "llm/sample/ranking.h"

namespace busbar {

/// How the next token is chosen. The order is fixed: bias, penalties (repeat, then presence and frequency), top-k,
/// top-p, min-p, temperature, draw; temperature 0 takes the best after the penalties (the lower id on ties). The draw
/// is the first token, in the order of ids, with which the sum of the probabilities exceeds a uniform number.
struct SampleOptions {
    double temperature = 0;
    int64_t top_k = 0;          ///< keep the k best; 0 = all
    double top_p = 1;           ///< keep the smallest set of best tokens with at least this probability
    double min_p = 0;           ///< keep tokens with at least this share of the best one's probability
    double repeat_penalty = 1;  ///< logits of tokens seen in the last `repeat_window` are divided (positive) or
                                ///< multiplied (negative) by it [Keskar et al. 2019]
    int64_t repeat_window = 64;
    /// Subtracted from the logits of tokens generated so far: once, and once for each time it was [OpenAI API].
    double presence_penalty = 0, frequency_penalty = 0;
    /// Added to logits before all else; minus infinity bans a token. Ids outside the vocabulary do nothing.
    std::vector<std::pair<int32_t, float>> logit_bias;
    uint64_t seed = 0;
};

/// A token and its log-probability under the model (before any of the above).
struct TokenScore {
    int32_t id;
    double logprob;
};

/// Chooses from `logits`. The draw is a function of seed and `position` (how many tokens stand before it) alone: the
/// same seed gives the same tokens on any number of threads, in any batch, after any restart. Ids from `vocabulary` on
/// are padding and never chosen; neither are NaN logits. `past` are the tokens so far, prompt included; the first
/// `prompt_length` of them were not generated.
class Sampler {
  public:
    Sampler(const SampleOptions& options, int64_t vocabulary, int64_t prompt_length = 0)
        : options_(options), vocabulary_(vocabulary), prompt_length_(prompt_length) {}
    int32_t choose(std::span<const float> logits, std::span<const int32_t> past, int64_t position);

  private:
    void penalize(std::span<const int32_t> past);
    bool keep_best(std::span<const float> logits, float best);

    SampleOptions options_;
    int64_t vocabulary_, prompt_length_;
    std::vector<float> adjusted_;
    Ranking ranking_;
    std::vector<Candidate> kept_;
    std::vector<float> sums_;
};

/// Uniform in [0, 1) from a counter: SplitMix64's finaliser over seed and position [Steele et al. 2014].
double uniform_at(uint64_t seed, uint64_t position);

/// log(sum(exp(logits))) in double.
double log_sum_exp(std::span<const float> logits);

/// The k best tokens by logit, best first (lower id on ties), with log-probabilities to 1e-6.
std::vector<TokenScore> best_tokens(std::span<const float> logits, int64_t k);

}  // namespace busbar
