#pragma once
#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "import/json.h"

namespace busbar {

/// What a request is refused with, as the API words it. The message goes to a stranger: no paths, no addresses.
struct ApiError : std::runtime_error {
    ApiError(int s, const std::string& message, std::string p = "", std::string c = "")
        : std::runtime_error(message), status(s), param(std::move(p)), code(std::move(c)) {}
    int status;
    std::string param, code;
    int retry_after = 0;  ///< seconds, for 429 and 503

    std::string_view type() const {
        switch (status) {
            case 401:
                return "authentication_error";
            case 403:
                return "permission_error";
            case 429:
                return "rate_limit_error";
            case 503:
                return "unavailable_error";
            default:
                return status >= 500 ? "server_error" : "invalid_request_error";
        }
    }
    Json body() const {
        return {{"error",
                 {{"message", what()},
                  {"type", type()},
                  {"param", param.empty() ? Json() : Json(param)},
                  {"code", code.empty() ? Json(status) : Json(code)}}}};
    }
};

template <typename... Args>
ApiError refusal(std::string param, fmt::format_string<Args...> format, Args&&... args) {
    return ApiError(400, fmt::format(format, std::forward<Args>(args)...), std::move(param));
}

}  // namespace busbar
