// Products of bf16 numbers: the kernels with their instructions modelled, to the bit of what the instructions are
// documented to do; where a processor has them, within the bound of what the row declares. Then the op as a plan calls
// it, against double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <thread>

#include "chips/cpu/probe.h"
#include "chips/cpu/test_bench.h"

namespace busbar::cpu {

const ProductKernels* product_kernels_lanes16();

namespace {

struct Kind {
    std::string name;
    const Bf16Kernels* kernels;
    bool tiles, modelled;
};

std::vector<Kind> kinds() {
    std::vector<Kind> all = {{"vectors, modelled", product_kernels_lanes16()->bf16, false, true},
                             {"tiles, modelled", product_kernels_lanes16()->tile_bf16, true, true}};
    std::set<const Bf16Kernels*> seen;
    for (const InstructionSet& set : instruction_sets())
        if (set.usable && set.kernels->bf16 != nullptr && seen.insert(set.kernels->bf16).second)
            all.push_back(
                {set.kernels->name, set.kernels->bf16, set.kernels->bf16 == set.kernels->product->tile_bf16, false});
    return all;
}

bool same(float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

float flushed(float v) {
    return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v;
}
float multiply_add(float a, float b, float c) {
    return flushed(std::fma(flushed(a), flushed(b), flushed(c)));
}

/// What the instructions add up, written out: vectors have sixteen sums of pairs, the odd input first, and add lane l
/// to lane l + 8, then l + 4 ...; tiles have 32 inputs at a time, even and odd ones apart.
float defined(bool tiles, const float* w, const float* x, int64_t width) {
    const auto at = [&](const float* v, int64_t k) { return k < width ? v[k] : 0.0f; };
    if (tiles) {
        float sum = 0;
        for (int64_t k0 = 0; k0 < width; k0 += 32) {
            float part[2] = {};
            for (int64_t k = k0; k < k0 + 32; ++k) part[k % 2] = multiply_add(at(w, k), at(x, k), part[k % 2]);
            sum = flushed(sum + flushed(part[0] + part[1]));
        }
        return sum;
    }
    float lane[16] = {};
    for (int64_t k0 = 0; k0 < width; k0 += 32)
        for (int l = 0; l < 16; ++l)
            for (const int64_t k : {k0 + 2 * l + 1, k0 + 2 * l}) lane[l] = multiply_add(at(w, k), at(x, k), lane[l]);
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
    return lane[0];
}

class Bf16 : public testing::Test {
  protected:
    std::mt19937_64 random{fresh_seed()};
    int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low + 1)); }
    float normal() { return std::normal_distribution<float>{}(random); }

    /// Numbers in bf16 that start at an odd address and end where their memory ends.
    struct Weight {
        std::vector<std::byte> memory;
        std::vector<float> numbers;
        const std::byte* data() const { return memory.data() + 1; }
    };
    Weight weight(int64_t count, const std::function<uint16_t()>& bits) {
        Weight w{std::vector<std::byte>(2 * count + 1), std::vector<float>(count)};
        w.memory.shrink_to_fit();
        for (int64_t i = 0; i < count; ++i) {
            const uint16_t b = bits();
            std::memcpy(w.memory.data() + 1 + 2 * i, &b, 2);
            w.numbers[i] = bf16_to_f32(b);
        }
        return w;
    }
    uint16_t ordinary() { return f32_to_bf16(0.05f * normal()); }
    /// Any number of all, among them subnormals, infinities and NaNs; now and then ordinary ones.
    uint16_t any() { return random() % 2 ? ordinary() : static_cast<uint16_t>(random()); }

    /// Rounds x and multiplies, outputs shared between two threads.
    std::vector<float> product(const Kind& kind, const Weight& w, const std::vector<float>& x, int64_t rows,
                               int64_t outputs, std::vector<bool>* held = nullptr) {
        const int64_t width = static_cast<int64_t>(x.size()) / rows;
        std::vector<std::byte> memory(kind.kernels->rounded_bytes(rows, width) + 64, std::byte{0xFF});
        auto* rounded = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
        for (int64_t m = 0; m < rows; ++m) {
            const bool ok = kind.kernels->round_row(x.data() + m * width, width, m, rows, rounded);
            if (held != nullptr) held->push_back(ok);
        }
        std::vector<float> y(rows * outputs, 12345.0f);
        const auto part = [&](int64_t begin, int64_t end) {
            std::vector<float> own(kind.kernels->scratch_floats() + 16, NAN);
            auto* scratch = reinterpret_cast<float*>(round_up(reinterpret_cast<uintptr_t>(own.data()), 64));
            kind.kernels->product({w.data(), width, begin, end, rounded, rows, y.data(), outputs, scratch});
        };
        const int64_t middle = between(0, outputs);
        std::thread other([&] { part(0, middle); });
        part(middle, outputs);
        other.join();
        return y;
    }
};

