#pragma once
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace busbar {

/// What the server counts about requests, printed in Prometheus' text form. Each figure goes out under our name and
/// under the name that dashboards for vLLM read. Any thread.
class Metrics {
  public:
    enum Histogram {
        first_token,
        between_tokens,
        whole_request,
        queue_time,
        prompt_time,
        decode_time,
        histogram_count
    };

    Metrics();
    void observe(Histogram h, double seconds, uint64_t times = 1);
    void finished(std::string_view reason);  ///< an answer, by how it ended
    void answered(int status);               ///< an HTTP request, by status
    void refused(std::string_view reason);   ///< before anyone saw it

    /// Values that live elsewhere.
    struct Gauge {
        std::string_view name, alias, kind, help;  ///< alias "" = none; kind: gauge or counter
        double value;
        /// Besides the model's name. Those of one name stand together.
        std::vector<std::pair<std::string_view, std::string>> labels = {};
    };
    std::string text(const std::vector<Gauge>& gauges, const std::string& model) const;

  private:
    struct Buckets {
        std::vector<uint64_t> counts;
        double sum = 0;
        uint64_t count = 0;
    };
    mutable std::mutex mutex_;
    std::vector<Buckets> histograms_;
    std::map<std::string, uint64_t, std::less<>> finished_, refused_;
    std::map<int, uint64_t> answered_;
};

}  // namespace busbar
