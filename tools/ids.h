#pragma once
#include <string>
#include <vector>

#include "common.h"

namespace busbar {

/// Decimal ids separated by white space or commas, each below `limit` (0 = only below 2^31). Throws Error{bad_input}
/// with address and offset.
std::vector<int32_t> parse_ids(const std::string& text, const std::string& address, int64_t limit);

/// A model of which only the tokenizer is needed: a vocabulary-only GGUF, or a folder without weights, is enough.
ModelFile open_tokenizer_file(const std::string& path);

}  // namespace busbar
