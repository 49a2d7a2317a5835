#include "run/large_weights.h"

#include <algorithm>

#include "base/large_pages.h"
#include "base/trace.h"

namespace busbar {

LargeWeights::LargeWeights(std::vector<Bytes> mapped) {
    std::sort(mapped.begin(), mapped.end(), [](Bytes a, Bytes b) { return a.data() > b.data(); });
    // Tensors lie side by side but for a little padding; pieces that end with each would leave small pages between.
    constexpr ptrdiff_t padding = 4096;
    for (const Bytes part : mapped) {
        if (part.empty()) continue;
        const std::byte* end = part.data() + part.size();
        if (!left_.empty() && left_.back().data() - end <= padding) {
            end = std::max(end, left_.back().data() + left_.back().size());
            left_.pop_back();
        }
        left_.emplace_back(part.data(), end);
    }
}

void LargeWeights::step_done() {
    // What a piece costs comes back within two hundred steps or so: a model that has seen as many sees more.
    constexpr int steps_before = 200;
    if (left_.empty() || ++steps_ < steps_before) return;
    if (steps_ == steps_before && !has_large_pages()) return left_.clear();
    move_piece();
}

void LargeWeights::move_piece() {
    // So much is there twice for a moment, and so long a step waits: two or three milliseconds.
    constexpr uint64_t piece = 4 * large_page;
    Bytes& from = left_.back();
    const auto begin = reinterpret_cast<uintptr_t>(from.data());
    const uint64_t bytes = std::min<uint64_t>(from.size(), (begin + piece) / large_page * large_page - begin);
    if (!move_to_large_pages(from.first(bytes))) return left_.clear();
    from = from.subspan(bytes);
    if (from.empty()) left_.pop_back();
}

void LargeWeights::settle() {
    if (!has_large_pages()) return;
    const Span span("weights to large pages");
    while (!left_.empty()) move_piece();
}

}  // namespace busbar