// Weights that pick one input each show how it was rounded.
TEST_F(Bf16, rows_of_x_are_rounded_to_nearest_ties_to_even) {
    const int64_t width = 75, rows = 19;
    const auto one = [i = int64_t{0}]() mutable { return f32_to_bf16(i++ % (width + 1) == 0 ? 1.0f : 0.0f); };
    const Weight identity = weight(width * width, one);
    for (const Kind& kind : kinds()) {
        std::vector<float> x(rows * width);
        for (float& v : x) {
            const auto bits = static_cast<uint32_t>(random());
            v = std::bit_cast<float>((bits & 0x807FFFFF) | static_cast<uint32_t>(100 + random() % 60) << 23);
            if (random() % 4 == 0) v = std::bit_cast<float>((std::bit_cast<uint32_t>(v) & 0xFFFF0000) | 0x8000);
            if (random() % 9 == 0) v = 0;
        }
        std::fill_n(x.begin() + 3 * width, width, 0.0f);
        std::vector<bool> held;
        const std::vector<float> y = product(kind, identity, x, rows, width, &held);
        for (int64_t i = 0; i < rows * width; ++i)
            ASSERT_EQ(y[i], bf16_to_f32(f32_to_bf16(x[i]))) << kind.name << " " << x[i];
        EXPECT_EQ(std::count(held.begin(), held.end(), true), rows) << kind.name;
    }
}

TEST_F(Bf16, rows_that_bf16_cannot_hold_are_said_to_be_so_and_left_zero) {
    const int64_t width = 40, rows = 18;
    const Weight ones = weight(width, [] { return f32_to_bf16(1); });
    for (const Kind& kind : kinds())
        for (const float odd : {NAN, -NAN, INFINITY, -INFINITY, 1e-40f, -1e-21f, 3e38f, 3.4e38f}) {
            std::vector<float> x(rows * width, 1.0f);
            const int64_t row = between(0, rows - 1);
            if (std::fabs(odd) < 1) std::fill_n(x.begin() + row * width, width, 0.0f);
            x[row * width + between(0, width - 1)] = odd;
            std::vector<bool> held;
            const std::vector<float> y = product(kind, ones, x, rows, 1, &held);
            for (int64_t m = 0; m < rows; ++m) {
                EXPECT_EQ(held[m], m != row) << kind.name << " " << odd;
                EXPECT_EQ(y[m], m == row ? 0 : width) << kind.name << " " << odd;
            }
        }
}

TEST_F(Bf16, products_are_what_the_instructions_are_documented_to_add_up) {
    for (const Kind& kind : kinds())
        for (int round = 0; round < 40; ++round) {
            const int64_t rows = round < 8 ? round + 1 : between(1, 70), outputs = between(1, 75),
                          width = round % 4 == 0 ? 32 * between(1, 8) : between(1, 200);
            const bool wild = kind.modelled && round % 2 == 0;
            const Weight w = weight(outputs * width, [&] { return wild ? any() : ordinary(); });
            std::vector<float> x(rows * width);
            for (float& v : x)
                v = wild ? std::ldexp(normal(), static_cast<int>(random() % 100) - 60 - 80 * (random() % 8 == 0))
                         : normal();
            std::vector<bool> held;
            const std::vector<float> y = product(kind, w, x, rows, outputs, &held);
            for (int64_t i = 0; i < rows * width; ++i) x[i] = held[i / width] ? bf16_to_f32(f32_to_bf16(x[i])) : 0;
            for (int64_t m = 0; m < rows; ++m)
                for (int64_t n = 0; n < outputs; ++n) {
                    const float got = y[m * outputs + n],
                                want = defined(kind.tiles, &w.numbers[n * width], &x[m * width], width);
                    double size = 0;
                    for (int64_t k = 0; k < width; ++k) size += std::fabs(w.numbers[n * width + k] * x[m * width + k]);
                    ASSERT_TRUE(kind.modelled ? same(got, want) : std::fabs(got - want) <= 0x1p-20 * size)
                        << kind.name << " width " << width << " outputs " << outputs << " rows " << rows << " at row "
                        << m << " output " << n << ": got " << got << ", want " << want;
                }
        }
}

