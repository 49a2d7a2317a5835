#include "llm/cache/cache.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"

namespace busbar {

Cache::Cache(LoadedModel& model) : model_(model), readers_(model.cache_pages(), 0) {
    for (int64_t p = model.cache_pages(); p-- > 0;) free_.push_back(static_cast<int32_t>(p));
}

int32_t Cache::take_page() {
    if (free_.empty()) {
        const int32_t page = kept_.evict([&](int32_t p) { return readers_[p] == 1; });
        BUSBAR_CHECK(page >= 0);
        drop_page(page);
    }
    const int32_t page = free_.back();
    free_.pop_back();
    readers_[page] = 1;
    return page;
}

void Cache::drop_page(int32_t page) {
    BUSBAR_CHECK(readers_[page] > 0);
    if (--readers_[page] == 0) free_.push_back(page);
}

void Cache::append(Sequence& s, int64_t n) {
    BUSBAR_CHECK(n >= 0);
    if (s.length + n > model_.context())
        throw does_not_fit("[cache] {} positions and {} more exceed the context of {}; --context {} would hold them",
                           s.length, n, model_.context(), round_up(s.length + n, page_positions));
    const int64_t have = static_cast<int64_t>(s.pages.size()), need = ceil_div(s.length + n, page_positions);
    const bool copies = n > 0 && shares_tail(s);
    if (need - have + copies > free_pages() && need - have + copies > free_pages() + kept_pages())
        throw does_not_fit("[cache] {} pages of {} positions are needed, {} of {} are free", need - have + copies,
                           page_positions, free_pages(), model_.cache_pages());
    if (copies) {
        const int32_t shared = s.pages.back(), own = take_page();
        model_.copy_page(shared, own);
        drop_page(shared);
        s.pages.back() = own;
    }
    while (static_cast<int64_t>(s.pages.size()) < need) s.pages.push_back(take_page());
    s.length += n;
}

void Cache::truncate(Sequence& s, int64_t length) {
    BUSBAR_CHECK(length >= 0 && length <= s.length);
    s.length = length;
    while (static_cast<int64_t>(s.pages.size()) > ceil_div(length, page_positions)) {
        drop_page(s.pages.back());
        s.pages.pop_back();
    }
}

Cache::Sequence Cache::fork(const Sequence& s) {
    for (int32_t page : s.pages) ++readers_[page];
    return s;
}

Cache::Sequence Cache::match(std::span<const int32_t> tokens, int64_t most, uint64_t space) {
    Sequence s;
    most = std::min(most, static_cast<int64_t>(tokens.size()));
    PrefixIndex::Entry parent = PrefixIndex::tenant(space);
    while (s.length + page_positions <= most) {
        const PrefixIndex::Entry e = kept_.find(parent, tokens.subspan(s.length, page_positions));
        if (e < 0) break;
        s.pages.push_back(kept_.page_of(e));
        ++readers_[s.pages.back()];
        s.length += page_positions;
        parent = e;
    }
    return s;
}

void Cache::publish(const Sequence& s, std::span<const int32_t> tokens, uint64_t space, Published& p) {
    BUSBAR_CHECK(s.length <= static_cast<int64_t>(tokens.size()));
    if (p.entry == PrefixIndex::root) p.entry = PrefixIndex::tenant(space);
    while (!p.ended && (p.pages + 1) * page_positions <= s.length) {
        const auto page_tokens = tokens.subspan(p.pages * page_positions, page_positions);
        PrefixIndex::Entry e = kept_.find(p.entry, page_tokens);
        if (e < 0) {
            e = kept_.insert(p.entry, page_tokens, s.pages[p.pages]);
            ++readers_[s.pages[p.pages]];
        } else if (kept_.page_of(e) != s.pages[p.pages]) {
            // Two sequences computed the same tokens at the same time. Only the first one's pages go on being kept: an
            // entry whose page a sequence reads then always has parents whose pages that sequence reads too, so that
            // what nobody reads can go, leaves first.
            p.ended = true;
            break;
        }
        p.entry = e;
        ++p.pages;
    }
}

int64_t Cache::kept_pages() const {
    return kept_.count([&](int32_t p) { return readers_[p] == 1; });
}

std::vector<std::byte> Cache::snapshot(const Sequence& s) const {
    const uint64_t page = model_.page_bytes();
    std::vector<std::byte> out(8 + s.pages.size() * page);
    std::memcpy(out.data(), &s.length, 8);
    for (size_t i = 0; i < s.pages.size(); ++i)
        model_.read_page(s.pages[i], std::span(out).subspan(8 + i * page, page));
    return out;
}

Cache::Sequence Cache::restore(Bytes data) {
    const uint64_t page = model_.page_bytes();
    const int64_t length = data.size() >= 8 ? load<int64_t>(data.data()) : -1;
    if (length < 0 || length > model_.context() || data.size() != 8 + ceil_div(length, page_positions) * page)
        throw bad_input("snapshot",
                        "[cache] expected a snapshot of whole pages of {} bytes, got {} bytes for {} positions", page,
                        data.size(), length);
    Sequence s;
    append(s, length);
    for (size_t i = 0; i < s.pages.size(); ++i) model_.write_page(s.pages[i], data.subspan(8 + i * page, page));
    return s;
}

void Cache::fill(const Sequence& s, std::span<int32_t> block_row) const {
    std::ranges::copy(s.pages, block_row.begin());
    std::fill(block_row.begin() + static_cast<int64_t>(s.pages.size()), block_row.end(), -1);
}

}  // namespace busbar
