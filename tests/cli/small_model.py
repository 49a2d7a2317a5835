"""Writes a small random llama with a byte-level tokenizer and a chat template, as GGUF or as a folder.

Everything can be changed on the way out, so that tests can write what no good program would: `change` gets the metadata
(or configuration) and the tensors. Standard library only.
"""
import array
import json
import os
import random
import struct

LAYERS, WIDTH, HEADS, KV_HEADS, INNER, CONTEXT = 2, 32, 2, 1, 64, 256
KINDS = {"u8": 0, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "string": 8, "array": 9, "u64": 10}
FORMATS = {"u8": "<B", "u32": "<I", "i32": "<i", "f32": "<f", "bool": "<?", "u64": "<Q"}
TEMPLATE = ("{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
            "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def byte_letters():
    """The printable letter that stands for each byte in byte-level vocabularies [Radford et al. 2019]."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 256
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(extra)
            extra += 1
    return letters


MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("o", "r"), ("Ġw", "or")]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = SPECIAL + list(byte_letters().values()) + [a + b for a, b in MERGES]
VOCABULARY = len(TOKENS)


def weights(seed=7):
    """Name in GGUF, name in folders, shape (rows first), values."""
    source = random.Random(seed)
    head = WIDTH // HEADS

    def tensor(gguf, name, *shape):
        count = 1
        for n in shape:
            count *= n
        if len(shape) == 1:
            values = [1.0 + source.uniform(-0.1, 0.1) for _ in range(count)]
        else:
            values = [source.gauss(0, 1.2 / shape[1] ** 0.5) for _ in range(count)]
        return [gguf, name, list(shape), array.array("f", values).tobytes()]

    out = [tensor("token_embd", "model.embed_tokens", VOCABULARY, WIDTH), tensor("output_norm", "model.norm", WIDTH),
           tensor("output", "lm_head", VOCABULARY, WIDTH)]
    for n in range(LAYERS):
        for gguf, name, *shape in (
                ("attn_norm", "input_layernorm", WIDTH), ("attn_q", "self_attn.q_proj", HEADS * head, WIDTH),
                ("attn_k", "self_attn.k_proj", KV_HEADS * head, WIDTH), ("attn_v", "self_attn.v_proj", KV_HEADS * head, WIDTH),
                ("attn_output", "self_attn.o_proj", WIDTH, HEADS * head), ("ffn_norm", "post_attention_layernorm", WIDTH),
                ("ffn_gate", "mlp.gate_proj", INNER, WIDTH), ("ffn_up", "mlp.up_proj", INNER, WIDTH),
                ("ffn_down", "mlp.down_proj", WIDTH, INNER)):
            out.append(tensor(f"blk.{n}.{gguf}", f"model.layers.{n}.{name}", *shape))
    return out


def metadata():
    """Key -> (kind, value), in the order of the file."""
    return {
        "general.architecture": ("string", "llama"), "general.name": ("string", "small"),
        "llama.block_count": ("u32", LAYERS), "llama.context_length": ("u32", CONTEXT),
        "llama.embedding_length": ("u32", WIDTH), "llama.feed_forward_length": ("u32", INNER),
        "llama.attention.head_count": ("u32", HEADS), "llama.attention.head_count_kv": ("u32", KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": ("f32", 1e-5), "llama.rope.dimension_count": ("u32", WIDTH // HEADS),
        "llama.rope.freq_base": ("f32", 10000.0),
        "tokenizer.ggml.model": ("string", "gpt2"), "tokenizer.ggml.pre": ("string", "gpt-2"),
        "tokenizer.ggml.tokens": ("array", ("string", TOKENS)),
        "tokenizer.ggml.token_type": ("array", ("i32", [3] * len(SPECIAL) + [1] * (VOCABULARY - len(SPECIAL)))),
        "tokenizer.ggml.merges": ("array", ("string", [f"{a} {b}" for a, b in MERGES])),
        "tokenizer.ggml.bos_token_id": ("u32", 0), "tokenizer.ggml.eos_token_id": ("u32", 2),
        "tokenizer.ggml.add_bos_token": ("bool", False), "tokenizer.chat_template": ("string", TEMPLATE),
    }


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def packed(kind, value):
    if kind == "string":
        return text(value)
    if kind == "array":
        of, items = value
        return struct.pack("<IQ", KINDS[of], len(items)) + b"".join(packed(of, item) for item in items)
    return struct.pack(FORMATS[kind], value)


def gguf_bytes(change=None, tensors=True):
    """The file, and the length of what stands before the weights."""
    meta, stored = metadata(), weights() if tensors else []
    if change:
        change(meta, stored)
    out = struct.pack("<4sIQQ", b"GGUF", 3, len(stored), len(meta))
    for key, (kind, value) in meta.items():
        out += text(key) + struct.pack("<I", KINDS[kind]) + packed(kind, value)
    offset = 0
    for gguf, _, shape, data in stored:
        out += text(gguf + ".weight") + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", 0, offset)
        offset += (len(data) + 31) // 32 * 32
    out += b"\0" * (-len(out) % 32)
    head = len(out)
    for *_, data in stored:
        out += data + b"\0" * (-len(data) % 32)
    return out, head


def write_gguf(path, change=None, tensors=True):
    with open(path, "wb") as file:
        file.write(gguf_bytes(change, tensors)[0])
    return path


def config():
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": LAYERS, "hidden_size": WIDTH,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": INNER,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": VOCABULARY,
        "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32", "bos_token_id": 0, "eos_token_id": 2}


def tokenizer():
    special = [{"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for i, word in enumerate(SPECIAL)]
    return {"version": "1.0", "added_tokens": special, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(TOKENS)}, "merges": [f"{a} {b}" for a, b in MERGES]}}


def safetensors_bytes(tensors):
    header, offset = {}, 0
    for _, name, shape, data in tensors:
        header[name + ".weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(data for *_, data in tensors)


def write_folder(path, change=None, leave_out=()):
    """A folder as model hubs have them. `leave_out` names files not to write."""
    os.makedirs(path)
    files, stored = {"config.json": config(), "tokenizer.json": tokenizer(),
                     "tokenizer_config.json": {"chat_template": TEMPLATE, "eos_token": "<|im_end|>"}}, weights()
    if change:
        change(files["config.json"], stored)
    for name, document in files.items():
        if name not in leave_out:
            with open(os.path.join(path, name), "w", encoding="utf-8") as file:
                json.dump(document, file)
    if "model.safetensors" not in leave_out:
        with open(os.path.join(path, "model.safetensors"), "wb") as file:
            file.write(safetensors_bytes(stored))
    return path
