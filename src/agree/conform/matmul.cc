// matmul, multi_matmul, batch_matmul: the error is compared with the spread that the declared roundings predict.
#include <algorithm>
#include <cmath>

#include "agree/conform/suite.h"

namespace busbar::conform {

namespace {

Input x_rows(Array x) {
    std::vector<Dim> dims(x.extents.begin(), x.extents.end());
    dims[0] = Symbol::rows;
    return values("x", std::move(dims), std::move(x));
}

std::vector<Case> cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, int64_t rows, Array x, Input w) -> Case& {
        Case c = step_case(op_matmul, std::move(name), rows, x.extents[0]);
        c.inputs = {x_rows(std::move(x)), std::move(w)};
        c.inputs[1].name = "w";
        all.push_back(std::move(c));
        return all.back();
    };
    const auto stored = [&](const Encoding& e, int64_t outputs, int64_t width) {
        return weight(random_weight(random, e, {outputs, width}));
    };
    for (const Encoding* e : encodings()) {
        const int64_t unit = e->block == 1 ? 1 : e->block;
        add(fmt::format("{} 1 row x {} x 65", e->name, 3 * 256), 1, numbers(random, {1, 3 * 256}),
            stored(*e, 65, 3 * 256));
        add(fmt::format("{} 3 of 4 rows, odd", e->name), 3, numbers(random, {4, unit == 1 ? 577 : 5 * unit}),
            stored(*e, 33, unit == 1 ? 577 : 5 * unit));
        add(fmt::format("{} 19 rows, one block", e->name), 19, numbers(random, {19, unit}), stored(*e, 7, unit));
        add(fmt::format("{} 8 rows, one output", e->name), 8, numbers(random, {8, 512}), stored(*e, 1, 512));
    }
    for (const Encoding* e : {&encoding_f32, &encoding_bf16, &encoding_q4_1, &encoding_q8_0}) {
        Array positive = numbers(random, {5, 1024}), cancels = numbers(random, {5, 1024}),
              outlier = numbers(random, {5, 1024});
        for (double& x : positive.data) x = std::abs(x);
        for (int64_t r = 0; r < 5; ++r) outlier.data[r * 1024 + 300 + random.below(100)] = 1e4;
        add(fmt::format("{} all positive", e->name), 5, std::move(positive), stored(*e, 40, 1024));
        add(fmt::format("{} one outlier of 1e4", e->name), 5, std::move(outlier), stored(*e, 40, 1024));
        add(fmt::format("{} edges", e->name), 5, edge_numbers(random, {5, 64}, 1e30), stored(*e, 20, 64));
        Array inf_in_one = numbers(random, {2, 256});  // most numbers stay finite: only row 0 may suffer
        inf_in_one.data[17] = INFINITY;
        add(fmt::format("{} an infinity in one row", e->name), 2, std::move(inf_in_one), stored(*e, 20, 256));
        add(fmt::format("{} subnormal x", e->name), 2, numbers(random, {2, 256}, 1e-40), stored(*e, 20, 256));
        add(fmt::format("{} zeros", e->name), 2, filled_with({2, 256}, 0), stored(*e, 20, 256));
        add(fmt::format("{} all equal", e->name), 2, filled_with({2, 4096}, 0.1),
            weight(random_weight(random, *e, {3, 4096})))
            .equal_terms = true;
        // x and -x meet equal weights: only the roundings are left.
        const auto w = random_weight(random, encoding_f32, {20, 256});
        for (int64_t i = 1; i < cancels.count(); i += 2) cancels.data[i] = -cancels.data[i - 1];
        Array pairs{{20, 1024}, std::vector<double>(20 * 1024)};
        for (int64_t i = 0; i < pairs.count(); i += 2)
            pairs.data[i] = pairs.data[i + 1] = static_cast<float>(random.normal());
        add(fmt::format("{} cancelling", e->name), 5, std::move(cancels),
            e->scale == Scale::none ? weight(plain_weight(pairs, *e)) : stored(*e, 20, 1024));
    }
    add("constant weight all equal", 3, filled_with({3, 2048}, 0.3),
        weight(plain_weight(filled_with({5, 2048}, 0.7), encoding_f32)))
        .equal_terms = true;
    add("one by one", 1, numbers(random, {1, 1}), stored(encoding_f32, 1, 1));
    add("many rows", 130, numbers(random, {130, 96}), stored(encoding_q8_0, 96, 96));
    add("heads in x", 3, numbers(random, {4, 3, 64}), stored(encoding_f16, 10, 64));
    add("values", 3, numbers(random, {4, 129}), values("w", {33, 129}, numbers(random, {33, 129})));
    add("values, one row", 1, numbers(random, {1, 64}), values("w", {16, 64}, numbers(random, {16, 64})));
    return all;
}

