// The gate on a chip that lies: which planted faults it sees, and that it names the op that has them.
#include <map>

#include "agree/gate.h"
#include "agree/identity.h"
#include "agree/requests.h"
#include "harness.h"

namespace busbar::test {
namespace {

std::string faulty(const std::string& options) {
    return std::string("plugin:") + BUSBAR_BINARY_DIR + "/libbusbar_chip_faulty.so?" + options;
}

LoadOptions two_sequences() {
    LoadOptions o;
    o.context = 320;
    o.sequences = 2;
    o.cache_pages = 7;
    o.chunk = 64;
    return o;
}

agree::GateReport gate(const std::string& model, std::string_view chip, const ChipOptions& options = {}) {
    const Loaded loaded =
        load_model(from_environment("BUSBAR_TINY_MODELS") + "/" + model, two_sequences(), chip, options);
    const auto reference = open_chip(oracle_chip());
    agree::GateOptions o;
    o.threads = 1;
    return agree::run_gate(*loaded.model, *reference, o);
}

class Gate : public testing::TestWithParam<std::string> {};

TEST_P(Gate, PassesAnHonestChip) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    for (const std::string& isa : find_chip(fallback_chip())->isas()) {
        const agree::GateReport report = gate(GetParam(), fallback_chip(), {2, isa, ""});
        EXPECT_TRUE(report.passed()) << isa << ": " << report.line();
        EXPECT_GT(report.outputs, 10000);
        EXPECT_EQ(report.probes.size(), 6u);
    }
}
INSTANTIATE_TEST_SUITE_P(Models, Gate,
                         testing::Values("llama", "qwen3", "mistral", "qwen2_k_mix.gguf", "llama_q4_1.gguf"),
                         [](const auto& info) { return info.param.substr(0, info.param.find('.')); });

// The linker's hash of this very program, found in its file by the note's header: no constant, no other program's.
TEST(Identity, IsTheNoteThatTheLinkerWrote) {
    const std::string program = read_file("/proc/self/exe"), header("\4\0\0\0\24\0\0\0\3\0\0\0GNU\0", 16);
    const size_t at = program.find(header);
    ASSERT_NE(at, std::string::npos);
    std::string id;
    for (size_t i = 0; i < 8; ++i) id += fmt::format("{:02x}", static_cast<unsigned char>(program.at(at + header.size() + i)));
    EXPECT_EQ(agree::build_id(), id);
}

TEST(GateFaults, PassesTheLyingChipWhenItDoesNotLie) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const agree::GateReport report = gate("llama_q8_0.gguf", faulty("fault=none"));
    EXPECT_TRUE(report.passed()) << report.line();
}

// Fault -> the op that must be named; "" = any.
const std::map<std::string, std::string> caught = {{"rope_layout", "rotate"},
                                                   {"half_accumulate", "matmul"},
                                                   {"noop_kernel", ""},
                                                   {"stale_buffer", ""},
                                                   {"scale_off_by_one", ""},
                                                   {"nan_long", "attention"},
                                                   {"mask_off_by_one", "attention"},
                                                   {"eps_wrong", "rms_norm"},
                                                   {"one_weight", ""},
                                                   {"layer_swap", "matmul"},
                                                   {"leak_batch", "attention"},
                                                   {"missing_sync", ""},
                                                   {"rare", ""}};

class Faults : public testing::TestWithParam<std::pair<const std::string, std::string>> {};

TEST_P(Faults, AreSeenAndNamed) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const auto& [fault, op] = GetParam();
    const agree::GateReport report = gate("llama_q8_0.gguf", faulty("fault=" + fault));
    ASSERT_FALSE(report.passed()) << fault << ": " << report.line();
    if (op.empty()) return;
    ASSERT_FALSE(report.findings.empty()) << report.line();
    EXPECT_NE(report.findings[0].op.find(op), std::string::npos) << report.line();
    EXPECT_NE(report.first().find(report.findings[0].node), std::string::npos) << "the report names the node";
}
INSTANTIATE_TEST_SUITE_P(Planted, Faults, testing::ValuesIn(caught), [](const auto& info) { return info.param.first; });

TEST(GateFaults, BlamesTheLayer) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const agree::GateReport report = gate("llama_q8_0.gguf", faulty("fault=rope_layout&layer=1"));
    ASSERT_FALSE(report.findings.empty());
    EXPECT_EQ(report.findings[0].layer, 1) << report.line();
    EXPECT_EQ(report.findings[0].node.substr(0, 8), "layer.1.") << report.line();
}

TEST(GateFaults, ALostChipIsAnErrorOfItsOwn) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    EXPECT_THROW(gate("llama_q8_0.gguf", faulty("fault=lost")), ChipLost);
}

// Level 4: a chip whose rows read a neighbour's cache is seen, an honest one passes in both orders.
agree::RequestReport requests(const std::string& chip, Order order) {
    LoadOptions o = two_sequences();
    o.sequences = 3;
    o.cache_pages = 6;
    o.context = 128;
    o.order = order;
    const Loaded loaded = load_model(from_environment("BUSBAR_TINY_MODELS") + "/llama_q8_0.gguf", o, chip);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 400; ++i) ids.push_back(i * 37 % 97 + 1);
    return agree::check_requests(*loaded.model, ids);
}

TEST(Requests, DoNotMix) {
    BUSBAR_NEED("BUSBAR_TINY_MODELS");
    const agree::RequestReport honest = requests(std::string(fallback_chip()), Order::invariant);
    EXPECT_TRUE(honest.passed()) << honest.text_form();
    EXPECT_TRUE(honest.must_be_bits);
    EXPECT_EQ(honest.trials.size(), 6u);
    EXPECT_TRUE(requests(faulty("fault=none"), Order::free).passed());
    for (const char* fault : {"leak_batch", "stale_buffer"}) {
        const agree::RequestReport report = requests(faulty(std::string("fault=") + fault), Order::free);
        EXPECT_FALSE(report.passed()) << fault << "\n" << report.text_form();
    }
}

}  // namespace
}  // namespace busbar::test
