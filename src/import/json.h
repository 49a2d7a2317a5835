#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace busbar {

/// Keys keep the order of the file: chat templates print them.
using Json = nlohmann::ordered_json;

/// Parses a stranger's JSON. Throws Error{bad_input} with `address` and the byte offset; refuses nesting deeper than
/// 512, duplicate keys in an object, and invalid UTF-8. `text` may be no longer than the caller's own limit.
Json parse_json(std::string_view text, const std::string& address);

}  // namespace busbar