/// The chip with one of the kinds.
std::unique_ptr<Device> device_with(const Kind& kind, int threads) {
    static std::vector<std::unique_ptr<Kernels>> all;
    all.push_back(std::make_unique<Kernels>(*instruction_sets().front().kernels));
    if (!kind.modelled)
        for (const InstructionSet& set : instruction_sets())
            if (set.usable && set.kernels->bf16 == kind.kernels) *all.back() = *set.kernels;
    all.back()->bf16 = kind.kernels;
    return make_cpu_with({all.back().get(), "test", true}, threads);
}

class Bf16Op : public Bf16 {
  protected:
    Bench::In stored(const Weight& w, int64_t outputs, int64_t width) {
        auto tensor = std::make_shared<StoredTensor>();
        tensor->name = "w", tensor->encoding = &encoding_bf16, tensor->shape = {outputs, width};
        tensor->bytes = Bytes(w.memory).subspan(1);
        return {reals({outputs, width}),
                {{outputs, width}, std::vector<double>(w.numbers.begin(), w.numbers.end())},
                tensor};
    }
    static Bench bench(Device& device, const OpRow& op, int64_t rows, Element activation = Element::bf16) {
        return {device, op, {}, {.rows = rows}, -1, -1, "as_stored", activation};
    }
    /// Level 1 of agreement.md.
    static double sigma(const double* x, const double* w, int64_t width) {
        double sum = 0, terms = 0, sums = 0, rounded = 0;
        for (int64_t k = 0; k < width; ++k) {
            sum += x[k] * w[k], terms += std::pow(x[k] * w[k], 2);
            sums += std::pow(0x1p-24, 2) * std::max(sum * sum, terms);
            if (x[k] != 0) rounded += std::pow(std::ldexp(w[k], std::ilogb(x[k]) - 7), 2);
        }
        return std::sqrt(sums / 3 + rounded / 12) + 0x1p-126;
    }
    /// Largest and mean distance from the definition in double precision, in sigmas; infinite for a NaN or an infinity
    /// in the wrong place.
    struct Distance {
        double rms = 0, max = 0;
    };
    static Distance distance(const Array& x, const Array& w, const Array& got, const Array& want) {
        const int64_t width = x.extents.back(), outputs = w.extents[0];
        Distance d;
        double squares = 0;
        for (int64_t i = 0; i < want.count(); ++i) {
            double e = 0;
            if (const auto v = static_cast<float>(want.data[i]); !std::isfinite(v) || !std::isfinite(got.data[i]))
                e = same(v, static_cast<float>(got.data[i])) ? 0 : INFINITY;
            else
                e = std::fabs(got.data[i] - want.data[i]) /
                    sigma(&x.data[i / outputs * width], &w.data[i % outputs * width], width);
            squares += e * e, d.max = std::max(d.max, e);
        }
        d.rms = std::sqrt(squares / static_cast<double>(want.count()));
        return d;
    }
};

TEST_F(Bf16Op, agrees_with_double_precision) {
    for (const Kind& kind : kinds()) {
        const auto device = device_with(kind, 2);
        for (const int64_t rows : {1, 2, 5, 17, 40}) {
            const int64_t width = rows == 17 ? 77 : 64 * between(1, 9), outputs = between(70, 130);
            const Weight numbers = weight(outputs * width, [&] { return ordinary(); });
            Inputs inputs = {
                {reals({Symbol::rows, width}), {{rows, width}, std::vector<double>(rows * width)}, nullptr},
                stored(numbers, outputs, width)};
            Array& x = inputs[0].array;
            for (const char* what : {"random", "positive", "cancelling", "one outlier of 1e4", "one odd row"}) {
                for (double& v : x.data) v = normal();
                const std::string_view name = what;
                if (name == "positive")
                    for (double& v : x.data) v = std::fabs(v);
                if (name == "cancelling")
                    for (int64_t i = 1; i < rows * width; i += 2) x.data[i] = -x.data[i - 1];
                if (name == "one outlier of 1e4")
                    for (int64_t m = 0; m < rows; ++m) x.data[m * width + between(0, width - 1)] = 1e4;
                if (name == "one odd row") {
                    const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e-42f};
                    const int64_t row = between(0, rows - 1);
                    const auto pick = random() % 5;
                    if (pick == 4) std::fill_n(x.data.begin() + row * width, width, 0.0);
                    x.data[row * width + between(0, width - 1)] = odd[pick];
                }
                const Bench b = bench(*device, op_matmul, rows);
                Array got = b.run(inputs)[0];
                const Array want = b.oracle(inputs)[0];
                const Array& w = inputs[1].array;
                const Distance d = distance(x, w, got, want);
                EXPECT_TRUE(d.max <= 8 && d.rms <= 1.5)
                    << kind.name << ", " << what << ", " << rows << " rows of " << width << " to " << outputs
                    << ": rms " << d.rms << ", max " << d.max;
                if (name == "one odd row" && rows == 1) continue;
                // The bound sees what belongs to the next output.
                std::rotate(got.data.begin(), got.data.begin() + 1, got.data.end());
                EXPECT_GT(distance(x, w, got, want).max, 8) << what;
            }
        }
    }
}

