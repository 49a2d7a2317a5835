// GGUF metadata that the decoders of the llama line share (formats.md 4.2).
#include <algorithm>

#include "base/error.h"
#include "import/arch/family.h"

namespace busbar {

namespace {

constexpr std::string_view shared_keys[] = {
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "rope.dimension_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.causal",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.finetuned",
    "rope.scale_linear",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "attention.sliding_window",
    "attention.scale",
    "attention.layer_norm_epsilon",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
};

class Reader {
  public:
    Reader(const gguf::File& file, const Family& family)
        : file_(file), prefix_(std::string(family.gguf_architecture) + ".") {}
    std::string key(std::string_view name) const { return prefix_ + std::string(name); }
    int64_t need(std::string_view name) const { return file_.need_int(key(name)); }
    std::optional<int64_t> integer(std::string_view name) const { return file_.get_int(key(name)); }
    std::optional<double> number(std::string_view name) const { return file_.get_float(key(name)); }

    // A scalar, or an array with one value per layer. Layers that differ need a graph of their own kind.
    int64_t per_layer(std::string_view name, int64_t layers) const {
        const auto it = file_.metadata().find(key(name));
        if (it == file_.metadata().end())
            throw bad_input(file_.path(), "[gguf] expected key {}, found none", quote(key(name)));
        const auto* array = std::get_if<gguf::Array>(&it->second);
        if (!array) return need(name);
        const auto* items = std::get_if<std::vector<int64_t>>(&array->items);
        if (!items || items->empty() || static_cast<int64_t>(items->size()) != layers)
            throw bad_input(file_.path(), "[gguf] key {}: expected a number or {} numbers", quote(key(name)), layers);
        for (int64_t n : *items)
            if (n != items->front())
                throw bad_input(file_.path(), "[gguf] key {}: layers differ, which this build does not know for {}",
                                quote(key(name)), prefix_);
        return items->front();
    }

    void refuse_unknown(std::span<const std::string_view> also_known) const {
        for (const auto& [name, value] : file_.metadata()) {
            if (!name.starts_with(prefix_)) continue;
            const std::string_view field = std::string_view(name).substr(prefix_.size());
            if (std::ranges::find(shared_keys, field) != std::end(shared_keys) ||
                std::ranges::find(also_known, field) != also_known.end())
                continue;
            throw bad_input(file_.path(),
                            "[gguf] key {} is not one this build understands; ignoring it could give wrong text",
                            quote(name));
        }
    }

