#pragma once
#include <string>
#include <vector>

#include "base/bytes.h"

namespace busbar::gguf {

/// Writes GGUF files, true or false ones, for the tests of this folder. Nothing is checked.
class FileBytes {
  public:
    explicit FileBytes(uint32_t version = 3) { version_ = version; }

    template <typename T>
    static std::string raw(T value) {
        return std::string(reinterpret_cast<const char*>(&value), sizeof value);
    }
    static std::string text(std::string_view s) { return raw<uint64_t>(s.size()) + std::string(s); }
    static std::string array(uint32_t type, uint64_t count, const std::string& items) {
        return raw(type) + raw(count) + items;
    }

    FileBytes& key(std::string_view name, uint32_t type, const std::string& value) {
        keys_ += text(name) + raw(type) + value;
        ++key_count;
        return *this;
    }
    FileBytes& tensor(std::string_view name, const std::vector<uint64_t>& ne, uint32_t type, uint64_t offset) {
        infos_ += text(name) + raw<uint32_t>(ne.size());
        for (const uint64_t n : ne) infos_ += raw(n);
        infos_ += raw(type) + raw(offset);
        ++tensor_count;
        return *this;
    }
    FileBytes& data(size_t size) {
        data_.assign(size, '\x3C');
        return *this;
    }

    /// The whole file; the counts may be set to lies before.
    std::string bytes(uint64_t alignment = 32) const {
        std::string out = "GGUF" + raw(version_) + raw(tensor_count) + raw(key_count) + keys_ + infos_;
        if (!data_.empty()) out.resize(round_up(out.size(), alignment), '\0');
        return out + data_;
    }

    uint64_t key_count = 0, tensor_count = 0;

  private:
    uint32_t version_ = 3;
    std::string keys_, infos_, data_;
};

}  // namespace busbar::gguf
