#pragma once
#include <optional>
#include <string>

#include "agree/weight_sums.h"
#include "device/numerics.h"
#include "ops/op.h"

namespace busbar::agree {

struct WrongSum {
    double worst = 0;  ///< error as a share of what is allowed
    std::string why;
};

/// Freivalds' check of y = W x, all outputs of all rows at once: with random signs r, the sum of r y must be the sum of
/// (W^T r) x, up to eight sigma of what a kernel with this rounding may round in all outputs together. The first row
/// that is wrong, nothing if none is. `out`: the element that y was stored in. Outputs that are no finite number
/// are wrong, unless an input is, or inputs and weights are so large that one may be.
std::optional<WrongSum> check_sums(const WeightSums& sums, const StoredTensor& tensor, const Array& x, const Array& y,
                                   const Rounding& rounding, Element out);

}  // namespace busbar::agree
