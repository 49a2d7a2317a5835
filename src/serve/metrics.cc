#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace busbar {

namespace {

struct HistogramRow {
    std::string_view name, alias, help;
};
constexpr HistogramRow histogram_rows[] = {
    {"busbar_time_to_first_token_seconds", "vllm:time_to_first_token_seconds", "from arrival to the first token"},
    {"busbar_inter_token_latency_seconds", "vllm:inter_token_latency_seconds",
     "between two tokens of an answer (mean)"},
    {"busbar_request_seconds", "vllm:e2e_request_latency_seconds", "from arrival to the last token"},
    {"busbar_queue_seconds", "vllm:request_queue_time_seconds", "from arrival to admission"},
    {"busbar_prompt_seconds", "vllm:request_prefill_time_seconds", "from admission to the first token"},
    {"busbar_decode_seconds", "vllm:request_decode_time_seconds", "from the first token to the last"},
};
static_assert(std::size(histogram_rows) == Metrics::histogram_count);

constexpr double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};

std::string escaped(std::string_view label) {
    std::string out;
    for (const char c : label) {
        if (c == '\\' || c == '"') out += '\\';
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
    return out;
}

void head(std::string& out, std::string_view name, std::string_view kind, std::string_view help) {
    out += fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", name, kind, help);
}

}  // namespace

Metrics::Metrics() : histograms_(histogram_count) {
    for (Buckets& b : histograms_) b.counts.resize(std::size(bounds));
}

void Metrics::observe(Histogram h, double seconds, uint64_t times) {
    const std::scoped_lock lock(mutex_);
    Buckets& b = histograms_[h];
    const auto at = std::ranges::lower_bound(bounds, seconds) - std::begin(bounds);
    if (at < std::ssize(bounds)) b.counts[at] += times;
    b.sum += seconds * static_cast<double>(times);
    b.count += times;
}

void Metrics::finished(std::string_view reason) {
    const std::scoped_lock lock(mutex_);
    ++finished_[std::string(reason)];
}

void Metrics::answered(int status) {
    const std::scoped_lock lock(mutex_);
    ++answered_[status];
}

void Metrics::refused(std::string_view reason) {
    const std::scoped_lock lock(mutex_);
    ++refused_[std::string(reason)];
}

std::string Metrics::text(const std::vector<Gauge>& gauges, const std::string& model) const {
    const std::scoped_lock lock(mutex_);
    const std::string label = fmt::format("model_name=\"{}\"", escaped(model));
    std::string out;
    std::string_view last;
    for (const Gauge& g : gauges) {
        std::string labels = label;
        for (const auto& [key, value] : g.labels) labels += fmt::format(",{}=\"{}\"", key, escaped(value));
        for (const std::string_view name : {g.name, g.alias})
            if (!name.empty()) {
                if (name != last) head(out, name, g.kind, g.help);
                out += fmt::format("{}{{{}}} {}\n", name, labels, g.value);
            }
        last = g.name;
    }
    for (const char* name : {"busbar_answers_total", "vllm:request_success_total"}) {
        head(out, name, "counter", "answers by how they ended");
        for (const auto& [reason, n] : finished_)
            out += fmt::format("{}{{{},finished_reason=\"{}\"}} {}\n", name, label, reason, n);
    }
    head(out, "busbar_http_requests_total", "counter", "HTTP requests by status");
    for (const auto& [status, n] : answered_)
        out += fmt::format("busbar_http_requests_total{{status=\"{}\"}} {}\n", status, n);
    head(out, "busbar_http_refused_total", "counter", "requests that the wire refused");
    for (const auto& [reason, n] : refused_)
        out += fmt::format("busbar_http_refused_total{{reason=\"{}\"}} {}\n", escaped(reason), n);
    for (size_t h = 0; h < histograms_.size(); ++h)
        for (const std::string_view name : {histogram_rows[h].name, histogram_rows[h].alias}) {
            const Buckets& b = histograms_[h];
            head(out, name, "histogram", histogram_rows[h].help);
            uint64_t below = 0;
            for (size_t i = 0; i < b.counts.size(); ++i)
                out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, label, bounds[i], below += b.counts[i]);
            out += fmt::format("{0}_bucket{{{1},le=\"+Inf\"}} {2}\n{0}_sum{{{1}}} {3}\n{0}_count{{{1}}} {2}\n", name,
                               label, b.count, b.sum);
        }
    return out;
}

}  // namespace busbar
