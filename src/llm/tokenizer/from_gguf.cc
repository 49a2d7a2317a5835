#include <cmath>

#include "base/error.h"
#include "llm/tokenizer/pipeline.h"

namespace busbar {

namespace {

// tokenizer.ggml.token_type
enum TokenType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

// Many files name only one end token. These spellings, as control tokens, end an answer in every model that has them.
constexpr std::string_view end_spellings[] = {
    "<|endoftext|>",   "<|end_of_text|>",       "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>",
    "<|end_of_turn|>", "<｜end▁of▁sentence｜>", "<|return|>", "<|call|>"};

class GgufReader {
  public:
    explicit GgufReader(const gguf::File& file) : file_(file), address_(file.path()) {}

    TokenizerParts read() {
        const std::string model = file_.need_string("tokenizer.ggml.model");
        if (model == "bert" || model == "t5" || model == "rwkv")
            throw bad_input(address_,
                            "[tokenizer] key 'tokenizer.ggml.model' has value {} ({}), which this build lacks. {}",
                            quote(model),
                            model == "bert" ? "WordPiece"
                            : model == "t5" ? "Unigram"
                                            : "RWKV's trie",
                            known_models);
        if (model != "gpt2" && model != "llama")
            throw bad_input(address_,
                            "[tokenizer] key 'tokenizer.ggml.model' has value {}, which this build does not know. {}",
                            quote(model), known_models);
        for (const auto& part : file_.parts()) parts_.kept.push_back(part);
        read_tokens();
        if (model == "gpt2") {
            read_byte_level();
        } else {
            read_sentencepiece();
        }
        read_specials();
        return std::move(parts_);
    }

  private:
    static constexpr const char* known_models = "Known: gpt2 (byte-level BPE), llama (SentencePiece BPE).";

    [[noreturn]] void wrong_table(const char* key, const std::string& expected, const std::string& got) const {
        throw bad_input(address_, "[tokenizer] expected key '{}' to hold {}, got {}", key, expected, got);
    }

    template <typename T>
    const std::vector<T>* table(const char* key, const char* kind) const {
        const gguf::Array* array = file_.get_array(key);
        if (!array) return nullptr;
        const auto* items = std::get_if<std::vector<T>>(&array->items);
        if (!items) wrong_table(key, kind, "other elements");
        return items;
    }

    void read_tokens() {
        const auto* tokens = table<std::string_view>("tokenizer.ggml.tokens", "strings");
        if (!tokens || tokens->empty())
            throw bad_input(address_, "[tokenizer] expected key 'tokenizer.ggml.tokens', it is missing");
        if (tokens->size() > INT32_MAX) wrong_table("tokenizer.ggml.tokens", "fewer than 2^31 strings", "more");
        *parts_.vocabulary = Vocabulary(tokens->size());
        for (size_t id = 0; id < tokens->size(); ++id) parts_.vocabulary->add((*tokens)[id], static_cast<TokenId>(id));

        types_.assign(tokens->size(), normal);
        if (const auto* types = table<int64_t>("tokenizer.ggml.token_type", "integers")) {
            if (types->size() != tokens->size())
                wrong_table("tokenizer.ggml.token_type", fmt::format("{} types, one for each token", tokens->size()),
                            fmt::format("{}", types->size()));
            for (size_t id = 0; id < types->size(); ++id)
                types_[id] = static_cast<int>(std::clamp<int64_t>((*types)[id], 0, 100));
        }
        for (size_t id = 0; id < tokens->size(); ++id) {
            const std::string_view text = (*tokens)[id];
            const bool special = types_[id] == control || types_[id] == unknown;
            if ((!special && types_[id] != user_defined) || text.empty() || text.size() > longest_added) continue;
            AddedToken token;
            token.id = static_cast<TokenId>(id);
            token.content = text;
            token.special = special;
            parts_.added.push_back(std::move(token));
        }
    }

    void read_byte_level() {
        const std::optional<std::string> pre = file_.get_string("tokenizer.ggml.pre");
        if (!pre)
            throw bad_input(address_,
                            "[tokenizer] expected key 'tokenizer.ggml.pre', it is missing: without it nobody knows "
                            "where this model "
                            "cuts text. Convert the model again with a current converter, which writes it.");
        parts_.pre_tokenizer = PreTokenizerChain::from_gguf_name(*pre, address_);
        // The Qwen models normalise; their files do not say so (formats.md 9.3).
        if (*pre == "qwen2" || *pre == "qwen35" || *pre == "deepseek-r1-qwen")
            parts_.normalizer = NormalizerChain::nfc();
        parts_.decoder = DecoderChain::byte_level();
        begin_by_default_ = *pre == "llama-bpe" || *pre == "llama3" || *pre == "falcon3" || *pre == "tekken";

        const auto* merges = table<std::string_view>("tokenizer.ggml.merges", "strings");
        if (!merges) throw bad_input(address_, "[tokenizer] expected key 'tokenizer.ggml.merges', it is missing");
        MergeTable table(merges->size());
        std::string joined;
        TokenId previous = -1;
        for (size_t rank = 0; rank < merges->size(); ++rank) {
            const std::string_view merge = (*merges)[rank];
            const size_t space = merge.find(' ', 1);
            TokenId left = -1, right = -1, both = -1;
            if (space != std::string_view::npos) {
                left = parts_.vocabulary->find(merge.substr(0, space));
                right = parts_.vocabulary->find(merge.substr(space + 1));
                joined.assign(merge, 0, space).append(merge, space + 1);
                // Vocabularies mostly list the results of merges in order: the next id is worth a look before a search.
                both =
                    parts_.vocabulary->piece(previous + 1) == joined ? previous + 1 : parts_.vocabulary->find(joined);
                previous = both;
            }
            if (left < 0 || right < 0 || both < 0)
                wrong_table("tokenizer.ggml.merges", "pairs \"a b\" of tokens that make a token",
                            fmt::format("{} as merge {}", quote(merge), rank));
            table.add(left, right, static_cast<uint32_t>(rank), both);
        }
        Bpe::Options options;
        options.ignore_merges = *pre == "llama-bpe" || *pre == "llama3" || *pre == "falcon3" || *pre == "tekken";
        parts_.model.emplace(*parts_.vocabulary, std::move(table), std::move(options), address_);
    }

