// Every decoder against the Python package `gguf`, bit for bit: tests/goldens/blocks.json, made by make_blocks.py
// beside it.
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <vector>

#include "base/bytes.h"
#include "dtype/encoding.h"

namespace busbar {
namespace {

std::vector<std::byte> splitmix_bytes(uint64_t state, size_t count) {
    std::vector<std::byte> out(count + 8);
    for (size_t i = 0; i < count; i += 8) {
        state += 0x9E3779B97F4A7C15u;
        uint64_t z = state;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        std::memcpy(&out[i], &z, 8);
    }
    out.resize(count);
    return out;
}

std::vector<std::byte> blocks_of(const nlohmann::json& c, const nlohmann::json& golden) {
    const size_t count = c["blocks"], size = c["block_bytes"];
    std::vector<std::byte> blocks = splitmix_bytes(c["seed"], count * size);
    for (size_t b = 0; b < count; ++b) {
        std::byte* block = &blocks[b * size];
        const uint16_t code = static_cast<uint16_t>(b);
        if (c["kind"] == "every code") std::memcpy(block, &code, 2);
        if (c["kind"] != "extreme") continue;
        size_t index = b;
        for (const size_t at : c["scale_offsets"]) {
            if (c["encoding"] == "mxfp4") {
                block[at] = static_cast<std::byte>(golden["powers"][index % 16].get<int>());
            } else {
                const auto half =
                    static_cast<uint16_t>(std::stoul(golden["halves"][index % 16].get<std::string>(), nullptr, 16));
                std::memcpy(block + at, &half, 2);
            }
            index /= 16;
        }
    }
    return blocks;
}

std::string sha256(const void* data, size_t size) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(static_cast<const unsigned char*>(data), size, digest);
    std::string hex;
    for (const unsigned char byte : digest) hex += "0123456789abcdef"[byte >> 4], hex += "0123456789abcdef"[byte & 15];
    return hex;
}

TEST(EncodingGolden, EveryDecoderIsBitEqualToTheReference) {
    std::ifstream file(BUSBAR_SOURCE_DIR "/tests/goldens/blocks.json");
    ASSERT_TRUE(file) << "tests/goldens/blocks.json is missing";
    const nlohmann::json golden = nlohmann::json::parse(file);
    std::set<std::string> seen;
    for (const nlohmann::json& c : golden["cases"]) {
        const std::string name = c["encoding"];
        SCOPED_TRACE(name + ", " + c["kind"].get<std::string>());
        const Encoding* e = find_encoding(name);
        ASSERT_NE(e, nullptr);
        seen.insert(name);
        ASSERT_EQ(e->block, c["block"]);
        ASSERT_EQ(e->block_bytes, c["block_bytes"]);
        const std::vector<std::byte> blocks = blocks_of(c, golden);
        std::vector<float> out(c["blocks"].get<size_t>() * e->block);
        e->decode(blocks.data(), out.data(), c["blocks"]);
        std::vector<uint32_t> bits(out.size());
        int nans = 0, infinities = 0;
        for (size_t i = 0; i < out.size(); ++i) {
            nans += std::isnan(out[i]);
            infinities += std::isinf(out[i]);
            bits[i] = std::isnan(out[i]) ? 0x7FC00000u : std::bit_cast<uint32_t>(out[i]);
        }
        // The counts and the first bits say where to look when the hash differs.
        EXPECT_EQ(nans, c["nans"]);
        EXPECT_EQ(infinities, c["infinities"]);
        for (size_t i = 0; i < c["first_bits"].size(); ++i)
            EXPECT_EQ(bits[i], std::stoul(c["first_bits"][i].get<std::string>(), nullptr, 16)) << "value " << i;
        EXPECT_EQ(sha256(bits.data(), 4 * bits.size()), c["sha256"].get<std::string>());
    }
    EXPECT_EQ(seen.size(), encodings().size()) << "an encoding has no golden";
}

// Blocks know nothing of their neighbours: decoding many at once is decoding each alone, from any address.
TEST(EncodingDecode, BlocksAreIndependentAndNeedNoAlignment) {
    const unsigned seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    for (const Encoding* e : encodings()) {
        const size_t count = 7, size = e->block_bytes;
        const std::vector<std::byte> bytes = splitmix_bytes(seed, count * size + 3);
        std::vector<float> all(count * e->block), one(e->block);
        e->decode(bytes.data() + 3, all.data(), count);
        for (size_t b = 0; b < count; ++b) {
            const std::vector<std::byte> block(&bytes[3 + b * size], &bytes[3 + b * size] + size);
            e->decode(block.data(), one.data(), 1);
            EXPECT_EQ(std::memcmp(one.data(), &all[b * e->block], 4 * e->block), 0) << e->name;
        }
        e->decode(nullptr, nullptr, 0);
    }
}

}  // namespace
}  // namespace busbar
