// Qwen3, dense: no biases, a norm on each head of Q and K before the rotation, a head width of its own.
#include "import/arch/family.h"

namespace busbar {

namespace {

DecoderConfig from_gguf(const gguf::File& file) {
    DecoderConfig c = read_gguf_decoder(file, family_qwen3);
    c.qk_norm = true;
    return c;
}

DecoderConfig from_config(const Json& config, const std::string& address) {
    DecoderConfig c = read_config_decoder(config, address);
    c.qkv_bias = c.output_bias = get_bool(config, "attention_bias", false, address);
    c.head_dim = get_int(config, "head_dim", address).value_or(128);  // the family's default is not hidden / heads
    c.qk_norm = true;
    c.windows = qwen_windows(config, c.layers, address);
    return c;
}

}  // namespace

const Family family_qwen3 = {"qwen3", "qwen3", "qwen3", "half", from_gguf, from_config, "Qwen3 (dense)"};

}  // namespace busbar
