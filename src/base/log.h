#pragma once
#include <fmt/core.h>

#include <string_view>

namespace busbar {

/// How much people want to read besides the result: --quiet, nothing said, -v, -vv.
enum class LogLevel { quiet, notes, details, all };

/// The one log of the process. It goes to stderr, never to stdout, and never fails: a full or closed stderr loses text,
/// not the answer. May be used by any thread.
void set_log_level(LogLevel level);
bool log_wants(LogLevel level);
/// Notes are plain sentences; details begin with the seconds since the program started.
void log_text(LogLevel level, std::string_view text);

/// What every user should know: the placement, the speed, a warning.
template <typename... Args>
void note(fmt::format_string<Args...> format, Args&&... args) {
    if (log_wants(LogLevel::notes)) log_text(LogLevel::notes, fmt::format(format, std::forward<Args>(args)...));
}

/// What was decided and how long it took: for -v.
template <typename... Args>
void detail(fmt::format_string<Args...> format, Args&&... args) {
    if (log_wants(LogLevel::details)) log_text(LogLevel::details, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace busbar
