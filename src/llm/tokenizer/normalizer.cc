#include "llm/tokenizer/normalizer.h"

#include <optional>

#include "base/utf8.h"
#include "llm/tokenizer/regex.h"
#include "llm/tokenizer/unicode.h"

namespace busbar {

namespace {

constexpr int deepest = 32;
constexpr size_t most_steps = 1000;

// Growth that no published normalizer comes near; a chain of replacements could otherwise double a text at every step.
size_t limit_for(size_t input) {
    return input * 64 + (1 << 20);
}

void check_growth(size_t size, size_t input) {
    if (size > limit_for(input))
        throw bad_input("text", "[tokenizer] expected normalised text of at most {} bytes, the normalizer makes more",
                        with_commas(limit_for(input)));
}

class Form final : public Normalizer {
  public:
    explicit Form(NormalForm form) : form_(form) {}
    void apply(std::string& text) const override { text = normalize(text, form_); }

  private:
    NormalForm form_;
};

class LowerCase final : public Normalizer {
    void apply(std::string& text) const override { text = lower_case(text); }
};

template <typename Keep>
void filter(std::string& text, Keep keep) {
    size_t out = 0;
    for (size_t pos = 0; pos < text.size();) {
        const size_t begin = pos;
        if (!keep(utf8_next(text, pos))) continue;
        std::copy(text.begin() + begin, text.begin() + pos, text.begin() + out);
        out += pos - begin;
    }
    text.resize(out);
}

class StripAccents final : public Normalizer {
    void apply(std::string& text) const override {
        filter(text, [](uint32_t cp) { return !is_mark(cp); });
    }
};

class Strip final : public Normalizer {
  public:
    Strip(bool left, bool right) : left_(left), right_(right) {}
    void apply(std::string& text) const override {
        size_t begin = 0, end = 0;
        bool inked = false;
        for (size_t pos = 0; pos < text.size();) {
            const size_t at = pos;
            if (is_white_space(utf8_next(text, pos))) continue;
            if (!inked) begin = at;
            inked = true;
            end = pos;
        }
        if (!inked) {
            if (left_ || right_) text.clear();
            return;
        }
        if (right_) text.resize(end);
        if (left_) text.erase(0, begin);
    }

  private:
    bool left_, right_;
};

class Prepend final : public Normalizer {
  public:
    explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
    void apply(std::string& text) const override {
        if (!text.empty()) text.insert(0, prefix_);
    }

  private:
    std::string prefix_;
};

class Replace final : public Normalizer {
  public:
    Replace(std::string literal, std::optional<Regex> regex, std::string content)
        : literal_(std::move(literal)), regex_(std::move(regex)), content_(std::move(content)) {}

    void apply(std::string& text) const override {
        std::string out;
        size_t done = 0;
        const auto replace = [&](size_t begin, size_t end) {
            out.append(text, done, begin - done);
            out += content_;
            done = end;
            check_growth(out.size(), text.size());
        };
        if (regex_) {
            Regex::Scan scan(*regex_, text);
            for (Range match; scan.next(match);) replace(match.begin, match.end);
        } else if (!literal_.empty()) {
            for (size_t at; (at = text.find(literal_, done)) != std::string::npos;) replace(at, at + literal_.size());
        }
        if (done == 0 && out.empty()) return;
        out.append(text, done, std::string::npos);
        text = std::move(out);
    }

  private:
    std::string literal_;
    std::optional<Regex> regex_;
    std::string content_;
};

class ByteLevel final : public Normalizer {
    void apply(std::string& text) const override {
        std::string out;
        for (const char c : text) utf8_append(out, byte_symbol(static_cast<uint8_t>(c)));
        text = std::move(out);
    }
};

class Bert final : public Normalizer {
  public:
    Bert(bool clean, bool spread_cjk, bool strip_accents, bool lower)
        : clean_(clean), spread_cjk_(spread_cjk), strip_accents_(strip_accents), lower_(lower) {}

