#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "agree/teacher.h"

namespace busbar::agree {

/// What is kept of the oracle's logits after each token: the largest ones, and the weight of all others together. A
/// divergence between such reduced distributions is a lower bound of the whole one, and the bar is taken the same way.
class Outputs {
  public:
    static constexpr int64_t most_kept = 256;
    Outputs(int64_t positions, int64_t vocabulary);
    int64_t positions() const { return static_cast<int64_t>(sum_.size()); }
    int64_t kept() const { return kept_; }
    /// `next`: the token that follows, -1 if none.
    void set(int64_t position, std::span<const float> logits, int32_t next);
    bool broken(int64_t position) const { return broken_[position] != 0; }
    std::span<const int32_t> ids(int64_t p) const { return {ids_.data() + p * kept_, static_cast<size_t>(kept_)}; }
    std::span<const float> logits(int64_t p) const { return {top_.data() + p * kept_, static_cast<size_t>(kept_)}; }
    double log_sum(int64_t p) const { return sum_[p]; }    ///< log of the sum of exp of all logits
    double log_rest(int64_t p) const { return rest_[p]; }  ///< the same of those not kept
    float next_logit(int64_t p) const { return next_[p]; }

    std::string bytes() const;
    /// False if these are not bytes() of so many positions.
    bool restore(std::string_view bytes);

  private:
    int64_t kept_;
    std::vector<int32_t> ids_;
    std::vector<float> top_, next_;
    std::vector<double> sum_, rest_;
    std::vector<uint8_t> broken_;  ///< NaN or infinity among the logits
};

/// A chip's logits after one token against the oracle's.
struct Compared {
    double kl = 0;   ///< of the reduced distributions, nats; infinite where the chip's logits are not finite
    double nll = 0;  ///< the chip's negative log-likelihood of the next token minus the oracle's
    bool has_next = false;
    double gap_noise = 0;  ///< change of the distance between the oracle's first and second token
    double gap = 0;        ///< that distance in the oracle
    bool other_first = false;
    bool equal = false;  ///< every number looked at has the same bits
    bool broken = false;
};
Compared compare(const Outputs& oracle, int64_t position, std::span<const float> logits, int32_t next);

/// 95 % by bootstrap over blocks of `block_positions` neighbouring positions: tokens of a text are not independent.
struct Interval {
    double value = 0, low = 0, high = 0;
};
constexpr int64_t block_positions = 32;
Interval bootstrap(std::span<const double> values, const std::function<double(std::vector<double>&)>& statistic,
                   uint64_t seed);
double mean_of(std::vector<double>& values);
/// The smallest value that at most one in a hundred exceed. Reorders.
double percentile_99(std::vector<double>& values);

enum class Verdict : uint8_t { agrees, not_enough_evidence, does_not_agree };
std::string_view name_of(Verdict v);

/// One figure of a report: what was found, what an honest chip may show.
struct Figure {
    std::string name;
    Interval found;
    double bar = 0;
    Verdict verdict = Verdict::agrees;
    void judge();
    nlohmann::json json() const;
};

/// What the oracle showed under the declared noise: a few runs over the text, whose windows, being sequences of their
/// own with noise of their own, are recombined to 64 runs.
struct Bar {
    int seeds = 0;
    int64_t positions = 0;                                 ///< on how many it was taken
    std::vector<double> mean_kl, p99_kl, mean_nll, flips;  ///< by recombined run
    std::vector<double> gap_noise;  ///< by position of the text; negative where the bar was not taken
    double usual_gap_noise = 0;     ///< the 99th percentile of those
    /// (mean + 3.1 standard deviations) x 1.25
    static double of(const std::vector<double>& by_seed);
    double noise_at(int64_t position) const;
    std::string bytes() const;
    bool restore(const std::string& bytes);
};

}  // namespace busbar::agree
