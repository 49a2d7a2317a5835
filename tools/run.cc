// busbar run: a chat on a terminal; with -p, - or a pipe, one answer.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "base/error.h"
#include "chat_loop.h"
#include "common.h"
#include "generate.h"

namespace busbar {

namespace {

struct RunOptions {
    CommonOptions common;
    std::string prompt, system, messages_file, template_file;
    bool raw = false;
    GenerateOptions generate;
};

Json one_turn(const RunOptions& o, const std::string& prompt) {
    Json messages = Json::array();
    if (!o.system.empty()) messages.push_back({{"role", "system"}, {"content", o.system}});
    messages.push_back({{"role", "user"}, {"content", prompt}});
    return {{"messages", messages}};
}

std::vector<TokenId> encode_prompt(const RunOptions& o, const Tokenizer& tokenizer, const std::string& prompt) {
    if (o.raw) return tokenizer.encode(prompt, true);
    const std::string source = o.template_file.empty() ? "" : read_text(o.template_file);
    const Chat chat(tokenizer, source, o.template_file.empty() ? o.common.model : o.template_file);
    const Json conversation =
        o.messages_file.empty()
            ? one_turn(o, prompt)
            : conversation_from_json(parse_json(read_text(o.messages_file), o.messages_file), o.messages_file);
    return chat.encode(chat.render(conversation));
}

int answer_once(const RunOptions& o, OpenModel& model, const Tokenizer& tokenizer) {
    std::string prompt = o.prompt;
    if (o.messages_file.empty() && (prompt == "-" || (prompt.empty() && !isatty(STDIN_FILENO))))
        prompt = read_text("-");
    if (o.messages_file.empty() && prompt.empty())
        throw bad_input("prompt", "[run] expected some text, got an empty prompt");
    const std::vector<TokenId> ids = encode_prompt(o, tokenizer, prompt);
    Engine engine(*model.loaded);
    print_placement(o.common, model);
    const Answer answer =
        generate(engine, tokenizer, model.end_ids, ids, {}, o.generate, o.common.json ? nullptr : put);
    if (o.common.json) {
        put(answer_json(answer, ids, model).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    } else {
        put("\n");
        print_logprobs(answer, tokenizer);
        note(o.common, speed_line(answer, ids.size(), *model.loaded));
    }
    return answer.finish == Finish::interrupted ? static_cast<int>(ErrorCode::interrupted) : 0;
}

int run(const RunOptions& o) {
    apply_common(o.common);
    check_generate(o.generate);
    OpenModel model = open_model(o.common);
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(model.file);
    if (o.prompt.empty() && o.messages_file.empty() && isatty(STDIN_FILENO)) {
        const std::string source = o.template_file.empty() ? "" : read_text(o.template_file);
        const Chat chat(*tokenizer, source, o.template_file.empty() ? o.common.model : o.template_file);
        print_placement(o.common, model);
        return chat_loop(o.common, model, *tokenizer, chat, o.system, o.generate);
    }
    return answer_once(o, model, *tokenizer);
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<RunOptions>();
    CLI::App* sub = app.add_subcommand("run", "a chat on a terminal; with -p, - or a pipe, one answer");
    sub->footer(
        "Examples:\n  busbar run model.gguf\n  busbar run model.gguf -p \"Why is the sky blue?\" -n 100\n  echo "
        "'Translate: good morning' | busbar run folder/ --json");
    add_common(*sub, o->common, true);
    sub->add_option("-p,--prompt", o->prompt, "the text to answer; - reads it from stdin");
    sub->add_flag("--raw", o->raw, "the text as it is, without the chat template");
    sub->add_option("--chat-template-file", o->template_file, "a Jinja template instead of the model's own");
    sub->add_option("--system", o->system, "system text");
    sub->add_option("--messages", o->messages_file, "OpenAI messages as JSON; - reads stdin");
    add_generate(*sub, o->generate);
    sub->callback([o, &exit_code] { exit_code = run(*o); });
}

}  // namespace busbar
