#!/usr/bin/env python3
"""Writes a GGUF file with the shape of a published model and random weights, for `busbar bench`: speed does not depend on values.

usage: bench/make_model.py OUT.gguf [--shape qwen3-0.6b | smollm2-135m | llama-8b] [--type q8_0 | bf16 | f16 | q4_0 | q4_1] [--vocabulary]
--vocabulary  with a tokenizer of single bytes, for programs that do not open a model without one (`busbar serve`)
"""
import argparse
import os
import struct
import sys

import numpy

SHAPES = {  # sizes as published
    "qwen3-0.6b": dict(arch="qwen3", hidden=1024, layers=28, heads=16, kv=8, head=128, inner=3072, vocab=151936, theta=1e6, tied=True),
    "smollm2-135m": dict(arch="llama", hidden=576, layers=30, heads=9, kv=3, head=64, inner=1536, vocab=49152, theta=1e5, tied=True),
    "llama-8b": dict(arch="llama", hidden=4096, layers=32, heads=32, kv=8, head=128, inner=14336, vocab=128256, theta=5e5, tied=False),
}
# name: GGUF type id, weights a block, bytes a block, bytes of the block that hold halves (set to about 2^-8, so that sums stay tame)
TYPES = {"f32": (0, 1, 4, 0), "f16": (1, 1, 2, 0), "bf16": (30, 1, 2, 0), "q4_0": (2, 32, 18, 2), "q4_1": (3, 32, 20, 4), "q8_0": (8, 32, 34, 2)}
ALIGNMENT = 32


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def array(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def vocabulary(size):
    """The letters of byte-level vocabularies, one merge because readers want some, and words that no text has."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    tokens = letters + ["he", "<|end|>"]
    tokens += [f"<{i}>" for i in range(len(tokens), size)]
    return [("tokenizer.ggml.model", 8, string("gpt2")), ("tokenizer.ggml.pre", 8, string("gpt-2")), ("tokenizer.ggml.tokens", 9, array(8, [string(t) for t in tokens])),
            ("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", 3 if t == "<|end|>" else 1) for t in tokens])),
            ("tokenizer.ggml.merges", 9, array(8, [string("h e")])), ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 257)),
            ("tokenizer.ggml.add_bos_token", 7, b"\0")]


def metadata(shape, with_vocabulary):
    a = shape["arch"]
    entries = [("general.architecture", 8, string(a)), (f"{a}.context_length", 4, struct.pack("<I", 40960)), (f"{a}.embedding_length", 4, struct.pack("<I", shape["hidden"])),
               (f"{a}.block_count", 4, struct.pack("<I", shape["layers"])), (f"{a}.feed_forward_length", 4, struct.pack("<I", shape["inner"])),
               (f"{a}.attention.head_count", 4, struct.pack("<I", shape["heads"])), (f"{a}.attention.head_count_kv", 4, struct.pack("<I", shape["kv"])),
               (f"{a}.attention.key_length", 4, struct.pack("<I", shape["head"])), (f"{a}.attention.value_length", 4, struct.pack("<I", shape["head"])),
               (f"{a}.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-6)), (f"{a}.rope.freq_base", 6, struct.pack("<f", shape["theta"]))]
    if with_vocabulary:
        entries += vocabulary(shape["vocab"])
    return len(entries), b"".join(string(k) + struct.pack("<I", t) + v for k, t, v in entries)


def tensors(shape, kind):
    h, q, kv, inner = shape["hidden"], shape["heads"] * shape["head"], shape["kv"] * shape["head"], shape["inner"]
    out = [("token_embd.weight", (shape["vocab"], h), kind), ("output_norm.weight", (h,), "f32")]
    if not shape["tied"]:
        out.append(("output.weight", (shape["vocab"], h), kind))
    for n in range(shape["layers"]):
        b = f"blk.{n}."
        out += [(b + "attn_norm.weight", (h,), "f32"), (b + "ffn_norm.weight", (h,), "f32"), (b + "attn_q.weight", (q, h), kind), (b + "attn_k.weight", (kv, h), kind),
                (b + "attn_v.weight", (kv, h), kind), (b + "attn_output.weight", (h, q), kind), (b + "ffn_gate.weight", (inner, h), kind),
                (b + "ffn_up.weight", (inner, h), kind), (b + "ffn_down.weight", (h, inner), kind)]
        if shape["arch"] == "qwen3":
            out += [(b + "attn_q_norm.weight", (shape["head"],), "f32"), (b + "attn_k_norm.weight", (shape["head"],), "f32")]
    return out


def size(extents, kind):
    _, block, block_bytes, _ = TYPES[kind]
    count = int(numpy.prod(extents))
    assert extents[-1] % block == 0, (extents, kind)
    return count // block * block_bytes


def values(random, extents, kind):
    _, block, block_bytes, halves = TYPES[kind]
    count = int(numpy.prod(extents))
    if kind == "f32":
        return numpy.ones(count, "<f4").tobytes()
    if kind in ("f16", "bf16"):
        x = random.standard_normal(count, dtype=numpy.float32) / numpy.sqrt(extents[-1], dtype=numpy.float32)
        return (x.astype("<f2") if kind == "f16" else (x.view("<u4") >> 16).astype("<u2")).tobytes()
    blocks = random.integers(0, 256, (count // block, block_bytes), dtype=numpy.uint8)
    for at in range(0, halves, 2):
        blocks[:, at : at + 2] = [0x00, 0x10]  # the half 2^-11
    return blocks.tobytes()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out")
    p.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    p.add_argument("--type", choices=[t for t in TYPES if t != "f32"], default="q8_0")
    p.add_argument("--vocabulary", action="store_true", help="with a tokenizer of single bytes")
    args = p.parse_args()
    shape = SHAPES[args.shape]
    listed = tensors(shape, args.type)
    entries, meta = metadata(shape, args.vocabulary)
    infos, offset = b"", 0
    for name, extents, kind in listed:
        infos += string(name) + struct.pack("<I", len(extents)) + b"".join(struct.pack("<Q", e) for e in reversed(extents)) + struct.pack("<IQ", TYPES[kind][0], offset)
        offset += -(-size(extents, kind) // ALIGNMENT) * ALIGNMENT
    header = b"GGUF" + struct.pack("<IQQ", 3, len(listed), entries) + meta + infos
    random = numpy.random.default_rng(1)
    with open(args.out + ".part", "wb") as f:
        f.write(header + bytes(-len(header) % ALIGNMENT))
        for i, (name, extents, kind) in enumerate(listed):
            data = values(random, extents, kind)
            f.write(data + bytes(-len(data) % ALIGNMENT))
            print(f"\r{i + 1}/{len(listed)} tensors", end="", file=sys.stderr)
    os.replace(args.out + ".part", args.out)
    print(f"\n{args.out}: {os.path.getsize(args.out):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
