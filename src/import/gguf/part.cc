#include "import/gguf/part.h"

#include <algorithm>
#include <bit>
#include <set>

#include "base/error.h"
#include "base/utf8.h"
#include "import/gguf/types.h"

namespace busbar::gguf {

namespace {

enum ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, value_types };

constexpr const char* value_type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                            "bool", "string", "array", "u64", "i64", "f64"};

// The fewest bytes a value of each type takes in a file: what bounds a claimed count.
constexpr uint64_t least_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

constexpr int max_nesting = 8;
constexpr uint64_t max_key_bytes = 65535, max_tensor_name_bytes = 64, max_alignment = 1ull << 30;
constexpr uint32_t max_dims = 4;

class Reader {
  public:
    Reader(Bytes bytes, const std::string& path)
        : bytes_(bytes), path_(path), memory_left_(bytes.size() + (uint64_t{64} << 20)) {}

    Part read();

  private:
    std::string at(uint64_t offset) const { return fmt::format("{}: offset {}", path_, with_commas(offset)); }
    std::string here() const { return at(pos_); }
    uint64_t left() const { return bytes_.size() - pos_; }

    void need(uint64_t count, const char* what) const {
        if (count > left())
            throw bad_input(here(),
                            "[gguf] expected {} bytes for {}, but the file ends after {}; it is cut short or damaged",
                            with_commas(count), what, with_commas(left()));
    }

    template <typename T>
    T number(const char* what) {
        need(sizeof(T), what);
        const T value = load<T>(bytes_.data() + pos_);
        pos_ += sizeof(T);
        return value;
    }

    /// Widening u8 to 64 bits could cost eight times the file; a budget keeps the whole within its size.
    void take_memory(uint64_t amount) {
        if (amount > memory_left_)
            throw bad_input(
                here(),
                "[gguf] the metadata up to here would take more memory than the whole file; it is damaged or hostile");
        memory_left_ -= amount;
    }

    std::string_view text(const char* what) {
        const uint64_t length = number<uint64_t>(what);
        need(length, what);
        const auto* begin = reinterpret_cast<const char*>(bytes_.data() + pos_);
        pos_ += length;
        return {begin, length};
    }

    std::string name(const char* what, uint64_t limit);
    void read_header();
    void read_metadata();
    Value read_value(uint32_t type, const std::string& key);
    Array read_array(const std::string& key, int depth);
    int64_t integer(uint32_t type, const std::string& key);
    double real(uint32_t type) { return type == f32 ? number<float>("an f32") : number<double>("an f64"); }
    void read_alignment();
    void read_tensors();
    TensorInfo read_tensor();
    void place_tensors();

    Bytes bytes_;
    const std::string& path_;
    uint64_t pos_ = 0;
    uint64_t memory_left_;
    uint64_t tensor_count_ = 0, key_count_ = 0;
    std::vector<uint64_t> info_offsets_;
    Part part_;
};

std::string Reader::name(const char* what, uint64_t limit) {
    const uint64_t start = pos_;
    const std::string_view view = text(what);
    if (view.empty() || view.size() > limit)
        throw bad_input(at(start), "[gguf] expected {} of 1 to {} bytes, got {}", what, limit,
                        with_commas(view.size()));
    if (!utf8_valid(view) || view.find('\0') != std::string_view::npos)
        throw bad_input(at(start), "[gguf] expected {} in UTF-8, got {}", what, quote(view));
    return std::string(view);
}

void Reader::read_header() {
    if (bytes_.size() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0)
        throw bad_input(
            at(0), "[gguf] expected the letters GGUF, got {}; this is not a GGUF file",
            quote(std::string_view(reinterpret_cast<const char*>(bytes_.data()), std::min<size_t>(bytes_.size(), 4))));
    pos_ = 4;
    part_.version = number<uint32_t>("the version");
    if ((part_.version & 0xFFFF) == 0 && part_.version != 0)
        throw bad_input(at(4),
                        "[gguf] this file is big-endian, which Busbar does not read; convert the model again on a "
                        "little-endian machine");
    if (part_.version == 1)
        throw bad_input(
            at(4),
            "[gguf] expected version 2 or 3, got version 1, which was replaced in 2023; convert the model again");
    if (part_.version != 2 && part_.version != 3)
        throw bad_input(at(4), "[gguf] expected version 2 or 3, got {}", part_.version);
    tensor_count_ = number<uint64_t>("the tensor count");
    key_count_ = number<uint64_t>("the key count");
    // A key takes at least 13 bytes (length, type, one byte of value), a tensor 24 (length, dimensions, type, offset).
    if (key_count_ > left() / 13)
        throw bad_input(at(16), "[gguf] the file claims {} keys, which {} bytes cannot hold", with_commas(key_count_),
                        with_commas(left()));
    if (tensor_count_ > left() / 24)
        throw bad_input(at(8), "[gguf] the file claims {} tensors, which {} bytes cannot hold",
                        with_commas(tensor_count_), with_commas(left()));
}

