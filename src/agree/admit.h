#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "agree/gate.h"

namespace busbar::agree {

/// Why a model may answer on its chips.
struct Admission {
    std::optional<GateReport> report;  ///< where the gate ran now; nothing where it was known
    /// What is kept, from now or from then: GateReport::json() and "date" (UTC), "model" (hash), "chips", "numerics",
    /// "order".
    nlohmann::json verdict;
};

/// Lets a model answer on its chips if it passed the gate before - with the same file, chips, drivers, kernels,
/// numerics and build - or passes now. What passed is kept in the cache folder; what failed is not, and is tried again.
/// Throws Error{chip} that names the first op found, and what would work. `open_reference` is called only where the
/// gate runs.
Admission admit(LoadedModel& model, const std::function<std::unique_ptr<Device>()>& open_reference,
                const GateOptions& options);

/// A model that admit() can judge whole needs room for a neighbour beside the sequences it shall serve: two sequences,
/// and a page more than `cache_pages` (0: than `sequences` of `context` positions).
void make_room_for_gate(int64_t& sequences, int64_t& cache_pages, int64_t context);

}  // namespace busbar::agree
