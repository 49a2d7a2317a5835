#include "flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace busbar {

namespace {

CLI::Validator check(std::function<std::string(const std::string&)> expected) {
    CLI::Validator v;
    v.operation([expected = std::move(expected)](std::string& text) {
        const std::string what = expected(text);
        return what.empty() ? what : fmt::format("expected {}, got {}", what, quote(text));
    });
    return v;
}

// "a, b or c"
std::string alternatives(const std::vector<std::string>& words) {
    std::string out;
    for (size_t i = 0; i < words.size(); ++i) out += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
    return out;
}

template <typename T>
bool parse_all(const std::string& text, T& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

CLI::Validator one_of(std::vector<std::string> words) {
    return check([words = std::move(words)](const std::string& text) {
        return std::ranges::find(words, text) != words.end() ? "" : alternatives(words);
    });
}

CLI::Validator list_of(std::vector<std::string> words) {
    return check([words = std::move(words)](const std::string& text) {
        size_t begin = 0;
        while (true) {
            const size_t end = text.find(',', begin);
            // What stands after a word's colon is for whoever it names to judge.
            const std::string word = text.substr(begin, std::min(end, text.find(':', begin)) - begin);
            if (std::ranges::find(words, word) == words.end())
                return alternatives(words) + " (several: with commas between)";
            if (end == std::string::npos) return std::string();
            begin = end + 1;
        }
    });
}

CLI::Validator whole_number(int64_t least, int64_t most) {
    return check([=](const std::string& text) {
        int64_t n = 0;
        if (parse_all(text, n) && n >= least && n <= most) return std::string();
        return most == INT64_MAX ? fmt::format("a whole number of {} or more", least)
                                 : fmt::format("a whole number of {} to {}", least, most);
    });
}

CLI::Validator number(double least, double most, bool above_least) {
    return check([=](const std::string& text) {
        double x = 0;
        if (parse_all(text, x) && std::isfinite(x) && x <= most && (above_least ? x > least : x >= least))
            return std::string();
        if (std::isinf(most))
            return above_least ? fmt::format("a number above {}", least) : fmt::format("a number of {} or more", least);
        return above_least ? fmt::format("a number above {}, at most {}", least, most)
                           : fmt::format("a number of {} to {}", least, most);
    });
}

CLI::Validator some_text() {
    return check([](const std::string& text) { return text.empty() ? "some text" : ""; });
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
    return option->get_type_size() == 0 || option->get_positional() ? "" : " " + option->get_type_name();
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
    const std::string& standard = option->get_default_str();
    return option->get_description() + (standard.empty() ? "" : " [" + standard + "]");
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
    std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
    for (size_t at; (at = text.find("\n\n\n")) != std::string::npos;) text.erase(at, 1);
    return text;
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    const std::string command = chosen.empty() ? "busbar" : "busbar " + chosen.front()->get_name();
    std::string commands;
    for (const CLI::App* sub : app.get_subcommands({})) commands += (commands.empty() ? "" : ", ") + sub->get_name();
    const std::string text = error.what(), name = text.substr(0, text.find_first_of(": "));
    const std::vector<std::string> extra = app.remaining(true);
    std::string what = text;
    if (chosen.empty())
        what = fmt::format("expected a command ({}), got {}", commands,
                           extra.empty() ? std::string("none") : quote(extra.front()));
    else if (dynamic_cast<const CLI::ExtrasError*>(&error) && !extra.empty())
        what = fmt::format("{} has no option or argument {}", command, quote(extra.back()));
    else if (dynamic_cast<const CLI::RequiredError*>(&error))
        what = fmt::format("{}: expected {}, got none", command, name);
    else if (dynamic_cast<const CLI::ConversionError*>(&error))
        what = text.substr(text.find(": ") + 2) + ": a flag, without a value";
    else if (dynamic_cast<const CLI::ArgumentMismatch*>(&error))
        what = fmt::format("{}: expected one value, got {}", name,
                           text.find("missing") != std::string::npos ? "none" : "several");
    return fmt::format("[cli] {}\n        `{} --help` shows what there is.", what, command);
}

}  // namespace busbar
