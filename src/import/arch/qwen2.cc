// Qwen2 and 2.5: llama with biases on Q, K and V, and windows only where use_sliding_window says so, from
// max_window_layers on.
#include "import/arch/family.h"

namespace busbar {

namespace {

DecoderConfig from_gguf(const gguf::File& file) {
    return read_gguf_decoder(file, family_qwen2);
}

DecoderConfig from_config(const Json& config, const std::string& address) {
    static constexpr std::string_view also[] = {"use_mrope"};
    DecoderConfig c = read_config_decoder(config, address, also);
    c.qkv_bias = true;
    c.windows = qwen_windows(config, c.layers, address);
    return c;
}

}  // namespace

std::vector<int64_t> qwen_windows(const Json& config, int64_t layers, const std::string& address) {
    if (const auto listed = windows_from_layer_types(config, layers, address)) return *listed;
    std::vector<int64_t> windows(layers, 0);
    if (!get_bool(config, "use_sliding_window", false, address)) return windows;
    const int64_t first = get_int(config, "max_window_layers", address).value_or(layers);
    for (int64_t layer = first; layer < layers; ++layer)
        windows[std::max<int64_t>(layer, 0)] = get_int(config, "sliding_window", address).value_or(0);
    return windows;
}

const Family family_qwen2 = {"qwen2", "qwen2", "qwen2", "half", from_gguf, from_config, "Qwen2, Qwen2.5 (dense)"};

}  // namespace busbar
