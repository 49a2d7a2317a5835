#include "import/gguf/file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "import/gguf/part.h"

namespace busbar::gguf {

namespace {

constexpr int64_t max_parts = 1000;

const char* kind_of(const Value& value) {
    constexpr const char* names[] = {"an integer", "a float", "a bool", "a string", "an array"};
    return names[value.index()];
}

std::optional<int64_t> integer_of(const Part& part, std::string_view key, const std::string& path) {
    const auto it = part.metadata.find(key);
    if (it == part.metadata.end()) return std::nullopt;
    if (const int64_t* value = std::get_if<int64_t>(&it->second)) return *value;
    throw bad_input(path, "[gguf] key {}: expected an integer, got {}", quote(key), kind_of(it->second));
}

std::string part_suffix(int64_t number, int64_t count) {
    return fmt::format("-{:05}-of-{:05}.gguf", number, count);
}

/// "dir/model" of "dir/model-00002-of-00003.gguf". The names of the other parts follow from it and from nothing else.
std::string prefix_of(const std::string& path, int64_t number, int64_t count) {
    const std::string suffix = part_suffix(number, count);
    if (!path.ends_with(suffix))
        throw bad_input(
            path, "[gguf] this is part {} of {}: expected a name that ends in {}; give the files their names back",
            number, count, quote(suffix));
    return path.substr(0, path.size() - suffix.size());
}

bool is_regular_file(const std::string& path) {
    struct stat st {};
    return stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

std::vector<std::string> part_paths(const std::string& prefix, int64_t count) {
    std::vector<std::string> paths;
    std::string missing;
    int64_t missing_count = 0;
    for (int64_t i = 1; i <= count; ++i) {
        paths.push_back(prefix + part_suffix(i, count));
        if (is_regular_file(paths.back())) continue;
        if (++missing_count <= 8) missing += (missing.empty() ? "" : ", ") + paths.back();
    }
    if (missing_count > 0)
        throw bad_input(prefix + part_suffix(1, count), "[gguf] expected all {} parts of the model, {} missing: {}{}",
                        count, missing_count == 1 ? "one is" : fmt::format("{} are", missing_count), missing,
                        missing_count > 8 ? " ..." : "");
    return paths;
}

void add_tensors(TensorTable& table, Part& part, const std::shared_ptr<const MappedFile>& file) {
    for (TensorInfo& info : part.tensors) {
        StoredTensor t;
        t.name = info.name;
        t.encoding = info.encoding;
        t.shape = std::move(info.shape);
        t.offset = info.offset;
        t.bytes = file->bytes().subspan(info.offset, info.size);
        t.file = file;
        const auto [it, added] = table.emplace(info.name, std::move(t));
        if (!added)
            throw bad_input(file->path(), "[gguf] tensor {} is already in {}", quote(info.name),
                            it->second.file->path());
    }
}

}  // namespace

File File::open(const std::string& path) {
    File result;
    std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    Part part = parse_part(file->bytes(), path);
    const int64_t count = integer_of(part, "split.count", path).value_or(1);
    const int64_t number = integer_of(part, "split.no", path).value_or(0);
    if (count < 0 || count > max_parts)
        throw bad_input(path, "[gguf] key 'split.count': expected at most {}, got {}", max_parts, with_commas(count));
    if (count <= 1) {
        result.path_ = path;
        result.parts_.push_back(file);
        add_tensors(result.tensors_, part, file);
    } else {
        if (number < 0 || number >= count)
            throw bad_input(path, "[gguf] key 'split.no': expected 0 to {}, got {}", count - 1, number);
        const std::vector<std::string> paths = part_paths(prefix_of(path, number + 1, count), count);
        result.path_ = paths[0];
        Part first;
        for (int64_t i = 0; i < count; ++i) {
            std::shared_ptr<const MappedFile> other = i == number ? file : MappedFile::open(paths[i]);
            Part p = i == number ? std::move(part) : parse_part(other->bytes(), paths[i]);
            const int64_t its_count = integer_of(p, "split.count", paths[i]).value_or(1);
            const int64_t its_number = integer_of(p, "split.no", paths[i]).value_or(0);
            if (its_count != count || its_number != i)
                throw bad_input(paths[i], "[gguf] expected part {} of {}, but the file says that it is part {} of {}",
                                i + 1, count, its_number + 1, its_count);
            result.parts_.push_back(other);
            add_tensors(result.tensors_, p, other);
            if (i == 0) first = std::move(p);
        }
        part = std::move(first);
        const auto total = integer_of(part, "split.tensors.count", paths[0]);
        if (total && static_cast<uint64_t>(*total) != result.tensors_.size())
            throw bad_input(paths[0], "[gguf] expected {} tensors in all parts, got {}", with_commas(*total),
                            with_commas(result.tensors_.size()));
    }
    result.version_ = part.version;
    result.alignment_ = part.alignment;
    result.metadata_ = std::move(part.metadata);
    for (const auto& p : result.parts_) p->check_intact();
    return result;
}

namespace {

[[noreturn]] void wrong_type(const File& file, std::string_view key, const char* expected, const Value& value) {
    throw bad_input(file.path(), "[gguf] key {}: expected {}, got {}", quote(key), expected, kind_of(value));
}

[[noreturn]] void absent(const File& file, std::string_view key) {
    throw bad_input(file.path(), "[gguf] key {} is missing; convert the model again with a current converter",
                    quote(key));
}

template <typename T>
std::optional<T> get(const File& file, std::string_view key, const char* expected) {
    const auto it = file.metadata().find(key);
    if (it == file.metadata().end()) return std::nullopt;
    if (const T* value = std::get_if<T>(&it->second)) return *value;
    wrong_type(file, key, expected, it->second);
}

}  // namespace

std::optional<int64_t> File::get_int(std::string_view key) const {
    return get<int64_t>(*this, key, "an integer");
}
std::optional<bool> File::get_bool(std::string_view key) const {
    return get<bool>(*this, key, "a bool");
}

std::optional<double> File::get_float(std::string_view key) const {
    const auto it = metadata_.find(key);
    if (it != metadata_.end())
        if (const int64_t* value = std::get_if<int64_t>(&it->second)) return static_cast<double>(*value);
    return get<double>(*this, key, "a float");
}

std::optional<std::string> File::get_string(std::string_view key) const {
    const auto view = get<std::string_view>(*this, key, "a string");
    return view ? std::optional<std::string>(*view) : std::nullopt;
}

const Array* File::get_array(std::string_view key) const {
    const auto it = metadata_.find(key);
    if (it == metadata_.end()) return nullptr;
    if (const Array* value = std::get_if<Array>(&it->second)) return value;
    wrong_type(*this, key, "an array", it->second);
}

int64_t File::need_int(std::string_view key) const {
    if (const auto value = get_int(key)) return *value;
    absent(*this, key);
}

double File::need_float(std::string_view key) const {
    if (const auto value = get_float(key)) return *value;
    absent(*this, key);
}

std::string File::need_string(std::string_view key) const {
    if (auto value = get_string(key)) return *std::move(value);
    absent(*this, key);
}

}  // namespace busbar::gguf
