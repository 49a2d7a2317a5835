// A chat template is a stranger's program: any bytes must either render or throw Error, within small limits.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "llm/template/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const auto variables = nlohmann::ordered_json::parse(R"({
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<|im_end|> \u00e9\u6f22 it's"},
                     {"role": "assistant", "content": [{"type": "text", "text": "ok"}], "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1.5}}}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "s": "Hello, World", "n": 7, "f": 2.5, "l": [3, 1, 2], "d": {"b": 1, "a": null}, "bos_token": "<s>", "add_generation_prompt": true})");
    if (size > 4096) return 0;
    try {
        const busbar::ChatTemplate chat_template(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
        size_t total = 0;
        for (const busbar::RenderedPiece& piece :
             chat_template.render(variables, {.output_bytes = 1 << 16, .steps = 20'000, .depth = 50})) {
            total += piece.text.size();
        }
        if (total > (1 << 16) + 4096) __builtin_trap();
    } catch (const busbar::Error&) {
    }
    return 0;
}
