#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace busbar {

/// The API keys of --api-key-file: one a line, # begins a comment. Only their hashes are kept, and compared in constant
/// time.
class Keys {
  public:
    Keys() = default;
    /// Throws Error{bad_input} for a file without keys, or a key shorter than 16 characters or with odd ones.
    static Keys from_text(const std::string& text, const std::string& address);
    bool empty() const { return hashes_.empty(); }
    /// The tenant that a request's Authorization header proves: "Bearer KEY", or "Basic ..." with the key as password
    /// (that is how a browser asks people). Nothing where it proves none.
    std::optional<uint64_t> tenant(std::string_view authorization) const;

  private:
    std::vector<std::array<unsigned char, 32>> hashes_;
};

}  // namespace busbar
