#include "import/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"

namespace busbar {

namespace {

constexpr size_t max_depth = 512;

/// Builds the document from the parser's events, so that depth and duplicate keys are checked while it grows.
class Builder {
  public:
    using number_integer_t = Json::number_integer_t;
    using number_unsigned_t = Json::number_unsigned_t;
    using number_float_t = Json::number_float_t;
    using string_t = Json::string_t;
    using binary_t = Json::binary_t;

    explicit Builder(const std::string& address) : address_(address) {}
    Json take() { return std::move(root_); }

    bool null() { return add(nullptr); }
    bool boolean(bool value) { return add(value); }
    bool number_integer(number_integer_t value) { return add(value); }
    bool number_unsigned(number_unsigned_t value) { return add(value); }
    bool number_float(number_float_t value, const string_t&) { return add(value); }
    bool string(string_t& value) { return add(std::move(value)); }
    bool binary(binary_t&) { return false; }  // no such thing in JSON text

    bool key(string_t& name) {
        key_ = std::move(name);
        return true;
    }
    bool start_object(size_t) { return open(Json::object()); }
    bool start_array(size_t) { return open(Json::array()); }
    bool end_array() {
        open_.pop_back();
        return true;
    }
    bool end_object() {
        refuse_duplicates(*open_.back());
        open_.pop_back();
        return true;
    }

    bool parse_error(size_t offset, const std::string&, const Json::exception& problem) {
        // The library's text reads "[json.exception.parse_error.101] parse error at line 1, column 2: ...".
        std::string_view text = problem.what();
        if (const size_t end = text.find(": "); end != std::string_view::npos) text.remove_prefix(end + 2);
        throw bad_input(fmt::format("{}: offset {}", address_, with_commas(offset)),
                        "[json] expected valid JSON, got {}", quote(text, 200));
    }

  private:
    template <typename T>
    bool add(T&& value) {
        place(Json(std::forward<T>(value)));
        return true;
    }

    bool open(Json container) {
        if (open_.size() >= max_depth)
            throw bad_input(address_, "[json] expected values nested at most {} deep, got more", max_depth);
        open_.push_back(&place(std::move(container)));
        return true;
    }

    /// The parent is the innermost open container. It grows only while none of its children is open, so the pointers
    /// hold.
    Json& place(Json value) {
        if (open_.empty()) return root_ = std::move(value);
        Json& parent = *open_.back();
        if (auto* items = parent.get_ptr<Json::array_t*>()) return items->emplace_back(std::move(value));
        // Straight into the vector beneath: the map's own insertion searches for the key each time, which on a
        // vocabulary of 150,000 keys takes minutes. refuse_duplicates does that work once, at the end of the object.
        auto& members = *parent.get_ptr<Json::object_t*>();
        return members.emplace_back(std::move(key_), std::move(value)).second;
    }

    void refuse_duplicates(const Json& object) const {
        const auto& members = *object.get_ptr<const Json::object_t*>();
        std::vector<std::string_view> keys;
        keys.reserve(members.size());
        for (const auto& [key, value] : members) keys.push_back(key);
        std::sort(keys.begin(), keys.end());
        const auto twice = std::adjacent_find(keys.begin(), keys.end());
        if (twice != keys.end()) throw bad_input(address_, "[json] key {} appears twice in one object", quote(*twice));
    }

    const std::string& address_;
    Json root_;
    std::vector<Json*> open_;
    std::string key_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& address) {
    Builder builder(address);
    Json::sax_parse(text.begin(), text.end(), &builder);
    return builder.take();
}

}  // namespace busbar
