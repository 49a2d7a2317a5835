#pragma once
#include <string>
#include <string_view>

#include "serve/http/http_server.h"

namespace busbar {

/// The bytes of answers. Header values must hold no line breaks (ours never do).

std::string http_answer(int status, std::string_view content_type, std::string_view body, const HttpHeaders& headers,
                        bool keep_alive, bool head_only);
/// The head of an event stream: chunked, or to the end of the connection for HTTP/1.0.
std::string http_stream_head(const HttpHeaders& headers, bool keep_alive, bool old_version);
/// An error in the API's form for requests that nobody parsed. `reason` needs no escaping.
std::string wire_error_body(int status, std::string_view reason);

std::string_view reason_of(int status);
std::string ascii_lower(std::string_view text);
/// %41 -> A; "" where the escapes are broken.
std::string percent_decoded(std::string_view text);

}  // namespace busbar
