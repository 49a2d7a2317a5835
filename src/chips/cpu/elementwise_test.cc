#include "chips/cpu/probe.h"
#include "chips/cpu/test_bench.h"

namespace busbar::cpu {
namespace {

class CpuElementwise : public CpuOps {};

// Every way in which extents can stretch: equal, row vector, column, scalar, middle axes, more axes on one side.
TEST_P(CpuElementwise, TwoInputsBroadcast) {
    const std::pair<Shape, Shape> shapes[] = {
        {{Symbol::rows, 5}, {Symbol::rows, 5}},
        {{Symbol::rows, 37}, {37}},
        {{37}, {Symbol::rows, 37}},
        {{Symbol::rows, 19}, {Symbol::rows, 1}},
        {{Symbol::rows, 1}, {19}},
        {{Symbol::rows, 1}, {Symbol::rows, 1}},
        {{Symbol::rows}, {Symbol::rows}},
        {{Symbol::rows, 6}, {}},
        {{}, {Symbol::rows, 6}},
        {{}, {}},
        {{Symbol::rows, 3, 8}, {Symbol::rows, 1, 8}},
        {{Symbol::rows, 3, 8}, {3, 1}},
        {{Symbol::rows, 1, 8}, {Symbol::rows, 3, 1}},
        {{Symbol::rows, 2, 3, 4}, {2, 1, 4}},
        {{2, 3, 4}, {1, 3, 1}},
        {{1, 1, 4}, {Symbol::rows, 1, 1}},
    };
    for (const OpRow* op : {&op_add, &op_subtract, &op_multiply, &op_divide})
        for (const auto& [a, b] : shapes)
            for (const int64_t rows : {1, 4, 9}) {
                const Bench bench{*device, *op, {}, {.rows = rows}};
                const Inputs in = {{{Kind::real, a}, wild(a.bind(bench.binding))},
                                   {{Kind::real, b}, wild(b.bind(bench.binding))}};
                compare(bench.run(in)[0], bench.oracle(in)[0], 0.51);
            }
}

TEST_P(CpuElementwise, LongRunsAreCutWithoutSeams) {
    const Bench bench{*device, op_add, {}, {.rows = 7}};
    for (const Shape& b : {Shape{Symbol::rows, 9000}, Shape{9000}, Shape{Symbol::rows, 1}, Shape{}}) {
        const Inputs in = {{reals({Symbol::rows, 9000}), normal({7, 9000})},
                           {{Kind::real, b}, normal(b.bind(bench.binding))}};
        compare(bench.run(in)[0], bench.oracle(in)[0], 0.51);
    }
}

TEST_P(CpuElementwise, OnlyActiveRowsAreWritten) {
    for (const int active : {0, 1, 3}) {
        const Bench bench{*device, op_add, {}, {.rows = 4}, active};
        const Inputs in = {{reals({Symbol::rows, 11}), normal({4, 11})}, {reals({11}), normal({11})}};
        const Array got = bench.run(in)[0];
        compare(got, bench.oracle(in)[0], 0.51, active * 11);
        for (int64_t i = active * 11; i < got.count(); ++i) ASSERT_TRUE(std::isnan(got.data[i])) << i;
    }
    const Bench bench{*device, op_exp, {}, {.rows = 4, .logit_rows = 3}, 4, 2};
    const Inputs in = {{reals({Symbol::logit_rows, 11}), normal({3, 11})}};
    const Array got = bench.run(in)[0];
    compare(got, bench.oracle(in)[0], 2, 22);
    ASSERT_TRUE(std::isnan(got.data[22]));
}

TEST_P(CpuElementwise, OneInput) {
    for (const OpRow* op : {&op_exp, &op_rsqrt, &op_cos, &op_sin, &op_silu})
        for (const int64_t n : {1, 2, 7, 16, 33, 20000}) {
            const Bench bench{*device, *op, {}, {}};
            const Inputs in = {{reals({n}), wild({n})}};
            compare(bench.run(in)[0], bench.oracle(in)[0], op == &op_silu ? 4 : 2);
        }
    const Bench gated{*device, op_gated_silu, {}, {.rows = 3}};
    const Inputs in = {{reals({Symbol::rows, 45}), normal({3, 45}, 3)}, {reals({Symbol::rows, 45}), normal({3, 45})}};
    compare(gated.run(in)[0], gated.oracle(in)[0], 4.5);
}

// The declared error over the whole range, results below the normal range and both ends included.
TEST_P(CpuElementwise, ExpAndSiluKeepTheirDeclaredError) {
    const Kernels* kernels = nullptr;
    for (const InstructionSet& set : instruction_sets())
        if (GetParam() == set.kernels->name) kernels = set.kernels;
    double worst_exp = 0, worst_silu = 0;
    std::vector<float> x(4096), y(4096);
    const auto check = [&] {
        kernels->exp(x.data(), y.data(), x.size());
        for (size_t i = 0; i < x.size(); ++i)
            worst_exp = std::max(worst_exp, ulps(y[i], std::exp(static_cast<double>(x[i]))));
        kernels->silu(x.data(), y.data(), x.size());
        for (size_t i = 0; i < x.size(); ++i)
            worst_silu = std::max(worst_silu,
                                  ulps(y[i], static_cast<double>(x[i]) / (1 + std::exp(-static_cast<double>(x[i])))));
    };
    // All exponents: floats taken by their bits; then densely where the result is finite and not 0.
    for (uint32_t bits = random() % 1000; bits < 0xFF000000; bits += 1009 * 4096)
        for (const uint32_t more : {0u, 0x80000000u}) {
            for (size_t i = 0; i < x.size(); ++i)
                x[i] = std::bit_cast<float>(static_cast<uint32_t>(bits + 1009 * i) ^ more);
            check();
        }
    std::uniform_real_distribution<double> range(-104.5, 89.5);
    for (int round = 0; round < 200; ++round) {
        for (float& v : x) v = static_cast<float>(range(random));
        check();
    }
    for (size_t i = 0; i < x.size(); ++i)
        x[i] = static_cast<float>(-87 - 17.5 * static_cast<double>(i) / static_cast<double>(x.size()));
    check();
    std::printf("%s: exp within %.2f ULP, silu within %.2f\n", kernels->name, worst_exp, worst_silu);
    for (const KernelRow& row : device->profile().rows) {
        if (row.op == &op_exp) {
            EXPECT_LE(worst_exp, row.rounding.transcendental_ulp);
        }
        if (row.op == &op_silu) {
            EXPECT_LE(worst_silu, row.rounding.transcendental_ulp);
        }
    }
}

TEST_P(CpuElementwise, ExpAtItsEnds) {
    const Bench bench{*device, op_exp, {}, {}};
    const std::vector<double> x = {0.0,  -0.0,  INFINITY, -INFINITY, NAN,  88.72283, 88.7229,
                                   1e30, -1e30, -103.97,  -103.98,   -104, 1e-45,    -87.4};
    const Array in{{static_cast<int64_t>(x.size())}, x};
    const Inputs inputs = {{reals({static_cast<int64_t>(x.size())}), in}};
    const Array got = bench.run(inputs)[0];
    EXPECT_EQ(got.data[0], 1);
    EXPECT_EQ(got.data[1], 1);
    EXPECT_EQ(got.data[2], INFINITY);
    EXPECT_EQ(got.data[3], 0);
    EXPECT_TRUE(std::isnan(got.data[4]));
    EXPECT_TRUE(std::isfinite(got.data[5]));
    EXPECT_EQ(got.data[6], INFINITY);
    EXPECT_EQ(got.data[7], INFINITY);
    EXPECT_EQ(got.data[8], 0);
    EXPECT_EQ(got.data[9], std::ldexp(1, -149));
    EXPECT_EQ(got.data[10], 0);
}

TEST_P(CpuElementwise, SelectPicksByMaskAndTurnsIndicesIntoNumbers) {
    const Bench bench{*device, op_select, {}, {.rows = 5}};
    Array mask{{5, 1, 9}, {}};
    for (int i = 0; i < 45; ++i) mask.data.push_back(static_cast<double>(random() % 2) * 7);
    const Inputs in = {{index({Symbol::rows, 1, 9}), mask},
                       {reals({Symbol::rows, 3, 9}), wild({5, 3, 9})},
                       {reals({}), {{}, {-INFINITY}}}};
    compare(bench.run(in)[0], bench.oracle(in)[0], 0);
    const Array positions{{5, 1}, {0, 7, -3, 131071, 12}};
    const ValueType column = index({Symbol::rows, 1});
    const Inputs same = {{column, positions}, {column, positions}, {column, positions}};
    compare(bench.run(same)[0], positions, 0);
}

BUSBAR_EACH_ISA(CpuElementwise);

}  // namespace
}  // namespace busbar::cpu
