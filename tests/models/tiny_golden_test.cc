// Every family, rope kind and encoding on tiny random checkpoints: all logits against transformers in float32 (tests/goldens/README.md).
#include <cmath>
#include <cstring>
#include <filesystem>

#include "harness.h"

namespace busbar::test {
namespace {

class Tiny : public testing::TestWithParam<std::string> {};

std::vector<std::string> golden_names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(std::string(BUSBAR_SOURCE_DIR) + "/tests/goldens/models")) {
        const std::string stem = entry.path().stem();
        if (stem.starts_with("tiny_")) names.push_back(stem);
    }
    std::ranges::sort(names);
    return names;
}

std::vector<float> golden_logits(const Json& golden) {
    const std::vector<uint8_t> bytes = from_base64(golden["logits_f32_base64"].get<std::string>());
    std::vector<float> logits(bytes.size() / 4);
    std::memcpy(logits.data(), bytes.data(), logits.size() * 4);
    return logits;
}

void expect_logits(const std::vector<float>& got, const std::vector<float>& expected, double bound, const std::string& what) {
    ASSERT_EQ(got.size(), expected.size()) << what;
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        const double e = std::abs(static_cast<double>(got[i]) - expected[i]);
        if (!(e <= worst)) worst = e, at = i;
    }
    EXPECT_LE(worst, bound) << what << ": logit " << at;
}

TEST_P(Tiny, LogitsAgreeWithTransformers) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const Json golden = read_golden("models/" + GetParam() + ".json");
    const std::vector<float> expected = golden_logits(golden);
    const auto ids = golden["ids"].get<std::vector<int32_t>>();
    const std::string base = from_environment("BUSBAR_TINY_MODELS") + "/";
    std::vector<std::string> paths;
    for (const char* container : {"folder", "gguf"})
        if (golden[container].is_string()) paths.push_back(base + golden[container].get<std::string>());
    ASSERT_FALSE(paths.empty());
    const auto context = golden["context"].get<int64_t>();
    for (const std::string& path : paths) {
        for (std::string_view chip : {fallback_chip(), oracle_chip()})
            expect_logits(all_logits(*load_model(path, strict(context), chip).model, ids), expected, 5e-4, path + " on " + std::string(chip));
        LoadOptions bf16 = strict(context);   // a narrower cache must work; how far it moves the logits is its own business
        bf16.cache_element = "bf16";
        const std::vector<float> narrow = all_logits(*load_model(path, bf16).model, ids);
        expect_logits(narrow, expected, 1.0, path + " with a bf16 cache");
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Tiny, testing::ValuesIn(golden_names()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace busbar::test
