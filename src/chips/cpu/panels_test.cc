#include "chips/cpu/panels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <thread>

#include "chips/cpu/probe.h"
#include "chips/cpu/product.h"
#include "chips/cpu/test_bench.h"
#include "dtype/block_codes.h"

namespace busbar::cpu {

const ProductKernels* product_kernels_lanes16();

namespace {

/// One width of activations on one instruction set.
struct Isa {
    std::string name;
    const IntegerKernels* kernels;
    bool fused;   ///< multiplies and adds with one rounding
    int largest;  ///< code of an activation
    bool planes = false;
};

std::vector<Isa> isas() {
    std::vector<Isa> all;
    const auto add = [&](const std::string& name, const ProductKernels& products, bool fused, bool tiles) {
        all.push_back({name + " words", products.words, fused, 32767});
        all.push_back({name + " bytes", products.bytes, fused, 127});
        if (!tiles) return;
        all.push_back({name + " words in tiles", products.tile_words, fused, 32767, true});
        all.push_back({name + " bytes in tiles", products.tile_bytes, fused, 127});
    };
    add("lanes16", *product_kernels_lanes16(), false, true);
    for (const InstructionSet& set : instruction_sets())
        if (set.usable && set.kernels->product->words != nullptr)
            add(set.kernels->name, *set.kernels->product, true, set.kernels->tiles);
    return all;
}

/// 32 rounded activations, whatever they are kept in.
struct Rounded {
    int codes[32];
    ActivationSums sums;
};
Rounded rounded(const Isa& isa, const std::byte* at) {
    Rounded r;
    if (isa.largest == 127) {
        const auto b = load<ByteBlock>(at);
        for (int i = 0; i < 32; ++i) r.codes[i] = b.codes[byte_place(i)];
        r.sums = b.sums;
    } else if (isa.planes) {
        const auto b = load<PlaneBlock>(at);
        for (int i = 0; i < 32; ++i) r.codes[i] = 256 * b.high[byte_place(i)] + b.low[byte_place(i)];
        r.sums = b.sums;
    } else {
        const auto b = load<WordBlock>(at);
        std::copy_n(b.codes, 32, r.codes);
        r.sums = b.sums;
    }
    return r;
}

/// Rows of x as an instruction set rounds them, 64-byte aligned, with the spare rows behind them.
struct Activations {
    Activations(const Isa& isa, const std::vector<float>& x, int64_t rows)
        : isa(isa),
          stride(static_cast<int64_t>(x.size()) / rows / 32 * static_cast<int64_t>(isa.kernels->block_bytes)),
          memory((rows + spare_rows) * stride + 64) {
        for (int64_t m = 0; m < rows; ++m)
            EXPECT_TRUE(
                isa.kernels->round_row(x.data() + m * x.size() / rows, static_cast<int64_t>(x.size()) / rows, row(m)));
    }
    std::byte* row(int64_t m) {
        return reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64)) + m * stride;
    }
    Rounded block(int64_t m, int64_t b) { return rounded(isa, row(m) + b * isa.kernels->block_bytes); }
    const Isa& isa;
    int64_t stride;
    std::vector<std::byte> memory;
};

std::vector<const Encoding*> packed_encodings(const Isa* isa = nullptr) {
    std::vector<const Encoding*> all;
    for (const Encoding* e : encodings())
        if (panel_layout(*e) && (!isa || isa->kernels->takes(*e))) all.push_back(e);
    return all;
}

