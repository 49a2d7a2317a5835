// Any bytes as a safetensors file: an Error or tensors that lie in the file, side by side.
#include "base/check.h"
#include "base/error.h"
#include "import/safetensors/header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace busbar;
    const Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
    try {
        uint64_t total = 0;
        for (const safetensors::Entry& e : safetensors::parse_header(bytes, "fuzz.safetensors")) {
            BUSBAR_CHECK(e.offset <= size && e.size <= size - e.offset);
            total += e.size;
            float first;
            if (e.size > 0) e.encoding->decode(bytes.data() + e.offset, &first, 1);
        }
        BUSBAR_CHECK(total <= size);
    } catch (const Error&) {
    }
    return 0;
}
