#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agree/cache_mirror.h"
#include "agree/conform/suite.h"
#include "agree/weight_sums.h"
#include "run/loaded_model.h"

namespace busbar::agree {

/// What a planned step did wrong.
struct NodeFinding {
    enum class What : uint8_t {
        op,     ///< its outputs do not follow from the inputs that it read: local blame
        edge,   ///< an input is not what its producer wrote: stale buffer, missing wait
        copy,   ///< what arrived on the other chip is not what was sent
        cache,  ///< the cache does not hold what was appended
    };
    What what = What::op;
    size_t bucket = 0, index = 0;  ///< of plans()[bucket].steps
    int64_t position = 0;          ///< of the first row of the step, in its sequence
    std::string node, op, row, chip;
    int64_t layer = -1;  ///< -1: before or after the layers
    double worst = 0;    ///< largest error as a share of what is allowed
    std::string why;     ///< "[3,17]: expected 0.51, got 0.62, 93 sigma"
    /// "layer.3.q_rotate (rotate on cpu, cpu.rotate.f32, position 17): [3,17]: expected ..."
    std::string print() const;
};
std::string_view name_of(NodeFinding::What what);

/// One op as the chip ran it, ready to be run again alone: inputs captured, weights by reference.
struct CapturedOp {
    conform::Case c;
    std::vector<Array> expected, got;
};

/// Watches steps as they are served and judges every one of them by level 1 (docs/agreement.md): each op against the
/// oracle on the inputs that its kernel really read, each input against what its producer wrote, each copy, each append
/// to the cache. Products: sampled outputs exactly, and all of them by Freivalds' check, which compares random sums of
/// the outputs with the same sums of the weights' rows. Other ops: all outputs of sampled rows.
class NodeChecker : public StepObserver {
  public:
    struct Options {
        int64_t rows = 3;      ///< of each step, the last one among them; 0 = all
        int64_t outputs = 64;  ///< of each weight of a product
        uint64_t seed = 1;
        int threads = 2;  ///< for the sums of weights, which are taken once
    };
    /// `reference`: the chip whose numbers are the truth. Both must outlive the checker.
    NodeChecker(const LoadedModel& model, Device& reference, Options options);
    ~NodeChecker() override;

    void before(LoadedModel& model, size_t bucket, size_t index) override;
    void after(LoadedModel& model, size_t bucket, size_t index) override;

    /// Puts random numbers at positions begin .. end - 1 of a sequence into every state, through the chip's own append:
    /// a long past without computing it. `pages`: the sequence's row of the block table.
    void fill_cache(LoadedModel& model, const std::vector<int32_t>& pages, int64_t begin, int64_t end);

    const std::vector<NodeFinding>& findings() const { return findings_; }
    int64_t outputs_checked() const { return checked_; }
    int64_t steps_checked() const { return steps_; }
    /// Called for an op that does not agree, with what a reproduction needs.
    std::function<void(const NodeFinding&, const CapturedOp&)> on_bad_op;

  private:
    struct Site {
        LoadedModel& model;
        size_t bucket, index;
        const Plan& plan;
        const PlannedStep& step;
        const Node& node;
    };
    void find(const Site& site, NodeFinding::What what, double worst, std::string why);
    void check_edges(const Site& site);
    void check_copy(LoadedModel& model, size_t bucket, const Plan& plan, const PlannedStep& step, size_t index);
    void check_op(const Site& site, const std::vector<Array>& outputs);
    void check_product(const Site& site, size_t which, const Array& y);
    void check_sums(const Site& site, const StoredTensor& tensor, const Array& x, const Array& y);
    void check_gather(const Site& site, const Array& y);
    conform::Case make_case(const Site& site, const std::vector<int64_t>& rows);
    std::vector<int64_t> sampled_rows(const Site& site) const;
    const WeightSums& sums_of(const StoredTensor& tensor);

    Device& reference_;
    Options options_;
    conform::Random random_;
    std::map<const StoredTensor*, std::unique_ptr<WeightSums>> sums_;
    std::unique_ptr<CacheMirror> cache_;
    std::vector<std::vector<int>> roots_;        ///< by bucket, then value
    std::map<std::pair<int, int>, Array> made_;  ///< (chip, root) of this step
    std::vector<Array> inputs_;                  ///< of the step between before() and after()
    std::vector<NodeFinding> findings_;
    int64_t checked_ = 0, steps_ = 0;
};

}  // namespace busbar::agree
