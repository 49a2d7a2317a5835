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

bool better(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
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
    std::vector<std::pair<float, int32_t>> all;
    for (size_t i = 0; i < logits.size(); ++i)
        if (!std::isnan(logits[i])) all.emplace_back(logits[i], static_cast<int32_t>(i));
    k = std::min<int64_t>(k, static_cast<int64_t>(all.size()));
    std::partial_sort(all.begin(), all.begin() + k, all.end(), better);
    double sum = 0;  // over what can be chosen: a NaN must not hide the other probabilities
    for (const auto& c : all) sum += std::exp(static_cast<double>(c.first) - all[0].first);
    const double total = all.empty() ? 0 : all[0].first + std::log(sum);
    std::vector<TokenScore> out;
    for (int64_t i = 0; i < k; ++i) out.push_back({all[i].second, all[i].first - total});
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
    if (o.temperature <= 0) {
        int32_t best = -1;
        for (int32_t id = 0; id < n; ++id)
            if (!std::isnan(logits[id]) && (best < 0 || logits[id] > logits[best])) best = id;
        return std::max(best, 0);
    }
    candidates_.clear();
    for (int32_t id = 0; id < n; ++id)
        if (!std::isnan(logits[id])) candidates_.emplace_back(logits[id], id);
    if (candidates_.empty()) return 0;
    const double best = std::ranges::min_element(candidates_, better)->first;

    // Sorting a whole vocabulary costs as much as a step of a small model, and the first few candidates nearly always
    // decide: they are sorted as far as they are looked at.
    size_t sorted = 0;
    const auto sort_to = [&](size_t n) {
        if (n <= sorted) return;
        n = std::min(candidates_.size(), std::max<size_t>(n, std::max<size_t>(64, 8 * sorted)));
        std::partial_sort(candidates_.begin() + static_cast<int64_t>(sorted),
                          candidates_.begin() + static_cast<int64_t>(n), candidates_.end(), better);
        sorted = n;
    };
    if (o.top_k > 0 && static_cast<size_t>(o.top_k) < candidates_.size()) {
        sort_to(o.top_k);
        candidates_.resize(o.top_k);
        sorted = std::min(sorted, candidates_.size());
    }
    if (o.top_p < 1 || o.min_p > 0) {
        double total = 0, mass = 0;
        if (o.top_p < 1)
            for (const auto& c : candidates_) total += std::exp(c.first - best);
        size_t kept = 0;
        for (; kept < candidates_.size(); ++kept) {
            sort_to(kept + 1);
            const double p = std::exp(candidates_[kept].first - best);
            if (kept > 0 && ((o.top_p < 1 && mass >= o.top_p * total) || p < o.min_p)) break;  // p of the best is 1
            mass += p;
        }
        candidates_.resize(kept);
        sorted = std::min(sorted, kept);
    }
    const auto weight = [&](const auto& c) { return std::exp((c.first - best) / o.temperature); };
    double sum = 0, passed = 0;
    for (const auto& c : candidates_) sum += weight(c);
    const double draw = uniform_at(o.seed, position) * sum;
    for (size_t i = 0; i < candidates_.size(); ++i) {
        sort_to(i + 1);
        passed += weight(candidates_[i]);
        if (passed > draw) return candidates_[i].second;
    }
    return candidates_.back().second;
}

}  // namespace busbar