    void apply(std::string& text) const override {
        if (clean_) {
            filter(text, [](uint32_t cp) { return cp != 0 && cp != 0xFFFD && !is_control(cp); });
            map(text, [](std::string& out, uint32_t cp) { utf8_append(out, is_white_space(cp) ? ' ' : cp); });
        }
        if (spread_cjk_)
            map(text, [](std::string& out, uint32_t cp) {
                if (is_cjk(cp)) out += ' ';
                utf8_append(out, cp);
                if (is_cjk(cp)) out += ' ';
            });
        if (strip_accents_) {
            text = normalize(text, NormalForm::nfd);
            filter(text, [](uint32_t cp) { return !is_nonspacing_mark(cp); });
        }
        if (lower_) text = lower_case(text);
    }

  private:
    template <typename Put>
    static void map(std::string& text, Put put) {
        std::string out;
        for (size_t pos = 0; pos < text.size();) put(out, utf8_next(text, pos));
        text = std::move(out);
    }
    bool clean_, spread_cjk_, strip_accents_, lower_;
};

using Steps = std::vector<std::shared_ptr<const Normalizer>>;

void read(const JsonObject& o, Steps& steps, int depth) {
    const std::string type = o.need_string("type");
    if (depth > deepest || steps.size() >= most_steps)
        o.unsupported("nesting of", type, "up to 32 levels and 1,000 steps");
    if (type == "Sequence") {
        const Json& items = o.need_array("normalizers");
        for (size_t i = 0; i < items.size(); ++i)
            read({items[i], o.item("normalizers", i), o.address()}, steps, depth + 1);
    } else if (type == "NFC") {
        steps.push_back(std::make_shared<Form>(NormalForm::nfc));
    } else if (type == "NFD") {
        steps.push_back(std::make_shared<Form>(NormalForm::nfd));
    } else if (type == "NFKC") {
        steps.push_back(std::make_shared<Form>(NormalForm::nfkc));
    } else if (type == "NFKD") {
        steps.push_back(std::make_shared<Form>(NormalForm::nfkd));
    } else if (type == "Lowercase") {
        steps.push_back(std::make_shared<LowerCase>());
    } else if (type == "StripAccents") {
        steps.push_back(std::make_shared<StripAccents>());
    } else if (type == "Strip") {
        steps.push_back(std::make_shared<Strip>(o.get_bool("strip_left", false), o.get_bool("strip_right", false)));
    } else if (type == "Prepend") {
        steps.push_back(std::make_shared<Prepend>(o.need_string("prepend")));
    } else if (type == "Replace") {
        const JsonObject pattern = o.need_object("pattern");
        const std::string content = o.need_string("content");
        if (pattern.find("Regex")) {
            steps.push_back(std::make_shared<Replace>(
                "", Regex::from_oniguruma(pattern.need_string("Regex"), o.address()), content));
        } else {
            steps.push_back(std::make_shared<Replace>(pattern.need_string("String"), std::nullopt, content));
        }
    } else if (type == "ByteLevel") {
        steps.push_back(std::make_shared<ByteLevel>());
    } else if (type == "BertNormalizer") {
        const bool lower = o.get_bool("lowercase", true);
        steps.push_back(std::make_shared<Bert>(o.get_bool("clean_text", true), o.get_bool("handle_chinese_chars", true),
                                               o.get_bool("strip_accents", lower), lower));
    } else {
        o.unsupported(
            "normalizer", type,
            "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, ByteLevel, BertNormalizer, "
            "Sequence");
    }
}

}  // namespace

NormalizerChain NormalizerChain::from_json(const Json& json, const std::string& address) {
    NormalizerChain chain;
    read({json, "normalizer", address}, chain.steps_, 0);
    return chain;
}

NormalizerChain NormalizerChain::nfc() {
    NormalizerChain chain;
    chain.steps_.push_back(std::make_shared<Form>(NormalForm::nfc));
    return chain;
}

NormalizerChain NormalizerChain::sentencepiece(bool space_prefix) {
    NormalizerChain chain;
    if (space_prefix) chain.steps_.push_back(std::make_shared<Prepend>("▁"));
    chain.steps_.push_back(std::make_shared<Replace>(" ", std::nullopt, "▁"));
    return chain;
}

std::string NormalizerChain::apply(std::string_view text) const {
    std::string out(text);
    for (const auto& step : steps_) {
        step->apply(out);
        check_growth(out.size(), text.size());
    }
    return out;
}

}  // namespace busbar
