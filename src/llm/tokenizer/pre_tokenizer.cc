#include "llm/tokenizer/pre_tokenizer.h"

#include "llm/tokenizer/splitters.h"
#include "llm/tokenizer/unicode.h"

namespace busbar {

namespace {

constexpr int deepest = 32;
constexpr size_t most_steps = 1000;

using Steps = std::vector<std::shared_ptr<const PreTokenizer>>;

SplitBehavior behavior_of(const JsonObject& o, const std::string& name) {
    if (name == "Removed") return SplitBehavior::removed;
    if (name == "Isolated") return SplitBehavior::isolated;
    if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
    if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
    if (name == "Contiguous") return SplitBehavior::contiguous;
    o.unsupported("behavior", name, "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
}

PrependScheme scheme_of(const JsonObject& o) {
    // Older files say add_prefix_space, where newer ones say prepend_scheme.
    const bool prefix = o.get_bool("add_prefix_space", true);
    const std::string name = o.get_string("prepend_scheme", prefix ? "always" : "never");
    if (name == "first") return PrependScheme::first;
    if (name == "always") return PrependScheme::always;
    if (name == "never") return PrependScheme::never;
    o.unsupported("prepend_scheme", name, "first, always, never");
}

void read(const JsonObject& o, Steps& steps, bool& is_byte_level, int depth) {
    const std::string type = o.need_string("type");
    if (depth > deepest || steps.size() >= most_steps)
        o.unsupported("nesting of", type, "up to 32 levels and 1,000 steps");
    if (type == "Sequence") {
        const Json& items = o.need_array("pretokenizers");
        for (size_t i = 0; i < items.size(); ++i)
            read({items[i], o.item("pretokenizers", i), o.address()}, steps, is_byte_level, depth + 1);
    } else if (type == "ByteLevel") {
        steps.push_back(byte_level(o.get_bool("add_prefix_space", true), o.get_bool("use_regex", true)));
        is_byte_level = true;
    } else if (type == "Split") {
        const JsonObject pattern = o.need_object("pattern");
        const SplitBehavior behavior = behavior_of(o, o.need_string("behavior"));
        const bool invert = o.get_bool("invert", false);
        steps.push_back(
            pattern.find("Regex")
                ? split_by_regex(Regex::from_oniguruma(pattern.need_string("Regex"), o.address()), behavior, invert)
                : split_by_literal(pattern.need_string("String"), behavior, invert));
    } else if (type == "Digits") {
        const bool each = o.get_bool("individual_digits", false);
        steps.push_back(split_by_property(is_numeric, each ? SplitBehavior::isolated : SplitBehavior::contiguous));
    } else if (type == "Whitespace") {
        steps.push_back(split_words());
    } else if (type == "WhitespaceSplit") {
        steps.push_back(split_by_property(is_white_space, SplitBehavior::removed));
    } else if (type == "Metaspace") {
        const std::string replacement = o.get_string("replacement", "▁");
        if (code_point_count(replacement) != 1) o.wrong("replacement", "one character", *o.find("replacement"));
        steps.push_back(metaspace(replacement, scheme_of(o), o.get_bool("split", true)));
    } else if (type == "BertPreTokenizer") {
        steps.push_back(split_by_property(is_white_space, SplitBehavior::removed));
        steps.push_back(split_by_property(is_punctuation, SplitBehavior::isolated));
    } else if (type == "Punctuation") {
        steps.push_back(split_by_property(is_punctuation, behavior_of(o, o.get_string("behavior", "Isolated"))));
    } else if (type == "CharDelimiterSplit") {
        const std::string delimiter = o.need_string("delimiter");
        if (code_point_count(delimiter) != 1) o.wrong("delimiter", "one character", o.need("delimiter"));
        steps.push_back(split_by_literal(delimiter, SplitBehavior::removed, false));
    } else if (type == "FixedLength") {
        const int64_t length = o.get_int("length", 5);
        if (length < 1) o.wrong("length", "1 or more", *o.find("length"));
        steps.push_back(split_fixed_length(static_cast<size_t>(length)));
    } else {
        o.unsupported(
            "pre-tokenizer", type,
            "ByteLevel, Split, Digits, Whitespace, WhitespaceSplit, Metaspace, BertPreTokenizer, Punctuation, "
            "CharDelimiterSplit, FixedLength, Sequence");
    }
}

// The rows of formats.md 9.3 that are written out in full, in Oniguruma's spelling as published.
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define WORD_UPPER_LOWER R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
#define WORD_UPPER R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"

struct Row {
    std::string_view names;                  // separated by spaces
    std::vector<std::string_view> patterns;  // Isolated splits, one after the other, then bytes to symbols
    bool digits_then_gpt2 = false;
    bool gpt2 = false;
};

const std::vector<Row>& rows() {
    static const std::vector<Row> table = {
        {.names = "gpt-2 phi-2 mpt olmo jais mellum modern-bert", .patterns = {}, .gpt2 = true},
        {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b",
         .patterns = {},
         .digits_then_gpt2 = true},
        {.names = "llama-bpe llama3 falcon3 smaug-bpe dbrx glm4 chatglm-bpe",
         .patterns = {CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" TAIL}},
        {.names = "qwen2 stablelm2 hunyuan deepseek-r1-qwen grok-2",
         .patterns = {CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" TAIL}},
        {.names = "qwen35",
         .patterns = {CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" TAIL}},
        {.names = "deepseek-v3 hunyuan-dense joyai-llm",
         .patterns = {R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
                      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
                      R"(| ?[\p{P}\p{S}]+[\r\n]*|)" TAIL}},
        {.names = "gpt-4o llama4 minimax-m2",
         .patterns = {WORD_UPPER_LOWER CONTRACTIONS "?|" WORD_UPPER CONTRACTIONS
                                                    R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" TAIL}},
        {.names = "tekken", .patterns = {WORD_UPPER_LOWER "|" WORD_UPPER R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" TAIL}},
        {.names = "bailingmoe",
         .patterns = {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*)"
                      R"(|\s*[\r\n]|\s+(?!\S)|\s+)"}},
        {.names = "seed-coder",
         .patterns = {CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|)" TAIL}},
    };
    return table;
}

bool lists(std::string_view names, std::string_view name) {
    for (size_t pos = 0; pos <= names.size();) {
        const size_t space = std::min(names.find(' ', pos), names.size());
        if (names.substr(pos, space - pos) == name) return true;
        pos = space + 1;
    }
    return false;
}

}  // namespace

PreTokenizerChain PreTokenizerChain::from_json(const Json& json, const std::string& address) {
    PreTokenizerChain chain;
    read({json, "pre_tokenizer", address}, chain.steps_, chain.byte_level_, 0);
    return chain;
}

PreTokenizerChain PreTokenizerChain::from_gguf_name(const std::string& name, const std::string& address) {
    PreTokenizerChain chain;
    chain.byte_level_ = true;
    std::string known;
    for (const Row& row : rows()) {
        known += (known.empty() ? "" : " ") + std::string(row.names);
        if (name.empty() || name.find(' ') != std::string::npos || !lists(row.names, name)) continue;
        if (row.digits_then_gpt2) chain.steps_.push_back(split_by_property(is_numeric, SplitBehavior::isolated));
        for (const std::string_view pattern : row.patterns)
            chain.steps_.push_back(
                split_by_regex(Regex::from_oniguruma(pattern, address), SplitBehavior::isolated, false));
        chain.steps_.push_back(busbar::byte_level(false, row.gpt2 || row.digits_then_gpt2));
        return chain;
    }
    for (size_t at = 0; (at = known.find(' ', at)) != std::string::npos; at += 2) known.replace(at, 1, ", ");
    throw bad_input(
        address,
        "[tokenizer] key 'tokenizer.ggml.pre' has value {}, which this build does not know. Known: {}. Another "
        "pre-tokenizer would cut the text in places that the model never saw.",
        quote(name), known);
}

}  // namespace busbar
