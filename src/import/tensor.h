#pragma once
#include <map>
#include <string>

#include "dtype/stored_tensor.h"

namespace busbar {

/// Tensors by name, over all parts or shards of a model.
using TensorTable = std::map<std::string, StoredTensor, std::less<>>;

}  // namespace busbar
