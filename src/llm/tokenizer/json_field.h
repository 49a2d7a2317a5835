#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "import/json.h"

namespace busbar {

/// Reads fields of a stranger's JSON object: every getter throws Error{bad_input} that names the field and what it
/// holds. `where` is the path of the object inside the document, "pre_tokenizer.pretokenizers[1]".
class JsonObject {
  public:
    JsonObject(const Json& json, std::string where, const std::string& address)
        : json_(json), where_(std::move(where)), address_(address) {
        if (!json.is_object()) wrong("", "an object", json);
    }

    /// nullptr if absent or null.
    const Json* find(const char* key) const {
        const auto it = json_.find(key);
        return it == json_.end() || it->is_null() ? nullptr : &*it;
    }
    const Json& need(const char* key) const {
        const Json* value = find(key);
        if (!value) throw bad_input(address_, "[tokenizer] expected the field '{}', it is missing", path(key));
        return *value;
    }
    bool get_bool(const char* key, bool otherwise) const {
        const Json* value = find(key);
        if (!value) return otherwise;
        if (!value->is_boolean()) wrong(key, "true or false", *value);
        return value->get<bool>();
    }
    std::string get_string(const char* key, const std::string& otherwise) const {
        return find(key) ? need_string(key) : otherwise;
    }
    std::string need_string(const char* key) const {
        const Json& value = need(key);
        if (!value.is_string()) wrong(key, "a string", value);
        return value.get<std::string>();
    }
    int64_t need_int(const char* key) const { return as_int(need(key), key); }
    int64_t get_int(const char* key, int64_t otherwise) const { return find(key) ? need_int(key) : otherwise; }
    const Json& need_array(const char* key) const {
        const Json& value = need(key);
        if (!value.is_array()) wrong(key, "an array", value);
        return value;
    }
    JsonObject need_object(const char* key) const { return {need(key), path(key), address_}; }

    int64_t as_int(const Json& value, const char* key) const {
        // nlohmann keeps what does not fit int64 as unsigned; a cast would wrap.
        if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX))
            wrong(key, "an integer", value);
        return value.get<int64_t>();
    }

    std::string path(std::string_view key) const {
        if (key.empty()) return where_;
        return where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key);
    }
    std::string item(std::string_view key, size_t index) const { return fmt::format("{}[{}]", path(key), index); }
    const std::string& address() const { return address_; }
    const Json& json() const { return json_; }

    [[noreturn]] void wrong(std::string_view key, std::string_view expected, const Json& got) const {
        const std::string text = got.is_string() ? got.get<std::string>() : std::string(got.type_name());
        throw bad_input(address_, "[tokenizer] expected {} in '{}', got {}", expected, path(key), quote(text));
    }
    /// For a type or form that is known to exist and not supported here, or not known at all.
    [[noreturn]] void unsupported(std::string_view what, std::string_view got, std::string_view known) const {
        throw bad_input(address_, "[tokenizer] '{}' has the {} {}, which this build does not know. Known: {}.", where_,
                        what, quote(got), known);
    }

  private:
    const Json& json_;
    std::string where_;
    std::string address_;
};

}  // namespace busbar
