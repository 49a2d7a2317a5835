#include "agree/conform/bound.h"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace busbar::conform {

namespace {

struct Format {
    int significand;  // bits, the hidden one included
    int smallest;     // exponent of the smallest normal number
};

Format format_of(Element e) {
    switch (e) {
        case Element::f64:
            return {53, -1022};
        case Element::f32:
            return {24, -126};
        case Element::f16:
            return {11, -14};
        case Element::bf16:
            return {8, -126};
        default:
            BUSBAR_CHECK(false, "not an element of values");
    }
}

std::string show(const Array& a, size_t i) {
    std::string where;
    int64_t rest = static_cast<int64_t>(i);
    for (size_t axis = a.extents.size(); axis-- > 0;) {
        where = fmt::format("{}{}{}", rest % a.extents[axis], where.empty() ? "" : ",", where);
        rest /= a.extents[axis];
    }
    return "[" + where + "]";
}

}  // namespace

double unit_roundoff(Element e) {
    return std::ldexp(1.0, -format_of(e).significand);
}

int largest_code(Element activation) {
    return activation == Element::i8 ? 127 : activation == Element::i16 ? 32767 : 0;
}

double significant_bits(Element e) {
    return largest_code(e) > 0 ? bits_of(e) - 1 : -std::log2(unit_roundoff(e));
}

double largest_finite(Element e) {
    const Format f = format_of(e);
    return std::ldexp(2 - std::ldexp(1.0, 1 - f.significand), 1 - f.smallest);
}

double ulp_at(double y, Element e) {
    const Format f = format_of(e);
    const int exponent = y == 0 || !std::isfinite(y) ? f.smallest : std::max(std::ilogb(y), f.smallest);
    return std::ldexp(1.0, exponent - f.significand + 1);
}

double Judged::u() const {
    return unit_roundoff(rounding.accumulate);
}
double Judged::E() const {
    return rounding.transcendental_ulp * 2 * unit_roundoff(out);
}
double Judged::half_ulp(double y) const {
    return ulp_at(y, out) / 2;
}
double Judged::smallest_normal() const {
    return std::ldexp(1.0, format_of(out).smallest);
}

// What the RMS of this many independent errors of the predicted sigma exceeds once in some 3 million cases, or 1.5, the
// limit from about 60 errors on: the root of a chi-square quantile, by Wilson and Hilferty's approximation at 5 sigma.
static double largest_rms(double independent) {
    const double variance = 2 / (9 * independent);
    return std::max(1.5, std::pow(1 - variance + 5 * std::sqrt(variance), 1.5));
}

Verdict judge(const Array& oracle, const Array& got, const Bound& bound, Element out, Kind kind) {
    if (oracle.extents != got.extents)
        return {
            false, INFINITY,
            fmt::format("expected extents {}, got {}", fmt::join(oracle.extents, "x"), fmt::join(got.extents, "x"))};
    Verdict v;
    double squares = 0;
    int64_t counted = 0;
    for (size_t i = 0; i < oracle.data.size(); ++i) {
        const double exact_value = oracle.data[i], g = got.data[i];
        const double expected = kind == Kind::index ? exact_value : round_to(exact_value, out);
        const auto fail = [&](double ratio, std::string_view what) {
            if (v.agrees || ratio > v.worst)
                v.why = fmt::format("{}: expected {:.9g}, got {:.9g}{}", show(oracle, i), exact_value,
                                    std::isnan(g) ? NAN : g, what);  // a NaN's sign says nothing
            v.agrees = false;
            v.worst = std::max(v.worst, ratio);
        };
        if (std::isnan(expected) || std::isnan(g)) {
            if (std::isnan(expected) != std::isnan(g)) fail(INFINITY, "");
            continue;
        }
        if (std::isinf(expected) || std::isinf(g)) {
            if (expected != g) fail(INFINITY, "");
            continue;
        }
        if (bound.kind == Bound::Kind::exact) {
            if (expected != g || std::signbit(expected) != std::signbit(g)) fail(INFINITY, ", which must be bit-equal");
            continue;
        }
        const double error = std::abs(g - exact_value), limit = bound.limit[i];
        const double ratio = error == 0 ? 0 : error / limit;
        if (bound.kind == Bound::Kind::spread) {
            if (!std::isfinite(limit)) continue;  // a product that overflows on the way: only positions were compared
            squares += ratio * ratio;
            ++counted;
            if (ratio > 8) fail(ratio / 8, fmt::format(", {:.1f} sigma", ratio));
            v.worst = std::max(v.worst, ratio / 8);
        } else {
            if (!(ratio <= 1)) fail(ratio, fmt::format(", error {:.3g} above {:.3g}", error, limit));
            v.worst = std::max(v.worst, ratio);
        }
    }
    if (bound.kind == Bound::Kind::spread && counted > 0) {
        const auto all = static_cast<double>(counted);
        const double rms = std::sqrt(squares / all),
                     limit = largest_rms(bound.independent > 0 ? std::min(bound.independent, all) : all);
        if (rms > limit && v.agrees) {
            v.agrees = false;
            v.why = fmt::format(": RMS(e / sigma) {:.2f} above {:.2f} over {} outputs", rms, limit, counted);
        }
        v.worst = std::max(v.worst, rms / limit);
    }
    return v;
}