// How many of a row's errors are independent in effect, where they come from roundings of x that all outputs share:
// with weights of one sign, say, all outputs are off by nearly the same. For errors a_o . delta, of vectors a_o of
// length 1 and delta of independent numbers: N^2 / sum over o, p of (a_o . a_p)^2, which has the same variance of the
// mean square.
double independent_of_row(const double* x, const Array& w, int codes) {
    const int64_t width = w.extents[1], outputs = std::min<int64_t>(w.extents[0], 64);
    std::vector<double> a(outputs * width);
    for (int64_t k0 = 0; k0 < width; k0 += 32) {
        const int64_t end = std::min(width, k0 + 32);
        double largest = 0;
        for (int64_t k = k0; k < end; ++k) largest = std::max(largest, std::abs(x[k]));
        for (int64_t o = 0; o < outputs; ++o)
            for (int64_t k = k0; k < end; ++k)
                a[o * width + k] = (codes > 0 ? largest : std::abs(x[k])) * w.data[o * width + k];
    }
    for (int64_t o = 0; o < outputs; ++o) {
        double squares = 0;
        for (int64_t k = 0; k < width; ++k) squares += a[o * width + k] * a[o * width + k];
        if (!(squares > 0) || !std::isfinite(squares)) return static_cast<double>(outputs);
        for (int64_t k = 0; k < width; ++k) a[o * width + k] /= std::sqrt(squares);
    }
    double sum = 0;
    for (int64_t o = 0; o < outputs; ++o)
        for (int64_t p = 0; p < outputs; ++p) {
            double dot = 0;
            for (int64_t k = 0; k < width; ++k) dot += a[o * width + k] * a[p * width + k];
            sum += dot * dot;
        }
    return static_cast<double>(outputs * outputs) / sum;
}

Bound product_bound(const Judged& j, const Array& w, const Array& oracle) {
    const Array& x = j.c.inputs[0].data;
    const int64_t width = x.extents.back(), outputs = w.extents[0];
    const Spread spread(j);
    Bound b{spread.kind(), {}};
    for (int64_t i = 0; i < oracle.count(); ++i)
        b.limit.push_back(
            spread.sigma(x.data.data() + i / outputs * width, w.data.data() + i % outputs * width, width));
    if (significant_bits(j.rounding.activation) < significant_bits(j.rounding.accumulate) && outputs > 0)
        for (int64_t m = 0; m < oracle.count() / outputs; ++m) {
            const double* row = x.data.data() + m * width;
            if (!std::all_of(row, row + width, [](double v) { return std::isfinite(v); })) continue;  // nor judged
            b.independent += independent_of_row(row, w, largest_code(j.rounding.activation));
        }
    return b;
}

std::vector<Bound> bound(const Judged& j) {
    std::vector<Bound> all;
    for (size_t i = 0; i < j.oracle.size(); ++i) all.push_back(product_bound(j, j.c.inputs[i + 1].data, j.oracle[i]));
    return all;
}

