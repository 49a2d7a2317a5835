#include "serve/http/http_text.h"

#include <fmt/format.h>

#include <iterator>

namespace busbar {

namespace {

std::string head(int status, const HttpHeaders& headers, bool keep_alive) {
    std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_of(status));
    // Answers are nobody's to keep, to guess the type of, or to show in a frame.
    out += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
    for (const auto& [name, value] : headers) out += fmt::format("{}: {}\r\n", name, value);
    out += keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n";
    return out;
}

int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
    for (const auto& [key, value] : headers)
        if (key == name) return value;
    return "";
}

std::string http_answer(int status, std::string_view type, std::string_view body, const HttpHeaders& headers,
                        bool keep_alive, bool head_only) {
    std::string out = head(status, headers, keep_alive);
    out += fmt::format("Content-Type: {}\r\nContent-Length: {}\r\n\r\n", type, body.size());
    if (!head_only) out += body;
    return out;
}

std::string http_stream_head(const HttpHeaders& headers, bool keep_alive, bool old_version) {
    std::string out = head(200, headers, keep_alive);
    out += "Content-Type: text/event-stream; charset=utf-8\r\nX-Accel-Buffering: no\r\n";
    if (!old_version) out += "Transfer-Encoding: chunked\r\n";
    return out + "\r\n";
}

std::string wire_error_body(int status, std::string_view reason) {
    return fmt::format(R"({{"error":{{"message":"{}","type":"{}","param":null,"code":null}}}})", reason,
                       status >= 500 ? "server_error" : "invalid_request_error");
}

std::string_view reason_of(int status) {
    switch (status) {
        case 200:
            return "OK";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 413:
            return "Content Too Large";
        case 415:
            return "Unsupported Media Type";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 500:
            return "Internal Server Error";
        case 503:
            return "Service Unavailable";
        default:
            return "Unknown";
    }
}

std::string ascii_lower(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c |= 0x20;
    return out;
}

std::string percent_decoded(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        if (i + 2 >= text.size() || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0) return "";
        out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
        i += 2;
    }
    return out;
}

}  // namespace busbar
