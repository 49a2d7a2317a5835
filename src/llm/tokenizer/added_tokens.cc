#include "llm/tokenizer/added_tokens.h"

#include <algorithm>

#include "base/utf8.h"
#include "llm/tokenizer/unicode.h"

namespace busbar {

namespace {

bool is_blank(std::string_view text) {
    for (size_t pos = 0; pos < text.size();)
        if (!is_white_space(utf8_next(text, pos))) return false;
    return true;
}

// The code point that ends at `end`; `begin` becomes where it starts.
uint32_t code_point_before(std::string_view text, size_t end, size_t& begin) {
    begin = end - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    size_t pos = begin;
    return utf8_next(text, pos);
}

bool word_ends_at(std::string_view text, size_t end) {
    size_t begin;
    return end > 0 && is_word(code_point_before(text, end, begin));
}

bool word_starts_at(std::string_view text, size_t begin) {
    return begin < text.size() && is_word(utf8_next(text, begin));
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& spellings)
    : tokens_(std::move(tokens)) {
    std::fill(std::begin(roots_), std::end(roots_), -1);
    for (size_t i = 0; i < tokens_.size(); ++i) {
        const std::string& s = spellings[i];
        blank_.push_back(is_blank(s));
        if (s.empty()) continue;
        int32_t node = -1;
        for (const char c : s) {
            const unsigned char byte = c;
            const int32_t parent = node;
            int32_t& first = parent < 0 ? roots_[byte] : nodes_[parent].first_child;
            for (node = first; node >= 0 && nodes_[node].byte != byte;) node = nodes_[node].sibling;
            if (node < 0) {
                node = static_cast<int32_t>(nodes_.size());
                Node fresh;
                fresh.byte = byte;
                fresh.sibling = first;
                first = node;  // before push_back, which may move what `first` stands in
                nodes_.push_back(fresh);
            }
            nodes_[node].blank_below = nodes_[node].blank_below || blank_[i];
        }
        if (nodes_[node].token < 0) nodes_[node].token = static_cast<int32_t>(i);
    }
}

AddedTokenFinder::Match AddedTokenFinder::longest(std::string_view text, size_t begin, size_t trusted_end) const {
    Match best;
    int32_t node = roots_[static_cast<unsigned char>(text[begin])];
    for (size_t at = begin; node >= 0;) {
        const Node& n = nodes_[node];
        ++at;
        if (at > trusted_end && !n.blank_below) break;
        if (n.token >= 0 && (at <= trusted_end || blank_[n.token])) best = {n.token, at};
        if (at >= text.size()) break;
        const unsigned char byte = text[at];
        node = n.first_child;
        while (node >= 0 && nodes_[node].byte != byte) node = nodes_[node].sibling;
    }
    return best;
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::find(std::string_view text,
                                                           const std::vector<Range>& trusted) const {
    std::vector<Part> parts;
    if (text.empty()) return parts;
    size_t done = 0;  // text up to here is in `parts`
    auto span = trusted.begin();
    const auto part = [&](TokenId id, size_t begin, size_t end) {
        parts.push_back({id, {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}});
    };
    for (size_t pos = 0; pos < text.size() && !tokens_.empty();) {
        if (roots_[static_cast<unsigned char>(text[pos])] < 0) {
            ++pos;
            continue;
        }
        while (span != trusted.end() && span->end <= pos) ++span;
        const bool inside = span != trusted.end() && span->begin <= pos;
        const Match match = longest(text, pos, inside ? span->end : 0);
        if (match.token < 0) {
            ++pos;
            continue;
        }
        const AddedToken& token = tokens_[match.token];
        size_t begin = pos, end = match.end;
        pos = match.end;
        if (token.single_word && (word_ends_at(text, begin) || word_starts_at(text, end))) continue;
        if (token.lstrip) {
            size_t before;
            while (begin > done && is_white_space(code_point_before(text, begin, before))) begin = before;
        }
        if (token.rstrip)
            for (size_t after = end; end < text.size() && is_white_space(utf8_next(text, after));) end = after;
        if (done < begin) part(-1, done, begin);
        part(token.id, begin, end);
        done = end;  // the search goes on inside the white space that rstrip took, as the reference's does
    }
    if (done < text.size()) part(-1, done, text.size());
    return parts;
}

}  // namespace busbar
