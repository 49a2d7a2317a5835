#include "agree/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "base/check.h"

namespace busbar::agree {

namespace {

double log_sum_of(std::span<const float> logits) {
    float largest = -INFINITY;
    for (float x : logits) largest = std::max(largest, x);
    double sum = 0;
    for (float x : logits) sum += std::exp(static_cast<double>(x) - largest);
    return largest + std::log(sum);
}

bool all_finite(std::span<const float> logits) {
    return std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
}

template <typename T>
void append(std::string& out, const std::vector<T>& v) {
    out.append(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T));
}

template <typename T>
void take(std::string_view& in, std::vector<T>& v) {
    std::memcpy(v.data(), in.data(), v.size() * sizeof(T));
    in.remove_prefix(v.size() * sizeof(T));
}

}  // namespace

Outputs::Outputs(int64_t positions, int64_t vocabulary)
    : kept_(std::min(most_kept, vocabulary)),
      ids_(positions * kept_),
      top_(positions * kept_),
      next_(positions),
      sum_(positions),
      rest_(positions),
      broken_(positions) {}

void Outputs::set(int64_t p, std::span<const float> logits, int32_t next) {
    broken_[p] = !all_finite(logits);
    if (broken_[p]) return;
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto larger = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
    std::nth_element(order.begin(), order.begin() + kept_ - 1, order.end(), larger);
    std::sort(order.begin(), order.begin() + kept_, larger);
    sum_[p] = log_sum_of(logits);
    double rest = 0;
    for (size_t i = kept_; i < order.size(); ++i) rest += std::exp(logits[order[i]] - sum_[p]);
    rest_[p] = rest > 0 ? sum_[p] + std::log(rest) : -INFINITY;
    for (int64_t i = 0; i < kept_; ++i) {
        ids_[p * kept_ + i] = order[i];
        top_[p * kept_ + i] = logits[order[i]];
    }
    next_[p] = next >= 0 ? logits[next] : NAN;
}

std::string Outputs::bytes() const {
    std::string out = fmt::format("busbar outputs 1 {} {}\n", positions(), kept_);
    append(out, ids_);
    append(out, top_);
    append(out, next_);
    append(out, sum_);
    append(out, rest_);
    append(out, broken_);
    return out;
}

bool Outputs::restore(std::string_view bytes) {
    const std::string head = fmt::format("busbar outputs 1 {} {}\n", positions(), kept_);
    if (!bytes.starts_with(head) || bytes.size() != this->bytes().size()) return false;
    bytes.remove_prefix(head.size());
    take(bytes, ids_);
    take(bytes, top_);
    take(bytes, next_);
    take(bytes, sum_);
    take(bytes, rest_);
    take(bytes, broken_);
    return true;
}

Compared compare(const Outputs& oracle, int64_t p, std::span<const float> logits, int32_t next) {
    Compared c;
    c.has_next = next >= 0;
    if (!all_finite(logits) || oracle.broken(p)) {
        c.broken = true;
        c.kl = c.nll = INFINITY;
        return c;
    }
    const std::span<const int32_t> ids = oracle.ids(p);
    const std::span<const float> top = oracle.logits(p);
    c.equal = true;
    for (size_t i = 0; i < ids.size(); ++i) c.equal = c.equal && std::memcmp(&logits[ids[i]], &top[i], 4) == 0;
    const auto first = std::max_element(logits.begin(), logits.end()) - logits.begin();
    c.other_first = first != ids[0];
    if (ids.size() > 1) {
        c.gap = static_cast<double>(top[0]) - top[1];
        c.gap_noise = static_cast<double>(logits[ids[0]]) - logits[ids[1]] - c.gap;
    }
    const double sum = log_sum_of(logits);
    double q_top = 0;
    // Each term of p log(p / q) - p + q is at least zero: nothing cancels.
    const auto term = [](double log_p, double log_q) {
        const double p = std::exp(log_p);
        return p * ((log_p - log_q) + std::expm1(log_q - log_p));
    };
    for (size_t i = 0; i < ids.size(); ++i) {
        const double log_q = logits[ids[i]] - sum;
        q_top += std::exp(log_q);
        c.kl += term(top[i] - oracle.log_sum(p), log_q);
    }
    const double p_rest = std::exp(oracle.log_rest(p) - oracle.log_sum(p)), q_rest = 1 - q_top;
    // A smaller rest is the rounding of this subtraction.
    if (p_rest > 1e-9 && q_rest > 1e-9) c.kl += term(std::log(p_rest), std::log(q_rest));
    if (c.has_next)
        c.nll =
            (sum - oracle.log_sum(p)) - (static_cast<double>(logits[next]) - static_cast<double>(oracle.next_logit(p)));
    return c;
}

