#include "llm/cache/prefix.h"

#include "base/check.h"

namespace busbar {

size_t PrefixIndex::Hash::operator()(const Key& key) const {
    uint64_t h = static_cast<uint64_t>(key.parent) * 0x9e3779b97f4a7c15ull;
    for (const int32_t t : key.tokens) h = (h ^ (h >> 29) ^ static_cast<uint32_t>(t)) * 0xbf58476d1ce4e5b9ull;
    return h ^ (h >> 32);
}

void PrefixIndex::used(Node& n) {
    by_use_.splice(by_use_.end(), by_use_, n.use);
}

PrefixIndex::Entry PrefixIndex::find(Entry parent, std::span<const int32_t> tokens) {
    const auto found = by_key_.find(Key{parent, {tokens.begin(), tokens.end()}});
    if (found == by_key_.end()) return -1;
    used(entries_.at(found->second));
    return found->second;
}

PrefixIndex::Entry PrefixIndex::insert(Entry parent, std::span<const int32_t> tokens, int32_t page) {
    const auto [at, fresh] = by_key_.try_emplace(Key{parent, {tokens.begin(), tokens.end()}}, next_);
    BUSBAR_CHECK(fresh);
    entries_.emplace(next_, Node{&at->first, page, 0, by_use_.insert(by_use_.end(), next_)});
    if (parent > root) ++entries_.at(parent).children;
    return next_++;
}

int32_t PrefixIndex::take_out(Entry e) {
    const Node n = entries_.at(e);
    if (n.key->parent > root) --entries_.at(n.key->parent).children;
    by_use_.erase(n.use);
    entries_.erase(e);
    by_key_.erase(by_key_.find(*n.key));
    return n.page;
}

}  // namespace busbar
