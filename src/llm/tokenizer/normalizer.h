#pragma once
#include <memory>
#include <string>
#include <vector>

#include "llm/tokenizer/json_field.h"

namespace busbar {

/// One rewriting of text before it is cut into pieces. Takes and gives valid UTF-8.
class Normalizer {
  public:
    virtual ~Normalizer() = default;
    virtual void apply(std::string& text) const = 0;
};

/// The chain of normalizers of a model, in order; empty for none.
class NormalizerChain {
  public:
    NormalizerChain() = default;
    /// From a tokenizer.json "normalizer". Throws Error{bad_input} for kinds this build lacks, by name.
    static NormalizerChain from_json(const Json& json, const std::string& address);
    /// Unicode NFC, as the Qwen models use it.
    static NormalizerChain nfc();
    /// SentencePiece: a first space if asked for, then every space becomes U+2581.
    static NormalizerChain sentencepiece(bool space_prefix);

    bool empty() const { return steps_.empty(); }
    /// Throws Error{bad_input} if the text grows past all reason (a replacement may be longer than what it replaces).
    std::string apply(std::string_view text) const;

  private:
    std::vector<std::shared_ptr<const Normalizer>> steps_;
};

}  // namespace busbar
