#include "dtype/encoding.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace busbar {
namespace {

TEST(EncodingTable, HasTheSixteenInOrder) {
    std::string names;
    std::set<int> types;
    for (const Encoding* e : encodings()) {
        names += std::string(e->name) + " ";
        types.insert(e->gguf_type);
        EXPECT_EQ(find_encoding(e->name), e);
        EXPECT_EQ(find_gguf_encoding(e->gguf_type), e);
    }
    EXPECT_EQ(names, "f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4 ");
    EXPECT_EQ(types.size(), 16u);
    EXPECT_EQ(find_encoding("q8_1"), nullptr);
    EXPECT_EQ(find_encoding(""), nullptr);
    EXPECT_EQ(find_gguf_encoding(9), nullptr);
    EXPECT_EQ(find_gguf_encoding(-1), nullptr);
    EXPECT_EQ(find_encoding("q8_0"), &encoding_q8_0);
    EXPECT_EQ(encoding_q4_1.row_bytes(576), 360u);
    EXPECT_DOUBLE_EQ(find_encoding("q6_k")->bits_per_weight(), 6.5625);
}

// The vectors of formats.md 12.2: block bytes (37k + 11) mod 256, halves d = 0.5, m and dmin = 0.25.
struct Vector {
    const char* name;
    int d, m;  // byte offsets of the halves, -1: none
    std::vector<double> elements;
    double sum, sum_of_squares;
};

TEST(EncodingDecode, ReferenceVectors) {
    const std::vector<Vector> vectors = {
        {"q4_0", 0, -1, {-1.5, 1, -4, -1.5, 0}, -10.5, 161.25},
        {"q4_1", 0, 2, {7.75, 2.25, 5.25, 4.75, 6.25}, 130.5, 695},
        {"q5_0", 0, -1, {4.5, -1, -6, 7, 0.5}, 7.5, 656.75},
        {"q5_1", 0, 2, {9.75, 12.25, 15.25, 9.75, 2.75}, 260.5, 2824.5},
        {"q8_0", 0, -1, {42.5, 61, -64, -45.5, -24}, -88, 47564},
        {"iq4_nl", 0, -1, {-17.5, 12.5, -63.5, -17.5, 0.5}, -128.5, 33573.25},
        {"mxfp4", -1, -1, {0, 6, -3, 3, 6}, 25, 1137},
        {"q2_k", 80, 82, {16.5, 0, -0.75, 3.75, 3.25, 5.25, 21, 3.75, 4, 2.25}, 1029.5, 13619},
        {"q3_k", 108, -1, {40.5, -54, 32, -11, 5, 17, 36, 1, 12.5, 21}, 479, 142176.5},
        {"q4_k", 0, 2, {157.75, -12.75, 80.25, 4, 20, 210.25, 40.5, 211.5, 69.25, 24.25}, 27220, 6041305},
        {"q5_k", 0, 2, {405.75, -12.75, 80.25, 56, 40, 210.25, -1.5, 523.5, 69.25, 54.25}, 58108, 25707205},
        {"q6_k", 208, -1, {-715.5, 848, -48, 115.5, -290, -1520, 750, -175.5, 544.5, -30}, 2306, 118475065},
        {"iq4_xs", 0, -1, {32.5, -0.5, 17.5, 227.5, -87.5, 390, 98, -292.5, 570, -8}, -5502.5, 60747839.25},
    };
    const int at32[] = {0, 1, 15, 16, 31}, at256[] = {0, 1, 31, 32, 63, 64, 127, 128, 200, 255};
    for (const Vector& v : vectors) {
        const Encoding& e = *find_encoding(v.name);
        std::vector<std::byte> block(e.block_bytes);
        for (int k = 0; k < e.block_bytes; ++k) block[k] = static_cast<std::byte>(37 * k + 11);
        if (v.d >= 0) block[v.d] = std::byte{0x00}, block[v.d + 1] = std::byte{0x38};
        if (v.m >= 0) block[v.m] = std::byte{0x00}, block[v.m + 1] = std::byte{0x34};
        if (std::string(v.name) == "mxfp4") block[0] = std::byte{128};
        std::vector<float> out(e.block);
        e.decode(block.data(), out.data(), 1);
        for (size_t i = 0; i < v.elements.size(); ++i)
            EXPECT_EQ(out[e.block == 32 ? at32[i] : at256[i]], v.elements[i]) << v.name << " element " << i;
        double sum = 0, squares = 0;
        for (const float x : out) sum += x, squares += static_cast<double>(x) * x;
        EXPECT_EQ(sum, v.sum) << v.name;
        EXPECT_EQ(squares, v.sum_of_squares) << v.name;
    }
}

}  // namespace
}  // namespace busbar
