// Rows of many sequences in one step, and the cache's four verbs, on a tiny model of each shape of attention.
#include <cmath>

#include "harness.h"

namespace busbar::test {
namespace {

class States : public testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        BUSBAR_NEED("BUSBAR_TINY_MODELS");
        path_ = from_environment("BUSBAR_TINY_MODELS") + "/" + GetParam();
    }
    LoadOptions options(Order order) const {
        LoadOptions o = strict(256, 48);
        o.order = order;
        o.sequences = 3;
        return o;
    }
    std::string path_;
};

std::vector<int32_t> tokens(int64_t n, int seed, int64_t vocabulary) {
    std::vector<int32_t> ids(n);
    for (int64_t i = 0; i < n; ++i) ids[i] = static_cast<int32_t>((i * 40503 + seed * 9973 + i * i * 7) % vocabulary);
    return ids;
}

// Feeds `ids[done..]` of several sequences in one step of at most `chunk` rows each; returns the logits of each one's last row.
struct Feeder {
    LoadedModel& model;
    Cache cache;
    StepRecord record;
    explicit Feeder(LoadedModel& m) : model(m), cache(m), record(m.layout()) {}

    std::vector<std::vector<float>> feed(std::vector<std::pair<Cache::Sequence*, std::vector<int32_t>>> parts) {
        int32_t row = 0, sequence = 0;
        for (auto& [s, ids] : parts) {
            const int64_t from = s->length;
            cache.append(*s, static_cast<int64_t>(ids.size()));
            cache.fill(*s, record.block_row(sequence));
            for (size_t i = 0; i < ids.size(); ++i, ++row) {
                record.token_ids()[row] = ids[i];
                record.positions()[row] = static_cast<int32_t>(from + i);
                record.sequences()[row] = sequence;
            }
            record.logit_rows()[sequence++] = row - 1;
        }
        record.header() = {row, sequence, sequence, {}};
        model.step(record);
        std::vector<std::vector<float>> out;
        for (int32_t i = 0; i < sequence; ++i) {
            const auto logits = model.logits(i);
            out.emplace_back(logits.begin(), logits.end());
        }
        return out;
    }
    std::vector<float> one(Cache::Sequence& s, std::vector<int32_t> ids) { return feed({{&s, std::move(ids)}})[0]; }
};

double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double worst = a.size() == b.size() ? 0 : INFINITY;
    for (size_t i = 0; i < a.size() && i < b.size(); ++i) worst = std::max<double>(worst, std::abs(a[i] - b[i]));
    return worst;
}

TEST_P(States, TwoPromptsInOneStepEqualEachAlone) {
    for (const Order order : {Order::invariant, Order::free}) {
        Loaded m = load_model(path_, options(order));
        const auto a = tokens(21, 1, m.model->vocabulary()), b = tokens(13, 2, m.model->vocabulary());
        Feeder alone_a(*m.model);
        Cache::Sequence sa;
        const auto expected_a = alone_a.one(sa, a);
        Feeder alone_b(*m.model);
        Cache::Sequence sb;
        const auto expected_b = alone_b.one(sb, b);
        Feeder both(*m.model);
        Cache::Sequence s1, s2;
        const auto together = both.feed({{&s1, a}, {&s2, b}});
        if (order == Order::invariant) {
            EXPECT_EQ(together[0], expected_a);
            EXPECT_EQ(together[1], expected_b);
        } else {
            EXPECT_LT(worst_difference(together[0], expected_a), 1e-3);
            EXPECT_LT(worst_difference(together[1], expected_b), 1e-3);
        }
    }
}

TEST_P(States, ChunksThreadsAndInstructionSetsKeepTheBits) {
    for (const ChipSpec& spec : chip_table()) {
        if (spec.role != ChipRole::fallback) continue;
        for (const std::string& isa : spec.isas()) {
            std::vector<float> first;
            for (const int threads : {1, 2, 3}) {
                Loaded m = load_model(path_, options(Order::invariant), spec.word, {threads, isa});
                const auto ids = tokens(90, 3, m.model->vocabulary());   // crosses a page
                for (const int64_t chunk : {1, 7, 48}) {
                    Feeder f(*m.model);
                    Cache::Sequence s;
                    std::vector<float> last;
                    for (size_t at = 0; at < ids.size(); at += chunk)
                        last = f.one(s, {ids.begin() + static_cast<int64_t>(at), ids.begin() + static_cast<int64_t>(std::min(ids.size(), at + chunk))});
                    if (first.empty()) first = last;
                    EXPECT_EQ(last, first) << isa << ", " << threads << " threads, chunks of " << chunk;
                }
            }
        }
    }
}

TEST_P(States, TruncateForkAndSnapshot) {
    Loaded m = load_model(path_, options(Order::invariant));
    const int64_t v = m.model->vocabulary();
    const auto ids = tokens(70, 4, v);
    const std::vector<int32_t> head(ids.begin(), ids.begin() + 30), tail(ids.begin() + 30, ids.begin() + 70), other = tokens(25, 5, v);

    Feeder plain(*m.model);
    Cache::Sequence s;
    plain.one(s, head);
    const auto expected = plain.one(s, tail);
    Cache::Sequence s2;
    plain.one(s2, head);
    const auto expected_other = plain.one(s2, other);

    Feeder f(*m.model);
    Cache::Sequence a;
    f.one(a, head);
    f.one(a, other);
    f.cache.truncate(a, 30);                       // forget `other`
    Cache::Sequence fork = f.cache.fork(a);        // share the head, mid-page
    const auto snapshot = f.cache.snapshot(a);
    EXPECT_EQ(f.one(a, tail), expected);           // writes into its own copy of the shared page
    EXPECT_EQ(f.one(fork, other), expected_other);
    Cache::Sequence restored = f.cache.restore(snapshot);
    EXPECT_EQ(restored.length, 30);
    EXPECT_EQ(f.one(restored, tail), expected);
    f.cache.release(a);
    f.cache.release(fork);
    f.cache.release(restored);
    EXPECT_EQ(f.cache.free_pages(), m.model->cache_pages());
    EXPECT_THROW(f.cache.restore(Bytes(snapshot).first(snapshot.size() - 1)), Error);
    Cache::Sequence too_long;
    EXPECT_THROW(f.cache.append(too_long, m.model->context() + 1), Error);
}

TEST_P(States, EnginesAnswerTheSameAloneAndTogether) {
    Loaded m = load_model(path_, options(Order::invariant));
    const int64_t v = m.model->vocabulary();
    std::vector<std::vector<int32_t>> alone;
    const auto request = [&](int i) {
        Request r;
        r.prompt = tokens(5 + 30 * i, i, v);
        r.max_tokens = 12;
        r.sample.temperature = i == 1 ? 0.8 : 0;
        r.sample.seed = 42;
        return r;
    };
    for (int i = 0; i < 3; ++i) {
        Engine engine(*m.model);
        engine.finish(engine.add(request(i)));
        alone.push_back(engine.tokens_of(0));
        EXPECT_EQ(alone.back().size(), 12u);
    }
    Engine engine(*m.model);
    for (int i = 0; i < 3; ++i) engine.add(request(i));
    while (engine.step()) {
    }
    for (int i = 0; i < 3; ++i) EXPECT_EQ(engine.tokens_of(i), alone[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(Models, States, testing::Values("llama", "mistral", "qwen3", "qwen2_window", "llama_k_mix.gguf"),
                         [](const auto& info) {
                             std::string name = info.param;
                             std::ranges::replace(name, '.', '_');
                             return name;
                         });

}  // namespace
}  // namespace busbar::test
