#include "llm/tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "llm/tokenizer/pre_tokenizer.h"
#include "llm/tokenizer/regex.h"
#include "llm/tokenizer/unicode.h"

namespace busbar {
namespace {

using Ids = std::vector<TokenId>;

/// A byte-level vocabulary: the 256 bytes (ids 0..255 in byte order), "he", "ll", "hell", "hello", then two added
/// tokens.
Json byte_level_json() {
    Json vocab = Json::object();
    for (int b = 0; b < 256; ++b) {
        std::string symbol;
        utf8_append(symbol, byte_symbol(static_cast<uint8_t>(b)));
        vocab[symbol] = b;
    }
    vocab["he"] = 256;
    vocab["ll"] = 257;
    vocab["hell"] = 258;
    vocab["hello"] = 259;
    const auto added = [](int id, const char* content, bool special) {
        return Json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                    {"rstrip", false}, {"normalized", false}, {"special", special}};
    };
    return {
        {"added_tokens", Json::array({added(260, "<s>", true), added(261, "<think>", false), added(262, "  ", false)})},
        {"normalizer", nullptr},
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
        {"post_processor",
         {{"type", "TemplateProcessing"},
          {"single", Json::array({{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                                  {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
          {"special_tokens",
           {{"<s>", {{"id", "<s>"}, {"ids", Json::array({260})}, {"tokens", Json::array({"<s>"})}}}}}}},
        {"decoder", {{"type", "ByteLevel"}}},
        {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array({"h e", "l l", "he ll", "hell o"})}}}};
}

std::unique_ptr<Tokenizer> load(const Json& json, const Json& config = Json()) {
    return Tokenizer::from_json(json, config, "tokenizer.json");
}

std::string error_of(const Json& json, const Json& config = Json()) {
    try {
        load(json, config);
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
        return e.what();
    }
    return "no error";
}

TEST(Tokenizer, MergesByRankAndAddsTheBeginTokenOnce) {
    const auto t = load(byte_level_json());
    EXPECT_EQ(t->encode("hello", false), (Ids{259}));
    EXPECT_EQ(t->encode("hello", true), (Ids{260, 259}));
    EXPECT_EQ(t->encode("<s>hello", true), (Ids{260, 259}));
    EXPECT_EQ(t->encode("", true), (Ids{260}));
    EXPECT_EQ(t->encode("", false), Ids{});
    EXPECT_EQ(t->encode(std::vector<TextSpan>{}, false), Ids{});
    // Spelled by a user it is not a begin token: the real one still comes first.
    EXPECT_EQ(t->encode({{"<s>", false}}, true), (Ids{260, '<', 's', '>'}));
    EXPECT_EQ(t->piece(259), "hello");
    EXPECT_EQ(t->piece(-1), "");
    EXPECT_EQ(t->piece(1 << 30), "");
    EXPECT_EQ(t->size(), 263);
}

TEST(Tokenizer, UntrustedTextSpellsAddedTokensOut) {
    const auto t = load(byte_level_json());
    EXPECT_EQ(t->encode("<think>", false), (Ids{261}));
    EXPECT_EQ(t->encode({{"<think>", false}}, false), (Ids{'<', 't', 'h', 'i', 'n', 'k', '>'}));
    // Half from a template, half from a user: no token comes of it.
    EXPECT_EQ(t->encode({{"<th", true}, {"ink>", false}}, false), (Ids{'<', 't', 'h', 'i', 'n', 'k', '>'}));
    EXPECT_EQ(t->encode({{"<th", false}, {"ink>", true}}, false), (Ids{'<', 't', 'h', 'i', 'n', 'k', '>'}));
    EXPECT_EQ(t->encode({{"<th", true}, {"", false}, {"ink>", true}}, false), (Ids{261}));
    // Layout tokens command nothing and stay, also across a border.
    EXPECT_EQ(t->encode({{"a ", true}, {" b", false}}, false), (Ids{'a', 262, 'b'}));
    // Ordinary pieces join across a border: the ids are those the model was trained on.
    EXPECT_EQ(t->encode({{"<s>he", true}, {"llo", false}}, false), (Ids{260, 259}));
}

TEST(Tokenizer, MergesNeverMakeASpecialIdOfUntrustedText) {
    Json json = byte_level_json();
    json["added_tokens"].push_back({{"id", 259}, {"content", "hello"}, {"special", true}});
    const auto t = load(json);
    EXPECT_EQ(t->encode("hello", false), (Ids{259}));
    EXPECT_EQ(t->encode({{"hello", false}}, false), (Ids{258, 'o'}));
    json["model"]["ignore_merges"] = true;
    EXPECT_EQ(load(json)->encode({{"hello", false}}, false), (Ids{258, 'o'}));
    // A text long enough for the cache, trusted and untrusted by turns.
    const std::string many(4000, 'x');
    const auto ids = load(json)->encode({{many + " hello <s>", true}, {"hello", false}, {"<s>hello", true}}, false);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 259), 2);
}

TEST(Tokenizer, NormalizedTokensKeepToTrustedText) {
    Json json = byte_level_json();
    json["normalizer"] = {{"type", "Sequence"},
                          {"normalizers", Json::array({{{"type", "NFC"}}, {{"type", "Lowercase"}}})}};
    json["added_tokens"][1]["normalized"] = true;
    const auto t = load(json);
    EXPECT_EQ(t->encode("<THINK>", false), (Ids{261}));
    const Ids spelled{'<', 't', 'h', 'i', 'n', 'k', '>'};
    EXPECT_EQ(t->encode({{"<THINK>", false}}, false), spelled);
    // E and a combining accent compose across the border, which moves everything after it.
    const auto ids = t->encode({{"<Think>E", true}, {"\u0301<Think>", false}, {"<THINK>", true}}, false);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 261), 2);
    EXPECT_EQ(ids.front(), 261);
    EXPECT_EQ(ids.back(), 261);
}

