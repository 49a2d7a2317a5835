#include "serve/keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "serve/http/http_text.h"

namespace busbar {

namespace {

std::array<unsigned char, 32> hash_of(std::string_view key) {
    std::array<unsigned char, 32> out;
    SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), out.data());
    return out;
}

std::string from_base64(std::string_view text) {
    if (text.empty() || text.size() > 4096 || text.size() % 4 != 0) return "";
    std::string out(text.size() / 4 * 3, '\0');
    const int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                  reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (n < 0) return "";
    const auto padding = std::min<size_t>(2, text.size() - 1 - text.find_last_not_of('='));
    out.resize(n - padding);
    return out;
}

}  // namespace

Keys Keys::from_text(const std::string& text, const std::string& address) {
    Keys keys;
    size_t line = 0;
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        std::string_view key = std::string_view(text).substr(begin, end - begin);
        begin = end + 1;
        ++line;
        while (!key.empty() && (key.back() == ' ' || key.back() == '\r')) key.remove_suffix(1);
        while (!key.empty() && key.front() == ' ') key.remove_prefix(1);
        if (key.empty() || key.front() == '#') continue;
        if (key.size() < 16 || !std::ranges::all_of(key, [](unsigned char c) { return c > 0x20 && c < 0x7f; }))
            throw bad_input(fmt::format("{}: line {}", address, line),
                            "[serve] expected a key of at least 16 printable characters without spaces");
        keys.hashes_.push_back(hash_of(key));
    }
    if (keys.empty()) throw bad_input(address, "[serve] expected at least one key, one a line, got none");
    return keys;
}

std::optional<uint64_t> Keys::tenant(std::string_view authorization) const {
    const size_t space = authorization.find(' ');
    if (space == std::string_view::npos) return {};
    const std::string scheme = ascii_lower(authorization.substr(0, space));
    std::string key(authorization.substr(space + 1));
    if (scheme == "basic") {
        key = from_base64(key);
        key.erase(0, std::min(key.find(':'), key.size()) + 1);
    } else if (scheme != "bearer") {
        return {};
    }
    const auto hash = hash_of(key);
    std::optional<uint64_t> found;
    for (const auto& h : hashes_)  // all of them: how long it takes says nothing
        if (CRYPTO_memcmp(h.data(), hash.data(), hash.size()) == 0) {
            uint64_t n;
            std::memcpy(&n, h.data(), 8);
            found = n;
        }
    return found;
}

}  // namespace busbar
