#include "import/safetensors/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace busbar::safetensors {
namespace {

using testing::HasSubstr;

class SafetensorsFolder : public testing::Test {
  protected:
    void SetUp() override {
        folder_ = testing::TempDir() + "busbar_safetensors_" + std::to_string(getpid());
        std::filesystem::remove_all(folder_);
        std::filesystem::create_directories(folder_);
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    void put(const std::string& name, const std::string& text) const {
        std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
    }
    /// A file with one F32 tensor of one element per name.
    void put_tensors(const std::string& name, const std::vector<std::string>& tensors) const {
        std::string header;
        for (size_t i = 0; i < tensors.size(); ++i)
            header += (i ? "," : "") + ("\"" + tensors[i]) + "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" +
                      std::to_string(4 * i) + "," + std::to_string(4 * i + 4) + "]}";
        header = "{" + header + "}";
        const uint64_t length = header.size();
        put(name,
            std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(4 * tensors.size(), '\0'));
    }
    void put_index(const std::string& map) const {
        put("model.safetensors.index.json", "{\"metadata\":{\"total_size\":1},\"weight_map\":" + map + "}");
    }

    std::string error() const {
        try {
            open_folder(folder_);
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), ErrorCode::bad_input);
            EXPECT_EQ(e.address().rfind(folder_, 0), 0u) << e.what();
            return e.what();
        }
        return "nothing thrown";
    }

    std::string folder_;
};

TEST_F(SafetensorsFolder, OpensASingleFile) {
    put_tensors("model.safetensors", {"a", "b"});
    const TensorTable table = open_folder(folder_);
    ASSERT_EQ(table.size(), 2u);
    const StoredTensor& b = table.at("b");
    EXPECT_EQ(b.name, "b");
    EXPECT_EQ(b.bytes.size(), 4u);
    EXPECT_EQ(b.bytes.data(), b.file->bytes().data() + b.offset);
    EXPECT_EQ(b.count(), 1);
    // As transformers does it, the single file wins over an index.
    put_index("{\"c\":\"gone.safetensors\"}");
    EXPECT_EQ(open_folder(folder_).size(), 2u);
}

TEST_F(SafetensorsFolder, OpensShards) {
    put_tensors("model-00001-of-00002.safetensors", {"a", "c"});
    put_tensors("model-00002-of-00002.safetensors", {"b"});
    put_index(
        R"({"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors","c":"model-00001-of-00002.safetensors"})");
    const TensorTable table = open_folder(folder_);
    EXPECT_EQ(table.size(), 3u);
    EXPECT_EQ(table.at("a").file, table.at("c").file);
    EXPECT_NE(table.at("a").file, table.at("b").file);
}

TEST_F(SafetensorsFolder, RefusesShardsThatDoNotFitTheIndex) {
    put_tensors("1.safetensors", {"a"});
    put_index(R"({"a":"1.safetensors","b":"2.safetensors","c":"3.safetensors"})");
    EXPECT_THAT(error(), HasSubstr("expected all 3 shards beside the index, missing: '2.safetensors', '3.safetensors'; "
                                   "fetch the model again"));
    put_tensors("2.safetensors", {"b"});
    put_index(R"({"a":"1.safetensors","b":"2.safetensors","z":"1.safetensors"})");
    EXPECT_THAT(error(), HasSubstr("tensor 'z' is missing"));
    put_tensors("2.safetensors", {"a", "b"});
    put_index(R"({"a":"1.safetensors","b":"2.safetensors"})");
    EXPECT_THAT(error(), HasSubstr("tensor 'a' is here, but"));
    put_tensors("2.safetensors", {"b", "extra"});
    EXPECT_THAT(error(), HasSubstr("tensor 'extra' is not in"));
    put("2.safetensors", "short");
    EXPECT_THAT(error(), HasSubstr("2.safetensors: [safetensors] expected at least 8 bytes, got 5"));
}

TEST_F(SafetensorsFolder, ShardNamesMayNotLeaveTheFolder) {
    for (const char* name : {"../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..\\\\x.safetensors",
                             ".safetensors", "..safetensors", "x.bin", "", "a\\u0000.safetensors"}) {
        put_index("{\"a\":\"" + std::string(name) + "\"}");
        EXPECT_THAT(error(), HasSubstr("tensor 'a': expected the name of a .safetensors file in this folder")) << name;
    }
    for (const char* value : {"1", "null", "[\"1.safetensors\"]", "{}"}) {
        put_index("{\"a\":" + std::string(value) + "}");
        EXPECT_THAT(error(), HasSubstr("expected the name of a .safetensors file")) << value;
    }
}

TEST_F(SafetensorsFolder, RefusesABadIndex) {
    for (const char* text : {"[]", "{}", "{\"weight_map\":[]}", "{\"weight_map\":null}", "7"}) {
        put("model.safetensors.index.json", text);
        EXPECT_THAT(error(), HasSubstr("an object with an object 'weight_map'")) << text;
    }
    put_index(R"({"a":"1.safetensors","a":"2.safetensors"})");
    EXPECT_THAT(error(), HasSubstr("key 'a' appears twice"));
    put("model.safetensors.index.json", "{");
    EXPECT_THAT(error(), HasSubstr("expected valid JSON"));
    put_index("{}");
    EXPECT_TRUE(open_folder(folder_).empty());
}

TEST_F(SafetensorsFolder, SaysWhatIsMissing) {
    EXPECT_THAT(error(), HasSubstr("expected model.safetensors or model.safetensors.index.json, found neither"));
    put("pytorch_model.bin", "");
    EXPECT_THAT(error(), HasSubstr("convert the model to safetensors"));
    std::filesystem::create_directory(folder_ + "/model.safetensors");
    EXPECT_THAT(error(), HasSubstr("expected a regular file, got a folder"));
}

}  // namespace
}  // namespace busbar::safetensors
