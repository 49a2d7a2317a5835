"""Turns a GGUF file into a transformers model in float32 and a Hugging Face tokenizer.

Nothing of Busbar is used here: the blocks are decoded by the Python package `gguf`, the forward pass is that of
`transformers`, token ids come from the package `tokenizers`. That independence is the whole worth of the goldens.
"""
import pathlib

import numpy as np
import torch
import transformers
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def read_gguf(paths):
    """Returns (metadata, {name: float32 array}) of one file or of the parts of a split one, first part first.

    Every tensor is decoded by the package `gguf`.
    """
    metadata, tensors = {}, {}
    for path in [paths] if isinstance(paths, (str, pathlib.Path)) else paths:
        reader = GGUFReader(path)
        for name, field in reader.fields.items():
            metadata.setdefault(name, field.contents())
        for tensor in reader.tensors:
            assert tensor.name not in tensors, tensor.name
            shape = [int(n) for n in reversed(tensor.shape)]
            tensors[tensor.name] = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
    return metadata, tensors


def hf_name(name):
    stem, _, kind = name.rpartition(".")
    if stem in TOP_NAMES:
        return f"{TOP_NAMES[stem]}.{kind}"
    block, layer, part = stem.split(".")
    assert block == "blk", name
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def undo_permutation(array, heads):
    """GGUF files of architecture llama store Q and K rows as pairs (2i, 2i+1); transformers wants (i, i+d/2)."""
    half = array.shape[0] // heads // 2
    return array.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(array.shape)


def config_from_metadata(metadata, tensors):
    arch = metadata["general.architecture"]
    get = lambda key, default=None: metadata.get(f"{arch}.{key}", default)
    heads = get("attention.head_count")
    hidden = get("embedding_length")
    rope = {"rope_type": "default", "rope_theta": float(get("rope.freq_base", 10000.0))}
    kind = get("rope.scaling.type", "none")
    if kind == "linear":
        rope.update(rope_type="linear", factor=float(get("rope.scaling.factor")))
    elif kind == "yarn":
        rope.update(rope_type="yarn", factor=float(get("rope.scaling.factor")),
                    original_max_position_embeddings=get("rope.scaling.original_context_length"))
    elif kind != "none":
        raise SystemExit(f"rope scaling '{kind}' is not known here")
    window = get("attention.sliding_window")
    family = "mistral" if arch == "llama" and window else arch
    fields = dict(
        vocab_size=tensors["token_embd.weight"].shape[0], hidden_size=hidden,
        intermediate_size=get("feed_forward_length"), num_hidden_layers=get("block_count"),
        num_attention_heads=heads, num_key_value_heads=get("attention.head_count_kv", heads),
        head_dim=get("attention.key_length", hidden // heads),
        # The file holds a float32; the double it came from (1e-05) is what a config.json would say.
        rms_norm_eps=float(str(np.float32(get("attention.layer_norm_rms_epsilon")))),
        max_position_embeddings=get("context_length"), rope_parameters=rope,
        tie_word_embeddings="output.weight" not in tensors)
    if window:
        fields["sliding_window"] = window
    if family == "llama":
        fields["attention_bias"] = "blk.0.attn_q.bias" in tensors
        fields["mlp_bias"] = "blk.0.ffn_gate.bias" in tensors
    return family, fields


def build_model(model_class, config, state, dtype=torch.float32):
    """A transformers model with exactly these weights: a missing or unused one is an error."""
    model = model_class(config).to(dtype)
    missing, unexpected = model.load_state_dict(
        {name: torch.from_numpy(np.ascontiguousarray(array)).to(dtype) for name, array in state.items()}, strict=False)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    assert set(missing) <= tied and not unexpected, (missing, unexpected)
    model.tie_weights()
    assert all(p.dtype == dtype for p in model.parameters())
    assert model.config._attn_implementation == "eager"
    return model.eval()


def model_from_gguf(paths, dtype=torch.float32, change=None):
    """(model, metadata); `change` may alter the config first, to see what a feature does."""
    metadata, tensors = read_gguf(paths)
    arch = metadata["general.architecture"]
    divisors = tensors.pop("rope_freqs.weight", None)
    family, fields = config_from_metadata(metadata, tensors)
    config_class, model_class = CLASSES[family]
    config = config_class(attn_implementation="eager", **fields)
    config._attn_implementation = "eager"
    config.gguf_rope_divisors = divisors is not None
    if change:
        change(config)
    state = {}
    for name, array in tensors.items():
        if arch == "llama" and ".attn_q." in name:
            array = undo_permutation(array, config.num_attention_heads)
        if arch == "llama" and ".attn_k." in name:
            array = undo_permutation(array, config.num_key_value_heads)
        state[hf_name(name)] = array
    model = build_model(model_class, config, state, dtype)
    if config.gguf_rope_divisors:
        rotary = model.model.rotary_emb
        rotary.inv_freq = rotary.inv_freq / torch.from_numpy(divisors)
    return model, metadata


def fix_dynamic_rope(model, context):
    """Pins `dynamic` rope to the frequencies of a sequence of `context` tokens.

    transformers grows the base with the sequence seen so far, so a token's keys depend on when they were made; Busbar
    fixes the length at load to --context. The frequencies come from transformers' own formula for seq_len = context;
    marking the module as `default` keeps its forward from computing them again.
    """
    rotary = model.model.rotary_emb
    assert rotary.rope_type == "dynamic"
    inv_freq, scaling = ROPE_INIT_FUNCTIONS["dynamic"](model.config, device=None, seq_len=context)
    rotary.inv_freq = inv_freq
    rotary.attention_scaling = scaling
    rotary.rope_type = "default"


def tokenizer_from_gguf(metadata):
    """Byte-level BPE of a GGUF file as a `tokenizers` pipeline. Only the pre-tokenizer of the default model is known."""
    assert metadata["tokenizer.ggml.model"] == "gpt2" and metadata["tokenizer.ggml.pre"] == "smollm"
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"]) if kind in (3, 4)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    assert tokenizer.get_vocab_size() == len(tokens)
    return tokenizer
