#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "llm/cache/prefix.h"
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

    /// The longest past of `tokens` that is kept, in whole pages and at most `most` positions: shared, not copied.
    /// Tenants with different `space` share nothing.
    Sequence match(std::span<const int32_t> tokens, int64_t most, uint64_t space);
    /// Keeps the whole pages of a sequence (the past of `tokens`) for later matches, for as long as nobody needs the
    /// memory. `published` says how far an earlier call came with this sequence; give each sequence its own.
    struct Published {
        PrefixIndex::Entry entry = PrefixIndex::root;
        int64_t pages = 0;
        bool ended = false;
    };
    void publish(const Sequence& sequence, std::span<const int32_t> tokens, uint64_t space, Published& published);
    /// Kept pages that no sequence reads: append() takes them, least recently used first, when no page is free.
    int64_t kept_pages() const;
    /// True where the sequence's next position lies in a page that others read too: append() will copy it.
    bool shares_tail(const Sequence& s) const { return s.length % page_positions != 0 && readers_[s.pages.back()] > 1; }

  private:
    int32_t take_page();
    void drop_page(int32_t page);

    LoadedModel& model_;
    std::vector<int32_t> free_;     ///< a stack: the last one freed is the warmest
    std::vector<int32_t> readers_;  ///< by page; the index of kept prefixes is a reader
    PrefixIndex kept_;
};

}  // namespace busbar
