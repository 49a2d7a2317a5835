#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace busbar {

/// A logit and the token it belongs to.
struct Candidate {
    float logit;
    int32_t id;
};

/// The id of the largest logit, the lowest one on ties; -1 where all are NaN.
int32_t largest(std::span<const float> logits);

/// The logits of a vocabulary from the best on (the lower id first on ties, NaN left out), sorted as far as somebody
/// looks: a whole sort costs as much as a step of a small model, and the first few nearly always decide.
class Ranking {
  public:
    /// The ranking of `logits`, which must stay where they are until the next call.
    void reset(std::span<const float> logits);
    /// How many there are: those that are not NaN.
    int64_t size() const { return size_; }
    /// The i-th best, 0 <= i < size().
    Candidate operator[](int64_t i);

  private:
    void gather(int64_t at_least);

    std::span<const float> logits_;
    int64_t size_ = 0;
    std::vector<float> maxima_, some_maxima_;  ///< of each block of logits
    std::vector<uint64_t> gathered_;           ///< keys of a head of the ranking, in any order from sorted_ on
    int64_t sorted_ = 0;
};

/// Sum of exp((x - shift) * scale) over all x that are not NaN, for shift >= every x and scale > 0. In f32 with a
/// double for the total: within 1e-6 of it, as the logits themselves are. The same bits on every machine.
double exponential_sum(std::span<const float> logits, float shift, float scale);

/// The first id up to which that sum exceeds `uniform` times the whole, 0 <= uniform < 1. At least one x is not NaN.
/// `sums` is room for what it remembers on the way.
int32_t draw_exponential(std::span<const float> logits, float shift, float scale, double uniform,
                         std::vector<float>& sums);

}  // namespace busbar
