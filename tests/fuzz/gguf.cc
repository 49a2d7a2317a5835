// Any bytes as a GGUF file: an Error, or a part whose every claim holds; then as a model.
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "import/gguf/part.h"
#include "import/model.h"

namespace {

using namespace busbar;

void check_part(const gguf::Part& part, Bytes bytes) {
    std::vector<float> block(256);
    for (const gguf::TensorInfo& t : part.tensors) {
        BUSBAR_CHECK(t.offset <= bytes.size() && t.size <= bytes.size() - t.offset);
        const Bytes stored = bytes.subspan(t.offset, t.size);
        // The first and the last block of whatever the file says: any bytes must decode.
        if (stored.empty()) continue;
        t.encoding->decode(stored.data(), block.data(), 1);
        t.encoding->decode(stored.data() + stored.size() - t.encoding->block_bytes, block.data(), 1);
    }
    // Every view must point into the file.
    const auto* begin = reinterpret_cast<const char*>(bytes.data());
    for (const auto& [key, value] : part.metadata)
        if (const auto* text = std::get_if<std::string_view>(&value))
            BUSBAR_CHECK(text->empty() ||
                         (text->data() >= begin && text->data() + text->size() <= begin + bytes.size()));
}

/// The rest of the way, from a real mapping: the file's fields become a configuration and a graph.
void import_file(Bytes bytes) {
    const int fd = memfd_create("fuzz", 0);
    BUSBAR_CHECK(fd >= 0 && write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    try {
        const ModelFile file = open_model_file("/proc/self/fd/" + std::to_string(fd));
        import_model(file, 128);
    } catch (const Error&) {
    }
    close(fd);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
    try {
        check_part(gguf::parse_part(bytes, "fuzz.gguf"), bytes);
    } catch (const Error&) {
        return 0;
    }
    import_file(bytes);
    return 0;
}
