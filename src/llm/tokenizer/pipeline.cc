#include "llm/tokenizer/pipeline.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/utf8.h"
#include "llm/tokenizer/unicode.h"

namespace busbar {

namespace {

// Offsets are 32 bits wide and byte symbols take up to two bytes each.
constexpr size_t longest_text = 1u << 30;

/// Ids of short pieces met before in the same encoding: a direct-mapped table that points into the ids made so far.
/// It belongs to one call, so it needs no lock and keeps no memory.
class PieceCache {
  public:
    explicit PieceCache(size_t text_size) {
        if (text_size >= worth_it) entries_.resize(slots);
    }
    bool take(std::string_view piece, std::vector<TokenId>& ids) {
        entry_ = nullptr;
        if (entries_.empty() || piece.size() > longest) return false;
        entry_ = &entries_[hash_bytes(piece) % slots];
        if (entry_->length == piece.size() && std::memcmp(entry_->key, piece.data(), piece.size()) == 0) {
            for (uint32_t i = 0; i < entry_->count; ++i) {
                const TokenId id = ids[entry_->first + i];  // a copy: push_back may move what it stands in
                ids.push_back(id);
            }
            return true;
        }
        first_ = ids.size();
        return false;
    }
    void put(std::string_view piece, const std::vector<TokenId>& ids) {
        if (!entry_ || ids.size() > UINT32_MAX) return;
        entry_->length = static_cast<uint8_t>(piece.size());
        std::memcpy(entry_->key, piece.data(), piece.size());
        entry_->first = static_cast<uint32_t>(first_);
        entry_->count = static_cast<uint32_t>(ids.size() - first_);
    }
    void clear() { std::fill(entries_.begin(), entries_.end(), Entry()); }

  private:
    static constexpr size_t worth_it = 2048, slots = 8192, longest = 23;
    struct Entry {
        uint8_t length = 0;
        char key[longest];
        uint32_t first, count;
    };
    std::vector<Entry> entries_;
    Entry* entry_ = nullptr;
    size_t first_ = 0;
};

bool covers(const std::vector<Range>& ranges, Range range) {
    for (const Range r : ranges)
        if (r.begin <= range.begin && range.end <= r.end) return true;
    return false;
}

// The part of `ranges` inside `window`, counted from its start.
std::vector<Range> inside(const std::vector<Range>& ranges, Range window) {
    std::vector<Range> out;
    auto r = std::partition_point(ranges.begin(), ranges.end(), [&](Range x) { return x.end <= window.begin; });
    for (; r != ranges.end() && r->begin < window.end; ++r)
        out.push_back({std::max(r->begin, window.begin) - window.begin, std::min(r->end, window.end) - window.begin});
    return out;
}

}  // namespace

struct PipelineTokenizer::Run {
    std::vector<TokenId> ids;
    Bpe::Scratch scratch;
    PieceCache cache;
    bool cache_trusted = true;  // what the cached pieces were encoded as
};

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
    added_.resize(parts_.vocabulary->size());
    special_.resize(parts_.vocabulary->size());
    std::vector<bool> commands(parts_.vocabulary->size());
    std::vector<AddedToken> raw, normalized;
    std::vector<std::string> raw_spellings, normalized_spellings;
    for (AddedToken& token : parts_.added) {
        added_[token.id] = true;
        special_[token.id] = special_[token.id] || token.special;
        std::string_view text = token.content;
        bool blank = true;
        for (size_t pos = 0; pos < text.size();) blank &= is_white_space(utf8_next(text, pos));
        if (token.special || !blank) commands[token.id] = true;
        if (token.normalized) {
            normalized_spellings.push_back(parts_.normalizer.apply(token.content));
            normalized.push_back(std::move(token));
        } else {
            raw_spellings.push_back(token.content);
            raw.push_back(std::move(token));
        }
    }
    parts_.added.clear();
    raw_finder_ = AddedTokenFinder(std::move(raw), raw_spellings);
    normalized_finder_ = AddedTokenFinder(std::move(normalized), normalized_spellings);
    parts_.model->forbid(std::move(commands));
}

std::vector<TokenId> PipelineTokenizer::encode(const std::vector<TextSpan>& spans, bool add_special) const {
    std::string joined;
    std::string_view text = spans.empty() ? std::string_view() : spans[0].text;
    if (spans.size() > 1) {
        for (const TextSpan& span : spans) joined += span.text;
        text = joined;
    }
    if (text.size() > longest_text)
        throw bad_input("text", "[tokenizer] expected at most {} bytes, got {}", with_commas(longest_text),
                        with_commas(text.size()));
    if (const size_t bad = utf8_first_invalid(text); bad != std::string_view::npos)
        throw bad_input(fmt::format("text: offset {}", with_commas(bad)),
                        "[tokenizer] expected UTF-8, got the byte 0x{:02x}", static_cast<uint8_t>(text[bad]));
    std::vector<Range> trusted;
    uint32_t at = 0;
    for (const TextSpan& span : spans) {
        const uint32_t end = at + static_cast<uint32_t>(span.text.size());
        if (span.trusted && end > at) {
            if (!trusted.empty() && trusted.back().end == at) {
                trusted.back().end = end;
            } else {
                trusted.push_back({at, end});
            }
        }
        at = end;
    }

    Run run{.ids = {}, .scratch = {}, .cache = PieceCache(text.size())};
    run.ids.reserve(text.size() / 3 + 8);
    for (const auto& part : raw_finder_.find(text, trusted)) {
        if (part.id >= 0) {
            run.ids.push_back(part.id);
        } else {
            encode_segment(text, part.range, trusted, run);
        }
    }
    if (add_special) parts_.post_processor.apply(run.ids);
    return std::move(run.ids);
}

