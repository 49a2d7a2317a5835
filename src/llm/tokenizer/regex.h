#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "llm/tokenizer/vocabulary.h"

namespace busbar {

/// A part of a text, in bytes.
struct Range {
    uint32_t begin = 0, end = 0;
    uint32_t size() const { return end - begin; }
    bool operator==(const Range&) const = default;
};

/// Rewrites an Oniguruma pattern (Ruby syntax, as tokenizer.json files hold) for PCRE2 with UTF and UCP, where the two
/// differ: \s \w \h, property names, nested and intersected classes, '.' and anchors, {n,m}+, {,n}. Throws Error naming
/// the pattern where there is no equivalent.
std::string pcre_from_oniguruma(std::string_view pattern, const std::string& address);

/// A compiled pattern; may be used on several threads at once.
class Regex {
  public:
    /// Throws Error{bad_input} naming the pattern if it does not compile.
    static Regex from_oniguruma(std::string_view pattern, const std::string& address);
    ~Regex();
    Regex(Regex&&) noexcept;
    Regex& operator=(Regex&&) = delete;

    /// Walks the matches in `subject` (valid UTF-8) from left to right. No empty match directly follows another match.
    class Scan {
      public:
        Scan(const Regex& regex, std::string_view subject);
        /// False at the end. Throws Error{bad_input} if the pattern needs more steps or memory than any sane one.
        bool next(Range& match);

      private:
        const Regex& regex_;
        std::string_view subject_;
        size_t at_ = 0;
        size_t last_end_ = std::string_view::npos;
    };

  private:
    Regex(void* code, std::string pattern) : code_(code), pattern_(std::move(pattern)) {}
    void* code_;  // pcre2_code, whose header stays out of this one
    std::string pattern_;
};

}  // namespace busbar
