#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "import/model.h"
#include "llm/template/template.h"
#include "llm/tokenizer/tokenizer.h"

namespace busbar {

/// The tokenizer of a model file or folder. Throws Error{bad_input} where it has none.
std::unique_ptr<Tokenizer> open_tokenizer(const ModelFile& file);

/// A conversation as the OpenAI API writes it: {"messages": [...], "tools": [...], ...}. An array alone is taken as the
/// messages. Tool-call arguments given as JSON text become objects, as templates expect them. Throws Error{bad_input}
/// with `address`.
Json conversation_from_json(Json document, const std::string& address);

/// Messages to token ids through the model's chat template. Text that users wrote is encoded with special tokens
/// spelled out.
class Chat {
  public:
    /// `template_source` "" = the model's own. Throws Error{bad_input} if there is none.
    Chat(const Tokenizer& tokenizer, const std::string& template_source, const std::string& address);

    std::vector<RenderedPiece> render(const Json& conversation) const;
    std::vector<TokenId> encode(const std::vector<RenderedPiece>& pieces) const;

  private:
    const Tokenizer& tokenizer_;
    std::optional<ChatTemplate> template_;
};

}  // namespace busbar
