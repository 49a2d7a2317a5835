#include "base/utf8.h"
#include "llm/tokenizer/tokenizer.h"

namespace busbar {

namespace {

// A token's text depends on its neighbours only at the start of the text (the stripped space), so a short window is
// context enough: as long as the window itself prints something, what a new id adds to it is what it adds to the whole.
constexpr size_t window = 8;

// Longest prefix of `bytes` that more bytes cannot change: all but a code point that is still cut short at the end.
size_t settled(std::string_view bytes) {
    for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
        const size_t at = bytes.size() - back;
        if (utf8_is_cut(bytes.substr(at))) return at;
    }
    return bytes.size();
}

// Invalid bytes become U+FFFD, as every text terminal and JSON writer needs.
std::string valid(std::string_view bytes) {
    std::string out;
    for (size_t pos = 0; pos < bytes.size();) utf8_append(out, utf8_next(bytes, pos));
    return out;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool show_special)
    : tokenizer_(tokenizer), show_special_(show_special) {}

std::string StreamDecoder::add(TokenId id) {
    ids_.push_back(id);
    const std::string text = tokenizer_.decode(ids_, show_special_);
    if (text.size() > printed_) {
        held_.append(text, printed_, std::string::npos);
        printed_ = text.size();
    } else if (tokenizer_.is_special(id) && !show_special_) {
        ids_.pop_back();  // hidden ids must not push what prints out of the window
    }
    if (ids_.size() > window) {
        const std::vector<TokenId> last(ids_.end() - window / 2, ids_.end());
        const size_t length = tokenizer_.decode(last, show_special_).size();
        if (length > 0) {
            ids_ = last;
            printed_ = length;
        }
    }
    const size_t n = settled(held_);
    const std::string ready = valid(std::string_view(held_).substr(0, n));
    held_.erase(0, n);
    return ready;
}

std::string StreamDecoder::finish() {
    std::string rest = valid(held_);
    held_.clear();
    ids_.clear();
    printed_ = 0;
    return rest;
}

}  // namespace busbar
