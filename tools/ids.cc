#include "ids.h"

#include <sys/stat.h>

#include <charconv>

#include "base/error.h"

namespace busbar {

std::vector<int32_t> parse_ids(const std::string& text, const std::string& address, int64_t limit) {
    std::vector<int32_t> ids;
    const char *p = text.data(), *end = p + text.size();
    while (p < end) {
        if (std::isspace(static_cast<unsigned char>(*p)) || *p == ',') {
            ++p;
            continue;
        }
        int32_t id = -1;
        const auto [next, error] = std::from_chars(p, end, id);
        if (error != std::errc() || id < 0 || (limit > 0 && id >= limit))
            throw bad_input(fmt::format("{}: offset {}", address, p - text.data()),
                            "[ids] expected token ids of 0 to {}, got {}", limit > 0 ? limit - 1 : INT32_MAX,
                            quote(std::string_view(p, std::min<size_t>(end - p, 12))));
        ids.push_back(id);
        p = next;
    }
    return ids;
}

ModelFile open_tokenizer_file(const std::string& path) {
    struct stat st {};
    if (stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) {
        ModelFile file;
        file.path = file.folder = path;
        return file;
    }
    return open_model_file(path);
}

}  // namespace busbar
