#pragma once
#include <string>
#include <vector>

#include "base/bytes.h"
#include "dtype/encoding.h"

namespace busbar::safetensors {

/// One tensor of a file's header, checked: its bytes lie inside the file, and together the tensors fill the data
/// exactly.
struct Entry {
    std::string name;
    const Encoding* encoding = nullptr;
    std::vector<int64_t> shape;  ///< outermost first
    uint64_t offset = 0;         ///< from the start of the file; may be unaligned
    uint64_t size = 0;           ///< bytes
};

/// Parses and checks the header of a whole .safetensors file. `path` is for messages only. Throws Error{bad_input}.
std::vector<Entry> parse_header(Bytes file, const std::string& path);

}  // namespace busbar::safetensors