void PipelineTokenizer::encode_segment(std::string_view text, Range range, const std::vector<Range>& trusted,
                                       Run& run) const {
    const std::string_view raw = text.substr(range.begin, range.size());
    std::string normal_text;
    std::string_view normal = raw;
    if (!parts_.normalizer.empty()) normal = normal_text = parts_.normalizer.apply(raw);
    const std::vector<Range> raw_trusted = inside(trusted, range);
    const bool all_trusted = covers(raw_trusted, {0, range.size()});
    if (normalized_finder_.empty()) {
        encode_ordinary(normal, range.begin == 0, all_trusted, run);
        return;
    }
    const std::vector<Range> normal_trusted = trusted_after_normalizing(raw, normal, raw_trusted);
    for (const auto& part : normalized_finder_.find(normal, normal_trusted)) {
        if (part.id >= 0) {
            run.ids.push_back(part.id);
        } else {
            encode_ordinary(normal.substr(part.range.begin, part.range.size()),
                            range.begin == 0 && part.range.begin == 0, all_trusted, run);
        }
    }
}

// Where trusted stretches lie after normalising. A stretch ends no later than the text up to its end, normalised alone,
// agrees with the whole, and begins no earlier than the text from its begin on agrees with it: what a normalizer joins
// over a border (an accent with its letter) counts as untrusted, never the other way round.
std::vector<Range> PipelineTokenizer::trusted_after_normalizing(std::string_view text, std::string_view normal,
                                                                const std::vector<Range>& trusted) const {
    if (trusted.empty()) return {};
    if (covers(trusted, {0, static_cast<uint32_t>(text.size())})) return {{0, static_cast<uint32_t>(normal.size())}};
    if (parts_.normalizer.empty()) return trusted;
    const auto continues = [&](uint32_t at) {
        return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
    };
    std::vector<Range> out;
    for (Range r : trusted) {
        while (continues(r.begin)) ++r.begin;  // a code point that a border cuts is untrusted
        while (continues(r.end)) --r.end;
        if (r.begin >= r.end) continue;
        const std::string head = parts_.normalizer.apply(text.substr(0, r.end));
        const std::string tail = parts_.normalizer.apply(text.substr(r.begin));
        const auto end = std::mismatch(head.begin(), head.end(), normal.begin(), normal.end()).first - head.begin();
        const auto length =
            std::mismatch(tail.rbegin(), tail.rend(), normal.rbegin(), normal.rend()).first - tail.rbegin();
        const auto begin = static_cast<ptrdiff_t>(normal.size()) - length;
        if (begin < end) out.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    }
    return out;
}

void PipelineTokenizer::encode_ordinary(std::string_view text, bool at_start, bool trusted, Run& run) const {
    if (text.empty()) return;
    Pieces pieces{std::string(text), {{0, static_cast<uint32_t>(text.size())}}, at_start};
    parts_.pre_tokenizer.split(pieces);
    if (trusted != run.cache_trusted) {
        run.cache.clear();
        run.cache_trusted = trusted;
    }
    for (const Range range : pieces.ranges) {
        std::string_view rest = std::string_view(pieces.text).substr(range.begin, range.size());
        while (!rest.empty()) {
            const std::string_view piece = rest.substr(0, parts_.model->cut(rest));
            rest.remove_prefix(piece.size());
            if (run.cache.take(piece, run.ids)) continue;
            parts_.model->encode(piece, trusted, run.scratch, run.ids);
            run.cache.put(piece, run.ids);
        }
    }
}

std::string PipelineTokenizer::decode(const std::vector<TokenId>& ids, bool show_special) const {
    std::vector<DecodedToken> tokens;
    tokens.reserve(ids.size());
    for (const TokenId id : ids) {
        if (!parts_.vocabulary->contains(id) || (special_[id] && !show_special)) continue;
        tokens.push_back({std::string(parts_.vocabulary->piece(id)), added_[id]});
    }
    return parts_.decoder.apply(std::move(tokens));
}

std::string PipelineTokenizer::special_text(std::string_view name) const {
    const auto it = parts_.special_texts.find(name);
    return it == parts_.special_texts.end() ? "" : it->second;
}

}  // namespace busbar
