#include "llm/chat/chat.h"

#include "base/error.h"

namespace busbar {

std::unique_ptr<Tokenizer> open_tokenizer(const ModelFile& file) {
    return file.gguf ? Tokenizer::from_gguf(*file.gguf) : Tokenizer::from_folder(file.folder);
}

Json conversation_from_json(Json document, const std::string& address) {
    if (document.is_array()) document = Json{{"messages", std::move(document)}};
    const auto messages = document.is_object() ? document.find("messages") : document.end();
    if (!document.is_object() || messages == document.end() || !messages->is_array())
        throw bad_input(address,
                        "[chat] expected a JSON array of messages, or an object with a field 'messages', got {}",
                        document.type_name());
    for (size_t i = 0; i < messages->size(); ++i) {
        Json& message = (*messages)[i];
        if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
            throw bad_input(address, "[chat] message {}: expected an object with a text field 'role'", i);
        const auto calls = message.find("tool_calls");
        if (calls == message.end() || !calls->is_array()) continue;
        for (Json& call : *calls) {
            if (!call.is_object()) continue;
            Json& holder = call.contains("function") && call["function"].is_object() ? call["function"] : call;
            const auto arguments = holder.find("arguments");
            if (arguments != holder.end() && arguments->is_string())
                *arguments = parse_json(arguments->get<std::string>(), address + ": tool-call arguments");
        }
    }
    return document;
}

Chat::Chat(const Tokenizer& tokenizer, const std::string& template_source, const std::string& address)
    : tokenizer_(tokenizer) {
    const std::string& source = template_source.empty() ? tokenizer.chat_template() : template_source;
    if (source.empty())
        throw bad_input(address,
                        "[chat] the model has no chat template; give one with --chat-template-file, or send the text "
                        "as it is with --raw");
    template_.emplace(source, template_source.empty() ? address + ": chat template" : address);
}

std::vector<RenderedPiece> Chat::render(const Json& conversation) const {
    Json variables = conversation;
    if (!variables.contains("add_generation_prompt")) variables["add_generation_prompt"] = true;
    if (!variables.contains("tools")) variables["tools"] = nullptr;
    if (!variables.contains("documents")) variables["documents"] = nullptr;
    for (const char* name :
         {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"})
        if (const std::string text = tokenizer_.special_text(name); !text.empty()) variables[name] = text;
    return template_->render(variables);
}

std::vector<TokenId> Chat::encode(const std::vector<RenderedPiece>& pieces) const {
    std::vector<TextSpan> spans;
    for (const RenderedPiece& p : pieces) spans.push_back({p.text, p.trusted});
    return tokenizer_.encode(spans, true);
}

}  // namespace busbar