// Of any number of rows, threads and neighbours; odd rows have those of the products in f32.
TEST_F(Bf16Op, bits_depend_on_weights_and_row_alone) {
    for (const Kind& kind : kinds()) {
        const int64_t rows = between(33, 40), width = between(100, 300);
        const std::vector<int64_t> outputs = {between(33, 90), between(1, 40)};
        const std::vector<Weight> weights = {weight(outputs[0] * width, [&] { return ordinary(); }),
                                             weight(outputs[1] * width, [&] { return any(); })};
        Array x{{rows, width}, std::vector<double>(rows * width)};
        for (double& v : x.data) v = normal();
        const int64_t odd = between(0, rows - 1);
        x.data[odd * width + 7] = INFINITY;
        const auto inputs = [&](int64_t first, int64_t count) {
            return Inputs{{reals({Symbol::rows, width}),
                           {{count, width}, {x.data.begin() + first * width, x.data.begin() + (first + count) * width}},
                           nullptr},
                          stored(weights[0], outputs[0], width),
                          stored(weights[1], outputs[1], width)};
        };
        const std::vector<Array> all = bench(*device_with(kind, 2), op_multi_matmul, rows).run(inputs(0, rows));
        const auto expect_same = [&](const std::vector<Array>& part, int64_t first, int64_t count) {
            for (size_t w = 0; w < 2; ++w)
                for (int64_t i = 0; i < count * outputs[w]; ++i)
                    ASSERT_TRUE(same(static_cast<float>(part[w].data[i]),
                                     static_cast<float>(all[w].data[first * outputs[w] + i])))
                        << kind.name << " rows " << first << " + " << count << ", weight " << w << ", number " << i;
        };
        for (const int threads : {1, 3}) {
            const auto device = device_with(kind, threads);
            for (int64_t first = 0; first < rows;) {
                const int64_t count = std::min(rows - first, between(1, threads == 1 ? 3 : 30));
                expect_same(bench(*device, op_multi_matmul, count).run(inputs(first, count)), first, count);
                first += count;
            }
            const Bench f32 = bench(*device, op_multi_matmul, 1, Element::f32);
            expect_same(f32.run(inputs(odd, 1)), odd, 1);
        }
    }
}

TEST_F(Bf16Op, is_offered_for_bf16_weights_alone_and_not_as_strict) {
    const auto device = device_with(kinds().front(), 1);
    const Profile& profile = device->profile();
    int rows = 0;
    for (const KernelRow& row : profile.rows) {
        if (row.rounding.activation != Element::bf16) continue;
        ++rows;
        EXPECT_EQ(row.accuracy, Accuracy::accurate);
        EXPECT_EQ(row.encodings, std::vector<const Encoding*>{&encoding_bf16});
        EXPECT_NE(row.others, "");
        // Above the row in f32, or the plan would never take it.
        for (const KernelRow& f32 : profile.rows)
            if (f32.op == row.op && f32.form == row.form && f32.accuracy == Accuracy::strict) {
                EXPECT_GT(row.share_of_peak, f32.share_of_peak);
            }
    }
    EXPECT_EQ(rows, 2);  // matmul and multi_matmul
    const auto portable = make_cpu(1, "portable");
    for (const KernelRow& row : portable->profile().rows)
        EXPECT_NE(row.rounding.activation, Element::bf16) << "no processor without bf16 offers it";
}

}  // namespace
}  // namespace busbar::cpu
