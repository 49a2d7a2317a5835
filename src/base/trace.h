#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/log.h"

namespace busbar {

/// The one clock: seconds since the program started, never going back.
double seconds_since_start();

/// The one trace: from here on, Spans are kept, at most a million of them, and write_trace() makes of them a file in
/// the Chrome trace-event form (JSON) that ordinary trace viewers open. Throws Error{bad_input} if the file cannot be
/// made.
void start_trace(const std::string& path);
/// Throws Error{bad_input} if the file cannot be written. Does nothing where no trace was started.
void write_trace();

/// Something that takes time: a stage of the river, a step. It goes into the trace, and into the log where `level` asks
/// for it. Costs two looks at the clock and no memory while neither wants it. `name` outlives the program's main().
class Span {
  public:
    explicit Span(std::string_view name, LogLevel level = LogLevel::details, int64_t rows = -1);
    ~Span();
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

  private:
    std::string_view name_;
    LogLevel level_;
    int64_t rows_;
    double begin_;
};

}  // namespace busbar
