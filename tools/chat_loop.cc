#include "chat_loop.h"

#include <histedit.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cwchar>
#include <iostream>

#include "base/error.h"

namespace busbar {

namespace {

// Between two lines the terminal shows no typing and cuts it into no lines: what is typed while an answer streams does
// not mix with it, and waits for the next prompt, Ctrl-D included. (Ordinary line mode would swallow that.)
class QuietTerminal {
  public:
    QuietTerminal() {
        if (tcgetattr(STDIN_FILENO, &before_) != 0) return;
        termios quiet = before_;
        quiet.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        quiet.c_cc[VMIN] = 1;
        quiet.c_cc[VTIME] = 0;
        changed_ = tcsetattr(STDIN_FILENO, TCSANOW, &quiet) == 0;
        if (changed_) restore_terminal_on_forced_end(&before_);
    }
    ~QuietTerminal() {
        if (!changed_) return;
        restore_terminal_on_forced_end(nullptr);
        tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
    }
    QuietTerminal(const QuietTerminal&) = delete;
    QuietTerminal& operator=(const QuietTerminal&) = delete;

  private:
    termios before_{};
    bool changed_ = false;
};

// One character for libedit. Its own read would miss a Ctrl-C that comes between two reads: the handler's flag is
// looked at while waiting.
int read_char(EditLine*, wchar_t* c) {
    constexpr int look_again_ms = 100;
    mbstate_t state{};
    while (true) {
        pollfd input{STDIN_FILENO, POLLIN, 0};
        const int ready = poll(&input, 1, look_again_ms);
        if (interrupted()) {
            errno = EINTR;
            return -1;
        }
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        char byte = 0;
        const ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return static_cast<int>(n);
        switch (mbrtowc(c, &byte, 1, &state)) {
            case static_cast<size_t>(-2):
                continue;  // a character of several bytes goes on
            case static_cast<size_t>(-1):
                state = {};  // no character begins or goes on like this: the byte is dropped
                continue;
            default:
                return 1;
        }
    }
}

// libedit, owned.
class LineEditor {
  public:
    LineEditor() : history_(history_init()), editor_(el_init("busbar", stdin, stderr, stderr)) {
        HistEvent event;
        history(history_, &event, H_SETSIZE, 1000);
        el_set(
            editor_, EL_PROMPT, +[](EditLine*) -> char* {
                static char prompt[] = "> ";
                return prompt;
            });
        el_set(editor_, EL_EDITOR, "emacs");
        el_set(editor_, EL_SIGNAL, 0);
        el_set(editor_, EL_GETCFN, read_char);
        el_set(editor_, EL_HIST, history, history_);
        el_set(editor_, EL_SETTY, "-x", "-icanon", "-echo", nullptr);  // its mode between two lines, see QuietTerminal
    }
    ~LineEditor() {
        el_end(editor_);
        history_end(history_);
    }
    enum class Got { line, interrupt, end };
    Got read(std::string& line) {
        int n = 0;
        const char* text = el_gets(editor_, &n);
        // -1: a signal came; 0: Ctrl-D. Not to be told apart by interrupted(): Ctrl-C may have come just before Ctrl-D.
        if (!text || n <= 0) return n < 0 && interrupted() ? Got::interrupt : Got::end;
        line.assign(text, n);
        while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
        HistEvent event;
        if (!line.empty()) history(history_, &event, H_ENTER, line.c_str());
        return Got::line;
    }

  private:
    QuietTerminal quiet_;  // first, and last to go
    History* history_;
    EditLine* editor_;
};

// How many of the first tokens two turns share: those need not be computed again.
int64_t shared_prefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
    return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

void check_room(size_t tokens, int64_t context) {
    if (static_cast<int64_t>(tokens) >= context)
        throw bad_input("conversation",
                        "[run] {} tokens with this message, but the context holds {} and the answer needs room: a "
                        "shorter message, or start again with --context {}",
                        tokens, context, round_up(tokens + 256, page_positions));
}

}  // namespace

int chat_loop(const CommonOptions& common, Session& session, const Tokenizer& tokenizer, const Chat& chat,
              const std::string& system, const GenerateOptions& options) {
    note("Type a message. Ctrl-C stops an answer, Ctrl-D ends.");
    LineEditor editor;
    Json messages = Json::array();
    if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
    Cache::Sequence past;
    std::vector<int32_t> past_tokens;
    std::string line;
    while (true) {
        clear_interrupt();
        const LineEditor::Got got = editor.read(line);
        if (got == LineEditor::Got::end) break;
        if (got == LineEditor::Got::interrupt) {
            std::cerr << '\n';
            continue;
        }
        if (line.empty()) continue;
        messages.push_back({{"role", "user"}, {"content", line}});
        std::vector<int32_t> ids;
        try {
            ids = chat.encode(chat.render({{"messages", messages}}));
            check_room(ids.size(), session.model().loaded->context());
        } catch (const Error& e) {
            // One turn that the template refuses, or that does not fit, must not end the chat.
            if (e.code() != ErrorCode::bad_input) throw;
            std::cerr << "busbar: " << e.what() << '\n';
            messages.erase(messages.end() - 1);
            continue;
        }
        const int64_t keep =
            std::min({shared_prefix(past_tokens, ids), past.length, static_cast<int64_t>(ids.size()) - 1});
        session.engine().cache().truncate(past, std::max<int64_t>(keep, 0));
        Answer answer =
            generate(session, tokenizer, ids, std::exchange(past, {}), options, common.json ? nullptr : put);
        const OpenModel& model = session.model();
        if (common.json) {
            put_json(answer_json(answer, ids, model));
        } else {
            put("\n");
            print_logprobs(answer, tokenizer);
            note("{}", speed_line(answer, ids.size() - std::max<int64_t>(keep, 0), *model.loaded));
        }
        messages.push_back({{"role", "assistant"}, {"content", answer.text}});
        past = std::move(answer.past);
        past_tokens = std::move(ids);
        past_tokens.insert(past_tokens.end(), answer.tokens.begin(), answer.tokens.end());
    }
    std::cerr << '\n';
    return 0;
}

}  // namespace busbar
