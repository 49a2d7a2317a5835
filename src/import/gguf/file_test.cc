#include "import/gguf/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "import/gguf/bytes_for_tests.h"

namespace busbar::gguf {
namespace {

using testing::HasSubstr;

class GgufFile : public testing::Test {
  protected:
    void SetUp() override {
        folder_ = testing::TempDir() + "busbar_gguf_" + std::to_string(getpid()) + "/";
        std::filesystem::create_directories(folder_);
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    std::string put(const std::string& name, const std::string& bytes) const {
        std::ofstream(folder_ + name, std::ios::binary) << bytes;
        return folder_ + name;
    }
    static std::string error_of(const std::string& path) {
        try {
            File::open(path);
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), ErrorCode::bad_input);
            return e.what();
        }
        return "nothing thrown";
    }
    /// Part `number` of `count`, with the tensors named.
    static std::string part(uint16_t number, uint16_t count, const std::vector<std::string>& tensors, int32_t total) {
        FileBytes f;
        if (number == 0) f.key("general.architecture", 8, FileBytes::text("llama"));
        f.key("split.no", 2, FileBytes::raw(number)).key("split.count", 2, FileBytes::raw(count));
        f.key("split.tensors.count", 5, FileBytes::raw(total));
        for (size_t i = 0; i < tensors.size(); ++i) f.tensor(tensors[i], {2}, 0, 32 * i);
        return f.data(32 * tensors.size()).bytes();
    }

