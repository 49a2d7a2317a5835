#pragma once
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "llm/tokenizer/tokenizer.h"

namespace busbar {

/// 64-bit hashes with a seed drawn once per process, so that no file can be made to collide. Results never depend on
/// it.
uint64_t hash_bytes(std::string_view bytes);
uint64_t hash_pair(uint32_t a, uint32_t b);

/// Pieces and their ids, both ways. Holds views: of a file's mapping or of strings kept with own(). An id may have no
/// piece (a hole in the file's numbering). The first id wins when two have the same piece.
class Vocabulary {
  public:
    /// `count` is a guess that saves rehashing.
    explicit Vocabulary(size_t count = 0);

    /// Ids are not negative; the caller has bounded them. False if the id already has another piece.
    bool add(std::string_view piece, TokenId id);
    /// Keeps a copy of `piece` for as long as the vocabulary lives.
    std::string_view own(std::string piece);

    /// -1 if there is none.
    TokenId find(std::string_view piece) const;
    std::string_view piece(TokenId id) const { return contains(id) ? pieces_[id] : std::string_view(); }
    bool contains(TokenId id) const { return id >= 0 && static_cast<size_t>(id) < pieces_.size(); }
    TokenId size() const { return static_cast<TokenId>(pieces_.size()); }
    /// Bytes of the longest piece.
    size_t longest() const { return longest_; }

  private:
    struct Slot {
        uint32_t tag = 0;
        TokenId id = -1;
    };
    void grow(size_t slots);
    void insert(uint64_t hash, TokenId id);
    /// Where `piece` is, or the empty slot where it would go.
    size_t slot_of(uint64_t hash, std::string_view piece) const;

    std::vector<std::string_view> pieces_;
    std::vector<Slot> slots_;  // a power of two, at most 2/3 full
    size_t used_ = 0;
    size_t longest_ = 0;
    std::deque<std::string> owned_;
};

}  // namespace busbar
