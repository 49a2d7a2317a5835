#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "import/tensor.h"

namespace busbar::gguf {

/// A metadata array. Strings are views into the mapping, so a 150,000-piece vocabulary costs no copies.
struct Array {
    /// Numbers are widened: every integer type (and bool) to int64, f32 and f64 to double. Arrays of arrays are kept
    /// only as `nested`.
    std::variant<std::vector<int64_t>, std::vector<double>, std::vector<std::string_view>, std::vector<Array>> items;
    uint32_t element_type = 0;  ///< GGUF value type id
};

/// A metadata value; u64 above 2^63-1 is refused at reading where it is not a count.
using Value = std::variant<int64_t, double, bool, std::string_view, Array>;

/// Maps a GGUF file (v2 or v3; split files are joined, given any part or the first) and checks every claim it makes
/// against its size before any memory is taken: counts, lengths, ne products, types, alignment, offsets, overlaps,
/// duplicate names and keys. Weights stay in the mapping. Throws Error{bad_input} with file and offset and, where there
/// is one, the fix. A tensor whose type this build lacks is an error that names the tensor and the type. A
/// vocabulary-only file (no tensors) is legal. Format: formats.md section 4.
class File {
  public:
    static File open(const std::string& path);

    const std::string& path() const { return path_; }
    uint32_t version() const { return version_; }
    uint64_t alignment() const { return alignment_; }
    /// All parts, first one first.
    const std::vector<std::shared_ptr<const MappedFile>>& parts() const { return parts_; }
    const std::map<std::string, Value, std::less<>>& metadata() const { return metadata_; }
    const TensorTable& tensors() const { return tensors_; }

    /// Typed access. get_* returns nullopt if the key is absent and throws Error{bad_input} naming the key if it has
    /// another type (an integer is accepted where a float is asked for). need_* throws also if it is absent.
    std::optional<int64_t> get_int(std::string_view key) const;
    std::optional<double> get_float(std::string_view key) const;
    std::optional<bool> get_bool(std::string_view key) const;
    std::optional<std::string> get_string(std::string_view key) const;
    const Array* get_array(std::string_view key) const;
    int64_t need_int(std::string_view key) const;
    double need_float(std::string_view key) const;
    std::string need_string(std::string_view key) const;

  private:
    std::string path_;
    uint32_t version_ = 0;
    uint64_t alignment_ = 32;
    std::vector<std::shared_ptr<const MappedFile>> parts_;
    std::map<std::string, Value, std::less<>> metadata_;
    TensorTable tensors_;
};

}  // namespace busbar::gguf
