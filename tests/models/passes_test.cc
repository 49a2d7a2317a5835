// Each pass: same output as without it. And the run allocates nothing.
#include <atomic>
#include <cmath>
#include <new>

#include "harness.h"

namespace {
thread_local bool counting = false;
std::atomic<int64_t> allocations{0};
}  // namespace

// Every allocation of this program passes here; the test below counts those of a step on one thread.
// Not inlined: the compiler must not see that memory of new comes from malloc.
[[gnu::noinline]] void* operator new(size_t n) {
    if (counting) ++allocations;
    if (void* p = std::malloc(n ? n : 1)) return p;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace busbar::test {
namespace {

class Passes : public testing::TestWithParam<std::string> {};

TEST_P(Passes, EachSwitchedOffGivesTheSameLogits) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const std::string path = from_environment("BUSBAR_TINY_MODELS") + "/" + GetParam();
    const std::vector<int32_t> ids = {3, 77, 12, 9, 101, 4, 55, 2, 19};
    for (std::string_view chip : {fallback_chip(), oracle_chip()}) {
        const std::vector<float> with = all_logits(*load_model(path, strict(64), chip).model, ids);
        for (const Pass& pass : pipeline()) {
            LoadOptions o = strict(64);
            o.skip_passes = {std::string(pass.name)};
            const Loaded m = load_model(path, o, chip);
            const std::vector<float> without = all_logits(*m.model, ids);
            ASSERT_EQ(with.size(), without.size());
            double worst = 0;
            for (size_t i = 0; i < with.size(); ++i) worst = std::max<double>(worst, std::abs(with[i] - without[i]));
            EXPECT_LE(worst, 1e-5) << pass.name << " on " << chip;
        }
    }
}

TEST_P(Passes, EachDoesSomethingAndSaysWhy) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const Loaded m = load_model(from_environment("BUSBAR_TINY_MODELS") + "/" + GetParam(), strict(64));
    for (const PassReport& r : m.passes) {
        EXPECT_FALSE(r.why.empty()) << r.name;
        const bool always = r.name != "fold_constants";   // folding has work only where frequencies are divided
        EXPECT_GE(r.changes, always ? 1 : 0) << r.name;
    }
}

TEST(Passes, UnknownNamesAreRefused) {
    Graph g;
    EXPECT_THROW(run_passes(g, {}, {"no_such_pass"}), Error);
}

TEST(Passes, FrequenciesAreFolded) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const Loaded m = load_model(from_environment("BUSBAR_TINY_MODELS") + "/llama_llama3.gguf", strict(64));
    EXPECT_GT(m.passes[0].changes, 0);
    for (const Node& n : m.model->plans()[0].graph.nodes()) EXPECT_NE(n.op, &op_divide);
}

TEST(Run, AStepAllocatesNothing) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    Loaded m = load_model(from_environment("BUSBAR_TINY_MODELS") + "/qwen3", strict(128), fallback_chip(), {1, ""});
    Cache cache(*m.model);
    Cache::Sequence s;
    StepRecord record(m.model->layout());
    for (int step = 0; step < 4; ++step) {
        cache.append(s, 1);
        cache.fill(s, record.block_row(0));
        record.token_ids()[0] = step;
        record.positions()[0] = step;
        record.header() = {1, 1, 1, {}};
        const int64_t before = allocations;
        counting = true;
        m.model->step(record);
        (void)m.model->logits(0);
        counting = false;
        EXPECT_EQ(allocations - before, 0) << "step " << step;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Passes, testing::Values("llama", "qwen2", "qwen3", "mistral"), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace busbar::test
