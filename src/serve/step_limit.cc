#include "serve/step_limit.h"

#include <algorithm>

namespace busbar {

namespace {

// A machine that does other things too makes a step wait now and then: a quarter of a second is never a hang.
constexpr double least_seconds = 0.25;
// Rows differ in the length of their past, and a probed step takes up to twice as long.
constexpr double slack = 8;
constexpr int enough = 4;  // the first steps touch memory for the first time

}  // namespace

StepLimit::StepLimit(const LoadedModel& model, std::shared_ptr<StepTimes> times, StepWatch* next)
    : model_(model), times_(std::move(times)), next_(next) {
    times_->seen.resize(model.plans().size());
}

// 0 = nothing is known. A bucket that was hardly used yet is judged by a larger one, which takes longer, or by the rows
// of a smaller one, which cost more each.
double StepLimit::expected(size_t bucket, int64_t rows) const {
    const auto& seen = times_->seen;
    const auto by_rows = [rows](const StepTimes::Seen& s) { return s.dearest_row * static_cast<double>(rows); };
    if (seen[bucket].steps >= enough) return by_rows(seen[bucket]);
    for (size_t larger = bucket + 1; larger < seen.size(); ++larger)
        if (seen[larger].steps >= enough) return std::max(by_rows(seen[bucket]), seen[larger].longest);
    for (size_t smaller = bucket; smaller-- > 0;)
        if (seen[smaller].steps >= enough) return std::max(by_rows(seen[bucket]), by_rows(seen[smaller]));
    return 0;
}

StepObserver* StepLimit::begin(int64_t rows) {
    StepObserver* observer = next_ ? next_->begin(rows) : nullptr;
    const double usual = expected(model_.bucket_for(rows), rows);
    limit_ = usual > 0 ? std::max(least_seconds, slack * usual) : 0;
    return observer;
}

void StepLimit::end(int64_t rows, double seconds) {
    const bool late = limit_ > 0 && seconds > limit_;
    limit_ = 0;
    StepTimes::Seen& seen = times_->seen[model_.bucket_for(rows)];
    if (next_) next_->end(rows, seconds);
    // A hang that ended is not what steps take; what keeps happening is.
    seen.late = late ? seen.late + 1 : 0;
    if (late && seen.late < 3) return;
    ++seen.steps;
    seen.longest = std::max(0.98 * seen.longest, seconds);
    seen.dearest_row = std::max(0.98 * seen.dearest_row, seconds / static_cast<double>(rows));
}

}  // namespace busbar
