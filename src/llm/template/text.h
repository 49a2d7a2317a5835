#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "llm/template/template.h"

namespace busbar::jinja {

/// A string whose every byte knows whether it came from the template (trusted) or from a variable. Runs of equal trust
/// are kept merged, so a text of one origin costs one run.
class Text {
  public:
    Text() = default;
    Text(std::string bytes, bool trusted) : bytes_(std::move(bytes)) {
        if (!bytes_.empty()) runs_.push_back({bytes_.size(), trusted});
    }

    const std::string& bytes() const { return bytes_; }
    std::string_view view() const { return bytes_; }
    size_t size() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }

    /// True for the empty text: nothing in it is a variable's.
    bool all_trusted() const { return runs_.empty() || (runs_.size() == 1 && runs_[0].trusted); }
    bool trusted_at(size_t position) const { return runs_[run_of(position)].trusted; }

    void append(std::string_view bytes, bool trusted);
    void append(const Text& other) { append(other, 0, other.size()); }
    /// Appends bytes [begin, end) of `other`, each with its own trust.
    void append(const Text& other, size_t begin, size_t end);
    Text slice(size_t begin, size_t end) const;

    std::vector<RenderedPiece> pieces() const;
    /// Bytes of memory held, for the budget.
    size_t footprint() const { return bytes_.capacity() + runs_.capacity() * sizeof(Run); }
    size_t run_count() const { return runs_.size(); }

  private:
    struct Run {
        size_t end;
        bool trusted;
    };
    size_t run_of(size_t position) const;

    std::string bytes_;
    std::vector<Run> runs_;
};

}  // namespace busbar::jinja
