// Drafts change how many steps an answer takes, and no token, no score and no bit of the cache.
#include <random>

#include "harness.h"
#include "llm/chat/chat.h"

namespace busbar::test {
namespace {

LoadOptions with_drafts(int64_t context) {
    LoadOptions o;
    o.context = context;
    o.chunk = 64;
    o.speculate = true;
    o.sequences = 2;
    return o;
}

struct Answered {
    std::vector<int32_t> tokens;
    std::vector<TokenScore> scores;
    Finish finish = Finish::none;
    Cache::Sequence past;
};

Answered answer(Engine& engine, Request r) {
    Answered a;
    r.with_chosen = true;
    const auto stop = r.on_token;
    r.on_token = [&](int32_t token, const std::vector<TokenScore>& best) {
        a.scores.insert(a.scores.end(), best.begin(), best.end());
        return !stop || stop(token, best);
    };
    const int number = engine.add(std::move(r));
    engine.finish(number);
    a.tokens = engine.tokens_of(number);
    a.finish = engine.finish_of(number);
    a.past = engine.take_past(number);
    return a;
}

void expect_same(const Answered& a, const Answered& b, const std::string& what) {
    EXPECT_EQ(a.tokens, b.tokens) << what;
    EXPECT_EQ(a.finish, b.finish) << what;
    EXPECT_EQ(a.past.length, b.past.length) << what;
    ASSERT_EQ(a.scores.size(), b.scores.size()) << what;
    for (size_t i = 0; i < a.scores.size(); ++i) {
        EXPECT_EQ(a.scores[i].id, b.scores[i].id) << what << " score " << i;
        EXPECT_EQ(a.scores[i].logprob, b.scores[i].logprob) << what << " score " << i;
    }
}

// Every way of choosing and of ending, with and without drafts, on one model; returns how many drafts were right.
// Two loads, since two engines would write into each other's pages.
SpeculationCounts compare_all(LoadedModel& one, LoadedModel& other, const std::vector<std::vector<int32_t>>& prompts, int64_t tokens, uint64_t seed) {
    EngineOptions on;
    on.speculate = Speculate::on;
    on.keep_prefixes = true;
    Engine plain(one), drafting(other, on);
    EXPECT_EQ(drafting.why_no_drafts(), "");
    for (size_t p = 0; p < prompts.size(); ++p)
        for (int way = 0; way < 6; ++way) {
            Request r;
            r.prompt = prompts[p];
            r.max_tokens = tokens;
            r.logprobs = way == 1 ? 3 : 0;
            if (way == 1 || way == 2) r.sample.temperature = way == 1 ? 0.7 : 1.5;
            if (way == 2) r.sample.top_p = 0.9;
            if (way == 3) {
                r.sample.repeat_penalty = 1.1;
                r.sample.presence_penalty = 0.1;
                r.sample.frequency_penalty = 0.2;
            }
            r.sample.seed = seed + way;
            const std::string what = fmt::format("prompt {} way {} seed {}", p, way, seed);
            if (way == 4) {  // an end token in the middle, where a draft may stand
                Answered free = answer(plain, r);
                plain.cache().release(free.past);
                r.end_ids = {free.tokens[free.tokens.size() / 2]};
            }
            int64_t seen = 0;
            if (way == 5) r.on_token = [&](int32_t, const auto&) { return ++seen < 7; };
            Answered a = answer(plain, r);
            seen = 0;
            Answered b = answer(drafting, r);
            expect_same(a, b, what);
            // Both go on from what they kept of it: the cache holds the same past.
            Request more;
            more.prompt = r.prompt;
            more.prompt.insert(more.prompt.end(), a.tokens.begin(), a.tokens.end());
            more.prompt.push_back(1);
            more.max_tokens = 4;
            more.with_chosen = true;
            std::vector<std::vector<int32_t>> next;
            for (auto [engine, past] : {std::pair(&plain, &a.past), std::pair(&drafting, &b.past)}) {
                const int number = engine->add(more, std::move(*past));
                engine->finish(number);
                next.push_back(engine->tokens_of(number));
                engine->forget(number);
            }
            EXPECT_EQ(next[0], next[1]) << what;
        }
    EXPECT_EQ(drafting.cache().free_pages() + drafting.cache().kept_pages(), other.cache_pages());
    return drafting.drafts();
}

class Speculate_ : public testing::TestWithParam<std::string> {};

TEST_P(Speculate_, ChangesNoToken) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const std::string path = from_environment("BUSBAR_TINY_MODELS") + "/" + GetParam();
    Loaded m = load_model(path, with_drafts(256)), other = load_model(path, with_drafts(256));
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 random(seed);
    std::vector<int32_t> noise(70), phrase(9), song;
    for (auto* ids : {&noise, &phrase})
        for (int32_t& t : *ids) t = static_cast<int32_t>(random() % static_cast<uint64_t>(m.model->vocabulary()));
    for (int i = 0; i < 6; ++i) song.insert(song.end(), phrase.begin(), phrase.end());
    const SpeculationCounts counts = compare_all(*m.model, *other.model, {noise, song, {1}}, 60, seed);
    EXPECT_GT(counts.accepted, 0);
    EXPECT_GT(counts.drafted, counts.accepted);
    EXPECT_GE(counts.drafted, counts.steps);
}

INSTANTIATE_TEST_SUITE_P(Models, Speculate_, testing::Values("llama_q4_0.gguf", "qwen2_window", "qwen3_k_mix.gguf"), [](const auto& info) {
    return info.param.substr(0, info.param.find('.'));
});

// To the last position of the context, and where the answer may have one token only.
TEST(Speculate_, EndsWhereTheContextEnds) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Loaded m = load_model(from_environment("BUSBAR_TINY_MODELS") + "/llama", with_drafts(128));
    for (const int64_t most : {0, 1, 2, 3}) {
        std::vector<Answered> answers;
        for (const Speculate mode : {Speculate::off, Speculate::on}) {
            EngineOptions o;
            o.speculate = mode;
            Engine engine(*m.model, o);
            Request r;
            r.prompt.assign(most == 0 ? 60 : 10, 5);
            r.max_tokens = most;
            answers.push_back(answer(engine, r));
        }
        expect_same(answers[0], answers[1], fmt::format("{} tokens", most));
        EXPECT_EQ(answers[1].tokens.size(), most == 0 ? 68u : static_cast<size_t>(most));
    }
}

