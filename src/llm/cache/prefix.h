#pragma once
#include <array>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "device/profile.h"

namespace busbar {

/// Which pages hold the past of which tokens: a tree whose edges are whole pages of token ids. Tokens are compared, not
/// only hashed: a collision would show one user the past of another. Knows pages by number and owns none of them.
class PrefixIndex {
  public:
    using Entry = int64_t;
    static constexpr Entry root = 0;

    /// The entry below `parent` whose page holds exactly `tokens` (page_positions of them); -1 if there is none. A find
    /// counts as a use.
    Entry find(Entry parent, std::span<const int32_t> tokens);
    Entry insert(Entry parent, std::span<const int32_t> tokens, int32_t page);
    int32_t page_of(Entry e) const { return entries_.at(e).page; }
    size_t size() const { return entries_.size(); }

    /// A parent for the pasts of one tenant: entries below different ones are never shared.
    static Entry tenant(uint64_t space) { return -1 - static_cast<Entry>(space & 0x3fffffffffffffff); }

    /// Takes out the entry least recently used that has none below it and whose page `may_go`; returns its page, -1 if
    /// there is none.
    template <typename MayGo>
    int32_t evict(MayGo may_go) {
        for (const Entry e : by_use_)
            if (const Node& n = entries_.at(e); n.children == 0 && may_go(n.page)) return take_out(e);
        return -1;
    }
    /// How many pages `may_go`.
    template <typename MayGo>
    int64_t count(MayGo may_go) const {
        int64_t n = 0;
        for (const auto& [e, node] : entries_) n += may_go(node.page);
        return n;
    }

  private:
    struct Key {
        Entry parent;
        std::vector<int32_t> tokens;
        bool operator==(const Key&) const = default;
    };
    struct Hash {
        size_t operator()(const Key& key) const;
    };
    struct Node {
        const Key* key;
        int32_t page;
        int64_t children;
        std::list<Entry>::iterator use;
    };
    int32_t take_out(Entry e);
    void used(Node& n);

    std::unordered_map<Key, Entry, Hash> by_key_;
    std::unordered_map<Entry, Node> entries_;
    std::list<Entry> by_use_;  ///< least recently used first
    Entry next_ = 1;
};

}  // namespace busbar
