#include <cstring>

#include "chips/cpu/test_bench.h"

namespace busbar::cpu {
namespace {

class CpuMatmul : public CpuOps {
  protected:
    // A random weight whose decoded numbers are finite and of ordinary size.
    std::pair<std::shared_ptr<StoredTensor>, Array> weight(const Encoding& encoding, int64_t outputs, int64_t width) {
        auto tensor = std::make_shared<StoredTensor>();
        tensor->encoding = &encoding;
        tensor->shape = {outputs, width};
        std::vector<std::byte>& bytes = storage_.emplace_back(outputs * encoding.row_bytes(width));
        std::vector<float> numbers(encoding.block);
        const size_t size = encoding.block_bytes;
        for (size_t at = 0; at < bytes.size(); at += size) {
            bool good = false;
            while (!good) {
                for (size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<std::byte>(random());
                encoding.decode(bytes.data() + at, numbers.data(), 1);
                good = true;
                for (const float x : numbers) good = good && std::fabs(x) < 100 && (x == 0 || std::fabs(x) > 1e-20f);
                if (!good && encoding.block == 1) {  // plain numbers: most random bits are out of range
                    const uint16_t half = &encoding == &encoding_f16
                                              ? f32_to_f16(static_cast<float>(random() % 1000) / 500 - 1)
                                              : f32_to_bf16(static_cast<float>(random() % 1000) / 500 - 1);
                    const float whole = static_cast<float>(random() % 100000) / 50000 - 1;
                    std::memcpy(bytes.data() + at, size == 4 ? static_cast<const void*>(&whole) : &half, size);
                    good = true;
                }
            }
        }
        tensor->bytes = bytes;
        std::vector<float> decoded(outputs * width);
        encoding.decode(bytes.data(), decoded.data(), decoded.size() / encoding.block);
        return {tensor, {{outputs, width}, {decoded.begin(), decoded.end()}}};
    }
    // f32 sums in any fixed order: the error of a dot is far below K u sum |x w| (and its square root in practice).
    void compare_dots(const Array& got, const Array& x, const Array& w, int64_t active) {
        const int64_t width = w.extents[1], outputs = w.extents[0];
        for (int64_t r = 0; r < active; ++r)
            for (int64_t n = 0; n < outputs; ++n) {
                double s = 0, size = 0;
                for (int64_t k = 0; k < width; ++k) {
                    const double product = x.data[r * width + k] * w.data[n * width + k];
                    s += product;
                    size += std::fabs(product);
                }
                ASSERT_NEAR(got.data[r * outputs + n], s, size * 0x1p-24 * (2 + std::sqrt(static_cast<double>(width))))
                    << r << ' ' << n;
            }
    }
    std::vector<std::vector<std::byte>> storage_;
};

TEST_P(CpuMatmul, EveryEncodingAndEveryNumberOfRows) {
    storage_.reserve(1000);
    for (const Encoding* encoding : encodings())
        for (const int64_t rows : {1, 3, 5, 9}) {
            SCOPED_TRACE(std::string(encoding->name) + " " + std::to_string(rows));
            const int64_t width = encoding->block * (encoding->block == 1 ? 37 : 3), outputs = 70;
            const auto [tensor, numbers] = weight(*encoding, outputs, width);
            Bench bench{*device, op_matmul, {}, {.rows = rows}};
            bench.form = "as_stored";
            const Inputs in = {{reals({Symbol::rows, width}), normal({rows, width})},
                               {reals({outputs, width}), numbers, tensor}};
            compare_dots(bench.run(in)[0], in[0].array, numbers, rows);
        }
}

TEST_P(CpuMatmul, AgainstAMatrixOfValues) {
    const Bench bench{*device, op_matmul, {}, {.rows = 4}, 3};
    const Inputs in = {{reals({Symbol::rows, 50}), normal({4, 50})}, {reals({19, 50}), normal({19, 50})}};
    const Array got = bench.run(in)[0];
    compare_dots(got, in[0].array, in[1].array, 3);
    for (int i = 0; i < 19; ++i) ASSERT_TRUE(std::isnan(got.data[3 * 19 + i]));
}

TEST_P(CpuMatmul, SeveralWeightsOfSeveralEncodings) {
    storage_.reserve(10);
    for (const int64_t rows : {1, 2, 8}) {
        const auto [q, q_numbers] = weight(encoding_q4_0, 96, 64);
        const auto [k, k_numbers] = weight(encoding_bf16, 33, 64);
        const auto [v, v_numbers] = weight(encoding_q8_0, 1, 64);
        Bench bench{*device, op_multi_matmul, {}, {.rows = rows}};
        bench.form = "as_stored";
        const Inputs in = {{reals({Symbol::rows, 64}), normal({rows, 64})},
                           {reals({96, 64}), q_numbers, q},
                           {reals({33, 64}), k_numbers, k},
                           {reals({1, 64}), v_numbers, v}};
        const std::vector<Array> got = bench.run(in);
        compare_dots(got[0], in[0].array, q_numbers, rows);
        compare_dots(got[1], in[0].array, k_numbers, rows);
        compare_dots(got[2], in[0].array, v_numbers, rows);
    }
}

TEST_P(CpuMatmul, BitsDependOnNeitherRowsNorThreads) {
    storage_.reserve(10);
    for (const Encoding* encoding : {&encoding_f32, &encoding_q4_1, &encoding_q8_0}) {
        const int64_t width = 288, outputs = 150, rows = 12;
        const auto [tensor, numbers] = weight(*encoding, outputs, width);
        const Array x = normal({rows, width});
        std::vector<Array> results;
        for (const int threads : {1, 2, 3}) {
            const auto other = make_cpu(threads, GetParam());
            for (const int64_t at_once : {1, 3, 12}) {
                Array all{{rows, outputs}, {}};
                for (int64_t row = 0; row < rows; row += at_once) {
                    Bench bench{*other, op_matmul, {}, {.rows = at_once}};
                    bench.form = "as_stored";
                    const Array part{{at_once, width},
                                     {x.data.begin() + row * width, x.data.begin() + (row + at_once) * width}};
                    const Array y = bench.run(
                        {{reals({Symbol::rows, width}), part}, {reals({outputs, width}), numbers, tensor}})[0];
                    all.data.insert(all.data.end(), y.data.begin(), y.data.end());
                }
                results.push_back(std::move(all));
            }
        }
        for (const Array& result : results) ASSERT_EQ(result.data, results[0].data) << encoding->name;
    }
}

TEST_P(CpuMatmul, BatchesBroadcast) {
    const std::pair<Shape, Shape> shapes[] = {
        {{3, 4}, {4, 5}},        {{Symbol::rows, 7}, {7, 70}},      {{Symbol::rows, 2, 3, 4}, {2, 4, 5}},
        {{2, 3, 4}, {1, 4, 33}}, {{1, 3, 4}, {Symbol::rows, 4, 1}}, {{5, 1, 2, 3}, {1, 6, 3, 17}},
    };
    for (const auto& [a, b] : shapes) {
        const Bench bench{*device, op_batch_matmul, {}, {.rows = 6}};
        const Inputs in = {{{Kind::real, a}, normal(a.bind(bench.binding))},
                           {{Kind::real, b}, normal(b.bind(bench.binding))}};
        const Array got = bench.run(in)[0], want = bench.oracle(in)[0];
        for (int64_t i = 0; i < want.count(); ++i) ASSERT_NEAR(got.data[i], want.data[i], 2e-6) << i;
    }
}

TEST_P(CpuMatmul, NoRowsIsNoWork) {
    const Bench bench{*device, op_matmul, {}, {.rows = 4}, 0};
    const Inputs in = {{reals({Symbol::rows, 8}), normal({4, 8})}, {reals({3, 8}), normal({3, 8})}};
    const Array got = bench.run(in)[0];
    for (const double y : got.data) ASSERT_TRUE(std::isnan(y));
}

BUSBAR_EACH_ISA(CpuMatmul);

}  // namespace
}  // namespace busbar::cpu
