#include "llm/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/error.h"
#include "base/utf8.h"

namespace busbar {

namespace {

constexpr uint32_t no_rank = UINT32_MAX;
// Up to here a scan over the pairs for each merge beats a heap (measured on English and code: nearly all pieces are
// shorter).
constexpr size_t short_piece = 32;

constexpr std::string_view space = "▁";  // SentencePiece's, U+2581

// Where `text` next has a space after something else; its end if nowhere.
size_t inner_space(std::string_view text) {
    for (size_t at = 0; (at = text.find(space, at)) != std::string_view::npos; at += space.size())
        if (at > 0 && !text.substr(0, at).ends_with(space)) return at;
    return text.size();
}

bool has_inner_space(std::string_view text) {
    return inner_space(text) < text.size();
}

}  // namespace

MergeTable::MergeTable(size_t count) : slots_(std::bit_ceil(count * 3 / 2 + 16)) {}

void MergeTable::add(TokenId left, TokenId right, uint32_t rank, TokenId merged) {
    if ((used_ + 1) * 3 > slots_.size() * 2) {
        std::vector<Slot> old(slots_.size() * 2);
        old.swap(slots_);
        used_ = 0;
        for (const Slot& s : old)
            if (s.merge.id >= 0) add(s.left, s.right, s.merge.rank, s.merge.id);
    }
    const size_t mask = slots_.size() - 1;
    size_t i = hash_pair(left, right) & mask;
    while (slots_[i].merge.id >= 0 && !(slots_[i].left == left && slots_[i].right == right)) i = (i + 1) & mask;
    if (slots_[i].merge.id < 0) ++used_;
    slots_[i] = {left, right, {rank, merged}};
}

Bpe::Bpe(const Vocabulary& vocabulary, MergeTable merges, Options options, const std::string& address)
    : vocabulary_(vocabulary), options_(std::move(options)), merges_(std::move(merges)) {
    prepare(address);
    if (!cuts_at_spaces_) return;
    merges_.each(
        [&](TokenId result) { cuts_at_spaces_ = cuts_at_spaces_ && !has_inner_space(vocabulary_.piece(result)); });
}

Bpe::Bpe(const Vocabulary& vocabulary, const std::vector<float>& scores, std::vector<bool> mergeable, Options options,
         const std::string& address)
    : vocabulary_(vocabulary), options_(std::move(options)), ranks_(scores.size(), no_rank), by_score_(true) {
    // Highest score first; equal scores share a rank, so that position decides between them.
    std::vector<TokenId> order;
    for (TokenId id = 0; id < static_cast<TokenId>(scores.size()); ++id)
        if (mergeable[id]) order.push_back(id);
    std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return scores[a] > scores[b]; });
    uint32_t rank = 0;
    for (size_t i = 0; i < order.size(); ++i) {
        if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
        ranks_[order[i]] = rank;
    }
    prepare(address);
    for (const TokenId id : order) cuts_at_spaces_ = cuts_at_spaces_ && !has_inner_space(vocabulary_.piece(id));
}

void Bpe::prepare(const std::string& address) {
    for (uint32_t cp = 0; cp < low_.size(); ++cp) {
        std::string s;
        utf8_append(s, cp);
        low_[cp] = vocabulary_.find(s);
    }
    for (int b = 0; b < 256; ++b) byte_ids_[b] = vocabulary_.find(fmt::format("<0x{:02X}>", b));
    cuts_at_spaces_ = vocabulary_.find(space) >= 0 && !options_.ignore_merges && options_.subword_prefix.empty() &&
                      options_.word_suffix.empty();
    if (!options_.unknown.empty()) {
        unknown_id_ = vocabulary_.find(options_.unknown);
        if (unknown_id_ < 0)
            throw bad_input(address, "[tokenizer] expected the unknown token {} in the vocabulary, it is not there",
                            quote(options_.unknown));
    }
}

size_t Bpe::cut(std::string_view text) const {
    return cuts_at_spaces_ ? inner_space(text) : text.size();
}

void Bpe::forbid(std::vector<bool> ids) {
    forbidden_ = std::move(ids);
}

