#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "agree/node_check.h"
#include "run/loaded_model.h"

namespace busbar::agree {

struct GateOptions {
    std::vector<int32_t> tokens;  ///< what is fed; empty: ids spread over the vocabulary
    uint64_t seed = 0;  ///< 0: a fresh one, or BUSBAR_SEED
    int threads = 2;
    int64_t far = 304;  ///< positions before the last steps, filled, not computed: kernels change with length
    std::function<void(const char* what)> progress;
    bool again = false;  ///< for admit(): run even where it is known, since the chip was lost or lied meanwhile
};

struct GateProbe {
    std::string name;
    bool passed = true;
    double seconds = 0;
    std::string detail;  ///< what was done, or what was found
};

struct GateReport {
    std::vector<GateProbe> probes;
    std::vector<NodeFinding> findings;  ///< in the order of execution
    int64_t steps = 0, outputs = 0;     ///< checked
    double seconds = 0;
    bool passed() const;
    /// The first thing found, "" if nothing.
    std::string first() const;
    /// "passed in 1.2 s: 1,830 steps, 412,000 outputs checked (fault rate below 3 in 412,000 ...)"
    std::string line() const;
    nlohmann::json json() const;
};

/// The check before a chip answers with a model for the first time (docs/agreement.md, "The gate"). Runs the plans that
/// will serve, in the cache's pages, which must be free; needs no reference of the whole model. The model should have
/// been loaded for two sequences or more: with one, what neighbours could leak is not tested, and the report says so.
/// Throws what a step throws.
GateReport run_gate(LoadedModel& model, Device& reference, const GateOptions& options);

}  // namespace busbar::agree
