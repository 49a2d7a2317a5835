#include "llm/sample/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace busbar {

namespace {

uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

}  // namespace

double uniform_at(uint64_t seed, uint64_t position) {
    const uint64_t bits = mix(mix(seed + 0x9e3779b97f4a7c15ull) + 0x9e3779b97f4a7c15ull * (position + 1));
    return static_cast<double>(bits >> 11) * 0x1p-53;
}

double log_sum_exp(std::span<const float> logits) {
    double best = -std::numeric_limits<double>::infinity(), sum = 0;
    for (float x : logits) best = std::max<double>(best, x);
    if (!std::isfinite(best)) return best;
    for (float x : logits) sum += std::exp(x - best);
    return best + std::log(sum);
}

std::vector<TokenScore> best_tokens(std::span<const float> logits, int64_t k) {
    Ranking ranking;
    ranking.reset(logits);
    std::vector<TokenScore> out;
    if (ranking.size() == 0) return out;
    // Over what can be chosen: a NaN must not hide the other probabilities.
    const float best = ranking[0].logit;
    const double total = best + std::log(exponential_sum(logits, best, 1));
    for (int64_t i = 0; i < std::min(k, ranking.size()); ++i) out.push_back({ranking[i].id, ranking[i].logit - total});
    return out;
}

// Works on adjusted_, whose index is the id.
void Sampler::penalize(std::span<const int32_t> past) {
    const SampleOptions& o = options_;
    const auto known = [&](int32_t id) { return id >= 0 && id < static_cast<int64_t>(adjusted_.size()); };
    for (const auto& [id, bias] : o.logit_bias)
        if (known(id)) adjusted_[id] += bias;
    std::vector<int32_t> seen;
    if (o.repeat_penalty != 1) {
        const size_t window = std::min(past.size(), static_cast<size_t>(std::max<int64_t>(o.repeat_window, 0)));
        seen.assign(past.end() - static_cast<int64_t>(window), past.end());
        std::ranges::sort(seen);
        seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
        for (const int32_t id : seen)
            if (known(id))
                adjusted_[id] = static_cast<float>(adjusted_[id] > 0 ? adjusted_[id] / o.repeat_penalty
                                                                     : adjusted_[id] * o.repeat_penalty);
    }
    if (o.presence_penalty == 0 && o.frequency_penalty == 0) return;
    seen.assign(past.begin() + std::min<int64_t>(prompt_length_, static_cast<int64_t>(past.size())), past.end());
    std::ranges::sort(seen);
    for (size_t i = 0, next; i < seen.size(); i = next) {
        for (next = i; next < seen.size() && seen[next] == seen[i];) ++next;
        if (known(seen[i]))
            adjusted_[seen[i]] -= static_cast<float>(o.presence_penalty + o.frequency_penalty * double(next - i));
    }
}

int32_t Sampler::choose(std::span<const float> logits, std::span<const int32_t> past, int64_t position) {
    const SampleOptions& o = options_;
    const auto n = static_cast<int32_t>(std::min<int64_t>(vocabulary_, static_cast<int64_t>(logits.size())));
    if (!o.logit_bias.empty() || o.repeat_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0) {
        adjusted_.assign(logits.begin(), logits.begin() + n);
        penalize(past);
        logits = adjusted_;
    }
    logits = logits.first(n);
    const int32_t first = largest(logits);
    if (first < 0) return 0;
    const float best = logits[first];
    if (o.temperature <= 0 || !std::isfinite(best)) return first;
    const double scale = std::min(1 / o.temperature, 1e30), uniform = uniform_at(o.seed, position);
    if (!keep_best(logits, best)) return draw_exponential(logits, best, static_cast<float>(scale), uniform, sums_);

    // In the order of ids, like the draw from all: where two tokens are nearly as good, another chip may swap their
    // places, and a draw by rank would take the other one for most numbers.
    std::ranges::sort(kept_, {}, &Candidate::id);
    const auto weight = [&](const Candidate& c) { return std::exp((static_cast<double>(c.logit) - best) * scale); };
    double sum = 0, passed = 0;
    for (const Candidate& c : kept_) sum += weight(c);
    for (const Candidate& c : kept_)
        if ((passed += weight(c)) > uniform * sum) return c.id;
    return kept_.back().id;
}

// Into kept_ what top-k, top-p and min-p leave; false where they leave all.
bool Sampler::keep_best(std::span<const float> logits, float best) {
    const SampleOptions& o = options_;
    if (o.top_k <= 0 && o.top_p >= 1 && o.min_p <= 0) return false;
    ranking_.reset(logits);
    const int64_t most = o.top_k > 0 ? std::min(o.top_k, ranking_.size()) : ranking_.size();
    const auto probability = [&](int64_t i) { return std::exp(static_cast<double>(ranking_[i].logit) - best); };
    double wanted = std::numeric_limits<double>::infinity(), mass = 0;
    if (o.top_p < 1) {
        double total = 0;
        if (most == ranking_.size())
            total = exponential_sum(logits, best, 1);
        else
            for (int64_t i = 0; i < most; ++i) total += probability(i);
        wanted = o.top_p * total;
    }
    kept_.clear();
    for (int64_t i = 0; i < most; ++i) {
        const double p = probability(i);  // relative to the best one's
        if (i > 0 && (mass >= wanted || p < o.min_p)) break;
        mass += p;
        kept_.push_back(ranking_[i]);
    }
    return static_cast<int64_t>(kept_.size()) < ranking_.size();
}

}  // namespace busbar
