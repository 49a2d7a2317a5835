// Files of the cache: one line with the key and the hash of what follows. Written aside and renamed, so that two
// processes never see half of one.
#include <openssl/evp.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/check.h"
#include "chips/opencl/context.h"

namespace busbar::opencl {

std::string hash_of(std::string_view text) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    BUSBAR_CHECK(EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha256(), nullptr) == 1, "SHA-256");
    std::string hex;
    for (unsigned i = 0; i < length; ++i) {
        static const char digits[] = "0123456789abcdef";
        hex += digits[digest[i] >> 4];
        hex += digits[digest[i] & 15];
    }
    return hex;
}

std::string cache_folder() {
    std::string folder;
    if (const char* own = std::getenv("BUSBAR_CACHE"); own && *own) {
        folder = own;
    } else if (const char* shared = std::getenv("XDG_CACHE_HOME"); shared && *shared) {
        folder = std::string(shared) + "/busbar";
    } else if (const char* home = std::getenv("HOME"); home && *home) {
        folder = std::string(home) + "/.cache/busbar";
    } else {
        return "";
    }
    folder += "/opencl";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    return error ? "" : folder;
}

bool read_cached(const std::string& path, const std::string& key, std::string& content) {
    std::ifstream in(path, std::ios::binary);
    std::string line;
    if (!in || !std::getline(in, line)) return false;
    content.assign(std::istreambuf_iterator<char>(in), {});
    return line == "busbar " + key + " " + hash_of(content);
}

void write_cached(const std::string& path, const std::string& key, const std::string& content) {
    const std::string aside = path + "." + std::to_string(getpid());
    {
        std::ofstream out(aside, std::ios::binary | std::ios::trunc);
        out << "busbar " << key << " " << hash_of(content) << "\n" << content;
        if (!out.flush()) {
            out.close();
            std::error_code error;
            std::filesystem::remove(aside, error);
            return;  // a full disk costs time at the next start, nothing else
        }
    }
    std::error_code error;
    std::filesystem::rename(aside, path, error);
    if (error) std::filesystem::remove(aside, error);
}

}  // namespace busbar::opencl
