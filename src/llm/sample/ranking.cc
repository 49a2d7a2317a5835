#include "llm/sample/ranking.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>

namespace busbar {

namespace {

// Four at a time, which every processor of 64 bits has; compilers of other kinds make of them what they have.
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Integers __attribute__((vector_size(16)));
constexpr int64_t lanes = 4, block = 32;
constexpr float lowest = -std::numeric_limits<float>::infinity();

Floats load(const float* x) {
    Floats v;
    std::memcpy(&v, x, sizeof v);
    return v;
}

Floats all(float x) {
    return Floats{x, x, x, x};
}

// A candidate as one number, less where it is better: numbers are sorted several times faster than pairs.
uint64_t key_of(float logit, int32_t id) {
    auto bits = std::bit_cast<uint32_t>(logit + 0.f);  // -0 is 0
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;    // now in the order of the logits
    return static_cast<uint64_t>(~bits) << 32 | static_cast<uint32_t>(id);
}

Candidate candidate_of(uint64_t key) {
    const auto bits = ~static_cast<uint32_t>(key >> 32);
    return {std::bit_cast<float>(bits ^ (bits >> 31 ? 0x80000000u : 0xffffffffu)), static_cast<int32_t>(key)};
}

Floats larger(Floats a, Floats b) {
    return a > b ? a : b;
}

// Of one whole block; a NaN never wins.
inline float block_maximum(const float* x) {
    Floats a = all(lowest), b = a;  // two chains, so that neither waits
    for (int64_t i = 0; i < block; i += 2 * lanes) {
        a = larger(load(x + i), a);
        b = larger(load(x + i + lanes), b);
    }
    a = larger(a, b);
    return std::max(std::max(a[0], a[1]), std::max(a[2], a[3]));
}

float maximum(std::span<const float> x) {
    const auto n = static_cast<int64_t>(x.size());
    float most = lowest;
    int64_t i = 0;
    for (; i + block <= n; i += block) most = std::max(most, block_maximum(&x[i]));
    for (; i < n; ++i) most = x[i] > most ? x[i] : most;
    return most;
}

int64_t count_numbers(std::span<const float> x) {
    const auto n = static_cast<int64_t>(x.size());
    Integers counts = {};
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        const Floats v = load(&x[i]);
        counts -= v == v;  // true is -1
    }
    int64_t total = int64_t{counts[0]} + counts[1] + counts[2] + counts[3];
    for (; i < n; ++i) total += x[i] == x[i];
    return total;
}

// exp(y) for y <= 0, to 2e-7 of it: 2^k exp(r) with |r| <= ln(2) / 2 and the Taylor polynomial of r. 0 for what is less
// than 2^-125, and for NaN.
inline Floats exponential(Floats y) {
    const Floats to_integer = all(12582912.f);  // 1.5 * 2^23: added, it rounds, and the integer is the sum's low bits
    const Integers counts = y > all(-87.f);
    y = larger(y, all(-87.f));
    const Floats shifted = y * 1.44269504f + to_integer, k = shifted - to_integer;
    const Floats r = (y - k * 0.693359375f) - k * -2.12194440e-4f;  // ln(2) in two parts [Cody & Waite 1980]
    const Floats p = 1 + r * (1 + r * (1.f / 2 + r * (1.f / 6 + r * (1.f / 24 + r * (1.f / 120 + r * (1.f / 720))))));
    const Integers bits = reinterpret_cast<Integers>(p) + (reinterpret_cast<Integers>(shifted) << 23);
    return reinterpret_cast<Floats>(bits & counts);
}

// The sum of each block, into `sums`, and of all.
double block_sums(std::span<const float> logits, float shift, float scale, std::vector<float>& sums) {
    const auto n = static_cast<int64_t>(logits.size());
    double total = 0;
    sums.clear();
    for (int64_t i = 0; i < n; i += block) {
        float copy[block];
        const float* x = &logits[i];
        if (i + block > n) {
            std::fill_n(copy, block, lowest);
            std::copy(logits.begin() + i, logits.end(), copy);
            x = copy;
        }
        Floats sum = {};
        for (int64_t j = 0; j < block; j += lanes) sum += exponential((load(x + j) - shift) * scale);
        sums.push_back((sum[0] + sum[1]) + (sum[2] + sum[3]));
        total += sums.back();
    }
    return total;
}

}  // namespace

int32_t largest(std::span<const float> logits) {
    const float most = maximum(logits);
    // Minus infinity may be the largest logit, or stand for none.
    for (size_t i = 0; i < logits.size(); ++i)
        if (logits[i] == most) return static_cast<int32_t>(i);
    return -1;
}

void Ranking::reset(std::span<const float> logits) {
    logits_ = logits;
    size_ = count_numbers(logits);
    gathered_.clear();
    sorted_ = 0;
    maxima_.clear();
    const auto n = static_cast<int64_t>(logits.size());
    for (int64_t i = 0; i < n; i += block)
        maxima_.push_back(i + block <= n ? block_maximum(&logits[i]) : maximum(logits.subspan(i)));
}

// Gathers all logits from a limit on that leaves at least so many: the at_least-th largest of the blocks' maxima is
// one, and only blocks with a maximum from there on have to be read.
void Ranking::gather(int64_t at_least) {
    const auto n = static_cast<int64_t>(logits_.size());
    float limit = lowest;
    if (at_least <= static_cast<int64_t>(maxima_.size())) {
        some_maxima_ = maxima_;
        const auto nth = some_maxima_.begin() + at_least - 1;
        std::nth_element(some_maxima_.begin(), nth, some_maxima_.end(), std::greater<>());
        limit = *nth;
    }
    gathered_.clear();
    sorted_ = 0;
    for (int64_t b = 0; b < static_cast<int64_t>(maxima_.size()); ++b) {
        if (maxima_[b] < limit) continue;
        for (int64_t i = b * block; i < std::min(n, (b + 1) * block); ++i)
            if (logits_[i] >= limit) gathered_.push_back(key_of(logits_[i], static_cast<int32_t>(i)));
    }
}

Candidate Ranking::operator[](int64_t i) {
    if (i >= sorted_) {
        const int64_t wanted = std::min(size_, std::max<int64_t>(i + 1, std::max<int64_t>(64, 8 * sorted_)));
        if (wanted > static_cast<int64_t>(gathered_.size())) gather(wanted);
        const auto begin = gathered_.begin() + sorted_, end = gathered_.begin() + wanted;
        std::nth_element(begin, end, gathered_.end());
        std::sort(begin, end);
        sorted_ = wanted;
    }
    return candidate_of(gathered_[i]);
}

double exponential_sum(std::span<const float> logits, float shift, float scale) {
    std::vector<float> sums;
    return block_sums(logits, shift, scale, sums);
}

int32_t draw_exponential(std::span<const float> logits, float shift, float scale, double uniform,
                         std::vector<float>& sums) {
    const double wanted = uniform * block_sums(logits, shift, scale, sums);
    double passed = 0;
    size_t b = 0;
    while (b + 1 < sums.size() && passed + sums[b] <= wanted) passed += sums[b++];
    const auto begin = static_cast<int64_t>(b) * block;
    int32_t last = -1;  // rounding may leave the block's sum unreached: then its last token is meant
    for (int64_t i = begin; i < std::min(begin + block, static_cast<int64_t>(logits.size())); ++i) {
        const float weight = exponential(all((logits[i] - shift) * scale))[0];
        if (weight <= 0) continue;
        last = static_cast<int32_t>(i);
        passed += weight;
        if (passed > wanted) break;
    }
    return last >= 0 ? last : largest(logits);
}

}  // namespace busbar
