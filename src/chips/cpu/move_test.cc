#include "base/error.h"
#include "chips/cpu/test_bench.h"

namespace busbar::cpu {
namespace {

class CpuMoves : public CpuOps {};

TEST_P(CpuMoves, GatherRowsOfValuesAndIndices) {
    const Bench bench{*device, op_gather_rows, {}, {.rows = 4}};
    const Array ids{{4}, {6, 0, 3, 6}};
    const Inputs in = {{reals({7, 33}), wild({7, 33})}, {index({Symbol::rows}), ids}};
    compare(bench.run(in)[0], bench.oracle(in)[0], 0);
    Array table{{7, 3}, {}};
    for (int i = 0; i < 21; ++i) table.data.push_back(i * 1000003 % 65537);
    const Inputs whole = {{index({7, 3}), table}, {index({Symbol::rows}), ids}};
    compare(bench.run(whole)[0], bench.oracle(whole)[0], 0);
}

TEST_P(CpuMoves, AnIdOutsideItsTableIsAnErrorOfTheChip) {
    for (const double bad : {-1.0, 7.0, 2147483647.0, -2147483648.0}) {
        const Bench bench{*device, op_gather_rows, {}, {.rows = 2}};
        const Inputs in = {{reals({7, 3}), normal({7, 3})}, {index({Symbol::rows}), {{2}, {1, bad}}}};
        try {
            bench.run(in);
            FAIL() << bad;
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), ErrorCode::chip);
            EXPECT_NE(std::string(e.what()).find("gather_rows"), std::string::npos) << e.what();
        }
        const Bench inactive{*device, op_gather_rows, {}, {.rows = 2}, 1};
        inactive.run(in);  // beyond the active rows anything may stand
    }
}

TEST_P(CpuMoves, GatherRowsAsStored) {
    for (const Encoding* encoding : encodings()) {
        const int64_t width = 2 * encoding->block, rows = 5;
        std::vector<std::byte> bytes(rows * encoding->row_bytes(width));
        for (std::byte& b : bytes) b = static_cast<std::byte>(random());
        auto tensor = std::make_shared<StoredTensor>();
        tensor->encoding = encoding;
        tensor->shape = {rows, width};
        tensor->bytes = bytes;
        std::vector<float> decoded(rows * width);
        encoding->decode(bytes.data(), decoded.data(), rows * width / encoding->block);
        Bench bench{*device, op_gather_rows, {}, {.rows = 3}};
        bench.form = "as_stored";
        const Inputs in = {{reals({rows, width}), {{rows, width}, {decoded.begin(), decoded.end()}}, tensor},
                           {index({Symbol::rows}), {{3}, {4, 0, 2}}}};
        SCOPED_TRACE(encoding->name);
        compare(bench.run(in)[0], bench.oracle(in)[0], 0);
    }
}

TEST_P(CpuMoves, Transpose) {
    const std::pair<Shape, std::vector<int64_t>> cases[] = {
        {{Symbol::rows, 5}, {1, 0}},       {{Symbol::rows, 3, 4}, {0, 2, 1}}, {{Symbol::rows, 3, 4}, {1, 0, 2}},
        {{Symbol::rows, 3, 4}, {1, 2, 0}}, {{Symbol::rows, 3, 4}, {0, 1, 2}}, {{9}, {0}},
        {{2, 3, 4, 5}, {3, 1, 2, 0}},      {{Symbol::rows, 1, 4}, {2, 1, 0}},
    };
    for (const auto& [shape, order] : cases) {
        const Bench bench{*device, op_transpose, {{"order", order}}, {.rows = 6}};
        const Inputs in = {{{Kind::real, shape}, wild(shape.bind(bench.binding))}};
        compare(bench.run(in)[0], bench.oracle(in)[0], 0);
    }
}

TEST_P(CpuMoves, SliceAndConcat) {
    const std::array<int64_t, 3> cases[] = {{0, 10, 1}, {3, 7, 1}, {0, 10, 2}, {1, 10, 2},
                                            {2, 9, 3},  {4, 4, 1}, {9, 10, 5}};
    for (const auto& [begin, end, step] : cases) {
        const Bench bench{*device, op_slice, {{"begin", begin}, {"end", end}, {"step", step}}, {.rows = 3}};
        const Inputs in = {{reals({Symbol::rows, 2, 10}), wild({3, 2, 10})}};
        compare(bench.run(in)[0], bench.oracle(in)[0], 0);
    }
    const Bench bench{*device, op_concat, {}, {.rows = 3}};
    const Inputs in = {{reals({Symbol::rows, 2, 5}), wild({3, 2, 5})}, {reals({Symbol::rows, 2, 1}), wild({3, 2, 1})}};
    compare(bench.run(in)[0], bench.oracle(in)[0], 0);
    const Inputs vectors = {{reals({5}), wild({5})}, {reals({3}), wild({3})}};
    compare(bench.run(vectors)[0], bench.oracle(vectors)[0], 0);
}

TEST_P(CpuMoves, RotaryTable) {
    for (const double scale : {1.0, 1.3}) {
        const Bench bench{*device, op_rotary_table, {{"scale", scale}}, {.rows = 19}};
        Array positions{{19}, {}}, frequencies{{32}, {}};
        for (int i = 0; i < 19; ++i) positions.data.push_back(static_cast<double>(random() % 131072));
        for (int i = 0; i < 32; ++i) frequencies.data.push_back(static_cast<float>(std::pow(10000.0, -i / 32.0)));
        const Inputs in = {{index({Symbol::rows}), positions}, {reals({32}), frequencies}};
        const std::vector<Array> got = bench.run(in), want = bench.oracle(in);
        compare(got[0], want[0], 1);
        compare(got[1], want[1], 1);
    }
}

TEST_P(CpuMoves, Rotate) {
    for (const char* pairing : {"half", "interleaved"})
        for (const auto& [width, angles] :
             {std::pair<int64_t, int64_t>{64, 32}, {10, 5}, {64, 16}, {7, 2}, {80, 40}, {2, 1}}) {
            const Bench bench{*device, op_rotate, {{"pairing", std::string(pairing)}}, {.rows = 5}};
            const Inputs in = {{reals({Symbol::rows, 3, width}), normal({5, 3, width})},
                               {reals({Symbol::rows, angles}), normal({5, angles})},
                               {reals({Symbol::rows, angles}), normal({5, angles})}};
            const Array got = bench.run(in)[0], want = bench.oracle(in)[0];
            // Two products and a sum: three roundings, of the size of the larger product.
            for (int64_t i = 0; i < want.count(); ++i)
                ASSERT_NEAR(got.data[i], want.data[i], 4e-7 * 10) << pairing << width << ' ' << i;
        }
}

BUSBAR_EACH_ISA(CpuMoves);

}  // namespace
}  // namespace busbar::cpu