TEST(Tokenizer, RefusesInvalidUtf8WithItsOffset) {
    const auto t = load(byte_level_json());
    try {
        t->encode("abc\xff", false);
        FAIL();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("offset 3"), std::string::npos) << e.what();
    }
    // A code point cut by a border between spans is whole in the text.
    EXPECT_EQ(t->encode({{"\xc3", true}, {"\xa9", false}}, false), (Ids{0xC3, 0xA9}));
}

TEST(Tokenizer, ConfigNamesSpecialsAndTemplate) {
    const Json config = {{"bos_token", {{"content", "<s>"}}},
                         {"eos_token", "<think>"},
                         {"add_bos_token", true},
                         {"chat_template", Json::array({{{"name", "tool_use"}, {"template", "T"}},
                                                        {{"name", "default"}, {"template", "D"}}})}};
    const auto t = load(byte_level_json(), config);
    EXPECT_EQ(t->begin_id(), 260);
    EXPECT_EQ(t->end_ids(), (Ids{261}));
    EXPECT_EQ(t->special_text("bos_token"), "<s>");
    EXPECT_EQ(t->special_text("eos_token"), "<think>");
    EXPECT_EQ(t->special_text("pad_token"), "");
    EXPECT_EQ(t->chat_template(), "D");
    EXPECT_EQ(t->encode("hello", true), (Ids{260, 259}));
    // Without a post-processor nothing is added, whatever add_bos_token says (transformers 5.24 does the same).
    Json bare = byte_level_json();
    bare["post_processor"] = nullptr;
    EXPECT_EQ(load(bare, config)->encode("hello", true), (Ids{259}));
}