class Panels : public testing::Test {
  protected:
    std::mt19937_64 random{fresh_seed()};
    int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low + 1)); }

    struct Weight {
        const Encoding* encoding;
        int64_t outputs, width;
        std::vector<std::byte> stored, panels;
        StoredTensor tensor() const {
            StoredTensor t;
            t.name = "w";
            t.encoding = encoding;
            t.shape = {outputs, width};
            t.bytes = stored;
            return t;
        }
    };
    // Any bytes, or those whose scales are ordinary numbers: halves with a small exponent.
    Weight weight(const Encoding& e, int64_t outputs, int64_t width, bool any) {
        Weight w{&e, outputs, width, std::vector<std::byte>(outputs * e.row_bytes(width)), {}};
        for (size_t i = 0; i < w.stored.size(); ++i) w.stored[i] = static_cast<std::byte>(random());
        const PanelLayout& layout = *panel_layout(e);
        if (!any) tame(e, w.stored);
        w.panels.resize(panel_bytes(layout, outputs, width));
        const StoredTensor t = w.tensor();
        // In two parts, as threads do it.
        const int64_t panels = ceil_div(outputs, panel_outputs), middle = between(0, panels);
        pack_panels(t, middle, panels, w.panels.data());
        pack_panels(t, 0, middle, w.panels.data());
        return w;
    }
    // Every half that is a scale or a minimum becomes one between 2^-10 and 2^-5, of any sign.
    void tame(const Encoding& e, std::vector<std::byte>& stored) {
        const std::string_view n = e.name;
        std::vector<int> halves = {0};
        if (n == "q4_1" || n == "q5_1" || n == "q4_k" || n == "q5_k") halves = {0, 2};
        if (n == "q2_k") halves = {80, 82};
        if (n == "q3_k") halves = {108};
        if (n == "q6_k") halves = {208};
        if (n == "mxfp4") halves = {};
        for (size_t at = 0; at < stored.size(); at += e.block_bytes) {
            for (const int h : halves) {
                const auto bits = static_cast<uint16_t>((random() & 0x83FF) | (5 + random() % 5) << 10);
                std::memcpy(stored.data() + at + h, &bits, 2);
            }
            if (n == "mxfp4") stored[at] = static_cast<std::byte>(118 + random() % 8);
        }
    }
    std::vector<float> activations(int64_t count) {
        std::vector<float> x(count);
        std::normal_distribution<float> normal;
        // Blocks of very different sizes, empty ones, and outliers.
        float size = 1;
        for (int64_t i = 0; i < count; ++i) {
            if (i % 32 == 0) size = random() % 9 == 0 ? 0 : std::ldexp(1.0f, static_cast<int>(random() % 20) - 10);
            x[i] = size * normal(random) * (random() % 50 == 0 ? 1000.0f : 1.0f);
        }
        return x;
    }
};

/// What integer_product is defined to compute, one output, written out: exact integer sums, then f32 in order.
float defined(const PanelLayout& layout, const CodeKind& kind, const Encoding& e, const std::byte* row, int64_t width,
              Activations& x, int64_t m, bool fused) {
    const auto add = [&](float a, float b, float c) {
        return fused ? std::fma(a, b, c) : static_cast<float>(a * b) + c;
    };
    float sum = 0;
    BlockCodes b;
    for (int64_t k0 = 0; k0 < width; k0 += e.block, row += e.block_bytes) {
        kind.read(row, b);
        const float scale = f16_to_f32(b.scale), minimum = f16_to_f32(b.minimum);
        for (int g = 0; g < e.block / kind.group; ++g) {
            const Rounded block = x.block(m, (k0 + g * kind.group) / 32);
            int64_t dot = 0, codes = 0;
            for (int i = g * kind.group; i < (g + 1) * kind.group; ++i) {
                const int q = kind.values ? kind.values[b.codes[i]] : b.codes[i] - kind.offset;
                dot += q * block.codes[i % 32];
                codes += block.codes[i % 32];
            }
            EXPECT_EQ(dot, static_cast<int32_t>(dot));
            float s = scale, least = minimum;
            if (e.scale == Scale::e8m0) s = std::ldexp(1.0f, b.small_scales[0] - 128);
            if (layout.two_level()) {
                const bool is_signed = e.scale == Scale::two_level;
                s *= is_signed ? static_cast<float>(static_cast<int8_t>(b.small_scales[g])) : b.small_scales[g];
                least *= -static_cast<float>(b.small_minimums[g]);
            }
            sum = add(static_cast<float>(dot), s * block.sums.step, sum);
            if (layout.minimum) sum = add(least, block.sums.step * static_cast<float>(codes), sum);
        }
    }
    return sum;
}

