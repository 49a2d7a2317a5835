#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "agree/weight_sums.h"
#include "llm/engine/engine.h"

namespace busbar {

/// A product of a served step was not what its inputs give: the chip lies.
struct ProbeFailure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct ProbeOptions {
    double share = 0.01;  ///< of the steps' time; 1 or more: every product of every step, whatever that takes
    int products = 4;     ///< of a step that is probed
    int rows = 2;         ///< of each
    uint64_t most_bytes = 64 << 20;  ///< for the sums of weights; those that find no room are not watched
    uint64_t seed = 0;               ///< 0: a fresh one
};

struct ProbeStatus {
    uint64_t steps = 0, products = 0, outputs = 0;  ///< checked
    double seconds = 0;                             ///< that probing cost
    int64_t weights = 0, watched = 0;               ///< of products; those whose sums have been taken
};

/// Freivalds' check of products while they are served (docs/serve.md, "The live probe"). In a probed step the products
/// that are checked run by themselves - the same kernels, plan and batch - and the check throws ProbeFailure before any
/// token of the step is handed out. Which products take part goes round, in an order that a chip cannot know. The sums
/// of weights are taken once, on a thread of lowest priority. One caller at a time, except status().
class LiveProbe : public StepWatch, public StepObserver {
  public:
    LiveProbe(const LoadedModel& model, const ProbeOptions& options);
    ~LiveProbe() override;

    StepObserver* begin(int64_t rows) override;
    void end(int64_t rows, double seconds) override;
    bool wants(size_t bucket, size_t index) override;
    void before(LoadedModel& model, size_t bucket, size_t index) override;
    void after(LoadedModel& model, size_t bucket, size_t index) override;
    ProbeStatus status() const;

  private:
    struct Site {
        size_t index;  ///< of the plan's steps
        std::vector<const StoredTensor*> weights;
    };
    void find_sites();
    void take_sums(const std::stop_token& stop);
    const agree::WeightSums* sums_of(const StoredTensor* weight);
    bool choose(size_t bucket);
    bool every_step() const { return options_.share >= 1; }
    void check(const LoadedModel& model, size_t bucket, size_t index, size_t which, const StoredTensor& weight);

    const LoadedModel& model_;
    ProbeOptions options_;
    std::mt19937_64 random_;
    uint64_t secret_;                           ///< of the signs
    std::vector<std::vector<Site>> sites_;      ///< by bucket, in a random order
    std::vector<size_t> turn_;                  ///< by bucket: the next site
    std::vector<const StoredTensor*> weights_;  ///< in the order of the first plan

    std::vector<const Site*> chosen_;  ///< of the step under way, by index
    size_t bucket_ = 0, at_ = 0;
    bool probing_ = false;
    Array x_;
    double own_ = 0;                          ///< seconds in the callbacks of this step
    double credit_ = 0;                       ///< seconds that probing may take by now
    std::vector<double> cost_, row_seconds_;  ///< by bucket, learnt: of a probed step; of a row of one that is not
    std::vector<double> step_seconds_;        ///< by number of rows, of steps that are not probed

    mutable std::mutex mutex_;
    std::map<const StoredTensor*, std::unique_ptr<agree::WeightSums>> sums_;
    ProbeStatus status_;
    std::jthread taker_;  ///< last: ends first
};

}  // namespace busbar