TokenId Bpe::symbol_id(uint32_t cp, std::string_view spelling, bool trusted) const {
    const TokenId id = cp < low_.size() ? low_[cp] : vocabulary_.find(spelling);
    if (id < 0 || forbidden(id, trusted) || (by_score_ && ranks_[id] == no_rank)) return -1;
    return id;
}

void Bpe::add_fallback(std::string_view spelling, uint32_t begin, uint32_t end, std::vector<Symbol>& symbols,
                       std::optional<Symbol>& unknown) const {
    if (options_.byte_fallback) {
        const bool all = std::all_of(spelling.begin(), spelling.end(),
                                     [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
        if (all) {
            for (size_t i = 0; i < spelling.size(); ++i) {
                const uint32_t at = std::min<uint32_t>(begin + i, end - 1);
                symbols.push_back({byte_ids_[static_cast<uint8_t>(spelling[i])], at, at + 1, 0, 0});
            }
            return;
        }
    }
    if (unknown_id_ < 0) return;
    if (unknown && options_.fuse_unknown) {
        unknown->end = end;
        return;
    }
    if (unknown) symbols.push_back(*unknown);
    unknown = Symbol{unknown_id_, begin, end, 0, 0};
}

void Bpe::split(std::string_view piece, bool trusted, std::vector<Symbol>& symbols) const {
    symbols.clear();
    std::optional<Symbol> unknown;
    std::string glued;
    const bool glues = !options_.subword_prefix.empty() || !options_.word_suffix.empty();
    for (size_t pos = 0; pos < piece.size();) {
        const uint32_t begin = static_cast<uint32_t>(pos);
        uint32_t cp = utf8_next(piece, pos);
        const uint32_t end = static_cast<uint32_t>(pos);
        std::string_view spelling = piece.substr(begin, end - begin);
        if (glues) {
            glued = begin > 0 ? options_.subword_prefix : "";
            glued += spelling;
            if (end == piece.size()) glued += options_.word_suffix;
            if (glued.size() != spelling.size()) cp = UINT32_MAX;
            spelling = glued;
        }
        const TokenId id = symbol_id(cp, spelling, trusted);
        if (id >= 0) {
            if (unknown) symbols.push_back(*unknown);
            unknown.reset();
            symbols.push_back({id, begin, end, 0, 0});
        } else if (by_score_) {
            symbols.push_back({-1, begin, end, 0, 0});  // may still merge with a neighbour; falls back at the end
        } else {
            add_fallback(spelling, begin, end, symbols, unknown);
        }
    }
    if (unknown) symbols.push_back(*unknown);
}

MergeTable::Merge Bpe::pair(std::string_view piece, const Symbol& left, const Symbol& right, bool trusted) const {
    if (!by_score_) {
        const MergeTable::Merge* merge = merges_.find(left.id, right.id);
        return merge && !forbidden(merge->id, trusted) ? *merge : MergeTable::Merge{no_rank, -1};
    }
    const size_t length = right.end - left.begin;
    if (length > vocabulary_.longest()) return {no_rank, -1};
    const TokenId id = vocabulary_.find(piece.substr(left.begin, length));
    if (id < 0 || forbidden(id, trusted)) return {no_rank, -1};
    return {ranks_[id], id};
}

void Bpe::merge_short(std::string_view piece, bool trusted, std::vector<Symbol>& symbols) const {
    MergeTable::Merge pairs[short_piece];  // pairs[i] joins symbols i and i + 1
    size_t n = symbols.size();
    for (size_t i = 0; i + 1 < n; ++i) pairs[i] = pair(piece, symbols[i], symbols[i + 1], trusted);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; ++i)
            if (pairs[i].rank < pairs[best].rank) best = i;
        if (pairs[best].rank == no_rank) break;
        symbols[best].id = pairs[best].id;
        symbols[best].end = symbols[best + 1].end;
        for (size_t i = best + 1; i + 1 < n; ++i) {
            symbols[i] = symbols[i + 1];
            pairs[i - 1] = pairs[i];
        }
        --n;
        if (best > 0) pairs[best - 1] = pair(piece, symbols[best - 1], symbols[best], trusted);
        if (best + 1 < n) pairs[best] = pair(piece, symbols[best], symbols[best + 1], trusted);
    }
    symbols.resize(n);
}

