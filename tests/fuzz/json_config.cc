// Any text as JSON and as a model's config.json: an Error, or a document that prints and parses back and a
// configuration that holds.
#include "base/check.h"
#include "base/error.h"
#include "import/json.h"
#include "import/model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace busbar;
    ModelFile file;
    file.path = file.folder = "fuzz";
    try {
        file.config = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz.json");
        BUSBAR_CHECK(parse_json(file.config.dump(), "again") == file.config);
    } catch (const Error&) {
        return 0;
    }
    if (!file.config.is_object()) return 0;  // open_model_file refuses these before anyone reads a field
    try {
        const DecoderConfig c = read_config(file);
        BUSBAR_CHECK(static_cast<int64_t>(c.windows.size()) == c.layers);
        rotary_frequencies(c.rope, c.head_dim, c.context, 4096, "fuzz.json");
    } catch (const Error&) {
    }
    return 0;
}
