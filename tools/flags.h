#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace busbar {

// What a flag accepts. Each check says in one sentence what was expected and what was got, and is made before any work.

CLI::Validator one_of(std::vector<std::string> words);
CLI::Validator whole_number(int64_t least, int64_t most);
/// A decimal number between the two, which count themselves unless `above_least`.
CLI::Validator number(double least, double most, bool above_least = false);
CLI::Validator some_text();
/// Comma-separated words, each one of `words`.
CLI::Validator list_of(std::vector<std::string> words);

/// Help that fits a terminal: name and kind of value, what it does, its default.
class HelpFormatter : public CLI::Formatter {
  public:
    HelpFormatter() { column_width(30); }
    std::string make_option_opts(const CLI::Option* option) const override;
    std::string make_option_desc(const CLI::Option* option) const override;
    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

/// What the command-line library found wrong, in our words: what was expected, what was got.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error);

}  // namespace busbar
