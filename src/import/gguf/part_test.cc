#include "import/gguf/part.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "base/error.h"
#include "import/gguf/bytes_for_tests.h"
#include "import/gguf/types.h"

namespace busbar::gguf {
namespace {

using testing::HasSubstr;

Part parse(const std::string& file) {
    // An exact copy on the heap, so that a sanitizer sees a read past the end.
    const std::vector<char> copy(file.begin(), file.end());
    Part part = parse_part({reinterpret_cast<const std::byte*>(copy.data()), copy.size()}, "model.gguf");
    part.metadata.clear();  // its strings would point into the copy
    return part;
}

std::string error_of(const std::string& file) {
    try {
        parse(file);
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
        EXPECT_EQ(e.address().rfind("model.gguf", 0), 0u) << e.what();
        return e.what();
    }
    return "nothing thrown";
}

template <typename T>
std::string raw(T value) {
    return FileBytes::raw(value);
}

FileBytes small_file() {
    FileBytes f;
    f.key("general.architecture", 8, FileBytes::text("llama"));
    f.key("a.strings", 9, FileBytes::array(8, 2, FileBytes::text("x") + FileBytes::text("")));
    f.key("a.nested", 9, FileBytes::array(9, 1, FileBytes::array(7, 2, std::string("\0\1", 2))));
    f.tensor("a.weight", {32, 2}, 8, 0).tensor("b.weight", {3}, 0, 96).data(96 + 12);
    return f;
}

TEST(GgufPart, ReadsEveryValueType) {
    FileBytes f(2);
    f.key("u8", 0, raw<uint8_t>(200)).key("i8", 1, raw<int8_t>(-7)).key("u16", 2, raw<uint16_t>(60000));
    f.key("i16", 3, raw<int16_t>(-300)).key("u32", 4, raw<uint32_t>(4000000000u)).key("i32", 5, raw<int32_t>(-5));
    f.key("f32", 6, raw(1.5f)).key("bool", 7, raw<uint8_t>(1)).key("string", 8, FileBytes::text("text"));
    f.key("u64", 10, raw<uint64_t>(INT64_MAX)).key("i64", 11, raw<int64_t>(INT64_MIN)).key("f64", 12, raw(-2.25));
    f.key("ints", 9, FileBytes::array(3, 2, raw<int16_t>(-1) + raw<int16_t>(2)));
    f.key("bools", 9, FileBytes::array(7, 2, std::string("\1\0", 2)))
        .key("reals", 9, FileBytes::array(6, 1, raw(0.5f)));
    f.key("none", 9, FileBytes::array(8, 0, ""));
    f.key("nested", 9,
          FileBytes::array(9, 2,
                           FileBytes::array(4, 1, raw<uint32_t>(7)) + FileBytes::array(8, 1, FileBytes::text("z"))));
    const std::string file = f.bytes();
    const Part part = parse_part({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "model.gguf");
    EXPECT_EQ(part.version, 2u);
    EXPECT_EQ(part.alignment, 32u);
    const auto& m = part.metadata;
    EXPECT_EQ(std::get<int64_t>(m.at("u8")), 200);
    EXPECT_EQ(std::get<int64_t>(m.at("i8")), -7);
    EXPECT_EQ(std::get<int64_t>(m.at("u16")), 60000);
    EXPECT_EQ(std::get<int64_t>(m.at("i16")), -300);
    EXPECT_EQ(std::get<int64_t>(m.at("u32")), 4000000000);
    EXPECT_EQ(std::get<int64_t>(m.at("i32")), -5);
    EXPECT_EQ(std::get<double>(m.at("f32")), 1.5);
    EXPECT_EQ(std::get<bool>(m.at("bool")), true);
    EXPECT_EQ(std::get<std::string_view>(m.at("string")), "text");
    EXPECT_EQ(std::get<int64_t>(m.at("u64")), INT64_MAX);
    EXPECT_EQ(std::get<int64_t>(m.at("i64")), INT64_MIN);
    EXPECT_EQ(std::get<double>(m.at("f64")), -2.25);
    EXPECT_THAT(std::get<std::vector<int64_t>>(std::get<Array>(m.at("ints")).items), testing::ElementsAre(-1, 2));
    EXPECT_THAT(std::get<std::vector<int64_t>>(std::get<Array>(m.at("bools")).items), testing::ElementsAre(1, 0));
    EXPECT_THAT(std::get<std::vector<double>>(std::get<Array>(m.at("reals")).items), testing::ElementsAre(0.5));
    EXPECT_TRUE(std::get<std::vector<std::string_view>>(std::get<Array>(m.at("none")).items).empty());
    const auto& nested = std::get<std::vector<Array>>(std::get<Array>(m.at("nested")).items);
    EXPECT_EQ(std::get<std::vector<int64_t>>(nested.at(0).items).at(0), 7);
    EXPECT_EQ(std::get<std::vector<std::string_view>>(nested.at(1).items).at(0), "z");
}

TEST(GgufPart, ReadsTensors) {
    const std::string file = small_file().tensor("scalar", {}, 0, 0).bytes();
    EXPECT_THAT(error_of(file), HasSubstr("overlaps"));
    FileBytes f;
    f.tensor("m", {256, 3, 2}, 12, 0)
        .tensor("scalar", {}, 0, 864 + 32 - 864 % 32)
        .tensor("empty", {32, 0, 5}, 8, 0)
        .data(900);
    const Part part = parse(f.bytes());
    ASSERT_EQ(part.tensors.size(), 3u);
    EXPECT_THAT(part.tensors[0].shape, testing::ElementsAre(2, 3, 256));  // outermost first
    EXPECT_EQ(part.tensors[0].size, 6u * 144);
    EXPECT_EQ(part.tensors[0].encoding->name, "q4_k");
    EXPECT_EQ(part.tensors[0].offset % 32, 0u);
    EXPECT_TRUE(part.tensors[1].shape.empty());
    EXPECT_EQ(part.tensors[1].size, 4u);
    EXPECT_EQ(part.tensors[2].size, 0u);
}

TEST(GgufPart, AlignmentIsReadAndChecked) {
    for (const uint32_t alignment : {1u, 2u, 64u, 4096u}) {
        FileBytes f;
        f.key("general.alignment", 4, raw(alignment)).tensor("t", {1}, 0, 0).data(4);
        EXPECT_EQ(parse(f.bytes(alignment)).tensors[0].offset % alignment, 0u);
    }
    for (const uint32_t alignment : {0u, 3u, 24u, 0x80000000u})
        EXPECT_THAT(error_of(FileBytes().key("general.alignment", 4, raw(alignment)).bytes()),
                    HasSubstr("power of two"));
    EXPECT_THAT(error_of(FileBytes().key("general.alignment", 8, FileBytes::text("32")).bytes()),
                HasSubstr("no integer"));
    EXPECT_THAT(error_of(FileBytes().key("general.alignment", 11, raw<int64_t>(-32)).bytes()),
                HasSubstr("power of two"));
    EXPECT_THAT(error_of(FileBytes().tensor("t", {1}, 0, 16).data(64).bytes()),
                HasSubstr("'t': expected an offset that is a multiple of 32"));
}

TEST(GgufPart, RefusesOtherFilesByName) {
    EXPECT_THAT(error_of(""), HasSubstr("expected the letters GGUF"));
    EXPECT_THAT(error_of("GGU"), HasSubstr("expected the letters GGUF, got 'GGU'"));
    EXPECT_THAT(error_of("ggml...."), HasSubstr("got 'ggml'"));
    EXPECT_THAT(error_of("GGUF"), HasSubstr("4 bytes for the version"));
    EXPECT_THAT(error_of(FileBytes(1).bytes()), HasSubstr("version 1"));
    EXPECT_THAT(error_of(FileBytes(4).bytes()), HasSubstr("got 4"));
    EXPECT_THAT(error_of(FileBytes(0).bytes()), HasSubstr("got 0"));
    EXPECT_THAT(error_of(FileBytes(0x03000000).bytes()), HasSubstr("big-endian"));
}

TEST(GgufPart, RefusesHugeCounts) {
    for (const uint64_t count : {uint64_t{1} << 63, UINT64_MAX, uint64_t{1} << 32, uint64_t{1000}}) {
        FileBytes f = small_file();
        f.key_count = count;
        EXPECT_THAT(error_of(f.bytes()), HasSubstr("keys, which"));
        f = small_file();
        f.tensor_count = count;
        EXPECT_THAT(error_of(f.bytes()), HasSubstr("tensors, which"));
        EXPECT_THAT(error_of(FileBytes().key("k", 8, raw(count) + "abc").bytes()), HasSubstr("the file ends after"));
        for (uint32_t type = 0; type < 13; ++type)
            EXPECT_THAT(error_of(FileBytes().key("k", 9, FileBytes::array(type, count, "abc")).bytes()),
                        HasSubstr("does not fit"));
    }
}

// A byte array may not become eight times its size in memory: 80 MB of it exceed the file's size plus 64 MiB.
TEST(GgufPart, MemoryIsBoundedByTheFile) {
    const uint64_t count = 80 << 20;
    EXPECT_THAT(error_of(FileBytes().key("k", 9, FileBytes::array(0, count, std::string(count, 'x'))).bytes()),
                HasSubstr("more memory than the whole file"));
    EXPECT_EQ(
        parse(FileBytes().key("k", 9, FileBytes::array(0, 1 << 20, std::string(1 << 20, 'x'))).bytes()).tensors.size(),
        0u);
}

TEST(GgufPart, RefusesBadValues) {
    EXPECT_THAT(error_of(FileBytes().key("k", 13, "").bytes()),
                HasSubstr("'k': expected a value type from 0 to 12, got 13"));
    EXPECT_THAT(error_of(FileBytes().key("k", 9, FileBytes::array(99, 0, "")).bytes()),
                HasSubstr("element type from 0 to 12, got 99"));
    EXPECT_THAT(error_of(FileBytes().key("k", 7, "\2").bytes()), HasSubstr("a bool of 0 or 1, got 2"));
    EXPECT_THAT(error_of(FileBytes().key("k", 10, raw(uint64_t{1} << 63)).bytes()), HasSubstr("at most 2^63-1"));
    EXPECT_THAT(error_of(FileBytes().key("k", 9, FileBytes::array(10, 1, raw(UINT64_MAX))).bytes()),
                HasSubstr("at most 2^63-1"));
    EXPECT_THAT(error_of(FileBytes().key("", 0, "\1").bytes()), HasSubstr("a key of 1 to 65535 bytes, got 0"));
    EXPECT_THAT(error_of(FileBytes().key(std::string(70000, 'k'), 0, "\1").bytes()), HasSubstr("got 70,000"));
    EXPECT_THAT(error_of(FileBytes().key("k\xff", 0, "\1").bytes()), HasSubstr("'k\\xff'"));
    EXPECT_THAT(error_of(FileBytes().key("same", 0, "\1").key("same", 7, "\1").bytes()),
                HasSubstr("'same' appears twice"));
    std::string deep;
    for (int i = 0; i < 2000; ++i) deep += raw<uint32_t>(9) + raw<uint64_t>(1);
    EXPECT_THAT(error_of(FileBytes().key("k", 9, deep + FileBytes::array(0, 0, "")).bytes()),
                HasSubstr("nested at most 8 deep"));
}

TEST(GgufPart, RefusesBadTensors) {
    const auto with = [](const std::vector<uint64_t>& ne, uint32_t type, uint64_t offset = 0) {
        return error_of(FileBytes().tensor("blk.0.t", ne, type, offset).data(4096).bytes());
    };
    EXPECT_THAT(with({1, 1, 1, 1, 1}, 0), HasSubstr("at most 4 dimensions, got 5"));
    EXPECT_THAT(with({uint64_t{1} << 63}, 0), HasSubstr("'blk.0.t': the product of its dimensions overflows"));
    EXPECT_THAT(with({UINT64_MAX}, 0), HasSubstr("overflows"));
    EXPECT_THAT(with({uint64_t{1} << 32, uint64_t{1} << 31}, 0), HasSubstr("overflows"));
    EXPECT_THAT(with({uint64_t{1} << 62, 0, 4}, 0), HasSubstr("overflows"));  // zero does not excuse the rest
    EXPECT_THAT(with({uint64_t{1} << 62}, 0), HasSubstr("size in bytes overflows"));
    EXPECT_THAT(with({uint64_t{1} << 40}, 0), HasSubstr("but the file ends at"));
    EXPECT_THAT(with({1025}, 0), HasSubstr("needs bytes"));
    EXPECT_THAT(with({1}, 0, uint64_t{1} << 40), HasSubstr("but the file ends at"));
    EXPECT_THAT(with({1}, 0, UINT64_MAX - 31), HasSubstr("offset 18,446,744,073,709,551,584 overflows"));
    EXPECT_THAT(with({48}, 8), HasSubstr("a multiple of 32 elements for Q8_0 (type 8), got 48"));
    EXPECT_THAT(with({}, 8), HasSubstr("a multiple of 32 elements"));
    EXPECT_THAT(with({128}, 14), HasSubstr("a multiple of 256 elements for Q6_K"));
    EXPECT_THAT(error_of(FileBytes().tensor(std::string(65, 't'), {1}, 0, 0).data(4).bytes()),
                HasSubstr("1 to 64 bytes, got 65"));
    EXPECT_THAT(error_of(FileBytes().tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).data(64).bytes()),
                HasSubstr("'t' appears twice"));
    EXPECT_THAT(error_of(FileBytes().tensor("a", {9}, 0, 0).tensor("b", {1}, 0, 32).data(64).bytes()),
                HasSubstr("tensor 'b' at bytes 128..132 overlaps tensor 'a' at 96..132"));
}

TEST(GgufPart, RefusesTypesByTensorAndName) {
    const auto with = [](uint32_t type) {
        return error_of(FileBytes().tensor("blk.3.ffn_up.weight", {256}, type, 0).data(4096).bytes());
    };
    EXPECT_THAT(with(16), HasSubstr("'blk.3.ffn_up.weight' has IQ2_XXS (type 16), which this build does not read. "
                                    "Known: F32, F16, BF16, Q4_0"));
    EXPECT_THAT(with(4), HasSubstr("type 4 (Q4_2, removed from the format)"));
    EXPECT_THAT(with(40), HasSubstr("NVFP4 (type 40)"));
    EXPECT_THAT(with(133), HasSubstr("type 133 (of a fork)"));
    EXPECT_THAT(with(UINT32_MAX), HasSubstr("type 4294967295"));
    EXPECT_THAT(with(77), HasSubstr("type 77 (unknown)"));
    // Every id of the format's table is either read or refused under its name.
    for (uint32_t id = 0; id <= 41; ++id) {
        EXPECT_THAT(type_name(id), testing::Not(HasSubstr("unknown"))) << id;
        if (!find_gguf_encoding(static_cast<int>(id))) EXPECT_THAT(with(id), HasSubstr(type_name(id)));
    }
    EXPECT_EQ(type_name(12), "Q4_K (type 12)");
}

TEST(GgufPart, EveryTruncationIsAnError) {
    const std::string file = small_file().bytes();
    EXPECT_EQ(parse(file).tensors.size(), 2u);
    for (size_t n = 0; n < file.size(); ++n) EXPECT_NE(error_of(file.substr(0, n)), "nothing thrown") << n;
}

TEST(GgufPart, BitFlipsNeverDoMoreThanFail) {
    const unsigned seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    const std::string file = small_file().bytes();
    const auto survive = [](const std::string& bent) {
        try {
            for (const TensorInfo& t : parse(bent).tensors) {
                ASSERT_LE(t.offset, bent.size());
                ASSERT_LE(t.size, bent.size() - t.offset);
            }
        } catch (const Error&) {
        }
    };
    for (size_t bit = 0; bit < 8 * file.size(); ++bit) {  // every single one
        std::string bent = file;
        bent[bit / 8] ^= static_cast<char>(1 << bit % 8);
        survive(bent);
    }
    for (int i = 0; i < 20000; ++i) {
        std::string bent = file;
        for (int flips = 2 + random() % 6; flips > 0; --flips)
            bent[random() % bent.size()] = static_cast<char>(random());
        survive(bent);
    }
}

}  // namespace
}  // namespace busbar::gguf