void Reader::read_metadata() {
    for (uint64_t i = 0; i < key_count_; ++i) {
        const uint64_t start = pos_;
        const std::string key = name("a key", max_key_bytes);
        take_memory(160 + key.size());
        const uint32_t type = number<uint32_t>("a value type");
        Value value = read_value(type, key);
        if (!part_.metadata.emplace(key, std::move(value)).second)
            throw bad_input(at(start), "[gguf] key {} appears twice", quote(key));
    }
}

Value Reader::read_value(uint32_t type, const std::string& key) {
    if (type >= value_types)
        throw bad_input(at(pos_ - 4), "[gguf] key {}: expected a value type from 0 to 12, got {}", quote(key), type);
    if (type == f32 || type == f64) return real(type);
    if (type == boolean) return integer(type, key) != 0;
    if (type == string) return text("a string");
    if (type == array) return read_array(key, 1);
    return integer(type, key);
}

int64_t Reader::integer(uint32_t type, const std::string& key) {
    switch (type) {
        case u8:
            return number<uint8_t>("a u8");
        case i8:
            return number<int8_t>("an i8");
        case u16:
            return number<uint16_t>("a u16");
        case i16:
            return number<int16_t>("an i16");
        case u32:
            return number<uint32_t>("a u32");
        case i32:
            return number<int32_t>("an i32");
        case i64:
            return number<int64_t>("an i64");
        case boolean: {
            const uint8_t value = number<uint8_t>("a bool");
            if (value > 1)
                throw bad_input(at(pos_ - 1), "[gguf] key {}: expected a bool of 0 or 1, got {}", quote(key), value);
            return value;
        }
        default: {
            const uint64_t value = number<uint64_t>("a u64");
            if (value > INT64_MAX)
                throw bad_input(at(pos_ - 8), "[gguf] key {}: expected at most 2^63-1, got {}", quote(key),
                                with_commas(value));
            return static_cast<int64_t>(value);
        }
    }
}

Array Reader::read_array(const std::string& key, int depth) {
    if (depth > max_nesting)
        throw bad_input(here(), "[gguf] key {}: expected arrays nested at most {} deep", quote(key), max_nesting);
    Array result;
    result.element_type = number<uint32_t>("an array's element type");
    const uint32_t type = result.element_type;
    if (type >= value_types)
        throw bad_input(at(pos_ - 4), "[gguf] key {}: expected an element type from 0 to 12, got {}", quote(key), type);
    const uint64_t start = pos_, count = number<uint64_t>("an array's length");
    if (count > left() / least_bytes[type])
        throw bad_input(at(start), "[gguf] key {}: an array of {} {} values does not fit the {} bytes that are left",
                        quote(key), with_commas(count), value_type_names[type], with_commas(left()));
    const auto fill = [&](auto items, auto&& read) {
        take_memory(count * sizeof(items[0]));
        items.reserve(count);
        for (uint64_t i = 0; i < count; ++i) items.push_back(read());
        result.items = std::move(items);
    };
    if (type == f32 || type == f64)
        fill(std::vector<double>(), [&] { return real(type); });
    else if (type == string)
        fill(std::vector<std::string_view>(), [&] { return text("a string"); });
    else if (type == array)
        fill(std::vector<Array>(), [&] { return read_array(key, depth + 1); });
    else
        fill(std::vector<int64_t>(), [&] { return integer(type, key); });
    return result;
}

void Reader::read_alignment() {
    const auto it = part_.metadata.find("general.alignment");
    if (it == part_.metadata.end()) return;
    const int64_t* value = std::get_if<int64_t>(&it->second);
    const bool good = value && *value > 0 && std::has_single_bit(static_cast<uint64_t>(*value)) &&
                      static_cast<uint64_t>(*value) <= max_alignment;
    if (!good)
        throw bad_input(path_, "[gguf] key 'general.alignment': expected a power of two up to 2^30, got {}",
                        value ? std::to_string(*value) : "something that is no integer");
    part_.alignment = static_cast<uint64_t>(*value);
}

