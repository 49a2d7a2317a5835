// The C++ API gives what the engine gives.
#include "busbar/busbar.h"

#include <cmath>

#include "harness.h"

namespace busbar::test {
namespace {

TEST(Api, AnswersAsTheGoldenSays) {
    BUSBAR_NEED("BUSBAR_DEFAULT_MODEL");
    const Json golden = read_golden("models/default.json")["greedy"][0];
    api::Options options;
    options.numerics = "strict";
    options.context = 256;
    api::Model model = api::Model::open(from_environment("BUSBAR_DEFAULT_MODEL"), options);
    const std::vector<int32_t> prompt = model.chat_prompt(golden["messages"][0]["content"].get<std::string>());
    EXPECT_EQ(prompt, golden["prompt_ids"].get<std::vector<int32_t>>());
    int seen = 0;
    const std::vector<int32_t> ids = model.generate(prompt, {}, [&](int32_t) { return ++seen < 5; });
    EXPECT_EQ(seen, 5);
    const auto expected = golden["tokens"].get<std::vector<int32_t>>();
    EXPECT_EQ(ids, std::vector<int32_t>(expected.begin(), expected.begin() + 5));
    EXPECT_EQ(model.detokenize(model.tokenize("Hello, world")), "Hello, world");
    EXPECT_NE(model.placement().find("placed"), std::string::npos);
}

TEST(Api, LogitsNeedNoTokenizerAndErrorsCarryCodes) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    api::Model model = api::Model::open(from_environment("BUSBAR_TINY_MODELS") + "/llama");
    const std::vector<float> logits = model.logits({1, 2, 3});
    EXPECT_EQ(logits.size(), 3u * model.vocabulary());
    for (float x : logits) EXPECT_TRUE(std::isfinite(x));
    EXPECT_THROW(model.tokenize("x"), api::Failure);
    try {
        api::Model::open("/no/such/file");
        FAIL();
    } catch (const api::Failure& e) {
        EXPECT_EQ(e.code(), 3);
    }
    api::Options wrong, never, always;
    wrong.numerics = "sloppy";
    EXPECT_THROW(api::Model::open(from_environment("BUSBAR_TINY_MODELS") + "/llama", wrong), api::Failure);
    wrong = {};
    wrong.speculate = "perhaps";
    EXPECT_THROW(api::Model::open(from_environment("BUSBAR_TINY_MODELS") + "/llama", wrong), api::Failure);
    never.speculate = "off";
    always.speculate = "on";
    never.gate = always.gate = "off";
    api::Sampling sampling;
    sampling.max_tokens = 40;
    std::vector<std::vector<int32_t>> ids;
    for (const api::Options& o : {never, always})
        ids.push_back(api::Model::open(from_environment("BUSBAR_TINY_MODELS") + "/llama", o).generate({1, 2, 3, 1, 2}, sampling));
    EXPECT_EQ(ids[0].size(), 40u);
    EXPECT_EQ(ids[0], ids[1]);
}

}  // namespace
}  // namespace busbar::test
