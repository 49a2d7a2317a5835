#include "chips/cpu/cpu.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>
#include <sstream>

#include "base/error.h"
#include "chips/cpu/probe.h"
#include "chips/cpu/test_bench.h"

namespace busbar::cpu {
namespace {

TEST(Cpu, OffersEveryOpOfTheTableOnce) {
    const auto device = make_cpu(1);
    std::set<std::pair<const OpRow*, std::string>> seen;
    std::set<std::string> names;
    int fast = 0;
    for (const KernelRow& row : device->profile().rows) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
        EXPECT_TRUE(row.name.starts_with("cpu." + std::string(row.op->name) + "."));
        EXPECT_EQ(row.order, Order::invariant);
        if (row.rounding.activation == Element::bf16) {
            // A second row of products of weights as stored, on processors that have instructions for it.
            EXPECT_TRUE(row.form == "as_stored" && row.accuracy == Accuracy::accurate) << row.name;
            EXPECT_TRUE(row.rounding.flushes_denormals) << row.name;
            continue;
        }
        if (row.accuracy == Accuracy::fast) {
            // A second row of products of panels, with bytes.
            EXPECT_TRUE(row.form == "panels" && row.rounding.activation == Element::i8) << row.name;
            ++fast;
            continue;
        }
        EXPECT_TRUE(seen.insert({row.op, row.form}).second) << row.name;
        // Products of panels round activations, and say so; everything else is strict.
        const bool rounds = row.form == "panels" && row.op != &op_gather_rows;
        EXPECT_EQ(row.accuracy, rounds ? Accuracy::accurate : Accuracy::strict) << row.name;
        EXPECT_EQ(row.rounding.activation, rounds ? Element::i16 : Element::f32) << row.name;
        EXPECT_LE(row.rounding.transcendental_ulp, 4) << "strict allows no more";
    }
    EXPECT_EQ(fast, device->profile().find_form("panels") ? 2 : 0);  // matmul and multi_matmul
    for (const OpRow* op : op_table()) EXPECT_EQ(seen.contains({op, ""}), !op->is_view) << op->name;
    for (const OpRow* op : {&op_matmul, &op_multi_matmul, &op_gather_rows, &op_rms_norm, &op_add})
        EXPECT_TRUE(seen.contains({op, "as_stored"})) << op->name;
    EXPECT_EQ(device->profile().find_form("as_stored")->encodings.size(), encodings().size());
}

TEST(Cpu, ChoosesAnInstructionSet) {
    const std::vector<std::string> isas = usable_cpu_isas();
    ASSERT_FALSE(isas.empty());
    EXPECT_EQ(isas[0], "portable");
    for (const std::string& isa : isas) EXPECT_NE(make_cpu(1, isa)->profile().driver.find(isa), std::string::npos);
    EXPECT_NE(make_cpu(1)->profile().driver.find(isas.back()), std::string::npos);
    try {
        make_cpu(1, "mmx");
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::usage);
        EXPECT_NE(std::string(e.what()).find("portable"), std::string::npos);
    }
    EXPECT_EQ(make_cpu(3)->profile().threads, 3);
    EXPECT_NE(make_cpu(3)->profile().detail.find("3 threads"), std::string::npos);
}

// A function that two object files may share (inline, template) is kept once by the linker: were that the copy for a
// wide machine, a narrow one would die on its first wide instruction. So kernel objects define no shared symbol outside
// their own namespace.
TEST(Cpu, KernelsOfAnInstructionSetShareNothing) {
    const std::filesystem::path objects = BUSBAR_BINARY_DIR "/src/chips/cpu/CMakeFiles";
    int files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(objects)) {
        const std::string path = entry.path().string();
        const size_t at = path.find("busbar_cpu_");
        if (!path.ends_with(".o") || at == std::string::npos) continue;
        const std::string isa = path.substr(at + 11, path.find('.', at) - at - 11);
        FILE* nm = popen(("nm -C '" + path + "' 2>&1").c_str(), "r");
        ASSERT_NE(nm, nullptr);
        std::string text;
        for (int c; (c = fgetc(nm)) != EOF;) text += static_cast<char>(c);
        if (pclose(nm) != 0) GTEST_SKIP() << "nm does not run here: " << text.substr(0, 100);
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            if (line.find(" DW.ref.") != std::string::npos) continue;  // the sanitizers' pointers, no code
            const bool shared = line.find(" W ") != std::string::npos || line.find(" V ") != std::string::npos ||
                                line.find(" u ") != std::string::npos;
            EXPECT_FALSE(shared && line.find("busbar::cpu::" + isa + "::") == std::string::npos)
                << path << ": " << line;
        }
        ++files;
    }
    EXPECT_GE(files, 6) << objects;
}

TEST(Cpu, BuffersAreZeroedAlignedAndRefusedWithTheNumbers) {
    const auto device = make_cpu(1);
    for (const uint64_t bytes : {0ull, 1ull, 100ull, 20'000'000ull}) {
        const auto buffer = device->allocate(bytes);
        EXPECT_EQ(buffer->bytes(), bytes);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->host()) % 64, 0u);
        const auto* p = static_cast<const char*>(buffer->host());
        EXPECT_TRUE(std::all_of(p, p + bytes, [](char c) { return c == 0; }));
    }
    for (const uint64_t bytes : {1ull << 50, ~0ull}) {
        try {
            device->allocate(bytes);
            FAIL();
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), ErrorCode::does_not_fit);
            EXPECT_NE(std::string(e.what()).find(with_commas(bytes)), std::string::npos) << e.what();
        }
    }
    // What was promised counts though it is not touched yet.
    const auto most = static_cast<uint64_t>(device->profile().memory_bytes.value * 0.6);
    auto first = device->allocate(most);
    EXPECT_THROW(device->allocate(most), Error);
    first.reset();
    EXPECT_NO_THROW(device->allocate(most));
}