double mean_of(std::vector<double>& values) {
    return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double percentile_99(std::vector<double>& values) {
    if (values.empty()) return 0;
    const auto at = static_cast<int64_t>(std::ceil(0.99 * static_cast<double>(values.size()))) - 1;
    std::nth_element(values.begin(), values.begin() + at, values.end());
    return values[at];
}

Interval bootstrap(std::span<const double> values, const std::function<double(std::vector<double>&)>& statistic,
                   uint64_t seed) {
    constexpr int resamples = 1000;
    Interval interval;
    std::vector<double> all(values.begin(), values.end());
    const auto blocks = static_cast<int64_t>((values.size() + block_positions - 1) / block_positions);
    interval.value = statistic(all);
    if (blocks == 0) return interval;
    std::mt19937_64 engine(seed);
    std::uniform_int_distribution<int64_t> pick(0, blocks - 1);
    std::vector<double> found(resamples), sample;
    for (double& f : found) {
        sample.clear();
        for (int64_t b = 0; b < blocks; ++b) {
            const size_t begin = pick(engine) * block_positions;
            const size_t end = std::min(begin + block_positions, values.size());
            sample.insert(sample.end(), values.begin() + begin, values.begin() + end);
        }
        f = statistic(sample);
    }
    std::sort(found.begin(), found.end());
    interval.low = found[resamples * 25 / 1000];
    interval.high = found[resamples * 975 / 1000 - 1];
    return interval;
}

std::string_view name_of(Verdict v) {
    return v == Verdict::agrees ? "agrees" : v == Verdict::does_not_agree ? "does not agree" : "not enough evidence";
}

void Figure::judge() {
    verdict = found.low > bar     ? Verdict::does_not_agree
              : found.high <= bar ? Verdict::agrees
                                  : Verdict::not_enough_evidence;
}

static nlohmann::json finite(double x) {
    return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(fmt::format("{}", x));
}

nlohmann::json Figure::json() const {
    return {
        {"name", name},       {"value", finite(found.value)}, {"low", finite(found.low)}, {"high", finite(found.high)},
        {"bar", finite(bar)}, {"verdict", name_of(verdict)}};
}

double Bar::of(const std::vector<double>& by_seed) {
    std::vector<double> values = by_seed;
    const double mean = mean_of(values);
    double squares = 0;
    for (double x : by_seed) squares += (x - mean) * (x - mean);
    const double deviation = by_seed.size() > 1 ? std::sqrt(squares / static_cast<double>(by_seed.size() - 1)) : 0;
    return (mean + 3.1 * deviation) * 1.25;
}

double Bar::noise_at(int64_t position) const {
    const double here = position < static_cast<int64_t>(gap_noise.size()) ? gap_noise[position] : -1;
    return here >= 0 ? here : usual_gap_noise;
}

std::string Bar::bytes() const {
    return nlohmann::json{{"busbar bar", 1},    {"seeds", seeds},         {"positions", positions},
                          {"mean_kl", mean_kl}, {"p99_kl", p99_kl},       {"mean_nll", mean_nll},
                          {"flips", flips},     {"gap_noise", gap_noise}, {"usual_gap_noise", usual_gap_noise}}
        .dump();
}

bool Bar::restore(const std::string& bytes) {
    const nlohmann::json j = nlohmann::json::parse(bytes, nullptr, false);
    if (!j.is_object() || j.value("busbar bar", 0) != 1) return false;
    try {
        seeds = j.at("seeds");
        positions = j.at("positions");
        mean_kl = j.at("mean_kl").get<std::vector<double>>();
        p99_kl = j.at("p99_kl").get<std::vector<double>>();
        mean_nll = j.at("mean_nll").get<std::vector<double>>();
        flips = j.at("flips").get<std::vector<double>>();
        gap_noise = j.at("gap_noise").get<std::vector<double>>();
        usual_gap_noise = j.at("usual_gap_noise");
    } catch (const nlohmann::json::exception&) {
        return false;
    }
    return true;
}

}  // namespace busbar::agree
