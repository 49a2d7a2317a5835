// Any text as JSON, as a model's configuration and as a tokenizer: an Error or a document that prints and parses back.
#include "base/check.h"
#include "base/error.h"
#include "import/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace busbar;
    try {
        const Json document = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz.json");
        BUSBAR_CHECK(parse_json(document.dump(), "again") == document);
    } catch (const Error&) {
    }
    return 0;
}
