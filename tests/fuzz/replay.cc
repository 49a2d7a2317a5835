// Any text as case.json of `busbar verify --replay`, with any files beside it: an Error, or a case whose numbers are as
// many as its types say. Input: the text, then a zero byte, then for each file its name, a zero byte, its length in
// four bytes, its bytes.
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "agree/reproduction.h"
#include "base/check.h"
#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace busbar;
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    const auto word = [&] {
        const std::string_view found = rest.substr(0, rest.find('\0'));
        rest.remove_prefix(std::min(rest.size(), found.size() + 1));
        return found;
    };
    const std::string_view text = word();
    std::map<std::string, std::string> files;
    while (rest.size() > 4) {
        std::string& bytes = files[std::string(word())];
        uint32_t length = 0;
        if (rest.size() >= 4) std::memcpy(&length, rest.data(), 4), rest.remove_prefix(4);
        bytes = rest.substr(0, length);
        rest.remove_prefix(bytes.size());
    }
    try {
        const agree::Reproduction r = agree::parse(text, [&](const std::string& name) {
            const auto found = files.find(name);
            if (found == files.end()) throw bad_input(name, "[fuzz] no such file");
            return found->second;
        });
        const Graph graph = r.c.graph();
        for (int v : graph.nodes()[0].inputs) {
            const Value& value = graph.values()[v];
            if (value.source == Source::constant)
                BUSBAR_CHECK(value.constant.extents == value.type.shape.bind(r.c.binding));
        }
    } catch (const Error&) {
    } catch (const nlohmann::json::exception&) {
    }
    return 0;
}
