// The decoder of the llama line: embedding, layers of attention and gated MLP, norm, head (formats.md 11.1 - 11.3).
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "import/arch/family.h"

namespace busbar {

namespace {

// What the two kinds of containers call the same tensor; {} is the layer.
struct TensorWords {
    const char* gguf;
    const char* folder;
};

constexpr TensorWords embedding_words = {"token_embd", "model.embed_tokens"},
                      norm_words = {"output_norm", "model.norm"}, head_words = {"output", "lm_head"};
constexpr TensorWords attention_norm_words = {"blk.{}.attn_norm", "model.layers.{}.input_layernorm"};
constexpr TensorWords q_words = {"blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"},
                      k_words = {"blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"};
constexpr TensorWords v_words = {"blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"},
                      o_words = {"blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"};
constexpr TensorWords q_norm_words = {"blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"},
                      k_norm_words = {"blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"};
constexpr TensorWords mlp_norm_words = {"blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"};
constexpr TensorWords gate_words = {"blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"},
                      up_words = {"blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"};
constexpr TensorWords down_words = {"blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"};

class DecoderBuilder {
  public:
    DecoderBuilder(const DecoderConfig& config, const ModelFile& file, int64_t context)
        : c_(config), file_(file), context_(context) {}

    Graph build() {
        g_.title = fmt::format("{} {} layers", c_.family, c_.layers);
        const int token_ids = g_.step_input("token_ids", {Kind::index, {Symbol::rows}});
        positions_ = g_.step_input("positions", {Kind::index, {Symbol::rows}});
        sequences_ = g_.step_input("sequences", {Kind::index, {Symbol::rows}});
        g_.step_input("logit_rows", {Kind::index, {Symbol::logit_rows}});
        block_table_ = g_.step_input("block_table", {Kind::index, {Symbol::sequences, Symbol::pages}});

        const int embedding = matrix(embedding_words, -1, c_.vocabulary, c_.hidden);
        int x = g_.named("embed").one(op_gather_rows, {embedding, token_ids});
        rotary_table();
        for (int64_t layer = 0; layer < c_.layers; ++layer) x = decoder_layer(x, layer);
        g_.scope("");
        const int normed = norm("norm", x, norm_words, -1, c_.hidden);
        const int head = c_.tied ? embedding : matrix(head_words, -1, c_.vocabulary, c_.hidden);
        g_.outputs = {g_.named("head").matmul(normed, head)};
        refuse_left_over();
        g_.verify();
        return std::move(g_);
    }

  private:
    int decoder_layer(int x, int64_t layer) {
        g_.scope(fmt::format("layer.{}", layer));
        const int attended = attention(norm("attention_norm", x, attention_norm_words, layer, c_.hidden), layer);
        x = g_.named("attention_residual").add(x, attended);
        const int normed = norm("mlp_norm", x, mlp_norm_words, layer, c_.hidden);
        const int gate = linear("gate", normed, gate_words, layer, c_.intermediate, c_.hidden, c_.mlp_bias);
        const int up = linear("up", normed, up_words, layer, c_.intermediate, c_.hidden, c_.mlp_bias);
        const int activated = g_.named("activation").one(op_silu, {gate});
        const int active = g_.named("gated").multiply(activated, up);
        const int down = linear("down", active, down_words, layer, c_.hidden, c_.intermediate, c_.mlp_bias);
        return g_.named("mlp_residual").add(x, down);
    }

    int attention(int x, int64_t layer) {
        const int64_t q_width = c_.heads * c_.head_dim, kv_width = c_.kv_heads * c_.head_dim;
        int q = linear("q", x, q_words, layer, q_width, c_.hidden, c_.qkv_bias);
        int k = linear("k", x, k_words, layer, kv_width, c_.hidden, c_.qkv_bias);
        int v = linear("v", x, v_words, layer, kv_width, c_.hidden, c_.qkv_bias);
        q = g_.named("q_heads").reshape(q, {0, c_.heads, c_.head_dim});
        k = g_.named("k_heads").reshape(k, {0, c_.kv_heads, c_.head_dim});
        v = g_.named("v_heads").reshape(v, {0, c_.kv_heads, c_.head_dim});
        if (c_.qk_norm) {
            q = norm("q_norm", q, q_norm_words, layer, c_.head_dim);
            k = norm("k_norm", k, k_norm_words, layer, c_.head_dim);
        }
        q = rotate("q_rotate", q);
        k = rotate("k_rotate", k);
        const Shape heads = {c_.kv_heads, c_.head_dim};
        const int keys =
            append("keys", k, g_.state(fmt::format("layer.{}.keys", layer), {Kind::state, heads, StateRole::key}));
        const int values = append(
            "values", v, g_.state(fmt::format("layer.{}.values", layer), {Kind::state, heads, StateRole::value}));
        const double scale = 1 / std::sqrt(static_cast<double>(c_.head_dim));
        const int y = g_.named("attention")
                          .one(op_attention, {q, keys, values, positions_, sequences_, block_table_},
                               {{"scale", scale}, {"window", c_.windows[layer]}});
        return linear("o", g_.named("y_flat").reshape(y, {0, q_width}), o_words, layer, c_.hidden, q_width,
                      c_.output_bias);
    }

