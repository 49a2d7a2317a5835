#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "dtype/stored_tensor.h"

namespace busbar::agree {

/// For Freivalds' check of y = W x: a sign for each output, and the sum of the rows of W with these signs, in double
/// precision. Then sum(signs y) = sum(of_columns x) for every x.
struct WeightSums {
    std::vector<double> signs, of_columns;
    std::vector<double> squares;  ///< of each column: for what the products may round
};
/// One pass over the weight, on several threads.
WeightSums sum_weight(const StoredTensor& tensor, uint64_t seed, int threads);

/// Some rows of a weight as a weight of its own; keeps what it needs of the original's memory in a copy.
std::shared_ptr<const StoredTensor> rows_of(const StoredTensor& tensor, const std::vector<int64_t>& rows);

}  // namespace busbar::agree
