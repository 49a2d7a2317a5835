// Mistral: llama with a sliding window on every layer (v0.1); later versions set it to null. GGUF files of it say
// "llama".
#include "import/arch/family.h"

namespace busbar {

namespace {

DecoderConfig from_config(const Json& config, const std::string& address) {
    DecoderConfig c = read_config_decoder(config, address);
    const auto listed = windows_from_layer_types(config, c.layers, address);
    c.windows =
        listed ? *listed : std::vector<int64_t>(c.layers, get_int(config, "sliding_window", address).value_or(0));
    return c;
}

}  // namespace

const Family family_mistral = {
    "mistral", "", "mistral", "", nullptr, from_config, "Mistral 7B v0.1 to v0.3 (GGUF: as llama)"};

}  // namespace busbar
