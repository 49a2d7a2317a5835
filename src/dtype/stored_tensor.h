#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/mapped_file.h"
#include "dtype/encoding.h"

namespace busbar {

/// A weight as it lies in a mapped file. Shape in the order of the mathematics: {rows (outputs), columns (inputs, contiguous)}.
struct StoredTensor {
    std::string name;                   ///< as in the file
    const Encoding* encoding = nullptr;
    std::vector<int64_t> shape;         ///< outermost first; {} is a scalar
    /// Exactly the tensor's bytes, inside file->bytes(). They may lie at any address (safetensors promises no alignment): read them
    /// with load<T>(), memcpy or unaligned vector loads, never through a float*.
    Bytes bytes;
    uint64_t offset = 0;                ///< of bytes in the file
    std::shared_ptr<const MappedFile> file;

    int64_t count() const {
        int64_t n = 1;
        for (int64_t d : shape) n *= d;
        return n;
    }
    int64_t width() const { return shape.empty() ? 1 : shape.back(); }
};

}  // namespace busbar
