#include "chips/cpu/test_bench.h"

namespace busbar::cpu {
namespace {

class CpuRows : public CpuOps {};

constexpr int64_t widths[] = {1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 100, 576, 5000};

TEST_P(CpuRows, Reductions) {
    for (const OpRow* op : {&op_sum, &op_mean, &op_max})
        for (const int64_t width : widths) {
            const Bench bench{*device, *op, {}, {.rows = 6}};
            const Inputs in = {{reals({Symbol::rows, width}), normal({6, width})}};
            // Sums are kept in double: one rounding at the end, and a little where they cancel.
            const Array got = bench.run(in)[0], want = bench.oracle(in)[0];
            for (int64_t r = 0; r < 6; ++r)
                ASSERT_NEAR(got.data[r], want.data[r], std::fabs(want.data[r]) * 0x1p-24 + 1e-12) << op->name << width;
        }
}

TEST_P(CpuRows, ReductionsOfOddNumbers) {
    for (int round = 0; round < 50; ++round)
        for (const OpRow* op : {&op_sum, &op_max}) {
            const Bench bench{*device, *op, {}, {.rows = 9}};
            const Inputs in = {{reals({Symbol::rows, 2, 5}), wild({9, 2, 5})}};
            const Array got = bench.run(in)[0], want = bench.oracle(in)[0];
            for (int64_t r = 0; r < want.count(); ++r) {
                double size = 0;  // where terms cancel, the order in double shows
                for (int i = 0; i < 5; ++i) size += std::fabs(in[0].array.data[r * 5 + i]);
                if (std::isfinite(want.data[r]) && std::fabs(got.data[r] - want.data[r]) <= size * 0x1p-50) continue;
                ASSERT_LE(ulps(got.data[r], want.data[r]), 0.51)
                    << r << ": got " << got.data[r] << ", want " << want.data[r];
            }
        }
    const Bench bench{*device, op_max, {}, {.rows = 3}};
    const Inputs nan_in_the_middle = {{reals({Symbol::rows, 20}), normal({3, 20})}};
    Inputs in = nan_in_the_middle;
    in[0].array.data[20 + 13] = NAN;
    EXPECT_TRUE(std::isnan(bench.run(in)[0].data[1]));
    EXPECT_FALSE(std::isnan(bench.run(in)[0].data[0]));
}

TEST_P(CpuRows, SumOfLargeAndSmall) {
    const Bench bench{*device, op_sum, {}, {.rows = 1}};
    Array x{{1, 4096}, std::vector<double>(4096, 1e-8f)};
    x.data[0] = 1;  // in f32 one after the other all the rest would be lost
    const Inputs in = {{reals({Symbol::rows, 4096}), x}};
    compare(bench.run(in)[0], bench.oracle(in)[0], 0.51);
}

TEST_P(CpuRows, Softmax) {
    for (const int64_t width : widths)
        for (const double spread : {1.0, 30.0}) {
            const Bench bench{*device, op_softmax, {}, {.rows = 6}};
            const Inputs in = {{reals({Symbol::rows, width}), normal({6, width}, spread)}};
            const Array got = bench.run(in)[0], want = bench.oracle(in)[0];
            for (int64_t i = 0; i < want.count(); ++i) {
                // agreement.md, level 1, with E = 2 and |x - m| as its worst.
                const double u = 0x1p-24,
                             limit = want.data[i] *
                                         (4 * u * 2 + u * (20 * spread + 4 * std::sqrt(static_cast<double>(width)))) +
                                     1.2e-38;
                ASSERT_NEAR(got.data[i], want.data[i], limit) << width;
            }
        }
    const Bench bench{*device, op_softmax, {}, {.rows = 4}};
    const Inputs in = {{reals({Symbol::rows, 3}),
                        {{4, 3}, {1, -INFINITY, 1, -INFINITY, -INFINITY, -INFINITY, 1, NAN, 2, 1, INFINITY, 2}}}};
    compare(bench.run(in)[0], bench.oracle(in)[0], 0.51);
}

TEST_P(CpuRows, Norms) {
    for (const int64_t width : widths)
        for (const double spread : {1e-20, 1e-3, 1.0, 1e15}) {
            const Bench bench{*device, op_rms_norm, {{"epsilon", 1e-5}}, {.rows = 5}};
            const Inputs in = {{reals({Symbol::rows, width}), normal({5, width}, spread)},
                               {reals({width}), normal({width})}};
            compare(bench.run(in)[0], bench.oracle(in)[0], 4);
            const Bench added{*device, op_add_rms_norm, {{"epsilon", 1e-6}}, {.rows = 5}};
            const Inputs two = {{reals({Symbol::rows, width}), normal({5, width}, spread)},
                                {reals({Symbol::rows, width}), normal({5, width}, spread)},
                                in[1]};
            const std::vector<Array> got = added.run(two), want = added.oracle(two);
            compare(got[0], want[0], 0.51);
            // The norm is of the rounded sum, so the oracle's is too.
            Bench rounded{*device, op_rms_norm, {{"epsilon", 1e-6}}, {.rows = 5}};
            compare(got[1], rounded.oracle({{reals({Symbol::rows, width}), got[0]}, in[1]})[0], 4);
        }
}

TEST_P(CpuRows, NormOfOddNumbers) {
    const Bench bench{*device, op_rms_norm, {{"epsilon", 1e-5}}, {.rows = 5}};
    Inputs in = {{reals({Symbol::rows, 10}), normal({5, 10})}, {reals({10}), normal({10})}};
    std::fill_n(in[0].array.data.begin(), 10, 0.0);
    in[0].array.data[13] = NAN;
    in[0].array.data[24] = INFINITY;
    std::fill_n(in[0].array.data.begin() + 30, 10, 3e38);  // squares overflow f32 but not the sum in double
    compare(bench.run(in)[0], bench.oracle(in)[0], 4);
}

TEST_P(CpuRows, NormWeightsAsStored) {
    auto tensor = std::make_shared<StoredTensor>();
    std::vector<uint16_t> halves(96);
    Array decoded{{96}, {}};
    for (uint16_t& h : halves) {
        h = f32_to_bf16(static_cast<float>(static_cast<int>(random() % 1000)) / 300.0f);
        decoded.data.push_back(bf16_to_f32(h));
    }
    tensor->encoding = &encoding_bf16;
    tensor->shape = {96};
    tensor->bytes = std::as_bytes(std::span(halves));
    Bench bench{*device, op_rms_norm, {{"epsilon", 1e-5}}, {.rows = 2}};
    bench.form = "as_stored";
    const Inputs in = {{reals({Symbol::rows, 96}), normal({2, 96})}, {reals({96}), decoded, tensor}};
    compare(bench.run(in)[0], bench.oracle(in)[0], 4);
}

BUSBAR_EACH_ISA(CpuRows);

}  // namespace
}  // namespace busbar::cpu
