#include "import/safetensors/header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "base/error.h"

namespace busbar::safetensors {

namespace {

using Json = nlohmann::json;

constexpr uint64_t max_header_bytes = 100'000'000;  // the reference's own limit
constexpr size_t max_dims = 8;

struct Dtype {
    std::string_view name, encoding;
};
constexpr Dtype dtypes[] = {{"F32", "f32"}, {"F16", "f16"}, {"BF16", "bf16"}};

/// What the header says of one tensor, before it is checked.
struct Claim {
    std::string name;
    std::optional<std::string> dtype;
    std::optional<std::vector<uint64_t>> shape, offsets;
};

/// Reads the header from the parser's events: a stranger's 100 MB of JSON never becomes a document in memory.
/// The grammar is fixed: {name: {"dtype": string, "shape": [n...], "data_offsets": [begin, end]}, "__metadata__":
/// {string: string}}.
class HeaderReader {
  public:
    using number_integer_t = Json::number_integer_t;
    using number_unsigned_t = Json::number_unsigned_t;
    using number_float_t = Json::number_float_t;
    using string_t = Json::string_t;
    using binary_t = Json::binary_t;

    explicit HeaderReader(const std::string& path) : path_(path) {}
    std::vector<Claim> take() { return std::move(claims_); }

    bool null() { return wrong("null"); }
    bool boolean(bool) { return wrong("a bool"); }
    bool number_integer(number_integer_t) { return wrong("a negative number"); }
    bool number_float(number_float_t, const string_t&) { return wrong("a fraction or too large a number"); }
    bool binary(binary_t&) { return wrong("binary"); }

    bool number_unsigned(number_unsigned_t value) {
        if (!numbers_) return wrong("a number");
        if (numbers_->size() >= max_dims) return wrong("more than 8 numbers");
        numbers_->push_back(value);
        return true;
    }

    bool string(string_t& value) {
        if (place_ == Place::metadata) return true;
        if (place_ != Place::tensor || field_ != "dtype") return wrong("a string");
        claims_.back().dtype = std::move(value);
        return true;
    }

    bool start_object(size_t) {
        if (place_ == Place::outside) {
            place_ = Place::top;
        } else if (place_ == Place::top) {
            place_ = name_ == "__metadata__" ? Place::metadata : Place::tensor;
            if (place_ == Place::tensor) claims_.emplace_back().name = name_;
            fields_.clear();
        } else {
            return wrong("an object");
        }
        return true;
    }

    bool end_object() {
        if (place_ == Place::tensor) {
            const Claim& c = claims_.back();
            const char* missing = !c.dtype ? "dtype" : !c.shape ? "shape" : !c.offsets ? "data_offsets" : nullptr;
            if (missing) throw bad_input(path_, "[safetensors] tensor {} has no '{}'", quote(c.name), missing);
            if (c.offsets->size() != 2)
                throw bad_input(path_, "[safetensors] tensor {}: expected two data_offsets, got {}", quote(c.name),
                                c.offsets->size());
        }
        place_ = place_ == Place::top ? Place::done : Place::top;
        return true;
    }

    bool key(string_t& key) {
        if (place_ == Place::top) {
            if (!names_.insert(key).second)
                throw bad_input(path_, "[safetensors] tensor {} appears twice in the header", quote(key));
            name_ = std::move(key);
            return true;
        }
        if (!fields_.insert(key).second)
            throw bad_input(path_, "[safetensors] {}: key {} appears twice", quote(name_), quote(key));
        field_ = std::move(key);
        if (place_ == Place::tensor && field_ != "dtype" && field_ != "shape" && field_ != "data_offsets")
            throw bad_input(path_, "[safetensors] tensor {}: expected only dtype, shape and data_offsets, got {}",
                            quote(name_), quote(field_));
        return true;
    }

    bool start_array(size_t) {
        if (place_ != Place::tensor || numbers_ || field_ == "dtype") return wrong("an array");
        auto& target = field_ == "shape" ? claims_.back().shape : claims_.back().offsets;
        numbers_ = &target.emplace();
        return true;
    }
    bool end_array() {
        numbers_ = nullptr;
        return true;
    }

    bool parse_error(size_t offset, const std::string&, const Json::exception& problem) {
        std::string_view text = problem.what();
        if (const size_t end = text.find(": "); end != std::string_view::npos) text.remove_prefix(end + 2);
        throw bad_input(fmt::format("{}: offset {}", path_, with_commas(8 + offset)),
                        "[safetensors] expected a header of valid JSON, got {}", quote(text, 200));
    }

  private:
    enum class Place { outside, top, tensor, metadata, done };

