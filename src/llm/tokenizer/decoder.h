#pragma once
#include <memory>
#include <string>
#include <vector>

#include "llm/tokenizer/json_field.h"

namespace busbar {

/// A token on its way back to text.
struct DecodedToken {
    std::string text;
    bool added = false;  // an added token: its text is text already, not symbols
    bool raw = false;    // turned into bytes already: later steps leave it
};

class DecoderStep {
  public:
    virtual ~DecoderStep() = default;
    virtual void apply(std::vector<DecodedToken>& tokens) const = 0;
};

/// From tokens back to bytes, which need not be valid UTF-8.
class DecoderChain {
  public:
    /// No decoder: tokens are joined with spaces, as the reference does.
    DecoderChain() = default;
    static DecoderChain from_json(const Json& json, const std::string& address);
    /// GGUF "gpt2".
    static DecoderChain byte_level();
    /// GGUF "llama": U+2581 to space, byte pieces to bytes, and the first space of the text dropped where encoding adds
    /// one.
    static DecoderChain sentencepiece(bool space_prefix);

    std::string apply(std::vector<DecodedToken> tokens) const;

  private:
    std::vector<std::shared_ptr<const DecoderStep>> steps_;
    bool given_ = false;
};

}  // namespace busbar
