#include "base/trace.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error.h"

namespace busbar {

namespace {

const auto start = std::chrono::steady_clock::now();

struct Event {
    std::string_view name;
    double begin, seconds;
    int64_t rows;
    int thread;
};
constexpr size_t most_events = 1000000;

// What is kept until the end: a trace that wrote while it measured would measure its own writing.
struct Kept {
    std::mutex mutex;
    std::FILE* file = nullptr;
    std::string path;
    std::vector<Event> events;
    int threads = 0;
};
Kept kept;
std::atomic<bool> tracing{false};

int this_thread() {
    static thread_local const int number = ++kept.threads;  // called with the mutex held
    return number;
}

}  // namespace

double seconds_since_start() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void start_trace(const std::string& path) {
    std::lock_guard lock(kept.mutex);
    kept.file = std::fopen(path.c_str(), "we");
    if (!kept.file) throw bad_input(path, "[trace] cannot write: {}", std::strerror(errno));
    kept.path = path;
    tracing = true;
}

void write_trace() {
    std::lock_guard lock(kept.mutex);
    if (!kept.file) return;
    tracing = false;
    std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [";
    const char* comma = "\n";
    for (const Event& e : kept.events) {
        text +=
            fmt::format(R"({}{{"name": "{}", "ph": "X", "ts": {:.1f}, "dur": {:.1f}, "pid": 1, "tid": {}, "args": {{)",
                        comma, e.name, 1e6 * e.begin, 1e6 * e.seconds, e.thread);
        text += e.rows >= 0 ? fmt::format("\"rows\": {}}}}}", e.rows) : "}}";
        comma = ",\n";
    }
    text += "\n]}\n";
    const bool written = std::fwrite(text.data(), 1, text.size(), kept.file) == text.size();
    const bool closed = std::fclose(std::exchange(kept.file, nullptr)) == 0;
    if (!written || !closed)
        throw bad_input(kept.path, "[trace] cannot write {} bytes: {}", with_commas(text.size()), std::strerror(errno));
    if (kept.events.size() == most_events) note("trace: only the first {} spans were kept", with_commas(most_events));
}

Span::Span(std::string_view name, LogLevel level, int64_t rows)
    : name_(name), level_(level), rows_(rows), begin_(seconds_since_start()) {}

Span::~Span() {
    const bool traced = tracing.load(std::memory_order_relaxed);
    if (!traced && !log_wants(level_)) return;
    const double seconds = seconds_since_start() - begin_;
    if (log_wants(level_)) {
        if (rows_ >= 0)
            log_text(level_, fmt::format("{} of {} rows: {:.2f} ms", name_, rows_, 1e3 * seconds));
        else
            log_text(level_, fmt::format("{}: {:.2f} ms", name_, 1e3 * seconds));
    }
    if (!traced) return;
    std::lock_guard lock(kept.mutex);
    if (kept.events.size() < most_events) kept.events.push_back({name_, begin_, seconds, rows_, this_thread()});
}

}  // namespace busbar
