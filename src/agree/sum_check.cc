#include "agree/sum_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "agree/conform/bound.h"

namespace busbar::agree {

// Whether an output, or a partial sum of one, may be beyond what the chip's numbers hold: none is beyond `reach`.
static bool may_overflow(const WeightSums& sums, const double* xs, const Rounding& rounding, Element out) {
    double reach = 0;
    for (size_t k = 0; k < sums.squares.size(); ++k) reach += std::abs(xs[k]) * std::sqrt(sums.squares[k]);
    return reach > std::min(conform::largest_finite(rounding.accumulate), conform::largest_finite(out));
}

std::optional<WrongSum> check_sums(const WeightSums& sums, const StoredTensor& tensor, const Array& x, const Array& y,
                                   const Rounding& rounding, Element out) {
    const int64_t width = tensor.width(), outputs = static_cast<int64_t>(sums.signs.size()), rows = x.count() / width;
    const double u = conform::unit_roundoff(rounding.accumulate);
    for (int64_t r = 0; r < rows; ++r) {
        const double *xs = x.data.data() + r * width, *ys = y.data.data() + r * outputs;
        double from_x = 0, from_y = 0, terms = 0, ys_squared = 0, ulps = 0, rounded = 0;
        for (int64_t k = 0; k < width; ++k) {
            from_x += xs[k] * sums.of_columns[k];
            terms += xs[k] * xs[k] * sums.squares[k];
        }
        for (int64_t i = 0; i < outputs; ++i) {
            from_y += sums.signs[i] * ys[i];
            ys_squared += ys[i] * ys[i];
            ulps += std::pow(conform::ulp_at(ys[i], out), 2);
        }
        if (rounding.activation == Element::f16 || rounding.activation == Element::bf16)
            for (int64_t k = 0; k < width; ++k)
                rounded += std::pow(conform::ulp_at(xs[k], rounding.activation), 2) * sums.squares[k];
        const int codes = conform::largest_code(rounding.activation);
        for (int64_t k0 = 0; codes > 0 && k0 < width; k0 += 32) {
            double largest = 0, squares = 0;
            for (int64_t k = k0; k < std::min(width, k0 + 32); ++k) {
                largest = std::max(largest, std::abs(xs[k]));
                squares += sums.squares[k];
            }
            rounded += std::pow(largest / codes, 2) * squares;
        }
        if (!std::isfinite(from_y) && may_overflow(sums, xs, rounding, out)) continue;
        // No partial sum is larger, on average, than the root of its squared terms or than the whole: level 1's sigma
        // of all outputs together, from above.
        const double sigma =
            std::sqrt(u * u * static_cast<double>(width) / 3 * (terms + ys_squared) + ulps / 12 + rounded / 12);
        const double allowed = 8 * sigma + (rounding.flushes_denormals ? 1e-30 : 0), error = std::abs(from_y - from_x);
        if ((std::isfinite(error) && error <= allowed) || !std::isfinite(from_x)) continue;
        return WrongSum{
            error / allowed,
            fmt::format(
                "{}: sum of all {} outputs of row {} with random signs: expected {:.9g}, got {:.9g}, allowed {:.3g}",
                tensor.name, outputs, r, from_x, from_y, allowed)};
    }
    return std::nullopt;
}

}  // namespace busbar::agree
