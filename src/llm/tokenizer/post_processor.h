#pragma once
#include <vector>

#include "llm/tokenizer/json_field.h"
#include "llm/tokenizer/vocabulary.h"

namespace busbar {

/// What a model wants before and after a text.
struct PostProcessor {
    std::vector<TokenId> before, after;

    /// From a tokenizer.json "post_processor". `vocabulary` checks the ids.
    static PostProcessor from_json(const Json& json, const Vocabulary& vocabulary, const std::string& address);

    /// `before` is left out where the text starts with it already (a template printed it).
    void apply(std::vector<TokenId>& ids) const;
};

}  // namespace busbar
