#include "llm/tokenizer/decoder.h"

#include <optional>

#include "base/utf8.h"
#include "llm/tokenizer/regex.h"
#include "llm/tokenizer/unicode.h"

namespace busbar {

namespace {

constexpr int deepest = 32;
constexpr size_t most_steps = 1000;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    if (from.empty()) return;
    size_t at = text.find(from);
    if (at == std::string::npos) return;
    std::string out;
    size_t done = 0;
    for (; at != std::string::npos; at = text.find(from, done)) {
        out.append(text, done, at - done);
        out += to;
        done = at + from.size();
    }
    out.append(text, done, std::string::npos);
    text = std::move(out);
}

class ByteLevel final : public DecoderStep {
    void apply(std::vector<DecodedToken>& tokens) const override {
        for (DecodedToken& token : tokens) {
            if (!token.added && !token.raw) to_bytes(token.text);
            token.raw = true;
        }
    }
    // A symbol outside the map means that the token was never symbols: it stays as it is.
    static void to_bytes(std::string& text) {
        std::string bytes;
        for (size_t pos = 0; pos < text.size();) {
            const int byte = symbol_byte(utf8_next(text, pos));
            if (byte < 0) return;
            bytes += static_cast<char>(byte);
        }
        text = std::move(bytes);
    }
};

class Replace final : public DecoderStep {
  public:
    Replace(std::string literal, std::optional<Regex> regex, std::string content)
        : literal_(std::move(literal)), regex_(std::move(regex)), content_(std::move(content)) {}

    void apply(std::vector<DecodedToken>& tokens) const override {
        for (DecodedToken& token : tokens) {
            if (token.raw) continue;
            if (!regex_) {
                replace_all(token.text, literal_, content_);
                continue;
            }
            if (!utf8_valid(token.text)) continue;  // fused byte pieces: the pattern engine must not see them
            std::string out;
            size_t done = 0;
            Regex::Scan scan(*regex_, token.text);
            for (Range match; scan.next(match); done = match.end) {
                out.append(token.text, done, match.begin - done);
                out += content_;
            }
            out.append(token.text, done, std::string::npos);
            token.text = std::move(out);
        }
    }

  private:
    std::string literal_;
    std::optional<Regex> regex_;
    std::string content_;
};

class ByteFallback final : public DecoderStep {
    void apply(std::vector<DecodedToken>& tokens) const override {
        for (DecodedToken& token : tokens) {
            const std::string& t = token.text;
            if (t.size() != 6 || !t.starts_with("<0x") || t[5] != '>') continue;
            const int high = digit(t[3]), low = digit(t[4]);
            if (high < 0 || low < 0) continue;
            token.text = static_cast<char>(high * 16 + low);
            token.raw = true;
        }
    }
    static int digit(char c) {
        if (c >= '0' && c <= '9') return c - '0';
        c |= 32;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    }
};

class Fuse final : public DecoderStep {
    void apply(std::vector<DecodedToken>& tokens) const override {
        DecodedToken all;
        for (const DecodedToken& token : tokens) all.text += token.text;
        // Bytes that ByteFallback made may be invalid UTF-8 here; the steps that follow in published files only look
        // for text.
        tokens = {std::move(all)};
    }
};

class Strip final : public DecoderStep {
  public:
    Strip(std::string content, size_t start, size_t stop) : content_(std::move(content)), start_(start), stop_(stop) {}
    void apply(std::vector<DecodedToken>& tokens) const override {
        for (DecodedToken& token : tokens) {
            if (token.raw) continue;
            std::string_view t = token.text;
            for (size_t i = 0; i < start_ && t.starts_with(content_); ++i) t.remove_prefix(content_.size());
            for (size_t i = 0; i < stop_ && t.ends_with(content_); ++i) t.remove_suffix(content_.size());
            token.text = std::string(t);
        }
    }

  private:
    std::string content_;
    size_t start_, stop_;
};

class Metaspace final : public DecoderStep {
  public:
    Metaspace(std::string replacement, bool prepends) : replacement_(std::move(replacement)), prepends_(prepends) {}
    void apply(std::vector<DecodedToken>& tokens) const override {
        for (size_t i = 0; i < tokens.size(); ++i) {
            if (tokens[i].raw) continue;
            // The reference drops every replacement character of the first token where one was put in front of the
            // text.
            replace_all(tokens[i].text, replacement_, i == 0 && prepends_ ? "" : " ");
        }
    }

