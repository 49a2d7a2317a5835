#include "run/packed_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/large_pages.h"

namespace busbar {

namespace {

constexpr uint64_t page = 4096;

}  // namespace

void PackedFile::lay_out(const KeepPacked& where, std::span<const Entry> entries) {
    path_ = where.path;
    text_ = fmt::format("Busbar's packed weights, version 1\nsource {}\n", where.source);
    for (const Entry& e : entries) text_ += fmt::format("{} {} {} {}\n", e.form, e.layout, e.bytes, quote(e.name));
    text_ += "end\n";
    size_ = round_up(text_.size(), page);
    for (const Entry& e : entries) {
        offsets_.push_back(size_);
        sizes_.push_back(e.bytes);
        size_ = round_up(size_ + e.bytes, page);
    }
}

std::shared_ptr<PackedFile> PackedFile::open(const KeepPacked& where, std::span<const Entry> entries) {
    std::shared_ptr<PackedFile> file(new PackedFile);
    file->lay_out(where, entries);
    std::error_code no;
    if (std::filesystem::file_size(where.path, no) != file->size_ || no) return nullptr;
    try {
        file->mapped_ = MappedFile::open(where.path);
    } catch (const Error&) {
        return nullptr;  // the weights can always be packed again
    }
    const Bytes bytes = file->mapped_->bytes();
    if (bytes.size() != file->size_ || std::memcmp(bytes.data(), file->text_.data(), file->text_.size()) != 0)
        return nullptr;
    file->data_ = const_cast<std::byte*>(bytes.data());
    file->kept_ = true;
    return file;
}

std::shared_ptr<PackedFile> PackedFile::create(const KeepPacked& where, std::span<const Entry> entries) {
    std::shared_ptr<PackedFile> file(new PackedFile);
    file->lay_out(where, entries);
    // As much again stays free: a cache has no business filling a disk.
    struct statvfs disk {};
    const std::string folder = std::filesystem::path(where.path).parent_path().string();
    if (statvfs(folder.c_str(), &disk) != 0 || disk.f_bavail * disk.f_frsize < 2 * file->size_) return nullptr;
    std::string name = where.path + ".XXXXXX";
    file->file_ = mkstemp(name.data());
    if (file->file_ < 0) return nullptr;
    file->temporary_ = name;
    // Space is taken before it is mapped: a full disk would show as a signal later.
    if (posix_fallocate(file->file_, 0, static_cast<off_t>(file->size_)) != 0) return nullptr;
    void* const memory = map_file(file->size_, PROT_READ | PROT_WRITE, MAP_SHARED, file->file_);
    if (memory == MAP_FAILED) return nullptr;
    file->data_ = static_cast<std::byte*>(memory);
    std::memcpy(file->data_, file->text_.data(), file->text_.size());
    return file;
}

PackedFile::~PackedFile() {
    if (writer_.joinable()) writer_.join();
    if (mapped_) return;
    if (data_) munmap(data_, size_);
    if (file_ >= 0) close(file_);
    if (!kept_ && !temporary_.empty()) unlink(temporary_.c_str());
}

std::span<std::byte> PackedFile::at(size_t i) const {
    return {data_ + offsets_[i], sizes_[i]};
}

Bytes PackedFile::packed() const {
    return offsets_.empty() ? Bytes{} : Bytes{data_ + offsets_[0], size_ - offsets_[0]};
}

void PackedFile::keep() {
    writer_ = std::thread([this] { kept_ = fdatasync(file_) == 0 && rename(temporary_.c_str(), path_.c_str()) == 0; });
}

void PackedFile::check_intact() const {
    if (mapped_) mapped_->check_intact();
}

}  // namespace busbar
