// Any bytes as a GGUF file: an Error or a part whose every claim holds.
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "import/gguf/part.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace busbar;
    const Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
    try {
        const gguf::Part part = gguf::parse_part(bytes, "fuzz.gguf");
        std::vector<float> block(256);
        for (const gguf::TensorInfo& t : part.tensors) {
            BUSBAR_CHECK(t.offset <= size && t.size <= size - t.offset);
            const Bytes stored = bytes.subspan(t.offset, t.size);
            // The first and the last block of whatever the file says: any bytes must decode.
            if (stored.empty()) continue;
            t.encoding->decode(stored.data(), block.data(), 1);
            t.encoding->decode(stored.data() + stored.size() - t.encoding->block_bytes, block.data(), 1);
        }
        // Every view must point into the file.
        for (const auto& [key, value] : part.metadata)
            if (const auto* text = std::get_if<std::string_view>(&value))
                BUSBAR_CHECK(text->empty() || (text->data() >= reinterpret_cast<const char*>(data) &&
                                               text->data() + text->size() <= reinterpret_cast<const char*>(data) + size));
    } catch (const Error&) {
    }
    return 0;
}
