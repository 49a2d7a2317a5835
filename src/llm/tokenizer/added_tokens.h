#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "llm/tokenizer/regex.h"
#include "llm/tokenizer/vocabulary.h"

namespace busbar {

/// A token that is found in the text before anything else looks at it.
struct AddedToken {
    TokenId id = -1;
    std::string content;
    bool single_word = false;  ///< only between non-word neighbours
    bool lstrip = false;       ///< swallows white space before it
    bool rstrip = false;       ///< swallows white space after it
    bool normalized = false;   ///< sought in the normalised text instead of the raw one
    bool special = false;      ///< hidden at decode
};

/// Finds added tokens: leftmost, then longest.
class AddedTokenFinder {
  public:
    /// Entries of `spellings` are what to look for, tokens[i] each.
    AddedTokenFinder() = default;
    AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& spellings);

    /// A part of the text: an added token, or ordinary text where id is -1.
    struct Part {
        TokenId id;
        Range range;
    };
    /// `trusted` are the ranges (in order, not overlapping) where every token counts. Elsewhere only tokens of nothing
    /// but white space do: they lay text out and command nothing.
    std::vector<Part> find(std::string_view text, const std::vector<Range>& trusted) const;

    bool empty() const { return tokens_.empty(); }

  private:
    struct Node {
        int32_t first_child = -1, sibling = -1;  // a child list per node: tokens are few and branch little
        int32_t token = -1;
        unsigned char byte = 0;
        bool blank_below = false;  // some token from here on is of white space only
    };
    struct Match {
        int32_t token = -1;
        size_t end = 0;
    };
    Match longest(std::string_view text, size_t begin, size_t trusted_end) const;

    std::vector<AddedToken> tokens_;
    std::vector<bool> blank_;
    std::vector<Node> nodes_;
    int32_t roots_[256];
};

}  // namespace busbar