void Bpe::merge_long(std::string_view piece, bool trusted, Scratch& scratch) const {
    auto& symbols = scratch.symbols;
    auto& heap = scratch.heap;
    const auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) { return a.key > b.key; };
    const auto candidate = [&](int32_t left) -> std::optional<Scratch::Candidate> {
        const int32_t right = symbols[left].next;
        if (right < 0) return std::nullopt;
        const MergeTable::Merge merge = pair(piece, symbols[left], symbols[right], trusted);
        if (merge.rank == no_rank) return std::nullopt;
        return Scratch::Candidate{static_cast<uint64_t>(merge.rank) << 32 | static_cast<uint32_t>(left),
                                  symbols[right].end, merge.id};
    };
    heap.clear();
    const int32_t n = static_cast<int32_t>(symbols.size());
    for (int32_t i = 0; i < n; ++i) {
        symbols[i].previous = i - 1;
        symbols[i].next = i + 1 < n ? i + 1 : -1;
        // By rank the text no longer matters; counting symbols keeps every end distinct, which byte fallback does not.
        if (!by_score_) symbols[i].begin = i, symbols[i].end = i + 1;
    }
    for (int32_t i = 0; i < n; ++i)
        if (const auto c = candidate(i)) heap.push_back(*c);
    std::make_heap(heap.begin(), heap.end(), later);
    const auto push = [&](int32_t left) {
        if (const auto c = candidate(left)) {
            heap.push_back(*c);
            std::push_heap(heap.begin(), heap.end(), later);
        }
    };
    while (!heap.empty()) {
        const Scratch::Candidate c = heap.front();
        std::pop_heap(heap.begin(), heap.end(), later);
        heap.pop_back();
        const int32_t left = static_cast<int32_t>(c.key & UINT32_MAX);
        // A symbol only ever grows to the right or is swallowed (end 0), so the same end on the right means the same
        // pair.
        const int32_t right = symbols[left].end > 0 ? symbols[left].next : -1;
        if (right < 0 || symbols[right].end != c.end) continue;
        symbols[left].id = c.id;
        symbols[left].end = symbols[right].end;
        symbols[left].next = symbols[right].next;
        symbols[right].end = 0;
        if (symbols[left].next >= 0) symbols[symbols[left].next].previous = left;
        push(left);
        if (symbols[left].previous >= 0) push(symbols[left].previous);
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0;) {
        const int32_t next = symbols[i].next;
        symbols[kept++] = symbols[i];
        i = next;
    }
    symbols.resize(kept);
}

void Bpe::append(std::string_view piece, const Symbol& symbol, std::vector<TokenId>& ids) const {
    if (symbol.id >= 0) {
        ids.push_back(symbol.id);
        return;
    }
    std::vector<Symbol> fallback;
    std::optional<Symbol> unknown;
    add_fallback(piece.substr(symbol.begin, symbol.end - symbol.begin), symbol.begin, symbol.end, fallback, unknown);
    if (unknown) fallback.push_back(*unknown);
    for (const Symbol& s : fallback)
        if (!(options_.fuse_unknown && s.id == unknown_id_ && !ids.empty() && ids.back() == unknown_id_))
            ids.push_back(s.id);
}

void Bpe::encode(std::string_view piece, bool trusted, Scratch& scratch, std::vector<TokenId>& ids) const {
    if (piece.empty()) return;
    if (options_.ignore_merges) {
        const TokenId whole = vocabulary_.find(piece);
        if (whole >= 0 && !forbidden(whole, trusted)) {
            ids.push_back(whole);
            return;
        }
    }
    split(piece, trusted, scratch.symbols);
    if (scratch.symbols.empty()) return;
    if (scratch.symbols.size() <= short_piece) {
        merge_short(piece, trusted, scratch.symbols);
    } else {
        merge_long(piece, trusted, scratch);
    }
    for (const Symbol& symbol : scratch.symbols) append(piece, symbol, ids);
}

}  // namespace busbar