// Drafts stand for one sequence; two at once are served without.
TEST(Speculate_, LeavesABatchAlone) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Loaded m = load_model(from_environment("BUSBAR_TINY_MODELS") + "/llama", with_drafts(128));
    std::vector<std::vector<int32_t>> tokens[2];
    for (const bool drafts : {false, true}) {
        EngineOptions o;
        o.speculate = drafts ? Speculate::on : Speculate::off;
        Engine engine(*m.model, o);
        for (int i = 0; i < 3; ++i) {  // the third waits for one of the others
            Request r;
            r.prompt.assign(10 + 7 * i, 5 + i);
            r.max_tokens = 9 + 6 * i;
            engine.add(r);
        }
        while (engine.step()) {
        }
        for (int i = 0; i < 3; ++i) tokens[drafts].push_back(engine.tokens_of(i));
        EXPECT_EQ(engine.drafts().steps > 0, drafts);  // the last of the three is alone at the end
    }
    EXPECT_EQ(tokens[0], tokens[1]);
}

TEST(Speculate_, IsOffWhereBitsMayDiffer) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const std::string path = from_environment("BUSBAR_TINY_MODELS") + "/llama";
    Loaded m = load_model(path, with_drafts(128));
    Plan one = m.model->plans().front(), other = one;
    EXPECT_EQ(why_other_bits(one, m.model->plans().back()), "");
    EXPECT_TRUE(one.invariant());
    KernelRow row = *one.steps[3].row;
    other.steps[3].row = &row;
    row.name = "other.row";
    EXPECT_NE(why_other_bits(one, other).find("other.row"), std::string::npos);
    row.order = Order::free;
    EXPECT_NE(why_other_bits(one, other).find("promises no order"), std::string::npos);
    EXPECT_FALSE(other.invariant());
    other = one;
    other.steps.pop_back();
    EXPECT_NE(why_other_bits(one, other), "");

    LoadOptions bare = with_drafts(128);
    bare.speculate = false;
    Loaded n = load_model(path, bare);
    EngineOptions o;
    o.speculate = Speculate::on;
    Engine engine(*n.model, o);
    EXPECT_NE(engine.why_no_drafts(), "");
    Request r;
    r.prompt.assign(10, 5);
    r.max_tokens = 8;
    engine.finish(engine.add(r));
    EXPECT_EQ(engine.drafts().steps, 0);
    EXPECT_EQ(engine.tokens_of(0).size(), 8u);
}

// Words that ask for repetition and words that do not, on the model that people meet first.
TEST(Speculate_, DefaultModel) {
    BUSBAR_NEED("BUSBAR_DEFAULT_MODEL");
    const std::string path = from_environment("BUSBAR_DEFAULT_MODEL");
    Loaded m = load_model(path, with_drafts(512));
    const auto tokenizer = open_tokenizer(open_model_file(path));
    const uint64_t seed = std::random_device{}();
    const std::string code = "int sum(const int* x, int n) {\n    int s = 0;\n    for (int i = 0; i < n; ++i) s += x[i];\n    return s;\n}\n";
    EngineOptions on;
    on.speculate = Speculate::on;
    EngineOptions automatic;
    automatic.speculate = Speculate::automatic;
    Engine plain(*m.model), drafting(*m.model, on), choosing(*m.model, automatic);
    for (const std::string& text : {code + code + "int sum(", std::string("Once upon a time, a fox met")})
        for (const double temperature : {0.0, 0.8}) {
            Request r;
            r.prompt = tokenizer->encode(text, true);
            r.max_tokens = 24;
            r.sample.temperature = temperature;
            r.sample.seed = seed;
            Answered expected = answer(plain, r);
            for (Engine* e : {&drafting, &choosing}) {
                Answered got = answer(*e, r);
                expect_same(expected, got, fmt::format("{} at {} seed {}", text, temperature, seed));
                e->cache().release(got.past);
            }
            plain.cache().release(expected.past);
        }
    EXPECT_GT(drafting.drafts().accepted, 10);
}

}  // namespace
}  // namespace busbar::test