  private:
    const gguf::File& file_;
    std::string prefix_;
};

RopeConfig read_rope(const gguf::File& file, const Reader& r) {
    RopeConfig rope;
    rope.theta = r.number("rope.freq_base").value_or(10000);
    const std::string kind = file.get_string(r.key("rope.scaling.type")).value_or("none");
    if (kind != "none" && kind != "linear" && kind != "yarn")
        throw bad_input(file.path(),
                        "[gguf] key {} has value {}, which this build does not know. Known: none, linear, yarn (llama3 "
                        "comes as the tensor rope_freqs.weight). "
                        "Running without it would give wrong text.",
                        quote(r.key("rope.scaling.type")), quote(kind));
    if (kind != "none") rope.kind = kind;
    rope.factor = r.number("rope.scaling.factor").value_or(r.number("rope.scale_linear").value_or(1));
    if (kind == "none" && r.number("rope.scale_linear").value_or(1) != 1)
        rope.kind = "linear";  // the key of older files
    if (!(rope.factor > 0))
        throw bad_input(file.path(), "[gguf] expected a rope scaling factor above 0, got {}", rope.factor);
    rope.original_context = static_cast<double>(r.integer("rope.scaling.original_context_length").value_or(0));
    rope.beta_fast = r.number("rope.scaling.yarn_beta_fast").value_or(32);
    rope.beta_slow = r.number("rope.scaling.yarn_beta_slow").value_or(1);
    if (r.number("rope.scaling.yarn_ext_factor").value_or(1) != 1)
        throw bad_input(file.path(), "[gguf] expected rope.scaling.yarn_ext_factor 1, got {}",
                        *r.number("rope.scaling.yarn_ext_factor"));
    const double attention =
        r.number("rope.scaling.attn_factor").value_or(r.number("rope.scaling.yarn_attn_factor").value_or(1));
    if (attention != 1) {
        RopeConfig plain = rope;
        rope.attention_factor = attention * rotary_frequencies(plain, 8, 1, 1, file.path()).scale;
    }
    if (file.tensors().contains("rope_freqs.weight")) rope.divisors = "rope_freqs.weight";
    return rope;
}

}  // namespace

DecoderConfig read_gguf_decoder(const gguf::File& file, const Family& family,
                                std::span<const std::string_view> also_known) {
    const Reader r(file, family);
    r.refuse_unknown(also_known);
    DecoderConfig c;
    c.family = family.name;
    c.pairing = family.pairing_in_gguf;
    c.hidden = r.need("embedding_length");
    c.layers = r.need("block_count");
    c.context = r.need("context_length");
    c.heads = r.per_layer("attention.head_count", c.layers);
    c.kv_heads = file.metadata().contains(r.key("attention.head_count_kv"))
                     ? r.per_layer("attention.head_count_kv", c.layers)
                     : c.heads;
    c.intermediate = r.per_layer("feed_forward_length", c.layers);
    c.norm_epsilon = file.need_float(r.key("attention.layer_norm_rms_epsilon"));
    if (r.integer("expert_count").value_or(0) != 0)
        throw bad_input(file.path(),
                        "[gguf] the model has {} experts; this build runs dense models of the family {} only",
                        *r.integer("expert_count"), family.name);
    if (c.heads < 1 || c.hidden < 1)
        throw bad_input(file.path(), "[gguf] expected at least one head and a positive width, got {} and {}", c.heads,
                        c.hidden);
    c.head_dim = r.integer("attention.key_length").value_or(c.hidden / c.heads);
    if (r.integer("attention.value_length").value_or(c.head_dim) != c.head_dim)
        throw bad_input(file.path(), "[gguf] expected keys and values of one width, got {} and {}", c.head_dim,
                        *r.integer("attention.value_length"));
    if (const auto rotated = r.integer("rope.dimension_count"); rotated && *rotated != c.head_dim)
        throw bad_input(file.path(), "[gguf] expected rope.dimension_count to be the head width {}, got {}", c.head_dim,
                        *rotated);
    if (const auto scale = r.number("attention.scale"); scale && *scale != 0)
        throw bad_input(file.path(), "[gguf] attention.scale {} is not one this build understands for {}", *scale,
                        family.name);
    if (file.get_bool(r.key("attention.causal")) == false)
        throw bad_input(file.path(), "[gguf] expected causal attention");
    const auto embedding = file.tensors().find("token_embd.weight");
    if (embedding == file.tensors().end() || embedding->second.shape.size() != 2)
        throw bad_input(file.path(),
                        "[gguf] expected a tensor 'token_embd.weight' of two dimensions, found none; a vocabulary-only "
                        "file can be tokenized, not run");
    c.vocabulary = embedding->second.shape[0];
    c.tied = !file.tensors().contains("output.weight");
    c.qkv_bias = file.tensors().contains("blk.0.attn_q.bias");
    c.output_bias = file.tensors().contains("blk.0.attn_output.bias");
    c.mlp_bias = file.tensors().contains("blk.0.ffn_gate.bias");
    c.rope = read_rope(file, r);
    const int64_t window = r.integer("attention.sliding_window").value_or(0);
    if (window < 0 || c.layers < 0 || c.layers > 100000)
        throw bad_input(file.path(), "[gguf] expected 0 to 100,000 layers and a window of 0 or more, got {} and {}",
                        c.layers, window);
    c.windows.assign(c.layers, window);
    return c;
}

}  // namespace busbar
