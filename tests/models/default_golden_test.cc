// The default model against transformers in float32 on the dequantised weights: tokens, top-10 logits, log-likelihood.
#include <cmath>

#include "harness.h"
#include "llm/chat/chat.h"
#include "llm/sample/sample.h"

namespace busbar::test {
namespace {

constexpr double gap_that_decides = 0.01;

class DefaultModel : public testing::Test {
  protected:
    void SetUp() override {
        BUSBAR_NEED("BUSBAR_DEFAULT_MODEL");
        path_ = from_environment("BUSBAR_DEFAULT_MODEL");
        golden_ = read_golden("models/default.json");
    }
    std::string path_;
    Json golden_;
};

void expect_top_logits(std::span<const float> logits, const Json& ids, const Json& values, const std::string& what) {
    for (size_t i = 0; i < ids.size(); ++i) EXPECT_NEAR(logits[ids[i].get<int>()], values[i].get<double>(), 2e-3) << what << " rank " << i;
}

TEST_F(DefaultModel, TextsTeacherForced) {
    Loaded m = load_model(path_, strict(1024));
    for (const Json& text : golden_["texts"]) {
        const std::string name = text["name"];
        const auto ids = text["ids"].get<std::vector<int32_t>>();
        double sum = 0;
        int sampled = 0, decided = 0;
        evaluate(*m.model, ids, [&](int64_t p, std::span<const float> logits) {
            if (p + 1 < static_cast<int64_t>(ids.size())) sum += log_sum_exp(logits) - logits[ids[p + 1]];
            if (text["gaps"][p].get<double>() >= gap_that_decides) {
                ++decided;
                EXPECT_EQ(best_tokens(logits, 1)[0].id, text["top1"][p].get<int>()) << name << " position " << p;
            }
            if (sampled < static_cast<int>(text["sampled_positions"].size()) && text["sampled_positions"][sampled] == p) {
                expect_top_logits(logits, text["top_ids"][sampled], text["top_logits"][sampled], name);
                ++sampled;
            }
            return true;
        });
        EXPECT_NEAR(sum / static_cast<double>(ids.size() - 1), text["nll"].get<double>(), 1e-3) << name;
        EXPECT_EQ(sampled, static_cast<int>(text["sampled_positions"].size()));
        EXPECT_GT(decided, static_cast<int>(ids.size()) * 9 / 10);
    }
}

TEST_F(DefaultModel, TextsTokenize) {
    const auto tokenizer = open_tokenizer(open_model_file(path_));
    for (const Json& text : golden_["texts"]) {
        const std::string bytes = read_file(std::string(BUSBAR_SOURCE_DIR) + "/tests/goldens/" + text["file"].get<std::string>());
        EXPECT_EQ(tokenizer->encode(bytes, false), text["ids"].get<std::vector<int32_t>>()) << text["name"];
    }
}

TEST_F(DefaultModel, GreedyAnswers) {
    Loaded m = load_model(path_, strict(1024));
    const auto tokenizer = open_tokenizer(open_model_file(path_));
    const Chat chat(*tokenizer, "", path_);
    Engine engine(*m.model);
    for (const Json& g : golden_["greedy"]) {
        const std::string name = g["name"];
        const auto prompt = g["prompt_ids"].get<std::vector<int32_t>>();
        if (g["kind"] == "chat") {
            const auto pieces = chat.render({{"messages", g["messages"]}});
            std::string rendered;
            for (const RenderedPiece& p : pieces) rendered += p.text;
            EXPECT_EQ(rendered, g["rendered"].get<std::string>()) << name;
            EXPECT_EQ(chat.encode(pieces), prompt) << name;
        } else {
            EXPECT_EQ(tokenizer->encode(g["text"].get<std::string>(), true), prompt) << name;
        }
        Request request;
        request.prompt = prompt;
        request.max_tokens = static_cast<int64_t>(g["tokens"].size());
        const int number = engine.add(request);
        engine.finish(number);
        const std::vector<int32_t> got = engine.tokens_of(number);
        for (size_t i = 0; i < g["tokens"].size() && g["gaps"][i].get<double>() >= gap_that_decides; ++i) {
            ASSERT_LT(i, got.size()) << name;
            ASSERT_EQ(got[i], g["tokens"][i].get<int>()) << name << " token " << i;
        }
        engine.forget(number);
        // The listed logits, teacher-forced.
        std::vector<int32_t> ids = prompt;
        for (const Json& t : g["tokens"]) ids.push_back(t.get<int32_t>());
        evaluate(*m.model, ids, [&](int64_t p, std::span<const float> logits) {
            const int64_t i = p + 1 - static_cast<int64_t>(prompt.size());
            if (i >= 0 && i < static_cast<int64_t>(g["tokens"].size())) expect_top_logits(logits, g["top_ids"][i], g["top_logits"][i], name);
            return true;
        });
    }
}

// The oracle for whole models is strict cpu; this admits it: a few positions of the same model in double.
TEST_F(DefaultModel, ReferenceAgreesOnAShortText) {
    const auto ids = golden_["texts"][0]["ids"].get<std::vector<int32_t>>();
    const std::vector<int32_t> few(ids.begin(), ids.begin() + 6);
    Loaded cpu = load_model(path_, strict(64)), reference = load_model(path_, strict(64), oracle_chip());
    const std::vector<float> a = all_logits(*cpu.model, few), b = all_logits(*reference.model, few);
    ASSERT_EQ(a.size(), b.size());
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max<double>(worst, std::abs(a[i] - b[i]));
    EXPECT_LT(worst, 1e-3);
}

}  // namespace
}  // namespace busbar::test
