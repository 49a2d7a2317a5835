#include "plan/scratch.h"

#include <algorithm>
#include <numeric>

namespace busbar {

ScratchSummary lay_out_scratch(std::vector<ScratchRequest>& requests) {
    std::vector<size_t> order(requests.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, [&](size_t a, size_t b) { return requests[a].bytes > requests[b].bytes; });
    ScratchSummary summary;
    std::vector<size_t> placed;
    for (size_t i : order) {
        ScratchRequest& r = requests[i];
        summary.unshared += r.bytes;
        std::vector<std::pair<uint64_t, uint64_t>> taken;
        for (size_t j : placed)
            if (requests[j].first <= r.last && r.first <= requests[j].last)
                taken.emplace_back(requests[j].offset, requests[j].offset + requests[j].bytes);
        std::ranges::sort(taken);
        uint64_t at = 0;
        for (const auto& [begin, end] : taken) {
            if (begin >= at + r.bytes) break;
            at = std::max(at, end);
        }
        r.offset = at;
        const uint64_t before = summary.bytes;
        summary.bytes = std::max(summary.bytes, at + r.bytes);
        if (at < before) ++summary.reused;
        placed.push_back(i);
    }
    return summary;
}

}  // namespace busbar