    std::string folder_;
};

TEST_F(GgufFile, OpensAndAnswers) {
    FileBytes f;
    f.key("a.int", 4, FileBytes::raw<uint32_t>(7)).key("a.float", 6, FileBytes::raw(0.5f)).key("a.bool", 7, "\1");
    f.key("a.text", 8, FileBytes::text("llama")).key("a.list", 9, FileBytes::array(5, 1, FileBytes::raw<int32_t>(3)));
    f.tensor("w", {2, 3}, 0, 0).data(24);
    const File file = File::open(put("m.gguf", f.bytes()));
    EXPECT_EQ(file.version(), 3u);
    EXPECT_EQ(file.parts().size(), 1u);
    EXPECT_EQ(file.path(), folder_ + "m.gguf");
    EXPECT_EQ(file.get_int("a.int"), 7);
    EXPECT_EQ(file.get_float("a.int"), 7.0);
    EXPECT_EQ(file.get_float("a.float"), 0.5);
    EXPECT_EQ(file.get_bool("a.bool"), true);
    EXPECT_EQ(file.get_string("a.text"), "llama");
    EXPECT_EQ(file.need_int("a.int"), 7);
    EXPECT_EQ(file.need_float("a.float"), 0.5);
    EXPECT_EQ(file.need_string("a.text"), "llama");
    ASSERT_NE(file.get_array("a.list"), nullptr);
    EXPECT_EQ(file.get_array("a.list")->element_type, 5u);
    EXPECT_EQ(file.get_int("b"), std::nullopt);
    EXPECT_EQ(file.get_array("b"), nullptr);
    const auto message = [&](auto ask) -> std::string {
        try {
            ask();
        } catch (const Error& e) {
            return e.what();
        }
        return "nothing thrown";
    };
    EXPECT_THAT(message([&] { file.get_int("a.text"); }), HasSubstr("'a.text': expected an integer, got a string"));
    EXPECT_THAT(message([&] { file.get_int("a.bool"); }), HasSubstr("expected an integer, got a bool"));
    EXPECT_THAT(message([&] { file.get_float("a.list"); }), HasSubstr("expected a float, got an array"));
    EXPECT_THAT(message([&] { file.get_array("a.int"); }), HasSubstr("expected an array, got an integer"));
    EXPECT_THAT(message([&] { file.get_bool("a.int"); }), HasSubstr("expected a bool, got an integer"));
    EXPECT_THAT(message([&] { file.get_string("a.float"); }), HasSubstr("expected a string, got a float"));
    EXPECT_THAT(message([&] { file.need_int("b.c"); }), HasSubstr("key 'b.c' is missing"));
    EXPECT_THAT(message([&] { file.need_float("b.c"); }), HasSubstr("missing"));
    EXPECT_THAT(message([&] { file.need_string("b.c"); }), HasSubstr("missing"));

    const StoredTensor& w = file.tensors().at("w");
    EXPECT_THAT(w.shape, testing::ElementsAre(3, 2));
    EXPECT_EQ(w.bytes.size(), 24u);
    EXPECT_EQ(w.bytes.data(), w.file->bytes().data() + w.offset);
    EXPECT_EQ(w.encoding, &encoding_f32);
}

TEST_F(GgufFile, JoinsSplitsFromAnyPart) {
    const std::vector<std::string> paths = {put("m-00001-of-00003.gguf", part(0, 3, {"a"}, 4)),
                                            put("m-00002-of-00003.gguf", part(1, 3, {"b", "c"}, 4)),
                                            put("m-00003-of-00003.gguf", part(2, 3, {"d"}, 4))};
    for (const std::string& path : paths) {
        const File file = File::open(path);
        EXPECT_EQ(file.path(), paths[0]);
        EXPECT_EQ(file.parts().size(), 3u);
        EXPECT_EQ(file.tensors().size(), 4u);
        EXPECT_EQ(file.get_string("general.architecture"), "llama");
        EXPECT_EQ(file.tensors().at("c").file, file.parts()[1]);
    }
    std::filesystem::remove(paths[2]);
    EXPECT_THAT(error_of(paths[1]), HasSubstr("expected all 3 parts of the model, one is missing: " + paths[2]));
    std::filesystem::remove(paths[0]);
    EXPECT_THAT(error_of(paths[1]), HasSubstr("2 are missing: " + paths[0] + ", " + paths[2]));
}

TEST_F(GgufFile, RefusesSplitsThatDoNotFit) {
    const std::string one = "m-00001-of-00002.gguf", two = "m-00002-of-00002.gguf";
    put(one, part(0, 2, {"a"}, 2));
    EXPECT_THAT(error_of(put(two, part(1, 2, {"a"}, 2))), HasSubstr("tensor 'a' is already in " + folder_ + one));
    EXPECT_THAT(error_of(put(two, part(1, 2, {"b", "c"}, 2))), HasSubstr("expected 2 tensors in all parts, got 3"));
    put(two, part(0, 2, {"b"}, 2));
    EXPECT_THAT(error_of(folder_ + one), HasSubstr("expected part 2 of 2, but the file says that it is part 1 of 2"));
    put(two, part(1, 3, {"b"}, 2));
    EXPECT_THAT(error_of(folder_ + one), HasSubstr("part 2 of 3"));
    put(two, FileBytes().bytes());
    EXPECT_THAT(error_of(folder_ + one), HasSubstr("part 1 of 1"));
    EXPECT_THAT(error_of(put("renamed.gguf", part(0, 2, {"a"}, 2))),
                HasSubstr("a name that ends in '-00001-of-00002.gguf'"));
    EXPECT_THAT(error_of(put("x.gguf", part(2, 2, {"a"}, 2))), HasSubstr("'split.no': expected 0 to 1, got 2"));
    EXPECT_THAT(error_of(put("x.gguf", part(0, 60000, {"a"}, 2))), HasSubstr("'split.count': expected at most 1000"));
    EXPECT_THAT(error_of(put("x.gguf", FileBytes().key("split.count", 8, FileBytes::text("2")).bytes())),
                HasSubstr("expected an integer"));
    // One of one is whole, whatever its name.
    EXPECT_EQ(File::open(put("whole.gguf", part(0, 1, {"a"}, 1))).tensors().size(), 1u);
}

TEST_F(GgufFile, VocabularyOnlyIsLegal) {
    const File file =
        File::open(put("v.gguf", FileBytes().key("tokenizer.ggml.model", 8, FileBytes::text("gpt2")).bytes()));
    EXPECT_TRUE(file.tensors().empty());
}

TEST_F(GgufFile, TheFileMayGoAfterOpening) {
    const std::string path =
        put("m.gguf", FileBytes().key("k", 8, FileBytes::text("value")).tensor("w", {1}, 0, 0).data(4).bytes());
    const File file = File::open(path);
    std::filesystem::remove(path);
    EXPECT_EQ(file.get_string("k"), "value");
}

// 64 thousand pieces, scores, types and merges: a few milliseconds on an idle machine, so a busy one gets a wide
// margin.
TEST_F(GgufFile, ALargeVocabularyOpensQuickly) {
    constexpr int pieces = 65536;
    std::string tokens, scores, types;
    for (int i = 0; i < pieces; ++i) {
        tokens += FileBytes::text("piece" + std::to_string(i));
        scores += FileBytes::raw(static_cast<float>(-i));
        types += FileBytes::raw<int32_t>(1);
    }
    FileBytes f;
    f.key("tokenizer.ggml.tokens", 9, FileBytes::array(8, pieces, tokens));
    f.key("tokenizer.ggml.merges", 9, FileBytes::array(8, pieces, tokens));
    f.key("tokenizer.ggml.scores", 9, FileBytes::array(6, pieces, scores));
    f.key("tokenizer.ggml.token_type", 9, FileBytes::array(5, pieces, types));
    const std::string path = put("v.gguf", f.bytes());
    const auto begin = std::chrono::steady_clock::now();
    const File file = File::open(path);
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    std::printf("opened in %.2f ms\n", ms);
    EXPECT_EQ(std::get<std::vector<std::string_view>>(file.get_array("tokenizer.ggml.tokens")->items).at(65535),
              "piece65535");
    EXPECT_LT(ms, 1000);
}

}  // namespace
}  // namespace busbar::gguf
