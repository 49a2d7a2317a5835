// Llama 2 and 3.x, SmolLM2, TinyLlama and what else calls itself llama. In GGUF also Mistral: the converter gives it
// the same name.
#include "import/arch/family.h"

namespace busbar {

namespace {

DecoderConfig from_gguf(const gguf::File& file) {
    return read_gguf_decoder(file, family_llama);
}

DecoderConfig from_config(const Json& config, const std::string& address) {
    DecoderConfig c = read_config_decoder(config, address);
    c.qkv_bias = c.output_bias = get_bool(config, "attention_bias", false, address);
    c.mlp_bias = get_bool(config, "mlp_bias", false, address);
    return c;
}

}  // namespace

// The converter to GGUF permutes the rows of Q and K of this family so that the pairs of the rotation are neighbours:
// the file is read as it is, and the rotation says "interleaved". This is the one place where that is decided.
const Family family_llama = {
    "llama", "llama", "llama", "interleaved", from_gguf, from_config, "Llama 2, Llama 3.x, SmolLM2, TinyLlama"};

}  // namespace busbar
