#pragma once
#include <span>
#include <string_view>

#include "import/model.h"

namespace busbar {

/// One model family: what its containers call it and how their words become a DecoderConfig. One file each in
/// import/arch/.
struct Family {
    std::string_view name;
    std::string_view gguf_architecture;  ///< general.architecture; "" if GGUF files call it otherwise
    std::string_view model_type;         ///< config.json's model_type
    std::string_view pairing_in_gguf;    ///< rotary pairing of GGUF files; folders are always "half"
    DecoderConfig (*from_gguf)(const gguf::File&);
    DecoderConfig (*from_config)(const Json& config, const std::string& address);
    std::string_view models;  ///< for the support table
};

extern const Family family_llama, family_mistral, family_qwen2, family_qwen3;
std::span<const Family* const> families();
/// "default, linear, ...": what rotary_frequencies() knows.
std::string known_rope_kinds();

// Shared reading, in arch/read_gguf.cc and arch/read_config.cc. Each family says what it adds.

/// The keys that all decoders of the line share. Throws for `{arch}.` keys that are not in `also_known` or the shared
/// list.
DecoderConfig read_gguf_decoder(const gguf::File& file, const Family& family,
                                std::span<const std::string_view> also_known = {});

/// The fields that all decoders of the line share, in the old and the new spelling. Throws for fields that are neither
/// understood nor known to be harmless nor in `also_known`, unless null, false or empty.
DecoderConfig read_config_decoder(const Json& config, const std::string& address,
                                  std::span<const std::string_view> also_known = {});

/// Per-layer windows from `layer_types` where a config has them; nullopt otherwise.
std::optional<std::vector<int64_t>> windows_from_layer_types(const Json& config, int64_t layers,
                                                             const std::string& address);

/// Per-layer windows of the Qwen families: layer_types, else use_sliding_window with max_window_layers.
std::vector<int64_t> qwen_windows(const Json& config, int64_t layers, const std::string& address);

/// Typed fields of a config: throw Error{bad_input} naming the field, what was expected and what is there.
int64_t need_int(const Json& config, std::string_view field, const std::string& address);
std::optional<int64_t> get_int(const Json& config, std::string_view field, const std::string& address);
std::optional<double> get_number(const Json& config, std::string_view field, const std::string& address);
bool get_bool(const Json& config, std::string_view field, bool otherwise, const std::string& address);

/// The graph of a decoder (arch/decoder.cc).
Graph build_decoder(const DecoderConfig& config, const ModelFile& file, int64_t context);

}  // namespace busbar
