// Fields of config.json that the decoders of the llama line share, in the spelling before and after transformers 5.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "import/arch/family.h"

namespace busbar {

namespace {

// Understood here, or known to change nothing about inference.
constexpr std::string_view shared_fields[] = {
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "vocab_size",
    "tie_word_embeddings",
    "max_position_embeddings",
    "hidden_act",
    "attention_bias",
    "mlp_bias",
    "layer_types",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    // harmless
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "initializer_range",
    "attention_dropout",
    "pretraining_tp",
    "hidden_dropout",
    "attn_implementation",
    "is_llama_config",
    "rope_interleaved",
    "unsloth_version",
    "unsloth_fixed",
    "transformers.js_config",
    "max_length",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "chunk_size_feed_forward",
    "is_decoder",
    "is_encoder_decoder",
    "id2label",
    "label2id",
    "problem_type",
    "tokenizer_class",
    "prefix",
    "cross_attention_hidden_size",
    "add_cross_attention",
    "tie_encoder_decoder",
    "finetuning_task",
    "task_specific_params",
    "torchscript",
    "ignore_keys_at_rope_validation",
    "name_or_path",
    "auto_map",
    "language",
    "license",
    "use_bfloat16",
    "sep_token_id",
    "decoder_start_token_id",
};

bool is_absent(const Json& v) {
    return v.is_null() || (v.is_boolean() && !v.get<bool>()) || (v.is_array() && v.empty()) ||
           (v.is_object() && v.empty());
}

const Json* find(const Json& config, std::string_view field) {
    const auto it = config.find(std::string(field));
    return it == config.end() || it->is_null() ? nullptr : &*it;
}

RopeConfig read_rope(const Json& config, const std::string& address) {
    RopeConfig rope;
    const Json* words = find(config, "rope_parameters");
    if (!words) words = find(config, "rope_scaling");
    rope.theta = get_number(config, "rope_theta", address).value_or(10000);
    if (!words) return rope;
    if (!words->is_object())
        throw bad_input(address, "[config] expected rope_parameters or rope_scaling to be an object, got {}",
                        words->type_name());
    if (const auto theta = get_number(*words, "rope_theta", address)) rope.theta = *theta;
    for (const char* spelling : {"rope_type", "type"})
        if (const Json* kind = find(*words, spelling)) {
            if (!kind->is_string()) throw bad_input(address, "[config] expected {} to be a word", spelling);
            rope.kind = kind->get<std::string>();
            break;
        }
    static constexpr std::string_view known[] = {"rope_theta",
                                                 "rope_type",
                                                 "type",
                                                 "factor",
                                                 "original_max_position_embeddings",
                                                 "low_freq_factor",
                                                 "high_freq_factor",
                                                 "beta_fast",
                                                 "beta_slow",
                                                 "attention_factor",
                                                 "mscale",
                                                 "mscale_all_dim",
                                                 "truncate",
                                                 "partial_rotary_factor",
                                                 "finetuned"};
    for (const auto& [field, value] : words->items())
        if (std::ranges::find(known, field) == std::end(known) && !is_absent(value))
            throw bad_input(address,
                            "[config] field {} of the rope parameters is not one this build understands; ignoring it "
                            "could give wrong text",
                            quote(field));
    if (get_number(*words, "partial_rotary_factor", address).value_or(1) != 1)
        throw bad_input(address, "[config] expected partial_rotary_factor 1 for this family");
    rope.factor = get_number(*words, "factor", address).value_or(1);
    rope.original_context = get_number(*words, "original_max_position_embeddings", address).value_or(0);
    rope.low_freq_factor = get_number(*words, "low_freq_factor", address).value_or(1);
    rope.high_freq_factor = get_number(*words, "high_freq_factor", address).value_or(4);
    rope.beta_fast = get_number(*words, "beta_fast", address).value_or(32);
    rope.beta_slow = get_number(*words, "beta_slow", address).value_or(1);
    rope.attention_factor = get_number(*words, "attention_factor", address);
    rope.mscale = get_number(*words, "mscale", address);
    rope.mscale_all_dim = get_number(*words, "mscale_all_dim", address);
    rope.truncate = get_bool(*words, "truncate", true, address);
    if (!(rope.factor > 0) || !(rope.theta > 0))
        throw bad_input(address, "[config] expected a rope factor and theta above 0, got {} and {}", rope.factor,
                        rope.theta);
    if (rope.kind == "llama3" && rope.high_freq_factor == rope.low_freq_factor)
        throw bad_input(address, "[config] expected low_freq_factor and high_freq_factor to differ");
    return rope;
}

}  // namespace

std::optional<int64_t> get_int(const Json& config, std::string_view field, const std::string& address) {
    const Json* v = find(config, field);
    if (!v) return std::nullopt;
    if (v->is_number_float() && v->get<double>() == std::floor(v->get<double>()) && std::abs(v->get<double>()) < 1e15)
        return static_cast<int64_t>(v->get<double>());
    if (!v->is_number_integer() || (v->is_number_unsigned() && v->get<uint64_t>() > INT64_MAX))
        throw bad_input(address, "[config] expected field {} to be a whole number, got {}", quote(field),
                        quote(v->dump()));
    return v->get<int64_t>();
}

int64_t need_int(const Json& config, std::string_view field, const std::string& address) {
    const auto n = get_int(config, field, address);
    if (!n) throw bad_input(address, "[config] expected field {}, found none", quote(field));
    if (*n < 0 || *n > (int64_t{1} << 31))
        throw bad_input(address, "[config] expected field {} between 0 and 2^31, got {}", quote(field), *n);
    return *n;
}

std::optional<double> get_number(const Json& config, std::string_view field, const std::string& address) {
    const Json* v = find(config, field);
    if (!v) return std::nullopt;
    if (!v->is_number())
        throw bad_input(address, "[config] expected field {} to be a number, got {}", quote(field), quote(v->dump()));
    return v->get<double>();
}

bool get_bool(const Json& config, std::string_view field, bool otherwise, const std::string& address) {
    const Json* v = find(config, field);
    if (!v) return otherwise;
    if (!v->is_boolean())
        throw bad_input(address, "[config] expected field {} to be true or false, got {}", quote(field),
                        quote(v->dump()));
    return v->get<bool>();
}

std::optional<std::vector<int64_t>> windows_from_layer_types(const Json& config, int64_t layers,
                                                             const std::string& address) {
    const Json* types = find(config, "layer_types");
    if (!types) return std::nullopt;
    if (!types->is_array() || static_cast<int64_t>(types->size()) != layers)
        throw bad_input(address, "[config] expected layer_types to list {} layers, got {}", layers,
                        types->is_array() ? std::to_string(types->size()) : types->type_name());
    std::vector<int64_t> windows;
    for (const Json& type : *types) {
        if (type == "sliding_attention") {
            windows.push_back(need_int(config, "sliding_window", address));
        } else if (type == "full_attention") {
            windows.push_back(0);
        } else {
            throw bad_input(address, "[config] expected layer types full_attention or sliding_attention, got {}",
                            quote(type.dump()));
        }
    }
    return windows;
}

DecoderConfig read_config_decoder(const Json& config, const std::string& address,
                                  std::span<const std::string_view> also_known) {
    for (const auto& [field, value] : config.items()) {
        if (field.starts_with("_") || is_absent(value)) continue;
        if (std::ranges::find(shared_fields, field) != std::end(shared_fields) ||
            std::ranges::find(also_known, field) != also_known.end())
            continue;
        throw bad_input(address,
                        "[config] field {} is not one this build understands; ignoring it could give wrong text",
                        quote(field));
    }
    DecoderConfig c;
    c.hidden = need_int(config, "hidden_size", address);
    c.layers = need_int(config, "num_hidden_layers", address);
    c.heads = need_int(config, "num_attention_heads", address);
    c.kv_heads = get_int(config, "num_key_value_heads", address).value_or(c.heads);
    c.intermediate = need_int(config, "intermediate_size", address);
    c.vocabulary = need_int(config, "vocab_size", address);
    c.context = need_int(config, "max_position_embeddings", address);
    if (c.heads < 1 || c.hidden < 1 || c.layers > 100000)
        throw bad_input(address, "[config] expected at least one head, a positive width and at most 100,000 layers");
    c.head_dim = get_int(config, "head_dim", address).value_or(c.hidden / c.heads);
    const auto epsilon = get_number(config, "rms_norm_eps", address);
    if (!epsilon) throw bad_input(address, "[config] expected field 'rms_norm_eps', found none");
    c.norm_epsilon = *epsilon;
    c.tied = get_bool(config, "tie_word_embeddings", false, address);
    const Json* activation = find(config, "hidden_act");
    if (activation && *activation != "silu" && *activation != "swish")
        throw bad_input(address, "[config] expected hidden_act silu, got {}", quote(activation->dump()));
    c.rope = read_rope(config, address);
    c.windows.assign(c.layers, 0);
    return c;
}

}  // namespace busbar
