#include "chips/cpu/product.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace busbar::cpu {

const ProductKernels* product_kernels_lanes16();

namespace {

/// An array whose end is the end of readable memory: one element further is a fault.
template <class T>
class Guarded {
  public:
    explicit Guarded(size_t count) : count_(count) {
        const size_t page = sysconf(_SC_PAGESIZE), bytes = (count * sizeof(T) + page - 1) / page * page;
        size_ = bytes + page;
        base_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        EXPECT_NE(static_cast<void*>(base_), MAP_FAILED);
        EXPECT_EQ(mprotect(base_ + bytes, page, PROT_NONE), 0);
        data_ = reinterpret_cast<T*>(base_ + bytes - count * sizeof(T));
    }
    ~Guarded() { munmap(base_, size_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;
    T* data() { return data_; }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return data_[i]; }

  private:
    size_t count_, size_;
    char* base_;
    T* data_;
};

struct Isa {
    const char* name;
    const ProductKernels* kernels;  ///< nullptr: not in this build, or not on this machine
    int lanes;                      ///< sums per output, of elements k = lane mod lanes; folded in halves
    bool fused;                     ///< multiplies and adds with one rounding
};

std::vector<Isa> isas() {
    std::vector<Isa> all = {{"portable", product_kernels_portable(), 4, false},
                            {"lanes16", product_kernels_lanes16(), 16, false}};
    bool avx2 = false, avx512 = false;
#if defined(__x86_64__)
    avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
#endif
    all.push_back({"avx2", avx2 ? product_kernels_avx2() : nullptr, 8, true});
    all.push_back({"avx512", avx512 ? product_kernels_avx512() : nullptr, 16, true});
    return all;
}

/// Runs the body for each instruction set that can run here, and says which could not.
void each_isa(const std::function<void(const Isa&)>& body) {
    for (const Isa& isa : isas()) {
        if (isa.kernels == nullptr) {
            printf("  not run, this machine lacks it: %s\n", isa.name);
            continue;
        }
        SCOPED_TRACE(isa.name);
        body(isa);
    }
}

class ProductTest : public testing::Test {
  protected:
    ProductTest() {
        const uint64_t seed = std::random_device{}();
        printf("  seed %lu\n", static_cast<unsigned long>(seed));
        random.seed(seed);
    }
    uint32_t bits() { return static_cast<uint32_t>(random()); }
    int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low + 1)); }
    float uniform() { return static_cast<float>(bits()) * 0x1p-31f - 1; }
    float normal() { return std::normal_distribution<float>{}(random); }

    std::mt19937_64 random;
};

void put_half(std::byte* p, float value) {
    const uint16_t h = f32_to_f16(value);
    std::memcpy(p, &h, 2);
}

/// Where a block keeps its halves: scale, then minimum.
std::vector<int> half_offsets(std::string_view name) {
    if (name == "q4_0" || name == "q5_0" || name == "q8_0" || name == "iq4_nl" || name == "iq4_xs") return {0};
    if (name == "q4_1" || name == "q5_1" || name == "q4_k" || name == "q5_k") return {0, 2};
    if (name == "q2_k") return {80, 82};
    if (name == "q3_k") return {108};
    if (name == "q6_k") return {208};
    return {};
}

/// Random codes with scales of an ordinary size.
void fill_weights(const Encoding& e, std::byte* p, size_t blocks, std::mt19937_64& random) {
    std::normal_distribution<float> normal;
    for (size_t b = 0; b < blocks; ++b, p += e.block_bytes) {
        for (int i = 0; i < e.block_bytes; ++i) p[i] = static_cast<std::byte>(random());
        for (const int at : half_offsets(e.name)) put_half(p + at, 0.01f * normal(random));
        const float value = normal(random);
        if (e.name == "mxfp4") p[0] = static_cast<std::byte>(118 + random() % 8);
        if (e.name == "f32") std::memcpy(p, &value, 4);
        if (e.name == "f16") put_half(p, value);
        const uint16_t bf16 = f32_to_bf16(value);
        if (e.name == "bf16") std::memcpy(p, &bf16, 2);
    }
}