  private:
    std::string replacement_;
    bool prepends_;
};

class WordPiece final : public DecoderStep {
  public:
    WordPiece(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
    void apply(std::vector<DecodedToken>& tokens) const override {
        for (size_t i = 0; i < tokens.size(); ++i) {
            std::string& t = tokens[i].text;
            if (i > 0) {
                if (!prefix_.empty() && t.starts_with(prefix_)) {
                    t.erase(0, prefix_.size());
                } else {
                    t.insert(0, " ");
                }
            }
            if (cleanup_) clean(t);
        }
    }
    static void clean(std::string& t) {
        static constexpr std::string_view rules[][2] = {
            {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
            {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
        for (const auto& rule : rules) replace_all(t, rule[0], rule[1]);
    }

  private:
    std::string prefix_;
    bool cleanup_;
};

class BpeSuffix final : public DecoderStep {
  public:
    explicit BpeSuffix(std::string suffix) : suffix_(std::move(suffix)) {}
    void apply(std::vector<DecodedToken>& tokens) const override {
        for (size_t i = 0; i < tokens.size(); ++i)
            replace_all(tokens[i].text, suffix_, i + 1 == tokens.size() ? "" : " ");
    }

  private:
    std::string suffix_;
};

using Steps = std::vector<std::shared_ptr<const DecoderStep>>;

size_t count_of(const JsonObject& o, const char* key) {
    const int64_t n = o.get_int(key, 0);
    if (n < 0) o.wrong(key, "0 or more", *o.find(key));
    return static_cast<size_t>(n);
}

void read(const JsonObject& o, Steps& steps, int depth) {
    const std::string type = o.need_string("type");
    if (depth > deepest || steps.size() >= most_steps)
        o.unsupported("nesting of", type, "up to 32 levels and 1,000 steps");
    if (type == "Sequence") {
        const Json& items = o.need_array("decoders");
        for (size_t i = 0; i < items.size(); ++i)
            read({items[i], o.item("decoders", i), o.address()}, steps, depth + 1);
    } else if (type == "ByteLevel") {
        steps.push_back(std::make_shared<ByteLevel>());
    } else if (type == "Replace") {
        const JsonObject pattern = o.need_object("pattern");
        const std::string content = o.need_string("content");
        std::optional<Regex> regex;
        if (pattern.find("Regex")) regex.emplace(Regex::from_oniguruma(pattern.need_string("Regex"), o.address()));
        const std::string literal = regex ? "" : pattern.need_string("String");
        if (content.size() > 1024) o.wrong("content", "at most 1,024 bytes", o.need("content"));
        steps.push_back(std::make_shared<Replace>(literal, std::move(regex), content));
    } else if (type == "ByteFallback") {
        steps.push_back(std::make_shared<ByteFallback>());
    } else if (type == "Fuse") {
        steps.push_back(std::make_shared<Fuse>());
    } else if (type == "Strip") {
        const std::string content = o.need_string("content");
        if (code_point_count(content) != 1) o.wrong("content", "one character", o.need("content"));
        steps.push_back(std::make_shared<Strip>(content, count_of(o, "start"), count_of(o, "stop")));
    } else if (type == "Metaspace") {
        const std::string replacement = o.get_string("replacement", "▁");
        if (code_point_count(replacement) != 1) o.wrong("replacement", "one character", *o.find("replacement"));
        const bool prefix = o.get_bool("add_prefix_space", true);
        const bool prepends = o.get_string("prepend_scheme", prefix ? "always" : "never") != "never";
        steps.push_back(std::make_shared<Metaspace>(replacement, prepends));
    } else if (type == "WordPiece") {
        steps.push_back(std::make_shared<WordPiece>(o.get_string("prefix", "##"), o.get_bool("cleanup", true)));
    } else if (type == "BPEDecoder") {
        steps.push_back(std::make_shared<BpeSuffix>(o.get_string("suffix", "</w>")));
    } else {
        o.unsupported("decoder", type,
                      "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, WordPiece, BPEDecoder, Sequence");
    }
}

}  // namespace

DecoderChain DecoderChain::from_json(const Json& json, const std::string& address) {
    DecoderChain chain;
    chain.given_ = true;
    read({json, "decoder", address}, chain.steps_, 0);
    return chain;
}

DecoderChain DecoderChain::byte_level() {
    DecoderChain chain;
    chain.given_ = true;
    chain.steps_.push_back(std::make_shared<ByteLevel>());
    return chain;
}

DecoderChain DecoderChain::sentencepiece(bool space_prefix) {
    DecoderChain chain;
    chain.given_ = true;
    chain.steps_.push_back(std::make_shared<Replace>("▁", std::nullopt, " "));
    chain.steps_.push_back(std::make_shared<ByteFallback>());
    chain.steps_.push_back(std::make_shared<Fuse>());
    if (space_prefix) chain.steps_.push_back(std::make_shared<Strip>(" ", 1, 0));
    return chain;
}

std::string DecoderChain::apply(std::vector<DecodedToken> tokens) const {
    size_t input = 0;
    for (const DecodedToken& token : tokens) input += token.text.size() + 1;
    std::string out;
    for (const auto& step : steps_) {
        step->apply(tokens);
        size_t size = 0;
        for (const DecodedToken& token : tokens) size += token.text.size();
        if (size > (input + 4096) * 64)
            throw bad_input("text", "[tokenizer] the decoder makes 64 times more text than it gets");
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
        if (!given_ && i > 0) out += ' ';
        out += tokens[i].text;
    }
    return out;
}

}  // namespace busbar
