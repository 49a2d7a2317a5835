#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "llm/engine/engine.h"

namespace busbar {

/// What steps took, by bucket. Outlives a replica: the same chip with the same model takes as long in its next life.
struct StepTimes {
    struct Seen {
        int steps = 0, late = 0;              ///< the latter: one after another
        double longest = 0, dearest_row = 0;  ///< seconds of a step and per row of one, slowly forgotten
    };
    std::vector<Seen> seen;
};

/// How long a step may take before its chip is taken for hung: learnt from the steps before it. Passes everything on to
/// another watch, if there is one. The engine's thread steps; limit() is for any.
class StepLimit : public StepWatch {
  public:
    StepLimit(const LoadedModel& model, std::shared_ptr<StepTimes> times, StepWatch* next);
    StepObserver* begin(int64_t rows) override;
    void end(int64_t rows, double seconds) override;
    /// Seconds that the step under way may take; 0 = nothing is known of its kind yet, or there is none.
    double limit() const { return limit_; }

  private:
    double expected(size_t bucket, int64_t rows) const;

    const LoadedModel& model_;
    std::shared_ptr<StepTimes> times_;
    StepWatch* next_;
    std::atomic<double> limit_{0};
};

}  // namespace busbar
