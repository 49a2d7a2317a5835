#pragma once
#include <string>
#include <vector>

#include "import/tensor.h"

namespace busbar::safetensors {

/// Maps one .safetensors file and checks it as the reference does (formats.md 3.1): header length, JSON, dtypes,
/// shapes, contiguous offsets, exact end, no duplicate names. dtypes F32, F16, BF16; others are refused by name with
/// the tensor. Integer tensors that carry no weight (for example "rotary_emb.inv_freq" aside) are refused the same way.
/// Throws Error{bad_input} with file and offset.
TensorTable open(const std::string& path);

/// All tensors of a checkpoint folder: model.safetensors, or model.safetensors.index.json with its shards.
/// A missing shard, a tensor listed but absent, present but listed elsewhere, or a shard name that leaves the folder is
/// an error.
TensorTable open_folder(const std::string& folder);

}  // namespace busbar::safetensors
