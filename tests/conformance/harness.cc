// The harness itself must be able to fail: devices that are wrong in ways no tolerance is about.
#include <gtest/gtest.h>

#include <cstring>

#include "agree/sum_check.h"
#include "chips.h"
#include "wrong_device.h"

namespace busbar::conform {

namespace {

TEST(Harness, planted_faults_are_caught) {
    const Prepared& p = prepared(op_rms_norm);
    for (Fault fault : {Fault::none, Fault::does_nothing, Fault::writes_before, Fault::writes_past,
                        Fault::changes_an_input, Fault::one_row_less}) {
        WrongDevice device(fault);
        for (size_t i = 0; i < p.cases.size(); ++i) {
            const Outcome got = run_case(device, p.cases[i]);
            const Verdict v = judge(p.cases[i], {Element::f64, Element::f64, 1, false}, Element::f64, p.expected[i],
                                    got, p.suite->bound);
            EXPECT_EQ(v.agrees, fault == Fault::none)
                << "fault " << static_cast<int>(fault) << " " << p.cases[i].title() << " " << v.why;
        }
    }
}

TEST(Harness, judges_single_numbers) {
    const Array y{{4}, {1, 2, -0.0, INFINITY}};
    const auto verdict = [&](std::vector<double> got, Bound b) {
        return judge(y, {{4}, std::move(got)}, b, Element::f32, Kind::real).agrees;
    };
    const Bound exact_bound, loose{Bound::Kind::absolute, {0.5, 0.5, 0.5, 0.5}};
    EXPECT_TRUE(verdict({1, 2, -0.0, INFINITY}, exact_bound));
    EXPECT_FALSE(verdict({1, 2, 0.0, INFINITY}, exact_bound));
    EXPECT_FALSE(verdict({1, 2 + 0x1p-22, -0.0, INFINITY}, exact_bound));
    EXPECT_TRUE(verdict({1.5, 2, 0, INFINITY}, loose));
    EXPECT_FALSE(verdict({1.51, 2, 0, INFINITY}, loose));
    EXPECT_FALSE(verdict({1, 2, 0, -INFINITY}, loose));
    EXPECT_FALSE(verdict({1, 2, 0, 1e30}, loose));
    EXPECT_FALSE(verdict({1, std::nan(""), 0, INFINITY}, loose));
    EXPECT_FALSE(judge(y, {{3}, {1, 2, 0}}, loose, Element::f32, Kind::real).agrees);
    // One wild number, and many that are each a little too wide.
    Array zeros{{100}, std::vector<double>(100, 1)}, got = zeros;
    const Bound spread{Bound::Kind::spread, std::vector<double>(100, 1e-3)};
    got.data[50] += 8.1e-3;
    EXPECT_FALSE(judge(zeros, got, spread, Element::f32, Kind::real).agrees);
    for (double& x : got.data) x = 1 + 1.6e-3;
    EXPECT_FALSE(judge(zeros, got, spread, Element::f32, Kind::real).agrees);
    for (double& x : got.data) x = 1 + 1.4e-3;
    EXPECT_TRUE(judge(zeros, got, spread, Element::f32, Kind::real).agrees);
}

// Errors of just the predicted size are no fault, however few they are.
TEST(Harness, honest_errors_pass_whatever_their_number) {
    Random random("honest");
    for (int n : {1, 2, 5, 20, 60, 200})
        for (int run = 0; run < 2000; ++run) {
            const Array y{{n}, std::vector<double>(n, 1)};
            Array got = y;
            for (double& x : got.data) x += 1e-3 * random.normal();
            const Verdict v =
                judge(y, got, {Bound::Kind::spread, std::vector<double>(n, 1e-3)}, Element::f64, Kind::real);
            EXPECT_TRUE(v.agrees) << n << ": " << v.why;
        }
}

// A number beyond what the chip can hold is not a wrong one; where all can be held, an infinity is.
TEST(Harness, sums_of_products_may_overflow_where_numbers_are_that_large) {
    const StoredTensor tensor = *plain_weight(filled_with({2, 2}, 1), encoding_f32);
    const agree::WeightSums sums{{1, -1}, {2, 3}, {13, 13}};
    const auto wrong = [&](double x, Element out) {
        return agree::check_sums(sums, tensor, {{1, 2}, {x, x}}, {{1, 2}, {INFINITY, 0}}, declared_f32(), out)
            .has_value();
    };
    EXPECT_TRUE(wrong(1, Element::f32));
    EXPECT_FALSE(wrong(1e38, Element::f32));
    EXPECT_FALSE(wrong(1e38, Element::f64)) << "f32 sums overflow";
    EXPECT_TRUE(wrong(1e4, Element::f32));
    EXPECT_FALSE(wrong(1e4, Element::f16));
    EXPECT_EQ(largest_finite(Element::f16), 65504);
    EXPECT_EQ(largest_finite(Element::f32), std::numeric_limits<float>::max());
    EXPECT_EQ(largest_finite(Element::f64), std::numeric_limits<double>::max());
}

TEST(Harness, ulp_is_the_distance_to_the_next_number) {
    for (float x : {1.0f, 1.5f, 0x1.fffffep0f, 3e38f, 1e-38f, 1e-44f})
        EXPECT_EQ(ulp_at(x, Element::f32), static_cast<double>(std::nextafter(x, INFINITY)) - x) << x;
    EXPECT_EQ(ulp_at(0, Element::f32), 0x1p-149);
    EXPECT_EQ(ulp_at(1, Element::f16), 0x1p-10);
    EXPECT_EQ(unit_roundoff(Element::f32), 0x1p-24);
}

// The spread predicts what f32 sums in sequence really do (agreement.md: RMS 0.73 to 1.01
// from the partial sums alone; the floor under them takes about a fifth off).
TEST(Harness, spread_predicts_a_sequential_f32_sum) {
    Random random("spread");
    const int64_t width = 576, outputs = 400;
    Case c = step_case(op_matmul, "spread", 1, 1);
    const Array x = numbers(random, {1, width}), w = numbers(random, {outputs, width});
    const std::vector<Array> none;
    const Judged j{c, declared_f32(), Element::f32, none};
    double squares = 0;
    for (int64_t n = 0; n < outputs; ++n) {
        double exact_sum = 0;
        float sum = 0;
        for (int64_t k = 0; k < width; ++k) {
            exact_sum += x.data[k] * w.data[n * width + k];
            sum = std::fma(static_cast<float>(x.data[k]), static_cast<float>(w.data[n * width + k]), sum);
        }
        squares += std::pow((sum - exact_sum) / Spread(j).sigma(x.data.data(), w.data.data() + n * width, width), 2);
    }
    const double rms = std::sqrt(squares / outputs);
    EXPECT_GT(rms, 0.4) << "seed " << seed();
    EXPECT_LT(rms, 1.1) << "seed " << seed();
}

TEST(Registry, knows_its_chips_and_names_them_in_errors) {
    EXPECT_FALSE(known_chips().empty());
    EXPECT_EQ(open_chip(oracle_chip())->profile().chip, oracle_chip());
    EXPECT_EQ(open_chip(fallback_chip())->profile().chip, fallback_chip());
    try {
        open_chip("abacus");
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::usage);
        for (std::string_view word : known_chips())
            EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
    }
    EXPECT_THROW(open_chip(oracle_chip(), {1, "avx9"}), Error);
}

}  // namespace

}  // namespace busbar::conform