    int append(const char* name, int x, int state) {
        return g_.named(std::string("append_") + name)
            .one(op_cache_append, {state, x, positions_, sequences_, block_table_});
    }

    int rotate(const char* name, int x) {
        return g_.named(name).one(op_rotate, {x, cos_, sin_}, {{"pairing", c_.pairing}});
    }

    // Frequencies leave here as arithmetic on constants; folding makes one array of them.
    void rotary_table() {
        const RotaryFrequencies f = rotary_frequencies(c_.rope, c_.head_dim, c_.context, context_, file_.path);
        const auto angles = static_cast<int64_t>(f.radians.size());
        int frequencies = g_.constant({{angles}, f.radians});
        if (!c_.rope.divisors.empty()) frequencies = g_.divide(frequencies, tensor(c_.rope.divisors, {angles}));
        const int inputs[] = {positions_, frequencies};
        const std::vector<int> table = g_.named("rotary_table").emit(op_rotary_table, inputs, {{"scale", f.scale}});
        cos_ = table[0];
        sin_ = table[1];
    }

    int norm(const char* name, int x, const TensorWords& words, int64_t layer, int64_t width) {
        return g_.named(name).one(op_rms_norm, {x, tensor(word(words, layer) + ".weight", {width})},
                                  {{"epsilon", c_.norm_epsilon}});
    }

    int linear(const char* name, int x, const TensorWords& words, int64_t layer, int64_t outputs, int64_t inputs,
               bool bias) {
        const int y = g_.named(name).matmul(x, matrix(words, layer, outputs, inputs));
        if (!bias) return y;
        return g_.named(std::string(name) + "_bias").add(y, tensor(word(words, layer) + ".bias", {outputs}));
    }

    int matrix(const TensorWords& words, int64_t layer, int64_t outputs, int64_t inputs) {
        return tensor(word(words, layer) + ".weight", {outputs, inputs});
    }

    std::string word(const TensorWords& words, int64_t layer) const {
        return fmt::format(fmt::runtime(file_.gguf ? words.gguf : words.folder), layer);
    }

    int tensor(const std::string& name, std::vector<int64_t> shape) {
        const auto it = file_.tensors.find(name);
        if (it == file_.tensors.end())
            throw bad_input(file_.path,
                            "[{}] expected a tensor {} of shape [{}], found none of that name among {} tensors",
                            c_.family, quote(name), fmt::join(shape, ", "), file_.tensors.size());
        if (it->second.shape != shape)
            throw bad_input(file_.path, "[{}] tensor {}: expected shape [{}] from the configuration, got [{}]",
                            c_.family, quote(name), fmt::join(shape, ", "), fmt::join(it->second.shape, ", "));
        used_.insert(name);
        return g_.weight(std::make_shared<StoredTensor>(it->second));
    }

    // A tensor that nothing reads means that the model is not what we take it for.
    void refuse_left_over() const {
        std::vector<std::string> left;
        for (const auto& [name, tensor] : file_.tensors) {
            const bool derived = name.ends_with(
                "rotary_emb.inv_freq");  // older exports store the frequencies; they follow from the configuration
            const bool tied_twice = c_.tied && (name == "lm_head.weight" ||
                                                name == "output.weight");  // the configuration wins, as in transformers
            if (!used_.contains(name) && !derived && !tied_twice) left.push_back(name);
        }
        if (!left.empty())
            throw bad_input(file_.path,
                            "[{}] {} tensors have no place in this family, the first is {}; running without them would "
                            "give wrong text",
                            c_.family, left.size(), quote(left[0]));
    }

    const DecoderConfig& c_;
    const ModelFile& file_;
    const int64_t context_;
    Graph g_;
    std::set<std::string> used_;
    int positions_ = -1, sequences_ = -1, block_table_ = -1, cos_ = -1, sin_ = -1;
};

}  // namespace

Graph build_decoder(const DecoderConfig& config, const ModelFile& file, int64_t context) {
    return DecoderBuilder(config, file, context).build();
}

}  // namespace busbar