struct Case {
    const Encoding* encoding;
    int64_t width, outputs, rows;
    Guarded<std::byte> weight;
    Guarded<float> x;
    int64_t x_stride;

    Case(const Encoding* e, int64_t width, int64_t outputs, int64_t rows, std::mt19937_64& random, int64_t x_pad = 0)
        : encoding(e),
          width(width),
          outputs(outputs),
          rows(rows),
          weight(outputs * e->row_bytes(width)),
          x(rows * width + (rows - 1) * x_pad),
          x_stride(width + x_pad) {
        fill_weights(*e, weight.data(), outputs * width / e->block, random);
        std::normal_distribution<float> normal;
        // Between rows lies NaN: whoever reads it shows.
        for (size_t i = 0; i < x.size(); ++i) x[i] = std::nanf("");
        for (int64_t m = 0; m < rows; ++m)
            for (int64_t k = 0; k < width; ++k) x[m * x_stride + k] = normal(random);
    }
    std::vector<float> decoded() {
        std::vector<float> w(outputs * width);
        encoding->decode(weight.data(), w.data(), outputs * width / encoding->block);
        return w;
    }
    void run(const ProductKernels& kernels, bool panel, int64_t n_begin, int64_t n_end, int64_t m_begin, int64_t m_end,
             float* y) {
        // Kept from run to run: a sanitizer makes taking and filling it dearer than most products. Whoever reads what
        // he has not written shows.
        thread_local std::vector<float> scratch;
        const size_t floats = kernels.scratch_floats(width);
        if (scratch.size() != floats + 16) scratch = std::vector<float>(floats + 16);
        float* const aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64 / 4;
        if (panel || m_end - m_begin > 1) std::fill_n(aligned, floats, std::nanf(""));
        Product p;
        p.encoding = encoding, p.weight = weight.data(), p.row_bytes = encoding->row_bytes(width), p.width = width;
        p.n_begin = n_begin, p.n_end = n_end, p.x = x.data() + m_begin * x_stride, p.x_stride = x_stride;
        p.rows = m_end - m_begin, p.y = y + m_begin * outputs, p.y_stride = outputs, p.scratch = aligned;
        (panel ? kernels.panel : kernels.vector)(p);
    }
    std::vector<float> product(const ProductKernels& kernels, bool panel) {
        std::vector<float> y(rows * outputs, 12345.0f);
        run(kernels, panel, 0, outputs, 0, rows, y.data());
        return y;
    }
};