bool same(float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

TEST_F(Panels, hold_any_bytes_without_loss) {
    for (const Encoding* e : packed_encodings())
        for (const int64_t outputs : {1, 16, 37}) {
            const int64_t width = e->block * between(1, 5);
            const Weight w = weight(*e, outputs, width, true);
            std::vector<float> want(width), got(width);
            for (int64_t row = 0; row < outputs; ++row) {
                e->decode(w.stored.data() + row * e->row_bytes(width), want.data(), width / e->block);
                decode_panel_row(*panel_layout(*e), w.panels.data(), row, width, got.data());
                for (int64_t k = 0; k < width; ++k)
                    ASSERT_TRUE(same(got[k], want[k]))
                        << e->name << " row " << row << " element " << k << ": got " << got[k] << ", want " << want[k];
            }
        }
}

TEST_F(Panels, take_hardly_more_memory_than_the_file) {
    for (const Encoding* e : packed_encodings()) {
        const double bits = 8.0 * static_cast<double>(panel_bytes(*panel_layout(*e), 64, 2048)) / (64 * 2048);
        EXPECT_LE(bits, e->bits_per_weight() * 1.04) << e->name;
    }
}

TEST_F(Panels, rows_of_x_are_rounded_to_nearest) {
    for (const Isa& isa : isas()) {
        const std::vector<float> x = activations(32 * 40);
        Activations rows(isa, x, 1);
        for (int64_t b = 0; b < 40; ++b) {
            const Rounded block = rows.block(0, b);
            double largest = 0;
            int64_t sums[2] = {};
            for (int i = 0; i < 32; ++i) largest = std::max<double>(largest, std::fabs(x[32 * b + i]));
            for (int i = 0; i < 32; ++i) {
                const double exact = largest == 0 ? 0 : x[32 * b + i] / largest * isa.largest;
                ASSERT_LE(std::fabs(block.codes[i] - exact), 0.505) << isa.name << " block " << b;
                sums[i / 16] += block.codes[i];
            }
            const ActivationSums& s = block.sums;
            EXPECT_EQ(s.step, static_cast<float>(largest) / static_cast<float>(isa.largest));
            for (int half = 0; half < 2; ++half) {
                EXPECT_EQ(s.sum[half], sums[half]);
                EXPECT_EQ(s.scaled_sum[half], s.step * static_cast<float>(sums[half]));
            }
            EXPECT_EQ(s.scaled_sum[2], s.step * static_cast<float>(sums[0] + sums[1]));
        }
        for (const float odd : {NAN, -NAN, INFINITY, -INFINITY, 1e-40f, -1e-35f, 3e38f}) {
            std::vector<float> y(64, odd == 1e-40f || odd == -1e-35f ? 0.0f : 1.0f);
            y[between(0, 63)] = odd;
            EXPECT_FALSE(isa.kernels->round_row(y.data(), 64, rows.row(0))) << isa.name << " " << odd;
        }
    }
}

// Every output, whatever kernel made it, has the bits of the definition.
TEST_F(Panels, products_are_what_they_are_defined_to_be) {
    for (const Isa& isa : isas())
        for (const Encoding* e : packed_encodings(&isa)) {
            const PanelLayout& layout = *panel_layout(*e);
            const CodeKind& kind = *code_kind(*e);
            for (const int64_t rows : {1, 2, 3, 4, 5, 13, 101}) {
                const int64_t outputs = between(1, rows == 101 ? 40 : 75),
                              width = e->block * between(1, 1500 / e->block);
                const Weight w = weight(*e, outputs, width, false);
                const std::vector<float> x = activations(rows * width);
                Activations blocks(isa, x, rows);
                std::vector<float> y(rows * outputs, 12345.0f);
                const auto part = [&](int64_t n0, int64_t n1, int64_t m0, int64_t m1) {
                    std::vector<float> memory(isa.kernels->scratch_floats() + 16);
                    auto* scratch = reinterpret_cast<float*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
                    isa.kernels->product({e, w.panels.data(), width, n0, n1, blocks.row(m0), blocks.stride, m1 - m0,
                                          y.data() + m0 * outputs, outputs, scratch});
                };
                // Two threads, whose parts are cut anywhere.
                const int64_t middle = std::min(outputs, between(0, ceil_div(outputs, panel_outputs)) * panel_outputs),
                              row = between(0, rows);
                std::thread other([&] { part(0, middle, 0, rows); });
                part(middle, outputs, 0, row);
                part(middle, outputs, row, rows);
                other.join();
                for (int64_t m = 0; m < rows; ++m)
                    for (int64_t n = 0; n < outputs; ++n) {
                        const float want = defined(layout, kind, *e, w.stored.data() + n * e->row_bytes(width), width,
                                                   blocks, m, isa.fused);
                        ASSERT_TRUE(same(y[m * outputs + n], want))
                            << isa.name << ", " << e->name << " width " << width << " outputs " << outputs << " rows "
                            << rows << " at row " << m << " output " << n << ": got " << y[m * outputs + n] << ", want "
                            << want;
                    }
            }
        }
}

// The largest integers of all, everywhere: nothing overflows.
TEST_F(Panels, the_largest_numbers_fit) {
    for (const Isa& isa : isas())
        for (const Encoding* e : packed_encodings(&isa)) {
            const int64_t width = e->block;
            Weight w = weight(*e, 16, width, false);
            std::ranges::fill(w.stored, std::byte{e->name == "q8_0" ? uint8_t{0x80} : uint8_t{0xFF}});
            tame(*e, w.stored);
            std::ranges::fill(w.panels, std::byte{0});
            pack_panels(w.tensor(), 0, 1, w.panels.data());
            std::vector<float> x(width * 6, 1.0f), y(16 * 6);
            Activations blocks(isa, x, 6);
            ASSERT_EQ(blocks.block(0, 0).codes[31], isa.largest);
            std::vector<float> memory(isa.kernels->scratch_floats() + 16);
            auto* scratch = reinterpret_cast<float*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
            isa.kernels->product(
                {e, w.panels.data(), width, 0, 16, blocks.row(0), blocks.stride, 6, y.data(), 16, scratch});
            for (int64_t n = 0; n < 16; ++n)
                EXPECT_TRUE(same(y[5 * 16 + n],
                                 defined(*panel_layout(*e), *code_kind(*e), *e,
                                         w.stored.data() + n * e->row_bytes(width), width, blocks, 5, isa.fused)))
                    << isa.name << " " << e->name;
        }
}

// The op as a plan calls it, against the definition in double precision, with rows that integers cannot hold among
// others.
class CpuPanels : public CpuOps {
  protected:
    int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low + 1)); }
};
BUSBAR_EACH_ISA(CpuPanels);

