#pragma once
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/mapped_file.h"

namespace busbar {

/// Where a model's packed weights are kept between runs, and what they were packed from.
struct KeepPacked {
    std::string path;    ///< of the file; "": nothing is kept
    std::string source;  ///< a hash of the model's own files
};

/// Packed weights in a file that later runs map instead of packing again. The file begins with a text that says all
/// that its bytes depend on; that text is compared as a whole, never parsed, so that a file of another model, form or
/// layout is simply not this one. Written whole or not at all: under a name of its own, and renamed when it is on the
/// disk.
class PackedFile {
  public:
    struct Entry {
        std::string name, form;
        int layout = 0;
        uint64_t bytes = 0;
    };

    /// nullptr if there is no such file, or it is of something else or not whole.
    static std::shared_ptr<PackedFile> open(const KeepPacked& where, std::span<const Entry> entries);
    /// A new one, to be filled through at() and then kept. nullptr if the disk does not take it.
    static std::shared_ptr<PackedFile> create(const KeepPacked& where, std::span<const Entry> entries);
    /// Waits until the file is on the disk; a new one that was not kept goes.
    ~PackedFile();
    PackedFile(const PackedFile&) = delete;
    PackedFile& operator=(const PackedFile&) = delete;

    /// Memory of entry i, aligned to 64 bytes; to be written only if the file is new.
    std::span<std::byte> at(size_t i) const;
    /// All entries.
    Bytes packed() const;
    /// A new file is complete: brings it to the disk and renames it, on a thread of its own.
    void keep();
    /// Throws Error{bad_input} if somebody cut the file short.
    void check_intact() const;

  private:
    PackedFile() = default;
    void lay_out(const KeepPacked& where, std::span<const Entry> entries);

    std::string path_, text_, temporary_;
    std::vector<uint64_t> offsets_, sizes_;
    uint64_t size_ = 0;
    std::shared_ptr<const MappedFile> mapped_;  ///< of a file that was there
    std::byte* data_ = nullptr;
    int file_ = -1;
    bool kept_ = false;
    std::thread writer_;
};

}  // namespace busbar
