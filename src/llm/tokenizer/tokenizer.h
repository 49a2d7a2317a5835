#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "import/gguf/file.h"
#include "import/json.h"

namespace busbar {

using TokenId = int32_t;

/// A stretch of text for encoding. `trusted` text comes from a chat template (or --raw): special tokens written in it
/// become their ids. Untrusted text comes from a user: "<|im_end|>" in it is spelled out with ordinary pieces.
struct TextSpan {
    std::string_view text;
    bool trusted = true;
};

/// Text to token ids and back. Immutable after loading; encode and decode may run on several threads at once.
/// Kinds: byte-level BPE (every pre-tokenizer row of formats.md 9.3 that is written out in full) and SentencePiece BPE.
/// Unigram, WordPiece and unknown pre-tokenizers are refused by name.
class Tokenizer {
  public:
    /// From GGUF metadata (tokenizer.ggml.*). Throws Error{bad_input}: unknown model or `pre`, missing `pre`, wrong
    /// table sizes.
    static std::unique_ptr<Tokenizer> from_gguf(const gguf::File& file);
    /// From a folder's tokenizer.json (+ tokenizer_config.json, special_tokens_map.json, chat_template.jinja if
    /// present). Throws Error{bad_input} naming the file.
    static std::unique_ptr<Tokenizer> from_folder(const std::string& folder);
    /// From the parsed documents; `config` may be null. `address` names the file in errors.
    static std::unique_ptr<Tokenizer> from_json(const Json& tokenizer, const Json& config, const std::string& address);
    virtual ~Tokenizer() = default;

    /// Consecutive spans are one text. A special (or other added) token is found only where all of it is trusted; added
    /// tokens of nothing but white space are found everywhere. Ordinary pieces join across a border, so that a chat
    /// prompt has the ids that the model was trained on; no merge gives an added token's id to text that holds an
    /// untrusted byte. Invalid UTF-8 is Error{bad_input} with the offset. `add_special` adds begin/end tokens as the
    /// model's files say; a begin token is not added twice when the text already starts with it.
    virtual std::vector<TokenId> encode(const std::vector<TextSpan>& spans, bool add_special) const = 0;
    std::vector<TokenId> encode(std::string_view text, bool add_special) const {
        return encode({{text, true}}, add_special);
    }

    /// Bytes of the ids, not necessarily valid UTF-8. Special tokens print as nothing unless `show_special`.
    virtual std::string decode(const std::vector<TokenId>& ids, bool show_special) const = 0;

    /// The token as the vocabulary spells it ("Ġthe", "▁the", "<0x0A>"); "" for ids without a piece.
    virtual std::string piece(TokenId id) const = 0;
    /// Ids are 0 .. size()-1; a model's embedding may have more rows (padding), whose ids are never sampled.
    virtual int64_t size() const = 0;
    virtual bool is_special(TokenId id) const = 0;

    /// -1 if the model has none.
    virtual TokenId begin_id() const = 0;
    /// Tokens that end an answer, from the tokenizer's own files (end of sequence, end of turn).
    virtual const std::vector<TokenId>& end_ids() const = 0;
    /// Text of the named special tokens for templates: bos_token, eos_token, unk_token, pad_token ... ("" if absent).
    virtual std::string special_text(std::string_view name) const = 0;
    /// The chat template that the model ships, "" if none (GGUF: tokenizer.chat_template; folder: chat_template.jinja
    /// or tokenizer_config.json).
    virtual const std::string& chat_template() const = 0;
};

/// Decodes a stream of ids piece by piece and holds back bytes that are not yet valid UTF-8.
class StreamDecoder {
  public:
    explicit StreamDecoder(const Tokenizer& tokenizer, bool show_special = false);
    /// Text that is complete after this id ("" if it must wait).
    std::string add(TokenId id);
    /// What was held back, invalid bytes as U+FFFD.
    std::string finish();

  private:
    const Tokenizer& tokenizer_;
    bool show_special_;
    std::vector<TokenId> ids_;
    size_t printed_ = 0;
    std::string held_;
};

}  // namespace busbar
