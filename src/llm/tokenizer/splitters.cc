#include "llm/tokenizer/splitters.h"

#include <optional>

#include "base/utf8.h"
#include "llm/tokenizer/unicode.h"

namespace busbar {

namespace {

constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Takes the matches and the gaps of one range, in order and covering it, and appends what the behaviour makes of them.
class Cutter {
  public:
    Cutter(SplitBehavior behavior, bool invert, std::vector<Range>& out)
        : behavior_(behavior), invert_(invert), out_(out) {}

    void begin(Range range) {
        range_ = range;
        at_ = range.begin;
        first_ = out_.size();
        previous_match_ = false;
    }
    /// A match, in bytes of the text.
    void match(uint32_t begin, uint32_t end) {
        if (begin > at_) part({at_, begin}, invert_);
        part({begin, end}, !invert_);
        at_ = end;
    }
    void end() {
        if (at_ < range_.end) part({at_, range_.end}, invert_);
        if (behavior_ == SplitBehavior::merged_with_next) join_with_next();
        drop_empty();
    }

  private:
    void part(Range r, bool is_match) {
        switch (behavior_) {
            case SplitBehavior::removed:
                if (!is_match) out_.push_back(r);
                break;
            case SplitBehavior::isolated:
                out_.push_back(r);
                break;
            case SplitBehavior::merged_with_previous:
                if (is_match && !previous_match_ && out_.size() > first_) {
                    out_.back().end = r.end;
                } else {
                    out_.push_back(r);
                }
                break;
            case SplitBehavior::merged_with_next:
                out_.push_back(r);
                is_match_.push_back(is_match);
                break;
            case SplitBehavior::contiguous:
                if (is_match == previous_match_ && out_.size() > first_) {
                    out_.back().end = r.end;
                } else {
                    out_.push_back(r);
                }
                break;
        }
        previous_match_ = is_match;
    }
    // The mirror of merged_with_previous, seen from the end: a match joins what follows unless that is a match too.
    void join_with_next() {
        std::vector<Range> joined;
        bool later_match = false;
        for (size_t i = is_match_.size(); i-- > 0;) {
            const Range r = out_[first_ + i];
            if (is_match_[i] && !later_match && !joined.empty()) {
                joined.back().begin = r.begin;
            } else {
                joined.push_back(r);
            }
            later_match = is_match_[i];
        }
        out_.resize(first_);
        out_.insert(out_.end(), joined.rbegin(), joined.rend());
        is_match_.clear();
    }
    void drop_empty() {
        size_t kept = first_;
        for (size_t i = first_; i < out_.size(); ++i)
            if (out_[i].size() > 0) out_[kept++] = out_[i];
        out_.resize(kept);
    }

    SplitBehavior behavior_;
    bool invert_;
    std::vector<Range>& out_;
    std::vector<bool> is_match_;
    Range range_;
    uint32_t at_ = 0;
    size_t first_ = 0;
    bool previous_match_ = false;
};

/// Runs `find` on every range: it calls cutter.match() for what it finds.
template <typename Find>
void cut(Pieces& pieces, SplitBehavior behavior, bool invert, Find find) {
    std::vector<Range> out;
    out.reserve(pieces.ranges.size());
    Cutter cutter(behavior, invert, out);
    for (const Range range : pieces.ranges) {
        cutter.begin(range);
        find(std::string_view(pieces.text).substr(range.begin, range.size()), range.begin, cutter);
        cutter.end();
    }
    pieces.ranges = std::move(out);
}

void cut_by_regex(Pieces& pieces, const Regex& regex, SplitBehavior behavior, bool invert) {
    cut(pieces, behavior, invert, [&](std::string_view text, uint32_t base, Cutter& cutter) {
        Regex::Scan scan(regex, text);
        for (Range match; scan.next(match);) cutter.match(base + match.begin, base + match.end);
    });
}

void cut_by_literal(Pieces& pieces, std::string_view literal, SplitBehavior behavior, bool invert) {
    cut(pieces, behavior, invert, [&](std::string_view text, uint32_t base, Cutter& cutter) {
        for (size_t at = 0; (at = text.find(literal, at)) != std::string_view::npos; at += literal.size())
            cutter.match(base + at, base + at + literal.size());
    });
}

class RegexSplit final : public PreTokenizer {
  public:
    RegexSplit(Regex regex, SplitBehavior behavior, bool invert)
        : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
    void split(Pieces& pieces) const override { cut_by_regex(pieces, regex_, behavior_, invert_); }

  private:
    Regex regex_;
    SplitBehavior behavior_;
    bool invert_;
};

class LiteralSplit final : public PreTokenizer {
  public:
    LiteralSplit(std::string literal, SplitBehavior behavior, bool invert)
        : literal_(std::move(literal)), behavior_(behavior), invert_(invert) {}
    void split(Pieces& pieces) const override { cut_by_literal(pieces, literal_, behavior_, invert_); }

  private:
    std::string literal_;
    SplitBehavior behavior_;
    bool invert_;
};

class PropertySplit final : public PreTokenizer {
  public:
    PropertySplit(bool (*matches)(uint32_t), SplitBehavior behavior) : matches_(matches), behavior_(behavior) {}
    void split(Pieces& pieces) const override {
        cut(pieces, behavior_, false, [&](std::string_view text, uint32_t base, Cutter& cutter) {
            for (size_t pos = 0; pos < text.size();) {
                const size_t begin = pos;
                if (matches_(utf8_next(text, pos))) cutter.match(base + begin, base + pos);
            }
        });
    }

