#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "run/loaded_model.h"

namespace busbar {

/// Pages of the model's states, shared between sequences by counting readers. The four verbs - append, truncate, fork,
/// snapshot - are all that batching, prefix reuse, speculation and failover need.
class Cache {
  public:
    explicit Cache(LoadedModel& model);

    /// One sequence's view: the pages that hold its positions 0 .. length-1. Made by Cache, released by Cache::release.
    struct Sequence {
        std::vector<int32_t> pages;
        int64_t length = 0;
    };

    /// Makes room for `n` more positions and counts them as filled (the step that follows fills them). A page that
    /// others read too is copied first. Throws Error{does_not_fit} with the numbers if pages run out or the context
    /// ends; then nothing has changed.
    void append(Sequence& sequence, int64_t n);
    /// Forgets positions from `length` on.
    void truncate(Sequence& sequence, int64_t length);
    /// A second sequence with the same past; the pages are shared until one of the two writes.
    Sequence fork(const Sequence& sequence);
    void release(Sequence& sequence) { truncate(sequence, 0); }

    /// The past as bytes, and back: for the same model, chip and options only (the layout is the chip's own).
    std::vector<std::byte> snapshot(const Sequence& sequence) const;
    Sequence restore(Bytes data);

    /// Writes the sequence's pages into a row of a step record's block table.
    void fill(const Sequence& sequence, std::span<int32_t> block_row) const;
    int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }

  private:
    int32_t take_page();
    void drop_page(int32_t page);

    LoadedModel& model_;
    std::vector<int32_t> free_;     ///< a stack: the last one freed is the warmest
    std::vector<int32_t> readers_;  ///< by page
};

}  // namespace busbar
