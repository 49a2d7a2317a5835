#include <filesystem>

#include "base/error.h"
#include "base/mapped_file.h"
#include "llm/tokenizer/pipeline.h"

namespace busbar {

namespace {

constexpr size_t longest_added = 1024;

class JsonReader {
  public:
    JsonReader(const Json& tokenizer, const Json& config, const std::string& address, const std::string& config_address)
        : root_(tokenizer, "", address), config_(config), address_(address), config_address_(config_address) {}

    TokenizerParts read() {
        const JsonObject model = root_.need_object("model");
        check_type(model);
        read_vocabulary(model);
        read_added();
        parts_.model.emplace(*parts_.vocabulary, read_merges(model), read_options(model), address_);
        if (const Json* json = root_.find("normalizer"))
            parts_.normalizer = NormalizerChain::from_json(*json, address_);
        if (const Json* json = root_.find("pre_tokenizer"))
            parts_.pre_tokenizer = PreTokenizerChain::from_json(*json, address_);
        if (const Json* json = root_.find("decoder")) parts_.decoder = DecoderChain::from_json(*json, address_);
        if (const Json* json = root_.find("post_processor"))
            parts_.post_processor = PostProcessor::from_json(*json, *parts_.vocabulary, address_);
        if (!config_.is_null()) read_config(JsonObject(config_, "", config_address_));
        return std::move(parts_);
    }

  private:
    void check_type(const JsonObject& model) const {
        // Files of the first years name no type; a list of merges then says BPE.
        const std::string type = model.get_string("type", model.find("merges") ? "BPE" : "");
        if (type != "BPE") model.unsupported("type", type, "BPE");
        if (const Json* dropout = model.find("dropout");
            dropout && !(dropout->is_number() && dropout->get<double>() == 0))
            model.wrong("dropout", "none (a random choice of merges is for training)", *dropout);
    }

    // A table as long as the largest id must be in proportion to the file.
    TokenId checked_id(const JsonObject& o, const char* key, const Json& value, size_t count) const {
        const int64_t id = o.as_int(value, key);
        if (id < 0 || static_cast<uint64_t>(id) > 8 * static_cast<uint64_t>(count) + 4096 || id >= INT32_MAX)
            throw bad_input(address_, "[tokenizer] expected ids in proportion to the {} tokens in '{}', got {}", count,
                            o.path(key), id);
        return static_cast<TokenId>(id);
    }

    void read_vocabulary(const JsonObject& model) {
        const Json& vocab = model.need("vocab");
        if (!vocab.is_object()) model.wrong("vocab", "an object of tokens and ids", vocab);
        const Json* added = root_.find("added_tokens");
        count_ = vocab.size() + (added && added->is_array() ? added->size() : 0);
        *parts_.vocabulary = Vocabulary(count_);
        for (auto it = vocab.begin(); it != vocab.end(); ++it) {
            const TokenId id = checked_id(model, "vocab", it.value(), count_);
            if (it.key().empty()) continue;
            if (!parts_.vocabulary->add(parts_.vocabulary->own(it.key()), id))
                throw bad_input(address_, "[tokenizer] expected one token for id {} in 'model.vocab', got {} and {}",
                                id, quote(parts_.vocabulary->piece(id)), quote(it.key()));
        }
    }

    void read_added() {
        const Json* list = root_.find("added_tokens");
        if (!list) return;
        if (!list->is_array()) root_.wrong("added_tokens", "an array", *list);
        for (size_t i = 0; i < list->size(); ++i) {
            const JsonObject o((*list)[i], root_.item("added_tokens", i), address_);
            AddedToken token;
            token.id = checked_id(o, "id", o.need("id"), count_);
            token.content = o.need_string("content");
            if (token.content.empty()) continue;
            if (token.content.size() > longest_added) o.wrong("content", "at most 1,024 bytes", o.need("content"));
            token.special = o.get_bool("special", false);
            token.single_word = o.get_bool("single_word", false);
            token.lstrip = o.get_bool("lstrip", false);
            token.rstrip = o.get_bool("rstrip", false);
            token.normalized = o.get_bool("normalized", !token.special);
            const TokenId known = parts_.vocabulary->find(token.content);
            if (known >= 0 && known != token.id)
                throw bad_input(address_, "[tokenizer] expected id {} for {} in '{}' as in the vocabulary, got {}",
                                known, quote(token.content), o.path(""), token.id);
            if (!parts_.vocabulary->add(parts_.vocabulary->own(token.content), token.id))
                throw bad_input(address_, "[tokenizer] expected a free id for {} in '{}', got {}, which is {}",
                                quote(token.content), o.path(""), token.id, quote(parts_.vocabulary->piece(token.id)));
            parts_.added.push_back(std::move(token));
        }
    }

    Bpe::Options read_options(const JsonObject& model) const {
        Bpe::Options options;
        options.ignore_merges = model.get_bool("ignore_merges", false);
        options.byte_fallback = model.get_bool("byte_fallback", false);
        options.fuse_unknown = model.get_bool("fuse_unk", false);
        options.unknown = model.get_string("unk_token", "");
        options.subword_prefix = model.get_string("continuing_subword_prefix", "");
        options.word_suffix = model.get_string("end_of_word_suffix", "");
        if (options.subword_prefix.size() > longest_added)
            model.wrong("continuing_subword_prefix", "at most 1,024 bytes", Json());
        if (options.word_suffix.size() > longest_added)
            model.wrong("end_of_word_suffix", "at most 1,024 bytes", Json());
        return options;
    }

