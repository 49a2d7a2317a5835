// Any text as a tokenizer.json: an Error or a tokenizer that encodes and decodes, and that never takes untrusted text
// for commands.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/error.h"
#include "llm/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace busbar;
    static const std::string texts[] = {"Hello  world,\n it's 12345 <s>x</s> ",
                                        "\u00e9e\u0301\u4e2d\u6587\U0001f680 \u2581a\u200db\r\n\t",
                                        std::string(300, 'a') + std::string(100, ' ')};
    try {
        const Json document = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz.json");
        const auto tokenizer = Tokenizer::from_json(document, document, "fuzz.json");
        for (const std::string& text : texts) {
            try {
                const std::string_view view = text;
                const auto ids = tokenizer->encode(text, true);
                for (const TokenId id : ids) BUSBAR_CHECK(id >= 0 && id < tokenizer->size());
                tokenizer->decode(ids, false);
                StreamDecoder stream(*tokenizer, true);
                for (const TokenId id : ids) stream.add(id);
                stream.finish();
                tokenizer->encode({{view.substr(0, view.size() / 2), true}, {view.substr(view.size() / 2), false}},
                                  false);
            } catch (const Error&) {
            }
        }
    } catch (const Error&) {
    }
    return 0;
}
