#include "serve/request/fields.h"

#include <fmt/format.h>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "serve/request/api_error.h"

namespace busbar {

std::string shown(const Json& value) {
    if (value.is_array()) return fmt::format("a list of {}", value.size());
    if (value.is_object()) return "an object";
    if (value.is_string()) return quote(value.get_ref<const std::string&>(), 40);
    return value.dump();
}

Fields::Fields(const Json& object, std::string name) : object_(object), name_(std::move(name)) {
    if (!object.is_object())
        throw refusal(name_, "expected {} to be a JSON object, got {}", name_.empty() ? "the body" : name_,
                      shown(object));
}

std::string Fields::path(std::string_view field) const {
    return name_.empty() ? std::string(field) : fmt::format("{}.{}", name_, field);
}

const Json* Fields::find(std::string_view field) {
    used_.insert(std::string(field));
    const auto found = object_.find(field);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> Fields::integer(std::string_view field, int64_t least, int64_t most) {
    const Json* v = find(field);
    if (!v) return {};
    // An unsigned number above 2^63 would wrap when it is read as a signed one.
    const bool whole = v->is_number_integer() && !(v->is_number_unsigned() && v->get<uint64_t>() > INT64_MAX);
    if (!whole || v->get<int64_t>() < least || v->get<int64_t>() > most)
        throw refusal(path(field), "expected {} to be a whole number of {} to {}, got {}", path(field), least, most,
                      shown(*v));
    return v->get<int64_t>();
}

std::optional<double> Fields::number(std::string_view field, double least, double most) {
    const Json* v = find(field);
    if (!v) return {};
    const double x = v->is_number() ? v->get<double>() : std::nan("");
    if (!(x >= least && x <= most))
        throw refusal(path(field), "expected {} to be a number of {} to {}, got {}", path(field), least, most,
                      shown(*v));
    return x;
}

std::optional<bool> Fields::boolean(std::string_view field) {
    const Json* v = find(field);
    if (!v) return {};
    if (!v->is_boolean()) throw refusal(path(field), "expected {} to be true or false, got {}", path(field), shown(*v));
    return v->get<bool>();
}

std::optional<std::string> Fields::text(std::string_view field, size_t most) {
    const Json* v = find(field);
    if (!v) return {};
    if (!v->is_string()) throw refusal(path(field), "expected {} to be a text, got {}", path(field), shown(*v));
    auto text = v->get<std::string>();
    if (text.size() > most)
        throw refusal(path(field), "expected {} to have at most {} bytes, got {}", path(field), most, text.size());
    return text;
}

void Fields::only(std::string_view field, const Json& value, std::string_view reason) {
    const Json* v = find(field);
    if (v && *v != value) throw refusal(path(field), "{}: {}", path(field), reason);
}

void Fields::refuse(std::string_view field, std::string_view reason) {
    if (find(field)) throw refusal(path(field), "{}: {}", path(field), reason);
}

void Fields::refuse_unknown() const {
    for (const auto& [key, value] : object_.items())
        if (!used_.contains(key))
            throw refusal(quote(key, 60), "this server does not know the field {}{}{}", quote(key, 60),
                          name_.empty() ? "" : " of ", name_);
}

}  // namespace busbar
