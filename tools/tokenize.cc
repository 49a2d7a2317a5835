// busbar tokenize: ids and pieces of a text, or a text of ids.
#include <fmt/format.h>

#include "base/error.h"
#include "common.h"
#include "ids.h"

namespace busbar {

namespace {

struct TokenizeOptions {
    CommonOptions common;
    std::string text, file, messages, template_file, template_args, decode;
    bool no_special = false, has_text = false, has_decode = false;
};

Json variables_of(const TokenizeOptions& o) {
    Json conversation = conversation_from_json(parse_json(read_text(o.messages), o.messages), o.messages);
    if (o.template_args.empty()) return conversation;
    const Json args = parse_json(o.template_args, "--template-args");
    if (!args.is_object()) throw usage_error("[cli] --template-args: expected a JSON object, got {}", args.type_name());
    conversation.update(args);
    return conversation;
}

int tokenize(const TokenizeOptions& o) {
    apply_common(o.common);
    if (o.has_text + !o.file.empty() + !o.messages.empty() + o.has_decode > 1)
        throw usage_error("[cli] expected one of TEXT, --file, --messages and --decode, got several");
    if (o.messages.empty() && !(o.template_file.empty() && o.template_args.empty()))
        throw usage_error("[cli] --chat-template-file and --template-args: expected --messages with them, got none");
    const ModelFile file = open_tokenizer_file(o.common.model);
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(file);
    if (o.has_decode) {
        const std::vector<int32_t> ids = parse_ids(o.decode, "--decode", tokenizer->size());
        const std::string text = tokenizer->decode(ids, !o.no_special);
        if (o.common.json)
            put_json({{"text", text}});
        else
            put(text + "\n");
        return 0;
    }
    Json out = Json::object();
    std::vector<TokenId> ids;
    if (!o.messages.empty()) {
        const Chat chat(*tokenizer, o.template_file.empty() ? "" : read_text(o.template_file),
                        o.template_file.empty() ? o.common.model : o.template_file);
        const std::vector<RenderedPiece> pieces = chat.render(variables_of(o));
        std::string rendered;
        for (const RenderedPiece& p : pieces) rendered += p.text;
        std::vector<TextSpan> spans;
        for (const RenderedPiece& p : pieces) spans.push_back({p.text, p.trusted});
        ids = tokenizer->encode(spans, !o.no_special);
        out["rendered"] = rendered;
    } else {
        const std::string text = !o.file.empty() ? read_text(o.file) : o.has_text ? o.text : read_text("-");
        ids = tokenizer->encode(text, !o.no_special);
    }
    if (!o.common.json) {
        if (out.contains("rendered")) put(out["rendered"].get<std::string>() + "\n");
        for (TokenId id : ids) put(fmt::format("{:>7} {}\n", id, quote(tokenizer->piece(id))));
        return 0;
    }
    Json pieces = Json::array();
    for (TokenId id : ids) pieces.push_back(tokenizer->piece(id));
    Json result = {{"ids", ids}, {"pieces", pieces}};
    result.update(out);
    put_json(result);
    return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<TokenizeOptions>();
    CLI::App* sub =
        app.add_subcommand("tokenize", "ids and pieces of a text; with --messages also the rendered chat template");
    sub->footer(
        "Examples:\n"
        "  busbar tokenize model.gguf \"Hello world\"\n"
        "  busbar tokenize model.gguf --decode \"504 3575\"\n"
        "  busbar tokenize folder/ --messages chat.json --template-args '{\"enable_thinking\": false}' --json");
    add_model(*sub, o->common);
    CLI::Option* text = sub->add_option("TEXT", o->text, "the text; stdin if absent");
    sub->add_option("--file", o->file, "a file that holds the text; - reads stdin")->type_name("FILE");
    sub->add_option("--messages", o->messages, "OpenAI messages as JSON: an array, or an object with more variables")
        ->type_name("FILE");
    sub->add_option("--chat-template-file", o->template_file, "a Jinja template instead of the model's own")
        ->type_name("FILE");
    sub->add_option("--template-args", o->template_args, "a JSON object of further template variables")
        ->type_name("JSON");
    CLI::Option* decode = sub->add_option("--decode", o->decode, "ids with spaces or commas between, to turn into text")
                              ->type_name("IDS");
    sub->add_flag("--no-special", o->no_special, "no begin or end token; with --decode: no special tokens");
    add_common(*sub, o->common);
    sub->callback([o, text, decode, &exit_code] {
        o->has_text = text->count() > 0;
        o->has_decode = decode->count() > 0;
        exit_code = tokenize(*o);
    });
}

}  // namespace busbar
