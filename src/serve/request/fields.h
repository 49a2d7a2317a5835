#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "import/json.h"

namespace busbar {

/// The fields of a request's object, each looked at once and with its bounds. null counts as absent, as in the API.
/// What nobody asked for is refused at the end: a field that is ignored gives a wrong answer without a word.
class Fields {
  public:
    /// `name` is of the object itself, for messages: "" for the body. Throws ApiError if it is no object.
    Fields(const Json& object, std::string name);

    /// The field's value; nullptr where it is absent or null.
    const Json* find(std::string_view field);
    std::optional<int64_t> integer(std::string_view field, int64_t least, int64_t most);
    std::optional<double> number(std::string_view field, double least, double most);
    std::optional<bool> boolean(std::string_view field);
    std::optional<std::string> text(std::string_view field, size_t most_bytes);
    /// Known and without meaning here.
    void ignore(std::string_view field) { used_.insert(std::string(field)); }
    /// Known, but only with this value (or absent): anything else is refused with the reason.
    void only(std::string_view field, const Json& value, std::string_view reason);
    /// Known, and refused where it is given.
    void refuse(std::string_view field, std::string_view reason);
    void refuse_unknown() const;

    std::string path(std::string_view field) const;

  private:
    const Json& object_;
    std::string name_;
    std::set<std::string, std::less<>> used_;
};

/// A short rendering of a stranger's value for a message.
std::string shown(const Json& value);

}  // namespace busbar