TEST(Tokenizer, ErrorsNameWhatIsWrong) {
    const auto with = [](const char* pointer, Json value) {
        Json json = byte_level_json();
        json[Json::json_pointer(pointer)] = std::move(value);
        return error_of(json);
    };
    const auto expect = [](const std::string& message, const std::string& part) {
        EXPECT_NE(message.find(part), std::string::npos) << message;
        EXPECT_TRUE(message.starts_with("tokenizer.json: ")) << message;
    };
    expect(with("/model/type", "Unigram"), "Unigram");
    expect(with("/model/type", "WordPiece"), "WordPiece");
    expect(with("/model/type", 3), "model.type");
    expect(with("/model/dropout", 0.1), "dropout");
    expect(with("/model/merges/2", "h zz"), "merges[2]");
    expect(with("/model/merges/2", Json::array({"h"})), "merges[2]");
    expect(with("/model/merges", 1), "model.merges");
    expect(with("/model/vocab/he", 1 << 30), "model.vocab");
    expect(with("/model/vocab/he", -1), "model.vocab");
    expect(with("/model/vocab/he", 1.5), "model.vocab");
    expect(with("/model/vocab/he", 18446744073709551615ull), "model.vocab");
    expect(with("/model/vocab/he", 257), "one token for id 257");
    expect(with("/model/unk_token", "<nope>"), "<nope>");
    expect(with("/added_tokens/0/id", 5), "added_tokens[0]");
    expect(with("/added_tokens/0/content", std::string(5000, 'a')), "added_tokens[0].content");
    expect(with("/added_tokens", "x"), "added_tokens");
    expect(with("/pre_tokenizer/type", "UnicodeScripts"), "UnicodeScripts");
    expect(with("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}}), "(a");
    expect(with("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Sideways"}}),
           "Sideways");
    expect(with("/pre_tokenizer", Json::array()), "pre_tokenizer");
    expect(with("/normalizer", {{"type", "Precompiled"}}), "Precompiled");
    expect(with("/decoder", {{"type", "CTC"}}), "CTC");
    expect(with("/post_processor/special_tokens/<s>/ids/0", 999), "999");
    expect(error_of(Json::array()), "an object");
    expect(error_of(Json()), "an object");
    Json deep = {{"type", "Sequence"}, {"normalizers", Json::array()}};
    for (int i = 0; i < 100; ++i) deep = {{"type", "Sequence"}, {"normalizers", Json::array({deep})}};
    expect(with("/normalizer", deep), "nesting");
}

TEST(Tokenizer, HostileNormalizersAndPatternsEndInErrors) {
    Json json = byte_level_json();
    Json twice = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
    json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array()}};
    for (int i = 0; i < 60; ++i) json["normalizer"]["normalizers"].push_back(twice);
    const auto grows = load(json);
    EXPECT_THROW(grows->encode("aaaa", false), Error);
    json["normalizer"] = nullptr;
    json["pre_tokenizer"] = {
        {"type", "Split"}, {"pattern", {{"Regex", "(?:a+)+b|(?:a|aa)+$c"}}}, {"behavior", "Isolated"}};
    const auto explodes = load(json);
    EXPECT_THROW(explodes->encode(std::string(100, 'a'), false), Error);
}

TEST(Tokenizer, LongRunsTakeLinearithmicTime) {
    const auto t = load(byte_level_json());
    // With a quadratic merge, each of these takes many minutes; the test's own time limit then ends it.
    for (const std::string unit : {"a", "hello", " ", "\n", "é", "ll"}) {
        std::string text;
        while (text.size() < 1'000'000) text += unit;
        EXPECT_EQ(t->decode(t->encode(text, false), false), text);
    }
}

TEST(Tokenizer, RandomTextComesBackOnAnyThread) {
    const uint32_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto t = load(byte_level_json());
    const auto work = [&](uint32_t offset) {
        std::mt19937 random(seed + offset);
        for (int i = 0; i < 200; ++i) {
            std::string text;
            const int length = random() % (i % 20 == 0 ? 3000 : 40);
            for (int k = 0; k < length; ++k) {
                const uint32_t range[] = {0x80, 0x80, 0x250, 0x3000, 0xD800, 0x10FFFF};
                const uint32_t cp = random() % range[random() % 6];
                utf8_append(text, cp >= 0xD800 && cp < 0xE000 ? 'x' : cp);
            }
            const auto ids = t->encode({{text, false}}, false);
            EXPECT_EQ(t->decode(ids, false), text);
            StreamDecoder stream(*t);
            std::string streamed;
            for (const TokenId id : ids) {
                const std::string part = stream.add(id);
                EXPECT_TRUE(utf8_valid(part));
                streamed += part;
            }
            EXPECT_EQ(streamed + stream.finish(), text);
        }
    };
    std::thread other(work, 1);
    work(0);
    other.join();
}

TEST(StreamDecoder, HoldsBackCutCodePointsAndReplacesBrokenOnes) {
    const auto t = load(byte_level_json());
    StreamDecoder stream(*t);
    EXPECT_EQ(stream.add(0xF0), "");
    EXPECT_EQ(stream.add(0x9F), "");
    EXPECT_EQ(stream.add(0x9A), "");
    EXPECT_EQ(stream.add(0x80), "\U0001F680");
    EXPECT_EQ(stream.add(0xE4), "");
    EXPECT_EQ(stream.add('x'), "\uFFFDx");
    EXPECT_EQ(stream.add(260), "");  // hidden
    EXPECT_EQ(stream.add(0xC3), "");
    EXPECT_EQ(stream.finish(), "\uFFFD");
    EXPECT_EQ(stream.finish(), "");
}

