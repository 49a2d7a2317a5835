#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llm/tokenizer/added_tokens.h"
#include "llm/tokenizer/bpe.h"
#include "llm/tokenizer/decoder.h"
#include "llm/tokenizer/normalizer.h"
#include "llm/tokenizer/post_processor.h"
#include "llm/tokenizer/pre_tokenizer.h"
#include "llm/tokenizer/tokenizer.h"

namespace busbar {

/// Everything a tokenizer consists of, whichever file it came from. Filled by from_gguf and from_json, then frozen.
struct TokenizerParts {
    std::unique_ptr<Vocabulary> vocabulary = std::make_unique<Vocabulary>();
    std::vector<AddedToken> added;
    NormalizerChain normalizer;
    PreTokenizerChain pre_tokenizer;
    std::optional<Bpe> model;
    PostProcessor post_processor;
    DecoderChain decoder;
    TokenId begin_id = -1;
    std::vector<TokenId> end_ids;
    std::map<std::string, std::string, std::less<>> special_texts;
    std::string chat_template;
    std::vector<std::shared_ptr<const void>> kept;  // mappings that the vocabulary's views point into
};

/// Text through the pipeline: added tokens in the raw text, normalizer, added tokens in the normalised text,
/// pre-tokenizer, model, post-processor.
class PipelineTokenizer final : public Tokenizer {
  public:
    explicit PipelineTokenizer(TokenizerParts parts);

    using Tokenizer::encode;
    std::vector<TokenId> encode(const std::vector<TextSpan>& spans, bool add_special) const override;
    std::string decode(const std::vector<TokenId>& ids, bool show_special) const override;
    std::string piece(TokenId id) const override { return std::string(parts_.vocabulary->piece(id)); }
    int64_t size() const override { return parts_.vocabulary->size(); }
    bool is_special(TokenId id) const override { return parts_.vocabulary->contains(id) && special_[id]; }
    TokenId begin_id() const override { return parts_.begin_id; }
    const std::vector<TokenId>& end_ids() const override { return parts_.end_ids; }
    std::string special_text(std::string_view name) const override;
    const std::string& chat_template() const override { return parts_.chat_template; }

  private:
    struct Run;
    void encode_segment(std::string_view text, Range range, const std::vector<Range>& trusted, Run& run) const;
    void encode_ordinary(std::string_view text, bool at_start, bool trusted, Run& run) const;
    std::vector<Range> trusted_after_normalizing(std::string_view text, std::string_view normal,
                                                 const std::vector<Range>& trusted) const;

    TokenizerParts parts_;
    std::vector<bool> added_, special_;
    AddedTokenFinder raw_finder_, normalized_finder_;
};

}  // namespace busbar
