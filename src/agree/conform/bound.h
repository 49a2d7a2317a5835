#pragma once
#include "agree/conform/case.h"

namespace busbar::conform {

/// What an output may be wrong by (agreement.md, level 1), from what the kernel row declares that it rounds.
struct Bound {
    enum class Kind : uint8_t {
        exact,     ///< bit-equal (any NaN equals any NaN) once the oracle's number is rounded to the output's element
        absolute,  ///< at most limit[i]
        spread,    ///< limit[i] is a predicted sigma: max |e| / sigma <= 8, RMS(e / sigma) <= 1.5
    };
    Kind kind = Kind::exact;
    std::vector<double> limit;
    double independent = 0;  ///< so many of the errors are, in effect; 0: all. The RMS of few may be larger by chance.
};

/// What a rule sees. Outputs of the oracle are cut to the rows in use; inputs are at capacity.
struct Judged {
    const Case& c;
    const Rounding& rounding;
    Element out;  ///< element of the chip's values
    const std::vector<Array>& oracle;

    double u() const;                 ///< unit roundoff of the accumulator
    double E() const;                 ///< relative error of a transcendental
    double half_ulp(double y) const;  ///< of the output's element
    double smallest_normal() const;
};

/// One bound per output.
using BoundRule = std::vector<Bound> (*)(const Judged&);

double unit_roundoff(Element e);
/// The largest code of activations that are rounded to integers in blocks of 32, with one step amax / this; 0 for
/// elements that are not.
int largest_code(Element activation);
/// Significant bits of a number rounded to `e`; of integers, those of the largest of a block.
double significant_bits(Element e);
double largest_finite(Element e);
/// Distance between neighbours of `e` at |y|.
double ulp_at(double y, Element e);

struct Verdict {
    bool agrees = true;
    double worst = 0;  ///< largest error as a share of what is allowed
    std::string why;
};
Verdict judge(const Array& oracle, const Array& got, const Bound& bound, Element out, Kind kind);
/// All outputs, guards and extents.
Verdict judge(const Case& c, const Rounding& rounding, Element out, const Outcome& oracle, const Outcome& got,
              BoundRule rule);

// Rules that several ops share.
std::vector<Bound> exact(const Judged&);
template <int n>
std::vector<Bound> within_ulps(const Judged& j);
std::vector<Bound> transcendental(const Judged&);

/// Of sum_k x[k] w[k]: sigma from the partial sums in sequence, none counted below its expectation; where all terms are
/// equal and round alike, the bound K u S.
class Spread {
  public:
    explicit Spread(const Judged& j) : j_(j) {}
    Bound::Kind kind() const { return j_.c.equal_terms ? Bound::Kind::absolute : Bound::Kind::spread; }
    /// `w` nullptr: ones.
    double sigma(const double* x, const double* w, int64_t width, int64_t w_stride = 1) const;

  private:
    const Judged& j_;
};

}  // namespace busbar::conform
