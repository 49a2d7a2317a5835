#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "import/gguf/file.h"

namespace busbar::gguf {

/// What one GGUF file says of a tensor, checked: its bytes lie inside the file and overlap no other tensor's.
struct TensorInfo {
    std::string name;
    const Encoding* encoding = nullptr;
    std::vector<int64_t> shape;  ///< outermost first
    uint64_t offset = 0;         ///< from the start of the file
    uint64_t size = 0;           ///< bytes
};

/// One file, parsed. Strings are views into the bytes it was parsed from.
struct Part {
    uint32_t version = 0;
    uint64_t alignment = 32;
    std::map<std::string, Value, std::less<>> metadata;
    std::vector<TensorInfo> tensors;  ///< in the order of the file
};

/// Parses the whole content of one GGUF file. `path` is for messages only. Throws Error{bad_input}; whatever the bytes
/// are, it takes no more memory than their size and 64 MiB.
Part parse_part(Bytes bytes, const std::string& path);

}  // namespace busbar::gguf