TEST(FromFolder, ReadsCompanionFilesAndNamesMissingOnes) {
    const auto folder = std::filesystem::path(testing::TempDir()) / ("busbar-tokenizer-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder);
    const auto write = [&](const char* name, const std::string& text) { std::ofstream(folder / name) << text; };
    try {
        Tokenizer::from_folder(folder.string());
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("tokenizer.json"), std::string::npos);
    }
    write("tokenizer.json", byte_level_json().dump());
    EXPECT_EQ(Tokenizer::from_folder(folder.string())->chat_template(), "");
    write("tokenizer_config.json", R"({"chat_template": "from config", "eos_token": "<s>"})");
    EXPECT_EQ(Tokenizer::from_folder(folder.string())->chat_template(), "from config");
    write("chat_template.jinja", "from file");
    const auto t = Tokenizer::from_folder(folder.string());
    EXPECT_EQ(t->chat_template(), "from file");
    EXPECT_EQ(t->end_ids(), (Ids{260}));
    write("special_tokens_map.json", R"({"eos_token": "<think>", "bos_token": {"content": "<s>", "special": true}})");
    EXPECT_EQ(Tokenizer::from_folder(folder.string())->end_ids(), (Ids{260}));
    EXPECT_EQ(Tokenizer::from_folder(folder.string())->begin_id(), 260);
    write("tokenizer_config.json", R"({"chat_template": 3})");
    std::filesystem::remove(folder / "chat_template.jinja");
    try {
        Tokenizer::from_folder(folder.string());
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("tokenizer_config.json"), std::string::npos) << e.what();
    }
    std::filesystem::remove_all(folder);
}

TEST(PreTokenizer, UnknownGgufNamesListTheKnown) {
    try {
        PreTokenizerChain::from_gguf_name("kimi-k2", "m.gguf");
        FAIL();
    } catch (const Error& e) {
        const std::string message = e.what();
        EXPECT_NE(message.find("'kimi-k2'"), std::string::npos) << message;
        EXPECT_NE(message.find("smollm"), std::string::npos) << message;
        EXPECT_NE(message.find("deepseek-v3"), std::string::npos) << message;
    }
    for (const std::string name : {"", " ", "smollm starcoder", "default", "llama-bp"})
        EXPECT_THROW(PreTokenizerChain::from_gguf_name(name, "m.gguf"), Error) << name;
}

// The GGUF rows against the golden files' patterns, which were run by Oniguruma.
TEST(PreTokenizer, GgufRowsCutLikeThePublishedPatterns) {
    const std::pair<std::string, std::string> rows[] = {
        {"gpt-2", "gpt2"},           {"smollm", "smollm"}, {"llama-bpe", "llama3"},
        {"qwen2", "qwen2"},          {"qwen35", "qwen35"}, {"deepseek-v3", "deepseek-v3"},
        {"gpt-4o", "gpt-4o"},        {"tekken", "tekken"}, {"bailingmoe", "bailingmoe"},
        {"seed-coder", "seed-coder"}};
    for (const auto& [row, golden] : rows) {
        SCOPED_TRACE(row);
        const std::string path = BUSBAR_SOURCE_DIR "/tests/goldens/tokenizers/" + golden + ".json";
        const Json document = parse_json(read_file(path), path);
        const auto from_file = PreTokenizerChain::from_json(document["tokenizer"]["pre_tokenizer"], path);
        const auto from_name = PreTokenizerChain::from_gguf_name(row, "m.gguf");
        for (const Json& c : document["cases"]) {
            const std::string text = c["text"];
            if (text.empty()) continue;
            Pieces a{text, {{0, static_cast<uint32_t>(text.size())}}, true}, b = a;
            from_file.split(a);
            from_name.split(b);
            EXPECT_EQ(a.text, b.text);
            EXPECT_EQ(a.ranges, b.ranges) << quote(text);
        }
    }
}

TEST(Unicode, WhiteSpaceIsThePropertyAndBytesHaveSymbols) {
    int white = 0;
    for (uint32_t cp = 0; cp < 0x110000; ++cp) white += is_white_space(cp);
    EXPECT_EQ(white, 25);
    EXPECT_FALSE(is_white_space(0x180E));
    EXPECT_FALSE(is_white_space(0x200B));
    EXPECT_EQ(byte_symbol(' '), 0x120u);
    EXPECT_EQ(byte_symbol('\n'), 0x10Au);
    EXPECT_EQ(byte_symbol('\t'), 0x109u);
    for (int b = 0; b < 256; ++b) EXPECT_EQ(symbol_byte(byte_symbol(static_cast<uint8_t>(b))), b);
    EXPECT_EQ(symbol_byte(0x144), -1);
    EXPECT_EQ(symbol_byte(' '), -1);
    EXPECT_EQ(normalize("e\u0301", NormalForm::nfc), "é");
    EXPECT_EQ(normalize("é\uFB01", NormalForm::nfkd), "e\u0301fi");
    EXPECT_EQ(lower_case("\u0130ΑΣ"), "i\u0307ασ");
}

}  // namespace
}  // namespace busbar