bool same(float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

/// Level 1 of agreement.md: how far the outputs lie from the exact ones, in predicted standard deviations. The partial
/// sums whose roundings are priced are those of the declared order, lanes then tree: now and then the sums in plain
/// sequence happen to stay near zero where the lanes' do not, and would predict too little (1 output in 100,000 beyond
/// 8 sigma).
struct Spread {
    double rms = 0, max = 0;
    int64_t wrong = 0;  ///< infinities and NaNs in the wrong places
};
Spread spread(Case& c, const std::vector<float>& w, const std::vector<float>& y, const Isa& isa) {
    const auto squared_step = [](double value) { return std::pow(std::max(0x1p-24 * std::fabs(value), 0x1p-150), 2); };
    Spread s;
    double squares = 0;
    int64_t counted = 0;
    for (int64_t m = 0; m < c.rows; ++m)
        for (int64_t n = 0; n < c.outputs; ++n) {
            double lane[16] = {}, sum = 0, variance = 0;
            for (int64_t k = 0; k < c.width; ++k) {
                const double product = static_cast<double>(w[n * c.width + k]) * c.x[m * c.x_stride + k];
                sum += product;
                lane[k % isa.lanes] += product;
                variance += squared_step(lane[k % isa.lanes]) + (isa.fused ? 0 : squared_step(product));
            }
            for (int half = isa.lanes / 2; half > 0; half /= 2)
                for (int l = 0; l < half; ++l) variance += squared_step(lane[l] += lane[l + half]);
            const float exact = static_cast<float>(sum), got = y[m * c.outputs + n];
            if (!std::isfinite(exact)) {
                s.wrong += !(exact == got || (std::isnan(exact) && std::isnan(got)));
                continue;
            }
            const double ulp = std::nextafter(std::fabs(exact), HUGE_VALF) - std::fabs(exact);
            const double e = std::fabs(got - sum) / std::sqrt(ulp * ulp / 12 + variance / 3);
            if (!(e <= 1e300)) ++s.wrong;
            squares += e * e, s.max = std::max(s.max, e), ++counted;
        }
    if (counted > 0) s.rms = std::sqrt(squares / counted);
    return s;
}
bool agrees(const Spread& s) {
    return s.wrong == 0 && s.max <= 8 && s.rms <= 1.5;
}

int64_t any_width(const Encoding& e, int64_t about) {
    return e.block == 1 ? about : (about + e.block - 1) / e.block * e.block;
}

TEST_F(ProductTest, DecodesEveryByteAsTheDefinitionDoes) {
    each_isa([&](const Isa& isa) {
        for (const Encoding* e : encodings())
            for (const int64_t about : {1, 7, 33, 256, 4099}) {
                const int64_t width = any_width(*e, about);
                Guarded<std::byte> row(e->row_bytes(width));
                Guarded<float> got(width);
                std::vector<float> want(width);
                for (int round = 0; round < 20; ++round) {
                    for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::byte>(random());
                    e->decode(row.data(), want.data(), width / e->block);
                    isa.kernels->decode_row(*e, row.data(), width, got.data());
                    for (int64_t k = 0; k < width; ++k)
                        ASSERT_TRUE(same(got[k], want[k])) << e->name << " width " << width << " element " << k << ": "
                                                           << got[k] << ", defined as " << want[k];
                }
            }
    });
}

// Every scale that a half can be (signed zeros, subnormals, infinities, NaNs), every E8M0 scale, every plain half.
TEST_F(ProductTest, DecodesEveryScaleAsTheDefinitionDoes) {
    each_isa([&](const Isa& isa) {
        for (const Encoding* e : encodings()) {
            std::vector<std::byte> block(e->block_bytes);
            std::vector<float> want(e->block), got(e->block);
            for (uint32_t scale = 0; scale < 65536; scale += e->block == 256 ? 7 : 1) {
                for (std::byte& b : block) b = static_cast<std::byte>(random());
                for (const int at : half_offsets(e->name)) std::memcpy(&block[at], &scale, 2);
                if (e->name == "mxfp4") block[0] = static_cast<std::byte>(scale);
                if (e->block == 1) std::memcpy(&block[e->block_bytes - 2], &scale, 2);
                e->decode(block.data(), want.data(), 1);
                isa.kernels->decode_row(*e, block.data(), e->block, got.data());
                for (int k = 0; k < e->block; ++k)
                    ASSERT_TRUE(same(got[k], want[k])) << e->name << " scale " << scale << " element " << k;
            }
        }
    });
}

TEST_F(ProductTest, AgreesWithDoublePrecision) {
    each_isa([&](const Isa& isa) {
        for (const Encoding* e : encodings())
            for (const int64_t about : {1, 31, 576, 1024, 1800, 3072})
                for (const int64_t rows : {1, 2, 5, 17}) {
                    // Enough outputs for a root mean square to mean something.
                    const int64_t outputs = (96 + rows - 1) / rows + between(0, 3);
                    Case c(e, any_width(*e, about), outputs, rows, random, between(0, 3));
                    const std::vector<float> w = c.decoded();
                    for (const bool panel : {false, true}) {
                        const Spread s = spread(c, w, c.product(*isa.kernels, panel), isa);
                        EXPECT_TRUE(agrees(s))
                            << e->name << " width " << c.width << " outputs " << c.outputs << " rows " << rows
                            << " panel " << panel << ": rms " << s.rms << " max " << s.max << " wrong " << s.wrong;
                    }
                }
    });
}

TEST_F(ProductTest, AgreesOnEdgeInputs) {
    const std::vector<std::pair<const char*, std::function<void(Case&)>>> edges = {
        {"all positive",
         [&](Case& c) {
             for (auto* x = c.x.data(); x < c.x.data() + c.x.size(); ++x) *x = std::fabs(*x);
         }},
        {"cancelling",
         [&](Case& c) {
             // Halves of a row that nearly cancel where weights are alike, and exactly where they are equal.
             for (int64_t m = 0; m < c.rows; ++m)
                 for (int64_t k = c.width / 2; k < c.width; ++k)
                     c.x[m * c.x_stride + k] = -c.x[m * c.x_stride + k - c.width / 2];
         }},
        {"outlier",
         [&](Case& c) {
             for (int64_t m = 0; m < c.rows; ++m) c.x[m * c.x_stride + between(0, c.width - 1)] = 1e4f;
         }},
        {"zeros",
         [&](Case& c) {
             for (int64_t k = 0; k < c.width; ++k) c.x[k] = 0;
         }},
        {"subnormal",
         [&](Case& c) {
             for (size_t i = 0; i < c.x.size(); ++i) c.x[i] = std::bit_cast<float>(bits() & 0x807FFFFF);
         }},
        {"infinity and NaN in x",
         [&](Case& c) {
             c.x[between(0, c.width - 1)] = HUGE_VALF;
             c.x[between(0, c.width - 1)] = -HUGE_VALF;
             c.x[(c.rows - 1) * c.x_stride + between(0, c.width - 1)] = std::nanf("");
         }},
        {"infinity and NaN in weights",
         [&](Case& c) {
             const Encoding& e = *c.encoding;
             for (int i = 0; i < 3; ++i) {
                 std::byte* block = c.weight.data() + between(0, c.outputs * c.width / e.block - 1) * e.block_bytes;
                 const float value = i == 0 ? HUGE_VALF : i == 1 ? -HUGE_VALF : std::nanf("");
                 for (const int at : half_offsets(e.name)) put_half(block + at, value);
                 const uint16_t bf16 = f32_to_bf16(value);
                 if (e.name == "mxfp4") block[0] = std::byte{255};
                 if (e.name == "f32") std::memcpy(block, &value, 4);
                 if (e.name == "f16") put_half(block, value);
                 if (e.name == "bf16") std::memcpy(block, &bf16, 2);
             }
         }},
    };
    each_isa([&](const Isa& isa) {
        for (const Encoding* e : encodings())
            for (const auto& [name, change] : edges)
                for (const int64_t about : {33, 1280}) {
                    Case c(e, any_width(*e, about), 23, 5, random);
                    change(c);
                    const std::vector<float> w = c.decoded();
                    for (const bool panel : {false, true}) {
                        const Spread s = spread(c, w, c.product(*isa.kernels, panel), isa);
                        EXPECT_TRUE(agrees(s)) << name << ", " << e->name << " width " << c.width << " panel " << panel
                                               << ": rms " << s.rms << " max " << s.max << " wrong " << s.wrong;
                    }
                }
    });
}

// The bound must be able to fail: a block's bytes taken from its neighbour, one element of x missed, a row shifted by
// one.
TEST_F(ProductTest, BoundSeesPlantedFaults) {
    const Isa portable = isas().front();
    for (const Encoding* e : encodings()) {
        Case c(e, any_width(*e, 1024), 16, 4, random);
        const std::vector<float> w = c.decoded();
        const std::vector<float> good = c.product(*portable.kernels, true);
        ASSERT_TRUE(agrees(spread(c, w, good, portable)));
        std::vector<float> shifted(good.begin() + 1, good.end());
        shifted.push_back(good.front());
        EXPECT_FALSE(agrees(spread(c, w, shifted, portable))) << e->name;
        std::vector<std::byte> before(e->block_bytes);
        std::memcpy(before.data(), c.weight.data(), before.size());
        std::memcpy(c.weight.data(), c.weight.data() + e->block_bytes, before.size());
        EXPECT_FALSE(agrees(spread(c, w, c.product(*portable.kernels, true), portable))) << e->name;
        std::memcpy(c.weight.data(), before.data(), before.size());
        c.x[c.width - 1] = 0;
        const std::vector<float> missed = c.product(*portable.kernels, true);
        c.x[c.width - 1] = 2;
        EXPECT_FALSE(agrees(spread(c, w, missed, portable))) << e->name;
    }
}

// An output's bits depend on its width, encoding and instruction set alone.
TEST_F(ProductTest, BitsDoNotDependOnRowsPartitionOrKernel) {
    each_isa([&](const Isa& isa) {
#ifdef __SANITIZE_THREAD__  // every access is watched, ten times slower, and threads share a product alike at any width
        const std::vector<int64_t> widths = {40, 576};
#else
        const std::vector<int64_t> widths = {3, 40, 576, 1024, 1025, 2815};
#endif
        for (const Encoding* e : encodings())
            for (const int64_t about : widths) {
                const bool long_sweep = about == 576 && (e->name == "q4_1" || e->name == "bf16");
                const int64_t rows = long_sweep ? 211 : between(1, 17), outputs = between(1, 75);
                Case c(e, any_width(*e, about), outputs, rows, random, between(0, 5));
                std::vector<float> alone(rows * outputs);
                const int64_t checked = std::min<int64_t>(rows, 20);
                for (int64_t m = 0; m < checked; ++m)
                    for (int64_t n = 0; n < outputs; ++n) c.run(*isa.kernels, false, n, n + 1, m, m + 1, alone.data());
                const auto compare = [&](const std::vector<float>& y, const char* how) {
                    for (int64_t i = 0; i < checked * outputs; ++i)
                        ASSERT_TRUE(same(y[i], alone[i]))
                            << how << ": " << e->name << " width " << c.width << " rows " << rows << " outputs "
                            << outputs << " row " << i / outputs << " output " << i % outputs;
                };
                const std::vector<float> whole = c.product(*isa.kernels, true);
                compare(whole, "panel");
                compare(c.product(*isa.kernels, false), "vector");
                std::vector<float> y(rows * outputs, 12345.0f);
                for (int64_t n = 0; n < outputs;) {
                    const int64_t n_end = std::min(outputs, n + between(1, 40));
                    for (int64_t m = 0; m < rows;) {
                        const int64_t m_end = std::min(rows, m + between(1, 100));
                        c.run(*isa.kernels, bits() & 1, n, n_end, m, m_end, y.data());
                        m = m_end;
                    }
                    n = n_end;
                }
                compare(y, "random parts");
                // Rows beyond those computed alone: whole panel and parts must still be equal.
                for (int64_t i = 0; i < rows * outputs; ++i) ASSERT_TRUE(same(y[i], whole[i])) << e->name << " " << i;
                const int64_t middle = between(0, outputs);
                std::vector<float> threaded(rows * outputs, 12345.0f);
                std::thread other([&] { c.run(*isa.kernels, true, 0, middle, 0, rows, threaded.data()); });
                c.run(*isa.kernels, true, middle, outputs, 0, rows, threaded.data());
                other.join();
                compare(threaded, "two threads");
            }
    });
}

TEST_F(ProductTest, RowsOneToSeventeen) {
    each_isa([&](const Isa& isa) {
        for (const char* name : {"q8_0", "q6_k", "bf16"})
            for (int64_t rows = 1; rows <= 17; ++rows) {
                Case c(find_encoding(name), 512, 96 / rows + 3, rows, random);
                const std::vector<float> w = c.decoded(), y = c.product(*isa.kernels, true);
                EXPECT_TRUE(agrees(spread(c, w, y, isa))) << name << " rows " << rows;
                EXPECT_EQ(std::memcmp(y.data(), c.product(*isa.kernels, false).data(), y.size() * 4), 0);
            }
    });
}

TEST_F(ProductTest, NothingToDoWritesNothing) {
    each_isa([&](const Isa& isa) {
        Case c(&encoding_q8_0, 64, 6, 3, random);
        std::vector<float> y(18, 12345.0f);
        for (const bool panel : {false, true}) c.run(*isa.kernels, panel, 4, 4, 0, 3, y.data());
        for (const bool panel : {false, true}) c.run(*isa.kernels, panel, 2, 5, 0, 3, y.data());
        for (int i = 0; i < 18; ++i) EXPECT_EQ(y[i] == 12345.0f, i % 6 < 2 || i % 6 == 5) << i;
    });
}

}  // namespace
}  // namespace busbar::cpu
