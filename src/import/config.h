#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace busbar {

/// How positions turn into angles (formats.md 11.1). `kind` is the word of the files.
struct RopeConfig {
    std::string kind = "default";  ///< default | linear | dynamic | llama3 | yarn
    double theta = 10000;
    double factor = 1;
    double original_context = 0;  ///< positions the model was first trained on; 0 = its context length
    double low_freq_factor = 1, high_freq_factor = 4;                ///< llama3
    double beta_fast = 32, beta_slow = 1;                            ///< yarn
    std::optional<double> attention_factor, mscale, mscale_all_dim;  ///< yarn
    bool truncate = true;                                            ///< yarn
    std::string divisors;  ///< name of a tensor that divides the frequencies, "" if none (GGUF rope_freqs.weight)
};

/// Angles per position of each pair, and a factor on cos and sin.
struct RotaryFrequencies {
    std::vector<double> radians;
    double scale = 1;
};

/// `width`: elements of a head that rotate (two per angle). `context` fixes the length of kind dynamic.
/// Throws Error{bad_input} for a kind that this build does not know.
RotaryFrequencies rotary_frequencies(const RopeConfig& rope, int64_t width, int64_t trained_context, int64_t context,
                                     const std::string& address);

/// A dense decoder of the llama line, whatever container it came from: everything that the graph depends on.
struct DecoderConfig {
    std::string family;  ///< "llama", "mistral", "qwen2", "qwen3"
    int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0, vocabulary = 0;
    int64_t context = 0;  ///< positions the model was trained for
    double norm_epsilon = 0;
    bool tied = false;  ///< the head is the embedding
    bool qkv_bias = false, output_bias = false, mlp_bias = false;
    bool qk_norm = false;  ///< rms_norm on each head of q and k before the rotation
    std::string pairing = "half";
    RopeConfig rope;
    std::vector<int64_t> windows;  ///< per layer, 0 = sees everything
};

}  // namespace busbar
