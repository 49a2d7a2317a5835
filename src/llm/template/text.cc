#include "llm/template/text.h"

#include <algorithm>

namespace busbar::jinja {

size_t Text::run_of(size_t position) const {
    if (runs_.size() == 1) return 0;
    const auto after =
        std::upper_bound(runs_.begin(), runs_.end(), position, [](size_t p, const Run& run) { return p < run.end; });
    return after - runs_.begin();
}

void Text::append(std::string_view bytes, bool trusted) {
    if (bytes.empty()) return;
    bytes_ += bytes;
    if (!runs_.empty() && runs_.back().trusted == trusted) {
        runs_.back().end = bytes_.size();
    } else {
        runs_.push_back({bytes_.size(), trusted});
    }
}

void Text::append(const Text& other, size_t begin, size_t end) {
    if (begin >= end) return;
    if (this == &other) {  // the runs below would move under the loop
        append(Text(other), begin, end);
        return;
    }
    for (size_t run = other.run_of(begin); begin < end; ++run) {
        const size_t stop = std::min(end, other.runs_[run].end);
        append(other.view().substr(begin, stop - begin), other.runs_[run].trusted);
        begin = stop;
    }
}

Text Text::slice(size_t begin, size_t end) const {
    Text out;
    out.append(*this, begin, end);
    return out;
}

std::vector<RenderedPiece> Text::pieces() const {
    std::vector<RenderedPiece> out;
    size_t begin = 0;
    for (const Run& run : runs_) {
        out.push_back({bytes_.substr(begin, run.end - begin), run.trusted});
        begin = run.end;
    }
    return out;
}

}  // namespace busbar::jinja