TensorInfo Reader::read_tensor() {
    TensorInfo t;
    const uint64_t start = pos_;
    t.name = name("a tensor name", max_tensor_name_bytes);
    take_memory(320 + 2 * t.name.size());
    const uint32_t dims = number<uint32_t>("the number of dimensions");
    if (dims > max_dims)
        throw bad_input(at(pos_ - 4), "[gguf] tensor {}: expected at most {} dimensions, got {}", quote(t.name),
                        max_dims, dims);
    t.shape.resize(dims);
    // Zero extents are legal, but the product of the others must fit all the same: code multiplies in any order.
    uint64_t product = 1;
    bool empty = false;
    for (uint32_t i = 0; i < dims; ++i) {
        const uint64_t extent = number<uint64_t>("a dimension");
        const auto next = checked_multiply(product, std::max<uint64_t>(extent, 1));
        if (!next || *next > INT64_MAX)
            throw bad_input(at(pos_ - 8), "[gguf] tensor {}: the product of its dimensions overflows at {}",
                            quote(t.name), with_commas(extent));
        product = *next;
        empty = empty || extent == 0;
        t.shape[dims - 1 - i] = static_cast<int64_t>(extent);  // the file lists the contiguous dimension first
    }
    const uint64_t type_offset = pos_;
    const uint32_t type = number<uint32_t>("a tensor type");
    t.encoding = type <= INT32_MAX ? find_gguf_encoding(static_cast<int>(type)) : nullptr;
    if (!t.encoding)
        throw bad_input(at(type_offset), "[gguf] tensor {} has {}, which this build does not read. Known: {}",
                        quote(t.name), type_name(type), known_types());
    const uint64_t width = dims == 0 ? 1 : static_cast<uint64_t>(t.shape.back());
    if (width % t.encoding->block != 0)
        throw bad_input(at(start), "[gguf] tensor {}: expected rows of a multiple of {} elements for {}, got {}",
                        quote(t.name), t.encoding->block, type_name(type), with_commas(width));
    const auto size = checked_multiply(empty ? 0 : product / t.encoding->block, t.encoding->block_bytes);
    if (!size) throw bad_input(at(start), "[gguf] tensor {}: its size in bytes overflows", quote(t.name));
    t.size = *size;
    t.offset = number<uint64_t>("a tensor offset");
    return t;
}

void Reader::read_tensors() {
    std::set<std::string_view> names;
    part_.tensors.reserve(tensor_count_);
    info_offsets_.reserve(tensor_count_);
    for (uint64_t i = 0; i < tensor_count_; ++i) {
        info_offsets_.push_back(pos_);
        part_.tensors.push_back(read_tensor());
        if (!names.insert(part_.tensors.back().name).second)
            throw bad_input(at(info_offsets_.back()), "[gguf] tensor {} appears twice",
                            quote(part_.tensors.back().name));
    }
}

/// Turns the offsets of the data section into offsets of the file, and checks them.
void Reader::place_tensors() {
    const uint64_t data = round_up(pos_, part_.alignment);
    std::vector<size_t> order(part_.tensors.size());
    for (size_t i = 0; i < order.size(); ++i) {
        order[i] = i;
        TensorInfo& t = part_.tensors[i];
        if (t.offset % part_.alignment != 0)
            throw bad_input(at(info_offsets_[i]),
                            "[gguf] tensor {}: expected an offset that is a multiple of {}, got {}", quote(t.name),
                            part_.alignment, with_commas(t.offset));
        const auto begin = checked_add(data, t.offset);
        const auto end = begin ? checked_add(*begin, t.size) : std::nullopt;
        if (!end)
            throw bad_input(at(info_offsets_[i]), "[gguf] tensor {}: offset {} overflows", quote(t.name),
                            with_commas(t.offset));
        if (*end > bytes_.size())
            throw bad_input(at(info_offsets_[i]),
                            "[gguf] tensor {} needs bytes {}..{}, but the file ends at {}; it is cut short or damaged",
                            quote(t.name), with_commas(*begin), with_commas(*end), with_commas(bytes_.size()));
        t.offset = *begin;
    }
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        const TensorInfo &x = part_.tensors[a], &y = part_.tensors[b];
        return std::tie(x.offset, x.size) < std::tie(y.offset, y.size);
    });
    const TensorInfo* last = nullptr;
    for (const size_t i : order) {
        const TensorInfo& t = part_.tensors[i];
        if (t.size == 0) continue;
        if (last && t.offset < last->offset + last->size)
            throw bad_input(at(info_offsets_[i]), "[gguf] tensor {} at bytes {}..{} overlaps tensor {} at {}..{}",
                            quote(t.name), with_commas(t.offset), with_commas(t.offset + t.size), quote(last->name),
                            with_commas(last->offset), with_commas(last->offset + last->size));
        last = &t;
    }
}

Part Reader::read() {
    read_header();
    read_metadata();
    read_alignment();
    read_tensors();
    place_tensors();
    return std::move(part_);
}

}  // namespace

Part parse_part(Bytes bytes, const std::string& path) {
    return Reader(bytes, path).read();
}

}  // namespace busbar::gguf
