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
    bool raw = false, has_prompt = false;
    GenerateOptions generate;
};

Error empty_prompt() {
    return bad_input("prompt", "[run] expected some text, got an empty prompt");
}

// Flags that contradict each other: one of them would be ignored without a word.
void check_together(const RunOptions& o) {
    const auto both = [](bool a, bool b, std::string_view words) {
        if (a && b) throw usage_error("[cli] expected one of {}, got both", words);
    };
    both(o.has_prompt, !o.messages_file.empty(), "--prompt and --messages");
    both(!o.system.empty(), !o.messages_file.empty(), "--system and --messages");
    both(o.raw, !o.messages_file.empty(), "--raw and --messages");
    both(o.raw, !o.system.empty(), "--raw and --system");
    both(o.raw, !o.template_file.empty(), "--raw and --chat-template-file");
}

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

int answer_once(const RunOptions& o, Session& session, const Tokenizer& tokenizer) {
    std::string prompt = o.prompt;
    if (o.messages_file.empty() && (prompt == "-" || !o.has_prompt)) prompt = read_text("-");
    if (o.messages_file.empty() && prompt.empty()) throw empty_prompt();
    const std::vector<TokenId> ids = encode_prompt(o, tokenizer, prompt);
    print_placement(session.model());
    const Answer answer = generate(session, tokenizer, ids, {}, o.generate, o.common.json ? nullptr : put);
    const OpenModel& model = session.model();
    if (o.common.json) {
        put_json(answer_json(answer, ids, model));
    } else {
        put("\n");
        print_logprobs(answer, tokenizer);
        note("{}", speed_line(answer, ids.size(), *model.loaded));
    }
    return answer.finish == Finish::interrupted ? static_cast<int>(ErrorCode::interrupted) : 0;
}

int run(const RunOptions& o) {
    apply_common(o.common);
    check_together(o);
    if (o.has_prompt && o.prompt.empty()) throw empty_prompt();
    Session session(o.common, *parse_speculate(o.generate.speculate));
    const std::unique_ptr<Tokenizer> tokenizer = take_tokenizer_of(session.model());
    if (!o.has_prompt && o.messages_file.empty() && isatty(STDIN_FILENO)) {
        if (o.raw) throw usage_error("[cli] --raw: expected a prompt (-p TEXT, -p - or a pipe), got a chat");
        const std::string source = o.template_file.empty() ? "" : read_text(o.template_file);
        const Chat chat(*tokenizer, source, o.template_file.empty() ? o.common.model : o.template_file);
        print_placement(session.model());
        return chat_loop(o.common, session, *tokenizer, chat, o.system, o.generate);
    }
    return answer_once(o, session, *tokenizer);
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<RunOptions>();
    CLI::App* sub = app.add_subcommand("run", "a chat on a terminal; with -p, - or a pipe, one answer");
    sub->footer(
        "Samplers run in this order: repeat penalty, top-k, top-p, min-p, temperature.\n\nExamples:\n"
        "  busbar run model.gguf\n"
        "  busbar run model.gguf -p \"Why is the sky blue?\" -n 100\n"
        "  echo \"Translate: good morning\" | busbar run folder/ --json\n"
        "  busbar run model.gguf -p \"A story\" --temperature 0.8 --top-p 0.95 --seed 7");
    add_model(*sub, o->common);
    CLI::Option* prompt =
        sub->add_option("-p,--prompt", o->prompt, "the text to answer; - reads it from stdin")->type_name("TEXT");
    sub->add_flag("--raw", o->raw, "the text as it is, without the chat template");
    sub->add_option("--chat-template-file", o->template_file, "a Jinja template instead of the model's own")
        ->type_name("FILE");
    sub->add_option("--system", o->system, "what the model is told before the conversation")->type_name("TEXT");
    sub->add_option("--messages", o->messages_file, "OpenAI messages as JSON; - reads stdin")->type_name("FILE");
    add_generate(*sub, o->generate);
    add_common(*sub, o->common);
    sub->callback([o, prompt, &exit_code] {
        o->has_prompt = prompt->count() > 0;
        exit_code = run(*o);
    });
}

}  // namespace busbar