    void read_sentencepiece() {
        const auto* scores = table<double>("tokenizer.ggml.scores", "floats");
        if (!scores) throw bad_input(address_, "[tokenizer] expected key 'tokenizer.ggml.scores', it is missing");
        if (scores->size() != types_.size())
            wrong_table("tokenizer.ggml.scores", fmt::format("{} scores, one for each token", types_.size()),
                        fmt::format("{}", scores->size()));
        if (file_.get_bool("tokenizer.ggml.remove_extra_whitespaces").value_or(false))
            throw bad_input(
                address_, "[tokenizer] key 'tokenizer.ggml.remove_extra_whitespaces' is true, which this build lacks");
        if (file_.get_array("tokenizer.ggml.precompiled_charsmap"))
            throw bad_input(address_,
                            "[tokenizer] key 'tokenizer.ggml.precompiled_charsmap' is given, which this build lacks");
        const bool prefix = file_.get_bool("tokenizer.ggml.add_space_prefix").value_or(true);
        parts_.normalizer = NormalizerChain::sentencepiece(prefix);
        parts_.decoder = DecoderChain::sentencepiece(prefix);
        begin_by_default_ = true;

        std::vector<float> values(scores->size());
        std::vector<bool> mergeable(scores->size());
        for (size_t id = 0; id < values.size(); ++id) {
            values[id] = static_cast<float>((*scores)[id]);
            if (std::isnan(values[id]))
                wrong_table("tokenizer.ggml.scores", "numbers", fmt::format("NaN for token {}", id));
            mergeable[id] = types_[id] == normal || types_[id] == user_defined;
        }
        Bpe::Options options;
        options.byte_fallback = true;
        if (const TokenId id = special_id("unknown"); id >= 0) options.unknown = parts_.vocabulary->piece(id);
        parts_.model.emplace(*parts_.vocabulary, values, std::move(mergeable), std::move(options), address_);
    }

    // The id under tokenizer.ggml.<name>_token_id, -1 if the file has none.
    TokenId special_id(const std::string& name) const {
        const std::string key = "tokenizer.ggml." + name + "_token_id";
        const std::optional<int64_t> id = file_.get_int(key);
        // Converters write 2^32 - 1 for none.
        if (!id || *id == -1 || *id == UINT32_MAX) return -1;
        if (*id < 0 || *id >= parts_.vocabulary->size())
            wrong_table(key.c_str(), fmt::format("an id under {}", parts_.vocabulary->size()), fmt::format("{}", *id));
        return static_cast<TokenId>(*id);
    }

    void read_specials() {
        static constexpr std::pair<const char*, const char*> names[] = {
            {"bos", "bos_token"},     {"eos", "eos_token"},       {"eot", "eot_token"},     {"eom", "eom_token"},
            {"unknown", "unk_token"}, {"seperator", "sep_token"}, {"padding", "pad_token"}, {"mask", "mask_token"}};
        for (const auto& [key, name] : names)
            if (const TokenId id = special_id(key); id >= 0) parts_.special_texts[name] = parts_.vocabulary->piece(id);
        parts_.begin_id = special_id("bos");
        const auto add_end = [&](TokenId id) {
            if (id >= 0 && std::find(parts_.end_ids.begin(), parts_.end_ids.end(), id) == parts_.end_ids.end())
                parts_.end_ids.push_back(id);
        };
        const TokenId end = special_id("eos");
        add_end(end);
        add_end(special_id("eot"));
        add_end(special_id("eom"));
        const auto add_control = [&](std::string_view spelling) {
            const TokenId id = parts_.vocabulary->find(spelling);
            if (id >= 0 && types_[id] == control) add_end(id);
        };
        for (const std::string_view spelling : end_spellings) add_control(spelling);
        // Phi ends its turns so; where there is <|return|>, it ends a message inside an answer.
        if (parts_.vocabulary->find("<|return|>") < 0) add_control("<|end|>");

        if (file_.get_bool("tokenizer.ggml.add_bos_token").value_or(begin_by_default_) && parts_.begin_id >= 0)
            parts_.post_processor.before.push_back(parts_.begin_id);
        if (file_.get_bool("tokenizer.ggml.add_eos_token").value_or(false) && end >= 0)
            parts_.post_processor.after.push_back(end);
        parts_.chat_template = file_.get_string("tokenizer.chat_template").value_or("");
    }

    static constexpr size_t longest_added = 1024;
    const gguf::File& file_;
    std::string address_;
    TokenizerParts parts_;
    std::vector<int> types_;
    bool begin_by_default_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_gguf(const gguf::File& file) {
    return std::make_unique<PipelineTokenizer>(GgufReader(file).read());
}

}  // namespace busbar
