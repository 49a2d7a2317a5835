#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

#include "base/trace.h"

namespace busbar {

namespace {

std::atomic<LogLevel> wanted{LogLevel::notes};

spdlog::logger& logger() {
    static spdlog::logger log = [] {
        spdlog::logger made("busbar", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made.set_pattern("%v");
        made.set_level(spdlog::level::trace);
        made.flush_on(spdlog::level::trace);
        made.set_error_handler([](const std::string&) {});  // the log must not be what stops an answer
        return made;
    }();
    return log;
}

}  // namespace

void set_log_level(LogLevel level) {
    wanted = level;
}
bool log_wants(LogLevel level) {
    return wanted.load(std::memory_order_relaxed) >= level;
}

void log_text(LogLevel level, std::string_view text) {
    if (!log_wants(level)) return;
    if (level <= LogLevel::notes)
        logger().info(text);
    else
        logger().debug("[{:7.3f}] {}", seconds_since_start(), text);
}

}  // namespace busbar
