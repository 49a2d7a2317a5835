#pragma once
#include <memory>
#include <string>

#include "base/bytes.h"

namespace busbar {

/// A file mapped read-only. Bytes are valid while the object lives.
/// A file cut short while mapped does not kill the process: the first read past its new end maps zeros, marks the file as cut,
/// and the next check_intact() throws Error{bad_input} with the file's name. Callers check at the end of a load and of every step.
class MappedFile {
  public:
    /// Throws Error{bad_input} if the path cannot be opened, is not a regular file or cannot be mapped;
    /// Error{does_not_fit} if the process has no address space left for it.
    static std::shared_ptr<MappedFile> open(const std::string& path);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    Bytes bytes() const { return {data_, size_}; }
    uint64_t size() const { return size_; }
    const std::string& path() const { return path_; }

    void check_intact() const;
    /// Tells the kernel that these bytes will not be read soon.
    void drop(uint64_t offset, uint64_t length) const;

  private:
    MappedFile() = default;
    std::string path_;
    const std::byte* data_ = nullptr;
    uint64_t size_ = 0;
    int slot_ = -1;
};

/// Reads a whole small file. Throws Error{bad_input} if it cannot be read or is larger than `limit` bytes.
std::string read_file(const std::string& path, uint64_t limit = 1ull << 30);

}  // namespace busbar
