#pragma once
#include <cstdint>
#include <vector>

namespace busbar {

/// A block of scratch that is written at step `first` and read last at step `last`.
struct ScratchRequest {
    uint64_t bytes = 0;
    int first = 0, last = 0;
    uint64_t offset = 0;  ///< the answer
};

struct ScratchSummary {
    uint64_t bytes = 0;     ///< of the whole scratch
    uint64_t unshared = 0;  ///< sum of all requests
    int reused = 0;         ///< requests that lie where another one lay before
};

/// Gives requests whose lives overlap disjoint memory, and lets the others share: largest first, each at the lowest gap
/// that fits.
ScratchSummary lay_out_scratch(std::vector<ScratchRequest>& requests);

}  // namespace busbar