    bool wrong(const char* got) const {
        const char* expected = "an object of tensors";
        std::string where = quote(name_);
        if (place_ == Place::top) expected = "an object";
        if (place_ == Place::metadata) expected = "a string";
        if (place_ == Place::tensor) {
            where += ", " + quote(field_);
            expected = field_ == "dtype" ? "a string" : "an array of at most 8 whole numbers";
        }
        throw bad_input(path_, "[safetensors] header, {}: expected {}, got {}", where, expected, got);
    }

    const std::string& path_;
    std::vector<Claim> claims_;
    std::unordered_set<std::string> names_, fields_;
    Place place_ = Place::outside;
    std::string name_, field_;
    std::vector<uint64_t>* numbers_ = nullptr;
};

const Encoding* encoding_of(const Claim& c, const std::string& path) {
    for (const Dtype& d : dtypes)
        if (d.name == *c.dtype) return find_encoding(d.encoding);
    throw bad_input(path, "[safetensors] tensor {} has dtype {}, which this build does not read. Known: F32, F16, BF16",
                    quote(c.name), quote(*c.dtype));
}

/// Checks a claim on its own; `data` is where the data section starts and `length` its size.
Entry check(const Claim& c, uint64_t data, uint64_t length, const std::string& path) {
    Entry e{.name = c.name, .encoding = encoding_of(c, path)};
    if (c.name.empty()) throw bad_input(path, "[safetensors] expected every tensor to have a name, got an empty one");
    // Zero extents are legal, but the product of the others must fit all the same: code multiplies in any order.
    uint64_t product = 1;
    bool empty = false;
    for (const uint64_t extent : *c.shape) {
        const auto next = checked_multiply(product, std::max<uint64_t>(extent, 1));
        if (!next || *next > INT64_MAX)
            throw bad_input(path, "[safetensors] tensor {}: the product of its shape overflows at {}", quote(c.name),
                            with_commas(extent));
        product = *next;
        empty = empty || extent == 0;
        e.shape.push_back(static_cast<int64_t>(extent));
    }
    const auto size = checked_multiply(empty ? 0 : product, e.encoding->block_bytes);
    const uint64_t begin = (*c.offsets)[0], end = (*c.offsets)[1];
    if (begin > end || end > length)
        throw bad_input(
            path, "[safetensors] tensor {} claims data bytes {}..{}, but the file has {}; it is cut short or damaged",
            quote(c.name), with_commas(begin), with_commas(end), with_commas(length));
    if (!size || *size != end - begin)
        throw bad_input(path, "[safetensors] tensor {}: expected {} bytes for its shape and dtype, got {}",
                        quote(c.name), size ? with_commas(*size) : "more than 2^64", with_commas(end - begin));
    e.offset = data + begin;
    e.size = *size;
    return e;
}

}  // namespace

std::vector<Entry> parse_header(Bytes file, const std::string& path) {
    if (file.size() < 8)
        throw bad_input(path, "[safetensors] expected at least 8 bytes, got {}; this is not a safetensors file",
                        file.size());
    const uint64_t header = load<uint64_t>(file.data());
    if (header > max_header_bytes || header > file.size() - 8)
        throw bad_input(
            path + ": offset 0",
            "[safetensors] the header claims {} bytes, but {}; this is no safetensors file, or it is damaged",
            with_commas(header),
            header > max_header_bytes ? "at most 100,000,000 are legal"
                                      : "the file ends after " + with_commas(file.size() - 8));
    const auto* text = reinterpret_cast<const char*>(file.data() + 8);
    if (header == 0 || text[0] != '{')
        throw bad_input(path + ": offset 8", "[safetensors] expected a header that starts with '{{', got {}",
                        header == 0 ? "an empty one" : quote(std::string_view(text, 1)));
    HeaderReader reader(path);
    Json::sax_parse(text, text + header, &reader);

    const uint64_t data = 8 + header, length = file.size() - data;
    std::vector<Entry> entries;
    for (const Claim& claim : reader.take()) entries.push_back(check(claim, data, length, path));
    // As the reference checks it: no gap, no overlap, nothing left over.
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return std::tie(a.offset, a.size) < std::tie(b.offset, b.size); });
    uint64_t at = data;
    for (const Entry& e : entries) {
        if (e.offset != at)
            throw bad_input(path,
                            "[safetensors] tensor {} starts at data byte {}, expected {}: tensors may neither overlap "
                            "nor leave gaps",
                            quote(e.name), with_commas(e.offset - data), with_commas(at - data));
        at += e.size;
    }
    if (at != file.size())
        throw bad_input(path, "[safetensors] the tensors end at byte {}, but the file has {}", with_commas(at),
                        with_commas(file.size()));
    return entries;
}

}  // namespace busbar::safetensors