std::vector<Case> multi_cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, int64_t rows, Array x,
                         std::vector<std::pair<const Encoding*, int64_t>> parts) -> Case& {
        Case c = step_case(op_multi_matmul, std::move(name), rows, x.extents[0]);
        const int64_t width = x.extents.back();
        c.inputs = {x_rows(std::move(x))};
        for (auto [e, outputs] : parts)
            c.inputs.push_back(
                weight(random_weight(random, *e, {outputs, width}, fmt::format("w{}", c.inputs.size()))));
        all.push_back(std::move(c));
        return all.back();
    };
    const Encoding *q4_k = find_encoding("q4_k"), *q6_k = find_encoding("q6_k"), *q5_0 = find_encoding("q5_0");
    add("q, k, v: q4_k and one q6_k", 1, numbers(random, {1, 512}), {{q4_k, 64}, {q4_k, 32}, {q6_k, 32}});
    add("q, k, v, 3 of 5 rows", 3, numbers(random, {5, 256}), {{q4_k, 33}, {q6_k, 17}, {q6_k, 1}});
    add("gate and up", 9, numbers(random, {9, 576}), {{&encoding_q4_1, 96}, {&encoding_q4_1, 96}});
    add("odd widths", 2, numbers(random, {2, 77}), {{&encoding_f32, 5}, {&encoding_f16, 6}, {&encoding_bf16, 7}});
    add("one weight", 4, numbers(random, {4, 160}), {{q5_0, 40}});
    add("edges", 3, edge_numbers(random, {3, 64}, 1e30), {{&encoding_q8_0, 8}, {&encoding_q4_0, 9}});
    for (const Encoding* e : encodings())
        add(fmt::format("{} beside f32", e->name), 2, numbers(random, {2, 256}), {{e, 21}, {&encoding_f32, 20}});
    Case& values_only = add("values", 2, numbers(random, {2, 40}), {});
    values_only.inputs.push_back(values("w1", {9, 40}, numbers(random, {9, 40})));
    values_only.inputs.push_back(values("w2", {5, 40}, numbers(random, {5, 40})));
    return all;
}

std::vector<Mutation> multi_mutations() {
    return {{"input w: two weights swapped", [](Case& c, int) {
                 if (c.inputs.size() < 3 || c.inputs[1].type != c.inputs[2].type || c.inputs[1].is != Input::Is::weight)
                     return false;
                 std::swap(c.inputs[1], c.inputs[2]);
                 return true;
             }}};
}

std::vector<Case> batch_cases(Random& random) {
    std::vector<Case> all;
    const auto add = [&](std::string name, std::vector<int64_t> a, std::vector<int64_t> b, int64_t rows) {
        Case c = step_case(op_batch_matmul, std::move(name), rows, a[0]);
        std::vector<Dim> dims(a.begin(), a.end());
        dims[0] = Symbol::rows;
        c.inputs = {values("a", std::move(dims), numbers(random, a)),
                    values("b", std::vector<Dim>(b.begin(), b.end()), numbers(random, b))};
        all.push_back(std::move(c));
    };
    add("heads", {3, 4, 5, 16}, {4, 16, 33}, 2);
    add("b for all", {5, 7, 64}, {64, 9}, 4);
    add("one", {1, 1, 1}, {1, 1}, 1);
    add("grouped heads", {2, 3, 3, 64}, {3, 64, 70}, 2);
    return all;
}

std::vector<Bound> batch_bound(const Judged& j) {
    const Array &a = j.c.inputs[0].data, &b = j.c.inputs[1].data, &y = j.oracle[0];
    const int64_t width = a.extents.back(), n = b.extents.back(), m = a.extents[a.extents.size() - 2];
    const int64_t matrices = b.count() / (width * n);
    Bound bound{Bound::Kind::spread, {}};
    for (int64_t i = 0; i < y.count(); ++i) {
        const int64_t batch = i / (m * n), row = i / n, column = i % n;
        bound.limit.push_back(Spread(j).sigma(a.data.data() + row * width,
                                              b.data.data() + batch % matrices * width * n + column, width, n));
    }
    return {bound};
}

}  // namespace

std::vector<Suite> matmul_suites() {
    return {
        {&op_matmul, cases, bound},
        {&op_multi_matmul, multi_cases, bound, multi_mutations},
        {&op_batch_matmul, batch_cases, batch_bound},
    };
}

}  // namespace busbar::conform
