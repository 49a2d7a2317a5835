#pragma once
#include <functional>
#include <memory>
#include <string>

#include "llm/tokenizer/pre_tokenizer.h"

namespace busbar {

/// What becomes of the matches of a splitter's pattern.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

std::shared_ptr<const PreTokenizer> split_by_regex(Regex regex, SplitBehavior behavior, bool invert);
/// `literal` is text, not a pattern, whatever it looks like.
std::shared_ptr<const PreTokenizer> split_by_literal(std::string literal, SplitBehavior behavior, bool invert);
/// Every code point for which `matches` is true is one match.
std::shared_ptr<const PreTokenizer> split_by_property(bool (*matches)(uint32_t), SplitBehavior behavior);
/// Runs of code points that are all word characters or all neither word nor white space; white space is dropped.
std::shared_ptr<const PreTokenizer> split_words();
/// Pieces of so many code points.
std::shared_ptr<const PreTokenizer> split_fixed_length(size_t length);
/// GPT-2's: an optional space before each range, its own pattern if asked for, then bytes to their printable symbols.
std::shared_ptr<const PreTokenizer> byte_level(bool add_prefix_space, bool use_regex);

enum class PrependScheme { first, always, never };
/// SentencePiece's: spaces become `replacement`, one is put in front as the scheme says, then a cut before each.
std::shared_ptr<const PreTokenizer> metaspace(std::string replacement, PrependScheme scheme, bool split);

}  // namespace busbar
