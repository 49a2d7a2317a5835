#include "serve/request/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "import/json.h"

namespace busbar {

namespace {

constexpr std::string_view open_tag = "<tool_call>", close_tag = "</tool_call>", python_tag = "<|python_tag|>";
constexpr std::string_view blanks = " \t\r\n";

std::optional<ToolCall> call_of(std::string_view text) {
    try {
        const Json j = parse_json(text, "call");
        if (!j.is_object() || !j.contains("name") || !j["name"].is_string()) return {};
        for (const char* field : {"arguments", "parameters"}) {
            if (!j.contains(field)) continue;
            const Json& a = j[field];
            // The API wants text; some models write the object as text themselves.
            return ToolCall{j["name"], a.is_string() ? a.get<std::string>() : a.dump()};
        }
        return ToolCall{j["name"], "{}"};
    } catch (const Error&) {
        return {};
    }
}

// How much of the end of `text` may be the beginning of `tag`.
size_t tail_that_may_begin(std::string_view text, std::string_view tag) {
    for (size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n)
        if (text.substr(text.size() - n) == tag.substr(0, n)) return n;
    return 0;
}

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(blanks);
    return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

// The end of the JSON object at the text's start, 0 if it does not end: strings may hold braces.
size_t object_end(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{') {
            ++depth;
        } else if (c == '}' && --depth <= 0) {
            return depth == 0 ? i + 1 : 0;
        }
    }
    return 0;
}

}  // namespace

ToolStyle tool_style_of(const std::string& source) {
    const auto has = [&](const char* word) { return source.find(word) != std::string::npos; };
    if (!has("tools")) return ToolStyle::none;
    if (has("<tool_call>")) return ToolStyle::tagged;
    if (has("\"parameters\"") || has("python_tag")) return ToolStyle::bare;
    return ToolStyle::none;
}

bool ToolParser::known(const std::string& name) const {
    return std::ranges::find(names_, name) != names_.end();
}

ToolParser::Out ToolParser::add(const std::string& text) {
    if (style_ == ToolStyle::none) return {text, {}};
    held_ += text;
    Out out;
    if (style_ == ToolStyle::tagged) {
        split_tagged(out, false);
        return out;
    }
    if (!plain_) {
        std::string_view begin = held_;
        begin.remove_prefix(std::min(begin.find_first_not_of(blanks), begin.size()));
        const bool tag =
            begin.size() < python_tag.size() ? python_tag.starts_with(begin) : begin.starts_with(python_tag);
        if (begin.empty() || begin[0] == '{' || tag) return out;  // it is told apart at the end
        plain_ = true;
    }
    out.text = std::exchange(held_, {});
    return out;
}

void ToolParser::split_tagged(Out& out, bool ended) {
    // Blanks wait, until it is known whether a call follows.
    const auto without_blanks = [&](size_t end) {
        while (end > 0 && blanks.find(held_[end - 1]) != std::string_view::npos) --end;
        return end;
    };
    const auto give = [&](size_t n) {
        if (n > 0) after_call_ = false;
        out.text.append(held_, 0, n);
        held_.erase(0, n);
    };
    while (true) {
        const size_t open = held_.find(open_tag);
        if (open == std::string::npos) {
            if (!ended) return give(without_blanks(held_.size() - tail_that_may_begin(held_, open_tag)));
            return give(after_call_ && without_blanks(held_.size()) == 0 ? 0 : held_.size());
        }
        const size_t begin = open + open_tag.size(), close = held_.find(close_tag, begin);
        if (close == std::string::npos && !ended) return give(without_blanks(open));
        const size_t end = close == std::string::npos ? held_.size() : close;
        const size_t next = close == std::string::npos ? end : close + close_tag.size();
        if (const auto call = call_of(trimmed(std::string_view(held_).substr(begin, end - begin)))) {
            const size_t text = without_blanks(open);
            give(text);
            held_.erase(0, next - text);
            out.calls.push_back(*call);
            after_call_ = true;
        } else {
            give(next);
        }
    }
}

// All of the text is calls, one after the other, with ; or blanks between.
bool ToolParser::take_bare(Out& out) const {
    std::string_view rest = trimmed(held_);
    if (rest.starts_with(python_tag)) rest = trimmed(rest.substr(python_tag.size()));
    std::vector<ToolCall> calls;
    while (!rest.empty()) {
        const size_t end = rest[0] == '{' ? object_end(rest) : 0;
        const auto call = end > 0 ? call_of(rest.substr(0, end)) : std::nullopt;
        if (!call || !known(call->name)) return false;
        calls.push_back(*call);
        rest = trimmed(rest.substr(end));
        while (!rest.empty() && rest[0] == ';') rest = trimmed(rest.substr(1));
    }
    out.calls = std::move(calls);
    return !out.calls.empty();
}

ToolParser::Out ToolParser::finish() {
    Out out;
    if (style_ == ToolStyle::tagged)
        split_tagged(out, true);
    else if (style_ != ToolStyle::bare || plain_ || !take_bare(out))
        out.text = held_;
    held_.clear();
    return out;
}

}  // namespace busbar