    // "a b", or ["a", "b"] where tokens hold spaces.
    MergeTable read_merges(const JsonObject& model) const {
        const Json& merges = model.need_array("merges");
        const std::string prefix = model.get_string("continuing_subword_prefix", "");
        MergeTable table(merges.size());
        std::string joined;
        uint32_t rank = 0;
        for (size_t i = 0; i < merges.size(); ++i) {
            const Json& merge = merges[i];
            std::string_view left, right;
            if (merge.is_string()) {
                const std::string_view text = merge.get_ref<const std::string&>();
                if (text.starts_with("#version")) continue;
                const size_t space = text.find(' ');
                if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
                    left = text.substr(0, space);
                    right = text.substr(space + 1);
                }
            } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
                left = merge[0].get_ref<const std::string&>();
                right = merge[1].get_ref<const std::string&>();
            }
            const TokenId a = parts_.vocabulary->find(left), b = parts_.vocabulary->find(right);
            joined.assign(left).append(right.substr(std::min(prefix.size(), right.size())));
            const TokenId both = parts_.vocabulary->find(joined);
            if (left.empty() || right.empty() || a < 0 || b < 0 || both < 0)
                model.wrong(fmt::format("merges[{}]", i), "two tokens that make a token", merge);
            table.add(a, b, rank++, both);
        }
        return table;
    }

    // A token in tokenizer_config.json is a string or an object with its content.
    static std::string token_text(const JsonObject& o, const char* key) {
        const Json* value = o.find(key);
        if (!value) return "";
        return value->is_object() ? o.need_object(key).get_string("content", "") : o.get_string(key, "");
    }

    void read_config(const JsonObject& config) {
        for (auto it = config_.begin(); it != config_.end(); ++it) {
            const std::string& key = it.key();
            if (!key.ends_with("_token") || key.starts_with("add_") || !(it->is_string() || it->is_object())) continue;
            parts_.special_texts[key] = token_text(config, key.c_str());
        }
        const TokenId begin = parts_.vocabulary->find(special("bos_token")),
                      end = parts_.vocabulary->find(special("eos_token"));
        parts_.begin_id = begin;
        if (end >= 0) parts_.end_ids.push_back(end);
        // add_bos_token and add_eos_token are not read: the post-processor alone decides, as in transformers 5.
        parts_.chat_template = read_template(config);
    }

    std::string special(const char* name) const {
        const auto it = parts_.special_texts.find(name);
        return it == parts_.special_texts.end() ? "" : it->second;
    }

    // One template, or a list of named ones.
    static std::string read_template(const JsonObject& config) {
        const Json* value = config.find("chat_template");
        if (!value) return "";
        if (value->is_string()) return value->get<std::string>();
        std::string found;
        const Json& list = config.need_array("chat_template");
        for (size_t i = 0; i < list.size(); ++i) {
            const JsonObject o(list[i], config.item("chat_template", i), config.address());
            if (o.need_string("name") == "default") found = o.need_string("template");
        }
        return found;
    }

    JsonObject root_;
    const Json& config_;
    std::string address_, config_address_;
    TokenizerParts parts_;
    size_t count_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_json(const Json& tokenizer, const Json& config, const std::string& address) {
    return std::make_unique<PipelineTokenizer>(JsonReader(tokenizer, config, address, address).read());
}

std::unique_ptr<Tokenizer> Tokenizer::from_folder(const std::string& folder) {
    const std::filesystem::path path(folder);
    const std::string file = (path / "tokenizer.json").string();
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) {
        const bool other = std::filesystem::exists(path / "tokenizer.model", ignored);
        throw bad_input(
            file, "[tokenizer] expected this file, it is missing{}",
            other ? ": tokenizer.model alone is not read; save the tokenizer with the Python package transformers, "
                    "which writes tokenizer.json"
                  : "");
    }
    const Json tokenizer = parse_json(read_file(file), file);
    Json config;
    const std::string config_file = (path / "tokenizer_config.json").string();
    if (std::filesystem::exists(config_file, ignored)) {
        config = parse_json(read_file(config_file), config_file);
        if (!config.is_object()) throw bad_input(config_file, "[tokenizer] expected an object");
    }
    // Older folders name their special tokens only here.
    if (const std::string name = (path / "special_tokens_map.json").string(); std::filesystem::exists(name, ignored)) {
        const Json map = parse_json(read_file(name), name);
        if (!map.is_object()) throw bad_input(name, "[tokenizer] expected an object");
        if (config.is_null()) config = Json::object();
        for (auto it = map.begin(); it != map.end(); ++it)
            if (it.key().ends_with("_token") && (!config.contains(it.key()) || config[it.key()].is_null()))
                config[it.key()] = it.value();
    }
    if (const std::string name = (path / "chat_template.jinja").string(); std::filesystem::exists(name, ignored)) {
        if (config.is_null()) config = Json::object();
        config["chat_template"] = read_file(name, 16 << 20);
    }
    return std::make_unique<PipelineTokenizer>(JsonReader(tokenizer, config, file, config_file).read());
}

}  // namespace busbar
