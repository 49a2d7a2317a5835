#include "llm/engine/stop_text.h"

#include <algorithm>

namespace busbar {

std::string StopFilter::add(const std::string& text) {
    if (stopped_) return "";
    if (stops_.empty()) return text;
    held_ += text;
    // The one that is complete first, as if the text had come letter by letter.
    size_t begin = std::string::npos, end = std::string::npos;
    for (const std::string& s : stops_)
        if (const size_t at = held_.find(s); at != std::string::npos)
            if (at + s.size() < end || (at + s.size() == end && at < begin)) begin = at, end = at + s.size();
    if (begin != std::string::npos) {
        stopped_ = true;
        return take(begin);
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
