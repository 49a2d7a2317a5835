#pragma once
#include <vector>

#include "graph/graph.h"

namespace busbar {

/// By value: whose memory it lies in. A view lies where its input lies, an updated state where the state lies; every
/// other value is its own.
std::vector<int> memory_of_values(const Graph& graph);

}  // namespace busbar
