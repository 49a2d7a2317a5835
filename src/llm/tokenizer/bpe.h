#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llm/tokenizer/vocabulary.h"

namespace busbar {

/// The rank of every mergeable pair of ids: an open-addressing table, since a vocabulary has up to 300,000 of them.
class MergeTable {
  public:
    struct Merge {
        uint32_t rank;
        TokenId id;
    };
    explicit MergeTable(size_t count = 0);
    /// The last of two merges of the same pair counts, as in the reference.
    void add(TokenId left, TokenId right, uint32_t rank, TokenId merged);
    const Merge* find(TokenId left, TokenId right) const {
        const size_t mask = slots_.size() - 1;
        for (size_t i = hash_pair(left, right) & mask; slots_[i].merge.id >= 0; i = (i + 1) & mask)
            if (slots_[i].left == left && slots_[i].right == right) return &slots_[i].merge;
        return nullptr;
    }
    template <typename Visit>
    void each(Visit visit) const {
        for (const Slot& slot : slots_)
            if (slot.merge.id >= 0) visit(slot.merge.id);
    }

  private:
    struct Slot {
        TokenId left = -1, right = -1;
        Merge merge{0, -1};
    };
    std::vector<Slot> slots_;
    size_t used_ = 0;
};

/// Byte-pair encoding of one piece of text, after pre-tokenizing. Two orders of merging: by rank of the pair
/// (tokenizer.json, GGUF "gpt2"), or by score of the result (SentencePiece: GGUF "llama"). Ties go to the leftmost
/// pair. O(n log n).
class Bpe {
  public:
    struct Options {
        bool ignore_merges = false;  ///< a piece that is a token as it stands is that token
        bool byte_fallback =
            false;  ///< unknown symbols become the byte pieces "<0x00>" .. "<0xFF>", where all needed exist
        bool fuse_unknown = false;   ///< a run of unknown symbols is one unknown token
        std::string unknown;         ///< its spelling; "" drops unknown symbols
        std::string subword_prefix;  ///< glued before all symbols of a piece but the first
        std::string word_suffix;     ///< glued after the last symbol of a piece
    };

    /// By rank. `vocabulary` outlives this.
    Bpe(const Vocabulary& vocabulary, MergeTable merges, Options options, const std::string& address);
    /// By score: `scores` and `mergeable` have one entry per id; only mergeable ids come out of merges.
    Bpe(const Vocabulary& vocabulary, const std::vector<float>& scores, std::vector<bool> mergeable, Options options,
        const std::string& address);

    /// Ids that text which nobody trusts must never produce.
    void forbid(std::vector<bool> ids);

    /// Working memory of one encoding, kept between pieces.
    struct Scratch {
        struct Symbol {
            TokenId id;
            uint32_t begin, end;
            int32_t previous, next;
        };
        struct Candidate {
            uint64_t key;  // rank, then position: smallest first
            uint32_t end;  // where the pair's right half ended when this was found; elsewhere now means stale
            TokenId id;
        };
        std::vector<Symbol> symbols;
        std::vector<Candidate> heap;
    };

    /// Appends the ids of `piece` (valid UTF-8, under 2 GiB). Untrusted pieces never give a forbidden id.
    void encode(std::string_view piece, bool trusted, Scratch& scratch, std::vector<TokenId>& ids) const;

    /// A length under which `text` may be cut without changing its ids: no token holds a SentencePiece space after
    /// anything else, in all vocabularies seen, so that whole texts are cut into words, which are quick to merge and
    /// worth remembering.
    size_t cut(std::string_view text) const;

  private:
    using Symbol = Scratch::Symbol;
    void prepare(const std::string& address);
    TokenId symbol_id(uint32_t code_point, std::string_view spelling, bool trusted) const;
    bool forbidden(TokenId id, bool trusted) const {
        return !trusted && static_cast<size_t>(id) < forbidden_.size() && forbidden_[id];
    }
    void split(std::string_view piece, bool trusted, std::vector<Symbol>& symbols) const;
    void add_fallback(std::string_view spelling, uint32_t begin, uint32_t end, std::vector<Symbol>& symbols,
                      std::optional<Symbol>& unknown) const;
    MergeTable::Merge pair(std::string_view piece, const Symbol& left, const Symbol& right, bool trusted) const;
    void merge_short(std::string_view piece, bool trusted, std::vector<Symbol>& symbols) const;
    void merge_long(std::string_view piece, bool trusted, Scratch& scratch) const;
    void append(std::string_view piece, const Symbol& symbol, std::vector<TokenId>& ids) const;

    const Vocabulary& vocabulary_;
    Options options_;
    MergeTable merges_;
    std::vector<uint32_t> ranks_;  // by score: rank of each id, UINT32_MAX where not mergeable; empty by rank
    std::vector<bool> forbidden_;
    std::array<TokenId, 0x250> low_;  // ids of the code points that byte-level and Latin text consists of
    std::array<TokenId, 256> byte_ids_;
    TokenId unknown_id_ = -1;
    bool by_score_ = false;
    bool cuts_at_spaces_ = false;
};

}  // namespace busbar
