// Ids and text of tests/goldens/tokenizers, made by the Python package `tokenizers` (make_tokenizers.py), of the
// default model and of the vocabularies that llama.cpp tests with.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "llm/tokenizer/tokenizer.h"

namespace busbar {
namespace {

namespace fs = std::filesystem;

std::string stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool show_special) {
    StreamDecoder decoder(tokenizer, show_special);
    std::string text;
    for (const TokenId id : ids) text += decoder.add(id);
    return text + decoder.finish();
}

std::vector<fs::path> golden_files() {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(fs::path(BUSBAR_SOURCE_DIR) / "tests/goldens/tokenizers"))
        if (entry.path().extension() == ".json") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

class Golden : public testing::TestWithParam<fs::path> {};

TEST_P(Golden, IdsAndText) {
    const std::string path = GetParam().string();
    const Json golden = parse_json(read_file(path), path);
    const auto tokenizer = Tokenizer::from_json(golden["tokenizer"], Json(), path);
    ASSERT_GT(golden["cases"].size(), 40u);
    for (const Json& c : golden["cases"]) {
        const std::string text = c["text"];
        SCOPED_TRACE(quote(text, 400));
        auto ids = c["ids"].get<std::vector<TokenId>>();
        const auto plain = c.contains("plain") ? c["plain"].get<std::vector<TokenId>>() : ids;
        EXPECT_EQ(tokenizer->encode(text, false), plain);
        if (c.contains("shown")) {
            const std::string shown = c["shown"], decoded = c["decoded"];
            EXPECT_EQ(tokenizer->decode(ids, true), shown);
            EXPECT_EQ(tokenizer->decode(ids, false), decoded);
            EXPECT_EQ(stream(*tokenizer, ids, true), shown);
            EXPECT_EQ(stream(*tokenizer, ids, false), decoded);
        }
        // The one difference on purpose: a begin token that the text already has is not added again.
        if (c.contains("plain") && !plain.empty() && ids.size() > 1 && ids[0] == ids[1] && ids[0] == plain[0])
            ids.erase(ids.begin());
        EXPECT_EQ(tokenizer->encode(text, true), ids);
    }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden, testing::ValuesIn(golden_files()), [](const auto& info) {
    std::string name = info.param.stem().string();
    std::replace_if(
        name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
    return name;
});

// Untrusted text in any mixture never gives a special id, and where it holds none, its ids are those of trusted text.
TEST_P(Golden, UntrustedTextIsOnlyText) {
    const std::string path = GetParam().string();
    const Json golden = parse_json(read_file(path), path);
    const auto tokenizer = Tokenizer::from_json(golden["tokenizer"], Json(), path);
    std::vector<bool> added(tokenizer->size());
    bool unknown_is_special = false;
    std::vector<std::string> contents;
    const Json unknown = golden["tokenizer"]["model"].value("unk_token", Json());
    for (const Json& token : golden["tokenizer"]["added_tokens"]) {
        const std::string content = token["content"];
        if (unknown == content) {
            unknown_is_special = true;
            continue;
        }
        if (content.find_first_not_of(' ') == std::string::npos) continue;
        added[token["id"].get<size_t>()] = true;
        contents.push_back(content);
    }
    for (const Json& c : golden["cases"]) {
        const std::string text = c["text"];
        SCOPED_TRACE(quote(text, 400));
        for (const TokenId id : tokenizer->encode({{text, false}}, false)) EXPECT_FALSE(added[id]) << id;
        std::string all;
        for (const std::string& content : contents) all += content + text;
        for (const TokenId id : tokenizer->encode({{all, false}}, false)) EXPECT_FALSE(added[id]) << id;
        const auto plain = tokenizer->encode(text, false);
        const bool holds = std::any_of(plain.begin(), plain.end(), [&](TokenId id) { return added[id]; }) ||
                           (unknown_is_special && text.find(unknown.get<std::string>()) != std::string::npos);
        if (holds || text.size() < 2) continue;
        // Cut anywhere, even inside a code point.
        const size_t middle = text.size() / 2;
        const std::string_view view = text;
        EXPECT_EQ(tokenizer->encode({{text, false}}, false), plain);
        EXPECT_EQ(tokenizer->encode({{view.substr(0, middle), true}, {view.substr(middle), false}}, false), plain);
        EXPECT_EQ(tokenizer->encode({{view.substr(0, middle), false}, {view.substr(middle), true}}, false), plain);
    }
}

TEST(LlamaVocabularies, IdsOfTheirOwnTests) {
    const char* folder = std::getenv("BUSBAR_LLAMA_VOCABS");
    if (!folder) GTEST_SKIP() << "BUSBAR_LLAMA_VOCABS names no folder with ggml-vocab-*.gguf, .inp and .out";
    // Names, and inputs (counted from 0) whose .out is wrong: it was made without the NFC that Qwen's own tokenizer
    // applies.
    const std::vector<std::pair<std::string, std::vector<size_t>>> files = {
        {"command-r", {}}, {"gpt-2", {}}, {"llama-bpe", {}},        {"llama-spm", {}}, {"mpt", {}},
        {"phi-3", {}},     {"qwen2", {}}, {"qwen35", {46, 47, 48}}, {"refact", {}},    {"starcoder", {}}};
    for (const auto& [name, wrong] : files) {
        const std::string path = (fs::path(folder) / ("ggml-vocab-" + name + ".gguf")).string();
        SCOPED_TRACE(path);
        const auto file = gguf::File::open(path);
        const auto tokenizer = Tokenizer::from_gguf(file);
        const std::string inputs = read_file(path + ".inp"), separator = "\n__ggml_vocab_test__\n";
        std::istringstream outputs(read_file(path + ".out"));
        size_t n = 0;
        for (size_t at = 0; at <= inputs.size(); ++n) {
            const size_t end = std::min(inputs.find(separator, at), inputs.size());
            const std::string text = inputs.substr(at, end - at);
            at = end + separator.size();
            std::string line;
            std::getline(outputs, line);
            std::istringstream numbers(line);
            const std::vector<TokenId> expected{std::istream_iterator<TokenId>(numbers), {}};
            SCOPED_TRACE(quote(text, 400));
            const auto ids = tokenizer->encode(text, false);
            if (std::find(wrong.begin(), wrong.end(), n) != wrong.end()) {
                EXPECT_NE(ids, expected) << "no longer wrong: take " << n << " off the list";
                continue;
            }
            EXPECT_EQ(ids, expected);
            EXPECT_EQ(tokenizer->decode(ids, true), text);
            EXPECT_EQ(stream(*tokenizer, ids, true), text);
        }
        EXPECT_GT(n, 40u);
    }
    for (const std::string name : {"aquila", "gpt-neox"})  // no tokenizer.ggml.pre
        EXPECT_THROW(
            Tokenizer::from_gguf(gguf::File::open((fs::path(folder) / ("ggml-vocab-" + name + ".gguf")).string())),
            Error);
    for (const std::string name : {"bert-bge", "nomic-bert-moe", "deepseek-llm", "deepseek-coder", "falcon", "gemma-4"})
        EXPECT_THROW(
            Tokenizer::from_gguf(gguf::File::open((fs::path(folder) / ("ggml-vocab-" + name + ".gguf")).string())),
            Error);
}

TEST(DefaultModel, IdsSpecialsAndStream) {
    const char* path = std::getenv("BUSBAR_DEFAULT_MODEL");
    if (!path) GTEST_SKIP() << "BUSBAR_DEFAULT_MODEL names no file";
    const auto file = gguf::File::open(path);
    const auto tokenizer = Tokenizer::from_gguf(file);
    EXPECT_EQ(tokenizer->size(), 49152);
    EXPECT_EQ(tokenizer->begin_id(), 1);
    EXPECT_EQ(tokenizer->end_ids().front(), 2);
    EXPECT_EQ(tokenizer->special_text("eos_token"), "<|im_end|>");
    EXPECT_NE(tokenizer->chat_template().find("<|im_start|>"), std::string::npos);
    EXPECT_EQ(tokenizer->encode("Hello world", true), (std::vector<TokenId>{19556, 905}));
    EXPECT_EQ(tokenizer->piece(905), "Ġworld");
    EXPECT_EQ(tokenizer->encode("<|im_start|>", false), (std::vector<TokenId>{1}));
    const auto spelled = tokenizer->encode({{"<|im_start|>", false}}, false);
    EXPECT_GT(spelled.size(), 1u);
    EXPECT_EQ(tokenizer->decode(spelled, false), "<|im_start|>");
    EXPECT_EQ(tokenizer->decode({1, 19556, 2}, false), "Hello");
    EXPECT_TRUE(tokenizer->is_special(2));
    EXPECT_FALSE(tokenizer->is_special(905));

    // Every golden prompt of the model's own tests, rendered text to ids and tokens to text.
    const std::string golden_path = BUSBAR_SOURCE_DIR "/tests/goldens/models/default.json";
    const Json golden = parse_json(read_file(golden_path), golden_path);
    for (const Json& g : golden["greedy"]) {
        const std::string text = g.contains("rendered") ? g["rendered"] : g["text"];
        const auto ids = g["prompt_ids"].get<std::vector<TokenId>>();
        EXPECT_EQ(tokenizer->encode(text, true), ids) << quote(text);
        EXPECT_EQ(tokenizer->decode(ids, true), text);
    }
    for (const Json& t : golden["texts"]) {
        const std::string text = read_file(BUSBAR_SOURCE_DIR "/tests/goldens/" + t["file"].get<std::string>());
        EXPECT_EQ(tokenizer->encode(text, true), t["ids"].get<std::vector<TokenId>>()) << t["file"];
    }
}

}  // namespace
}  // namespace busbar