TEST(Cpu, CopiesBytes) {
    const auto device = make_cpu(1);
    const auto a = device->allocate(100), b = device->allocate(100);
    const char text[] = "busbar";
    device->write(*a, 7, std::as_bytes(std::span(text)));
    device->copy(*b, 50, *a, 7, sizeof text);
    char back[sizeof text];
    device->read(*b, 50, std::as_writable_bytes(std::span(back)));
    EXPECT_STREQ(back, text);
}

TEST(Cpu, PacksInPlaceAndKeepsTheTensorAlive) {
    const auto device = make_cpu(1);
    std::vector<float> numbers(12, 1.5f);
    auto tensor = std::make_shared<StoredTensor>();
    tensor->encoding = &encoding_f32;
    tensor->shape = {3, 4};
    tensor->bytes = std::as_bytes(std::span(numbers));
    auto packed = device->pack(tensor, device->profile().forms[0]);
    EXPECT_EQ(packed->bytes(), 0u);
    EXPECT_EQ(tensor.use_count(), 2);
    packed.reset();
    EXPECT_EQ(tensor.use_count(), 1);
    tensor->shape = {4, 4};
    EXPECT_THROW(device->pack(tensor, device->profile().forms[0]), Error);
    tensor->encoding = &encoding_q8_0;
    tensor->shape = {1, 33};
    EXPECT_THROW(device->pack(tensor, device->profile().forms[0]), Error);
}

TEST(Cpu, RoofsAreMeasuredWhenAskedFor) {
    const auto device = make_cpu();
    EXPECT_EQ(device->profile().read_bytes_per_s.origin, Figure::Origin::unknown);
    EXPECT_GT(device->profile().flops_per_s.value, 0);
    measure_roofs(*device);
    EXPECT_EQ(device->profile().read_bytes_per_s.origin, Figure::Origin::measured);
    EXPECT_GT(device->profile().read_bytes_per_s.value, 1e8);
    EXPECT_EQ(device->profile().flops_per_s.origin, Figure::Origin::measured);
    EXPECT_GT(device->profile().flops_per_s.value, 1e8);
    // Integer products are there to be faster than those of f32, so their roof is higher wherever there are any.
    if (device->profile().find_form("panels") != nullptr) {
        EXPECT_EQ(device->profile().integer_ops_per_s.origin, Figure::Origin::measured);
        EXPECT_GT(device->profile().integer_ops_per_s.value, 1e8);
    } else {
        EXPECT_EQ(device->profile().integer_ops_per_s.origin, Figure::Origin::unknown);
    }
    std::printf("%s (%s): reads %.1f GB/s, %.1f GFLOP/s, %.1f GOP/s of integers\n", device->profile().maker.c_str(),
                device->profile().detail.c_str(), device->profile().read_bytes_per_s.value / 1e9,
                device->profile().flops_per_s.value / 1e9, device->profile().integer_ops_per_s.value / 1e9);
}

// Chains of steps large and small, where a missing barrier would show as a wrong number (and a race to the thread
// sanitizer).
TEST(Cpu, StepsOfAProgramAreOrdered) {
    std::mt19937_64 random(fresh_seed());
    for (const int threads : {1, 2, 3}) {
        const auto device = make_cpu(threads);
        const KernelRow* add = nullptr;
        for (const KernelRow& row : device->profile().rows)
            if (row.name == "cpu.add.f32") add = &row;
        const int64_t large = 60000, count = 200;
        const auto buffer = device->allocate(4 * large * 2);
        std::vector<ProgramStep> steps;
        for (int i = 0; i < count; ++i) {  // y = x + x's first element, back and forth; some steps are of one unit only
            const int64_t n = random() % 2 ? 100 : large;
            const auto operand = [&](int64_t extent, int64_t at) {
                Operand o;
                o.type = reals({extent});
                o.extents = {extent};
                o.buffer = buffer.get();
                o.offset = 4 * at;
                return o;
            };
            steps.push_back({add, "add", {}, {operand(n, 0), operand(1, large - 1)}, {operand(n, large)}});
            steps.push_back({add, "add", {}, {operand(n, large), operand(1, large)}, {operand(n, 0)}});
        }
        auto* p = static_cast<float*>(buffer->host());
        p[large - 1] = 1e-30f;
        std::vector<float> expected(large, 0), y(large);
        expected[large - 1] = 1e-30f;
        for (size_t i = 0; i < steps.size(); i += 2) {
            const int64_t n = steps[i].outputs[0].extents[0];
            const float last = expected[large - 1];
            for (int64_t k = 0; k < n; ++k) y[k] = expected[k] + last;
            const float first = y[0];
            for (int64_t k = 0; k < n; ++k) expected[k] = y[k] + first;
        }
        device->prepare(std::move(steps), {})->run(StepRecord({}).words());
        ASSERT_EQ(std::memcmp(p, expected.data(), 4 * large), 0) << threads << " threads";
    }
}

}  // namespace
}  // namespace busbar::cpu
