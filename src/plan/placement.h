#pragma once
#include <span>
#include <string>
#include <vector>

#include "plan/plan.h"

namespace busbar {

/// Layer of a node by its name ("layer.3.attention"), -1 for the embedding, the last norm and the head.
int64_t layer_of(const Node& node);
int64_t layers_of(const Graph& graph);

/// Chip meant for each node: its layer's; what stands before the first layer goes with it, what comes after the last
/// one with that. `layers` empty: chip 0.
std::vector<int> meant_chips(const Graph& graph, const std::vector<int>& layers);

/// "cpu:0-14,opencl:15-29": the chip of every layer, as an index into `names` (the parts of --chip; the last colon of a
/// part separates chip and layers). Throws Error{usage} where a layer is missing, doubled, or on a chip that is not
/// named.
std::vector<int> parse_split(const std::string& split, const std::vector<std::string>& names, int64_t layers);

struct Placement {
    std::vector<int> layers;       ///< chip of each layer
    std::vector<std::string> why;  ///< a line for each decision
};

/// Deals the layers out over chips[0 .. asked): runs of neighbouring layers, so that the sum of predicted times of one
/// step, crossings included, is least among all that fit. So one chip takes all if it is fastest and large enough.
/// Pure, like a plan; options.binding is the bucket that counts (one row: generation). `cache_pages`: of each state.
/// Throws Error{does_not_fit} with the numbers and what would fit.
Placement place_layers(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options,
                       int64_t cache_pages);

}  // namespace busbar
