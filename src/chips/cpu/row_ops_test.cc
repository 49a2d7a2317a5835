#include "chips/cpu/test_bench.h"

namespace busbar::cpu {
namespace {

using Inputs = std::vector<Bench::In>;

class CpuOps : public testing::TestWithParam<std::string> {
  protected:
    std::unique_ptr<Device> device = make_cpu(2, GetParam());
    std::mt19937_64 random{fresh_seed()};
    Array normal(std::vector<int64_t> extents, double spread = 1) {
        Array a{extents, std::vector<double>(count_of(extents))};
        std::normal_distribution<double> d(0, spread);
        for (double& x : a.data) x = static_cast<float>(d(random));
        return a;
    }
    // Numbers of all sizes, with the odd ones among them.
    Array wild(std::vector<int64_t> extents) {
        Array a = normal(std::move(extents));
        const double odd[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-40, -1e-45, 3e38, -3e38, 1e-38};
        for (double& x : a.data) {
            const auto pick = random() % 40;
            x = pick < std::size(odd)
                    ? static_cast<double>(static_cast<float>(odd[pick]))
                    : static_cast<double>(static_cast<float>(std::ldexp(x, static_cast<int>(random() % 60) - 30)));
        }
        return a;
    }
    void compare(const Array& got, const Array& want, double limit, int64_t active = -1) {
        ASSERT_EQ(got.data.size(), want.data.size());
        const int64_t n = active < 0 ? want.count() : active;
        for (int64_t i = 0; i < n; ++i)
            ASSERT_LE(ulps(got.data[i], want.data[i]), limit)
                << "at " << i << ": got " << got.data[i] << ", want " << want.data[i];
    }
};

TEST_P(CpuOps, RmsNorm) {
    for (int64_t width : {1, 3, 8, 17, 64, 100, 576}) {
        Bench bench{*device, op_rms_norm, {{"epsilon", 1e-5}}, {.rows = 5}};
        const Inputs in = {{{Kind::real, Shape({Symbol::rows, width})}, normal({5, width}, 0.01)},
                           {{Kind::real, Shape({width})}, normal({width})}};
        compare(bench.run(in)[0], bench.oracle(in)[0], 4);
    }
}

INSTANTIATE_TEST_SUITE_P(Isa, CpuOps, testing::ValuesIn(usable_cpu_isas()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace busbar::cpu