Verdict judge(const Case& c, const Rounding& rounding, Element out, const Outcome& oracle, const Outcome& got,
              BoundRule rule) {
    if (!got.damage.empty()) return {false, INFINITY, got.damage[0]};
    if (oracle.outputs.size() != got.outputs.size()) return {false, INFINITY, "another number of outputs"};
    const std::vector<Bound> bounds = rule({c, rounding, out, oracle.outputs});
    const Graph graph = c.graph();
    Verdict all;
    for (size_t i = 0; i < oracle.outputs.size(); ++i) {
        const ValueType& type = graph.type_of(graph.outputs[i]);
        if (type.kind == Kind::state && got.outputs[i].data.empty())
            continue;  // keys on a chip that cannot be read back
        const Verdict v = judge(oracle.outputs[i], got.outputs[i], bounds.at(i),
                                type.kind == Kind::state ? Element::f64 : out, type.kind);
        all.worst = std::max(all.worst, v.worst);
        if (!v.agrees && all.agrees) {
            all.agrees = false;
            all.why = fmt::format("output {}{}", i, v.why);
        }
    }
    return all;
}

std::vector<Bound> exact(const Judged& j) {
    return std::vector<Bound>(j.oracle.size());
}

static std::vector<Bound> relative_to_output(const Judged& j, double half_ulps, double relative) {
    std::vector<Bound> bounds;
    for (const Array& y : j.oracle) {
        Bound b{Bound::Kind::absolute, {}};
        for (double x : y.data)
            b.limit.push_back(half_ulps * j.half_ulp(x) + relative * std::abs(x) +
                              (j.rounding.flushes_denormals ? j.smallest_normal() : 0));
        bounds.push_back(std::move(b));
    }
    return bounds;
}

template <int n>
std::vector<Bound> within_ulps(const Judged& j) {
    return relative_to_output(j, 2 * n, 0);
}
template std::vector<Bound> within_ulps<1>(const Judged&);
template std::vector<Bound> within_ulps<4>(const Judged&);

std::vector<Bound> transcendental(const Judged& j) {
    return relative_to_output(j, 2 * j.rounding.transcendental_ulp + 1, 0);
}

double Spread::sigma(const double* x, const double* w, int64_t width, int64_t stride) const {
    const double u = j_.u();
    // Among subnormals a rounding is half their fixed distance, of the product and of the sum.
    const double least = ulp_at(0, j_.rounding.accumulate);
    // A partial sum near zero is a chance of this one order: a kernel's lanes sum in another. So no partial sum counts
    // for less than the root of its squared terms, which is what it would be on average.
    double terms_squared = 0;
    double s = 0, squares = 0, rounded = 0, total = 0;
    const Element activation = j_.rounding.activation;
    for (int64_t k = 0; k < width; ++k) {
        const double term = x[k] * (w ? w[k * stride] : 1);
        s += term;
        terms_squared += term * term;
        squares += std::pow(u * std::sqrt(std::max(s * s, terms_squared)) + least, 2);
        total += std::abs(term);
        if (activation == Element::f16 || activation == Element::bf16)
            rounded += std::pow(ulp_at(x[k], activation) * (w ? w[k * stride] : 1), 2);
    }
    if (const int codes = largest_code(activation))
        for (int64_t k0 = 0; k0 < width; k0 += 32) {
            double largest = 0, weights = 0;
            for (int64_t k = k0; k < std::min(width, k0 + 32); ++k) {
                largest = std::max(largest, std::abs(x[k]));
                weights += w ? w[k * stride] * w[k * stride] : 1;
            }
            rounded += std::pow(largest / codes, 2) * weights;
        }
    const double ulp = ulp_at(s, j_.out);
    double sigma = std::sqrt(ulp * ulp / 12 + squares / 3 + rounded / 12);
    if (j_.c.equal_terms) sigma = static_cast<double>(width) * (u * total + least) + ulp / 2;
    if (j_.rounding.flushes_denormals) sigma += j_.smallest_normal();
    return sigma;
}

}  // namespace busbar::conform
