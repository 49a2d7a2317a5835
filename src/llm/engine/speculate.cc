#include "llm/engine/speculate.h"

#include <fmt/format.h>

#include <algorithm>

namespace busbar {

Draft look_up(std::span<const int32_t> text) {
    Draft best;
    const auto n = static_cast<int64_t>(text.size());
    int64_t follows = 0;
    // A scan is a microsecond for thousands of tokens, and an index would have to be kept in step with the text.
    for (int64_t end = n - 1; end > 0 && best.match < longest_match; --end) {
        if (text[end - 1] != text[n - 1]) continue;
        int64_t match = 1;
        while (match < longest_match && match < end && text[end - 1 - match] == text[n - 1 - match]) ++match;
        if (match <= best.match) continue;
        best.match = match;
        follows = end;
    }
    if (best.match == 0) return best;
    best.count = most_drafts;
    for (int64_t i = 0; i < best.count; ++i)
        best.tokens[i] = follows + i < n ? text[follows + i] : best.tokens[follows + i - n];
    return best;
}

std::optional<Speculate> parse_speculate(std::string_view word) {
    if (word == "off") return Speculate::off;
    if (word == "auto") return Speculate::automatic;
    if (word == "on") return Speculate::on;
    return {};
}

size_t Speculation::class_of(int64_t match) {
    return match >= 8 ? 4 : match >= 4 ? 3 : static_cast<size_t>(std::max<int64_t>(match, 1) - 1);
}

double Speculation::likelihood(int64_t match) const {
    // Before much was seen: what prose and code show, on the careful side.
    constexpr double expected[] = {0.1, 0.25, 0.4, 0.6, 0.75}, weight = 3;
    const size_t c = class_of(match);
    return (seen_[c].hits + weight * expected[c]) / (seen_[c].tries + weight);
}

double Speculation::seconds_of(int64_t rows) const {
    if (seconds_[rows] > 0) return seconds_[rows];
    // Not measured: on trust, a row more costs little. One step corrects it.
    constexpr double per_row = 0.15;
    for (int64_t r = rows; r-- > 1;)
        if (seconds_[r] > 0) return seconds_[r] * (1 + per_row * static_cast<double>(rows - r));
    return 0;
}

int64_t Speculation::propose(std::span<const int32_t> text, int64_t most) {
    proposed_ = 0;
    draft_ = look_up(text);
    most = std::min(most, draft_.count);
    if (mode_ == Speculate::off || most <= 0) return 0;
    if (mode_ == Speculate::on) return proposed_ = most;
    // A step of one row first: there is nothing to compare with before.
    if (seconds_[1] <= 0) return 0;
    constexpr double worth_it = 1.08;  // below that, what it may win drowns in what it may cost
    double tokens = 1, reached = 1, best = worth_it / seconds_[1];
    for (int64_t k = 1; k <= most; ++k) {
        reached *= likelihood(draft_.match + k - 1);
        tokens += reached;
        const int64_t rows = k + 1;
        // A size that was slow once may have met a busy machine, or its first touch of memory.
        const int64_t try_again = tried_[rows] < 3 ? 32 : 256;
        const double seconds =
            since_tried_[rows] > try_again ? std::min(seconds_of(rows), 1.5 * seconds_[1]) : seconds_of(rows);
        if (tokens / seconds <= best) continue;
        best = tokens / seconds;
        proposed_ = k;
    }
    return proposed_;
}

bool Speculation::confirm(int64_t i, int32_t token) {
    if (i >= draft_.count) return false;
    const bool right = draft_.tokens[i] == token;
    constexpr double fade = 0.95;
    Seen& s = seen_[class_of(draft_.match + i)];
    s.hits = fade * s.hits + (right ? 1 : 0);
    s.tries = fade * s.tries + 1;
    if (i >= proposed_) return false;
    counts_.accepted += right ? 1 : 0;
    return right;
}

void Speculation::took(int64_t rows, double seconds) {
    if (rows < 1 || rows > most_drafts + 1) return;
    double& known = seconds_[rows];
    known = known <= 0 ? seconds : 0.8 * known + 0.2 * std::min(seconds, 2 * known);
    ++tried_[rows];
    for (int64_t& n : since_tried_) ++n;
    since_tried_[rows] = 0;
    if (proposed_ == 0) return;
    ++counts_.steps;
    counts_.drafted += proposed_;
}

std::string why_not_speculate(const LoadedModel& model, int64_t& most) {
    const StepLayout& layout = model.layout();
    most = std::min({most_drafts, layout.max_rows - 1, layout.max_logit_rows - 1});
    if (most < 1) return "the model was loaded for one row of logits a step";
    const Plan& one = model.plans()[model.bucket_for(1)];
    for (int64_t rows = 2; rows <= most + 1; ++rows)
        if (const std::string why = why_other_bits(one, model.plans()[model.bucket_for(rows)]); !why.empty())
            return fmt::format("a step of {} rows need not give the bits of {} steps of one: {}", rows, rows, why);
    return "";
}

}  // namespace busbar
