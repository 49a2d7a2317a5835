#pragma once
#include <string>
#include <vector>

namespace busbar {

/// Holds back text that may be the beginning of a stop text, so that no part of one is ever shown.
class StopFilter {
  public:
    /// `stops`: none of them empty.
    explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}
    /// Text that may go out now. Sets stopped() when a stop text has appeared; what follows it is dropped.
    std::string add(const std::string& text);
    /// What was held back, at the end of the answer.
    std::string finish() { return stopped_ ? "" : take(held_.size()); }
    bool stopped() const { return stopped_; }

  private:
    std::string take(size_t n);

    std::vector<std::string> stops_;
    std::string held_;
    bool stopped_ = false;
};

}  // namespace busbar
