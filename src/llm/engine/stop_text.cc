#include "llm/engine/stop_text.h"

#include <algorithm>

namespace busbar {

std::string StopFilter::add(const std::string& text) {
    if (stopped_) return "";
    if (stops_.empty()) return text;
    held_ += text;
    size_t first = std::string::npos;
    for (const std::string& s : stops_) first = std::min(first, held_.find(s));
    if (first != std::string::npos) {
        stopped_ = true;
        return take(first);
    }
    size_t keep = 0;
    for (const std::string& s : stops_)
        for (size_t n = std::min(s.size() - 1, held_.size()); n > keep; --n)
            if (held_.compare(held_.size() - n, n, s, 0, n) == 0) keep = n;
    return take(held_.size() - keep);
}

std::string StopFilter::take(size_t n) {
    std::string out = held_.substr(0, n);
    held_.erase(0, n);
    return out;
}

}  // namespace busbar