  private:
    bool (*matches_)(uint32_t);
    SplitBehavior behavior_;
};

class WordSplit final : public PreTokenizer {
    void split(Pieces& pieces) const override {
        cut(pieces, SplitBehavior::removed, true, [&](std::string_view text, uint32_t base, Cutter& cutter) {
            size_t begin = 0;
            int kind = 0;  // of the run so far: 0 white space, 1 word, 2 other
            for (size_t pos = 0; pos < text.size();) {
                const size_t at = pos;
                const uint32_t cp = utf8_next(text, pos);
                const int now = is_word(cp) ? 1 : is_white_space(cp) ? 0 : 2;
                if (now == kind) continue;
                if (kind != 0) cutter.match(base + begin, base + at);
                begin = at;
                kind = now;
            }
            if (kind != 0) cutter.match(base + begin, base + text.size());
        });
    }
};

class FixedLength final : public PreTokenizer {
  public:
    explicit FixedLength(size_t length) : length_(length) {}
    void split(Pieces& pieces) const override {
        cut(pieces, SplitBehavior::isolated, false, [&](std::string_view text, uint32_t base, Cutter& cutter) {
            size_t begin = 0, n = 0;
            for (size_t pos = 0; pos < text.size();) {
                utf8_next(text, pos);
                if (++n < length_) continue;
                cutter.match(base + begin, base + pos);
                begin = pos;
                n = 0;
            }
        });
    }

  private:
    size_t length_;
};

/// Writes `pieces` anew: `write(range, index)` appends what stands for a range.
template <typename Write>
void rewrite(Pieces& pieces, Write write) {
    std::string text;
    text.reserve(pieces.text.size() + pieces.text.size() / 4);
    for (size_t i = 0; i < pieces.ranges.size(); ++i) {
        Range& range = pieces.ranges[i];
        const std::string_view old = std::string_view(pieces.text).substr(range.begin, range.size());
        range.begin = static_cast<uint32_t>(text.size());
        write(text, old, i);
        range.end = static_cast<uint32_t>(text.size());
        if (text.size() > (1u << 31)) throw bad_input("text", "[tokenizer] expected at most 2 GiB of text");
    }
    pieces.text = std::move(text);
}

class ByteLevelSplit final : public PreTokenizer {
  public:
    ByteLevelSplit(bool add_prefix_space, bool use_regex) : add_prefix_space_(add_prefix_space) {
        if (use_regex) regex_.emplace(Regex::from_oniguruma(gpt2_pattern, ""));
        for (int b = 0; b < 256; ++b) utf8_append(symbols_[b], byte_symbol(static_cast<uint8_t>(b)));
    }
    void split(Pieces& pieces) const override {
        if (add_prefix_space_)
            rewrite(pieces, [](std::string& text, std::string_view old, size_t) {
                if (!old.starts_with(' ')) text += ' ';
                text += old;
            });
        if (regex_) cut_by_regex(pieces, *regex_, SplitBehavior::isolated, false);
        rewrite(pieces, [&](std::string& text, std::string_view old, size_t) {
            for (const char c : old) text += symbols_[static_cast<uint8_t>(c)];
        });
    }

  private:
    bool add_prefix_space_;
    std::optional<Regex> regex_;
    std::string symbols_[256];
};

class Metaspace final : public PreTokenizer {
  public:
    Metaspace(std::string replacement, PrependScheme scheme, bool split)
        : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}
    void split(Pieces& pieces) const override {
        rewrite(pieces, [&](std::string& text, std::string_view old, size_t index) {
            const bool wanted =
                scheme_ == PrependScheme::always || (scheme_ == PrependScheme::first && pieces.at_start && index == 0);
            if (wanted && !old.starts_with(' ') && !old.starts_with(replacement_)) text += replacement_;
            for (const char c : old) {
                if (c == ' ') {
                    text += replacement_;
                } else {
                    text += c;
                }
            }
        });
        if (split_) cut_by_literal(pieces, replacement_, SplitBehavior::merged_with_next, false);
    }

  private:
    std::string replacement_;
    PrependScheme scheme_;
    bool split_;
};

bool always(uint32_t) {
    return true;
}

}  // namespace

std::shared_ptr<const PreTokenizer> split_by_regex(Regex regex, SplitBehavior behavior, bool invert) {
    return std::make_shared<RegexSplit>(std::move(regex), behavior, invert);
}

std::shared_ptr<const PreTokenizer> split_by_literal(std::string literal, SplitBehavior behavior, bool invert) {
    // The empty text matches between all code points: each becomes a gap of its own.
    if (literal.empty()) return split_by_property(always, SplitBehavior::isolated);
    return std::make_shared<LiteralSplit>(std::move(literal), behavior, invert);
}

std::shared_ptr<const PreTokenizer> split_by_property(bool (*matches)(uint32_t), SplitBehavior behavior) {
    return std::make_shared<PropertySplit>(matches, behavior);
}

std::shared_ptr<const PreTokenizer> split_words() {
    return std::make_shared<WordSplit>();
}

std::shared_ptr<const PreTokenizer> split_fixed_length(size_t length) {
    return std::make_shared<FixedLength>(length);
}

std::shared_ptr<const PreTokenizer> byte_level(bool add_prefix_space, bool use_regex) {
    return std::make_shared<ByteLevelSplit>(add_prefix_space, use_regex);
}

std::shared_ptr<const PreTokenizer> metaspace(std::string replacement, PrependScheme scheme, bool split) {
    return std::make_shared<Metaspace>(std::move(replacement), scheme, split);
}

}  // namespace busbar
