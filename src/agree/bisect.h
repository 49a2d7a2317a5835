#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agree/node_check.h"
#include "agree/reproduction.h"
#include "run/loaded_model.h"

namespace busbar::agree {

struct BisectOptions {
    std::vector<int32_t> ids;  ///< the text
    int64_t prompt = 320;      ///< of it, in chunks; then single tokens, past position 300
    int64_t singles = 6;
    int64_t rows = 6;  ///< of a chunk that are looked at one by one, see NodeChecker
    uint64_t seed = 1;
    int threads = 2;
    std::string model_hash, chip, save;  ///< save: folder for the reproduction; "" = none
    std::function<void(const char* what, int64_t done, int64_t all)> progress;
    std::function<bool()> stop;  ///< true ends with Error{interrupted}
};

/// Something that is not as it should be, in the order in which it happened.
struct Finding {
    NodeFinding what;
    size_t step = 0;  ///< of the run
    int64_t rows = 0;
    double accumulated = -1;  ///< error of the node's output since the model's start, relative; -1 = not known
};

struct BisectReport {
    BisectOptions asked;
    std::vector<Finding> findings;
    size_t steps = 0;
    int64_t nodes = 0, outputs = 0;  ///< that were checked
    bool watching_changed_bits = false;
    /// Error since the model's start after each layer's last node, in the last step checked.
    std::vector<std::pair<std::string, double>> accumulated;
    std::optional<Reproduction> reproduction;
    std::string saved_to;
    std::vector<std::string> not_tested;
    double seconds = 0;
    bool agrees() const { return findings.empty() && !watching_changed_bits; }
    std::string text_form() const;
    nlohmann::json json() const;
};

/// Level 3 of docs/agreement.md: walks the plan as it is served and checks every kernel on the inputs that it was
/// given, every edge between kernels, and what the caches hold. Ends after the first step with a finding. `oracle`: the
/// reference chip. `against`: the same model on the oracle for whole models, for the accumulated error; may be null.
BisectReport bisect(LoadedModel& chip, Device& oracle, LoadedModel* against, const BisectOptions& options);

/// The oracle for whole models must itself be checked: a small bisect of it against the reference, kept in the folder
/// `cache` by model, chip and build. Returns what was checked, in words. Throws Error{chip} where it is outside its
/// bounds.
std::string check_oracle(const std::function<LoadedModel&()>& model,
                         const std::function<std::unique_ptr<Device>()>& oracle, const std::vector<int32_t>& ids,
                         const std::string& model_hash, const std::string& chip, const std::string& cache);

}  // namespace busbar::agree