TEST_P(CpuPanels, rows_with_infinities_and_nans_come_out_as_defined) {
    if (device->profile().find_form("panels") == nullptr)
        GTEST_SKIP() << "no products of panels in this instruction set";
    for (const int64_t rows : {1, 3, 9, 1, 3, 9}) {
        const bool bytes = random() % 2 != 0;
        const int64_t width = 256, outputs = 40;
        auto tensor = std::make_shared<StoredTensor>();
        std::vector<std::byte> stored(outputs * encoding_q4_0.row_bytes(width));
        for (std::byte& b : stored) b = static_cast<std::byte>(random() & 0x3F);
        tensor->name = "w", tensor->encoding = &encoding_q4_0, tensor->shape = {outputs, width}, tensor->bytes = stored;
        Array w{{outputs, width}, std::vector<double>(outputs * width)};
        std::vector<float> decoded(outputs * width);
        encoding_q4_0.decode(stored.data(), decoded.data(), decoded.size() / 32);
        for (size_t i = 0; i < decoded.size(); ++i) w.data[i] = decoded[i];
        Array x = normal({rows, width});
        const int64_t odd = between(0, rows - 1);
        const double choices[] = {INFINITY, -INFINITY, NAN, 3e38, 1e-42};
        x.data[odd * width + between(0, width - 1)] = choices[random() % 5];
        const Bench bench{*device, op_matmul, {}, {.rows = rows}, -1, -1, "panels", bytes ? Element::i8 : Element::i16};
        const Inputs inputs = {{reals({Symbol::rows, width}), x, nullptr}, {reals({outputs, width}), w, tensor}};
        const Array got = bench.run(inputs)[0], want = bench.oracle(inputs)[0];
        for (int64_t m = 0; m < rows; ++m) {
            for (int64_t n = 0; n < outputs; ++n) {
                // Half a step for every input of a block, at most; and f32's own rounding of the sum.
                double allowed = 0;
                for (int64_t k = 0; k < width; ++k) {
                    double largest = 0;
                    for (int64_t i = k / 32 * 32; i < k / 32 * 32 + 32; ++i)
                        largest = std::max(largest, std::fabs(x.data[m * width + i]));
                    allowed += largest * std::fabs(w.data[n * width + k]) * 0.51 / (bytes ? 127 : 32767);
                }
                const double g = got.data[m * outputs + n], v = static_cast<float>(want.data[m * outputs + n]);
                if (!std::isfinite(v))
                    ASSERT_TRUE(std::isnan(v) ? std::isnan(g) : g == v)
                        << "row " << m << ": got " << g << ", want " << v;
                else
                    ASSERT_NEAR(g, v, allowed) << "row " << m << " of " << rows;
            }
        }
    }
}

}  // namespace
}  // namespace busbar::cpu
