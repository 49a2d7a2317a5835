#!/usr/bin/env python3
"""Makes the model goldens in tests/goldens/models/ with transformers in float32. See tests/goldens/README.md.

    python tests/goldens/make_models.py --default SmolLM2-135M-Instruct.Q4_1.gguf --tiny DIR
"""
import argparse
import hashlib
import json
import pathlib
import platform
import sys
import time

import gguf
import jinja2.sandbox
import numpy as np
import tokenizers
import torch
import transformers
from importlib.metadata import version

import gguf_to_torch

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "models"
TOP = 10
GREEDY = 64
STRIDE = 16

CHATS = {
    "capital": [{"role": "user", "content": "What is the capital of France?"}],
    "system": [{"role": "system", "content": "You are a ship's cook. Answer in two short sentences."},
               {"role": "user", "content": "What should we eat on a stormy evening?"}],
    "turns": [{"role": "user", "content": "My name is Ilse and I keep bees."},
              {"role": "assistant", "content": "Nice to meet you, Ilse! How many hives do you have?"},
              {"role": "user", "content": "Seven. What is my name, and what do I keep?"}],
    "code": [{"role": "user", "content": "Write a Python function that returns the sum of the even numbers in a list."}],
    "list": [{"role": "user", "content": "List three things one should pack for a walk in the mountains."}],
    "unicode": [{"role": "user", "content": "Translate to English: „Die Möwe fliegt über das Meer.“ 🙂"}],
}
RAW = {
    "story": "Once upon a time, in a village at the edge of a great forest,",
    "count": "1, 2, 3, 4, 5, 6, 7,",
    "function": "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
}
TEXTS = ["prose", "code", "numbers", "languages", "mixed"]


def made_by(command):
    return {
        "torch": torch.__version__, "transformers": transformers.__version__, "gguf": version("gguf"),
        "tokenizers": tokenizers.__version__, "numpy": np.__version__, "jinja2": version("jinja2"),
        "python": platform.python_version(), "command": command,
        "arithmetic": "float32, eager attention, tf32 and bf16 off",
    }


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


def top_of(row):
    """The TOP largest logits, largest first, the lower id first where two are equal."""
    order = np.lexsort((np.arange(len(row)), -row))[:TOP]
    return [int(i) for i in order], [round(float(row[i]), 6) for i in order]


def gap_of(row):
    second, first = np.partition(row, -2)[-2:]
    return round(float(first - second), 6)


def greedy(model, prompt, count, end):
    """Free-running greedy tokens through the KV cache, the end token included."""
    tokens, feed, cache = [], prompt, None
    with torch.no_grad():
        while len(tokens) < count:
            out = model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            feed = [int(out.logits[0, -1].argmax())]
            tokens += feed
            if feed[0] == end:
                break
    return tokens


def generation_case(model, name, kind, prompt, end, extra):
    tokens = greedy(model, prompt, GREEDY, end)
    rows = logits_of(model, prompt + tokens[:-1])[len(prompt) - 1:].numpy()
    case = {"name": name, "kind": kind, **extra, "prompt_ids": prompt, "tokens": tokens,
            "finish": "stop" if tokens[-1] == end else "length", "gaps": [], "top_ids": [], "top_logits": []}
    for token, row in zip(tokens, rows, strict=True):
        ids, values = top_of(row)
        gap = gap_of(row)
        # One full pass and one token at a time must tell the same story, or the golden itself is not to be trusted.
        assert token == ids[0] or gap < 1e-3, (name, token, ids, gap)
        case["gaps"].append(gap)
        case["top_ids"].append(ids)
        case["top_logits"].append(values)
    return case


def text_case(model, double, name, ids):
    logits = logits_of(model, ids)
    assert torch.isfinite(logits).all()
    targets = torch.tensor(ids[1:])
    nll = torch.nn.functional.cross_entropy(logits[:-1].double(), targets, reduction="mean").item()
    exact = logits_of(double, ids)
    exact_nll = torch.nn.functional.cross_entropy(exact[:-1].double(), targets, reduction="mean").item()
    noise = (logits.double() - exact).abs().max().item()
    rows = logits.numpy()
    sampled = list(range(0, len(ids), STRIDE))
    tops = [top_of(rows[i]) for i in sampled]
    gaps = [gap_of(row) for row in rows]
    flips = [i for i in range(len(ids)) if int(exact[i].argmax()) != int(rows[i].argmax())]
    print(f"  {name}: {len(ids)} tokens, nll {nll:.6f}, double {exact_nll:.6f}, largest logit difference {noise:.2e}, "
          f"top-1 flips {len(flips)}, gaps below 0.01: {sum(g < 0.01 for g in gaps)}")
    assert all(gaps[i] < 0.01 for i in flips)
    return {"name": name, "file": f"text/{name}.txt", "sha256": sha256(HERE / "text" / f"{name}.txt"), "ids": ids,
            "nll": round(nll, 7), "nll_double": round(exact_nll, 7), "double_max_difference": float(f"{noise:.3g}"),
            "top1": [int(row.argmax()) for row in rows], "gaps": gaps, "sampled_positions": sampled,
            "top_ids": [t[0] for t in tops], "top_logits": [t[1] for t in tops]}


def render(template, messages, metadata):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    token = lambda key: metadata["tokenizer.ggml.tokens"][metadata[f"tokenizer.ggml.{key}_token_id"]]
    return environment.from_string(template).render(
        messages=messages, tools=None, add_generation_prompt=True, bos_token=token("bos"), eos_token=token("eos"))


def make_default(path):
    start = time.time()
    model, metadata = gguf_to_torch.model_from_gguf(path)
    double, _ = gguf_to_torch.model_from_gguf(path, torch.float64)
    tokenizer = gguf_to_torch.tokenizer_from_gguf(metadata)
    end = metadata["tokenizer.ggml.eos_token_id"]
    # A tokenizer that loses text would make goldens of something else.
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    golden = {
        "made_by": made_by("make_models.py --default MODEL"),
        "model": {"file": pathlib.Path(path).name, "sha256": sha256(path), "bytes": pathlib.Path(path).stat().st_size},
        "end_id": end, "greedy": [], "texts": [],
    }
    for name, messages in CHATS.items():
        rendered = render(metadata["tokenizer.chat_template"], messages, metadata)
        golden["greedy"].append(generation_case(model, name, "chat", encode(rendered), end,
                                                {"messages": messages, "rendered": rendered}))
    for name, text in RAW.items():
        assert tokenizer.decode(encode(text)) == text
        golden["greedy"].append(generation_case(model, name, "raw", encode(text), end, {"text": text}))
    for case in golden["greedy"]:
        case["answer"] = tokenizer.decode(case["tokens"], skip_special_tokens=False)
        print(f"  {case['name']}: {len(case['tokens'])} tokens, smallest gap {min(case['gaps'])}: {case['answer'][:90]!r}")
    for name in TEXTS:
        text = (HERE / "text" / f"{name}.txt").read_bytes().decode()
        ids = encode(text)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text, name
        golden["texts"].append(text_case(model, double, name, ids))
    total = sum(len(t["ids"]) for t in golden["texts"])
    print(f"default model: {total} text tokens, {time.time() - start:.0f} s")
    return golden


def write(name, golden):
    """One list of numbers a line: small, and a diff shows which position moved."""
    def compact(value, depth):
        if isinstance(value, dict):
            pad = " " * (depth + 1)
            body = ",\n".join(f"{pad}{json.dumps(k)}: {compact(v, depth + 1)}" for k, v in value.items())
            return "{\n" + body + "\n" + " " * depth + "}"
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)) and depth < 6:
            pad = " " * (depth + 1)
            return "[\n" + ",\n".join(pad + compact(v, depth + 1) for v in value) + "\n" + " " * depth + "]"
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    path.write_text(compact(golden, 0) + "\n", encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == golden
    print(f"wrote {path.relative_to(HERE)}: {path.stat().st_size:,} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--default", metavar="GGUF", help="the default model's file")
    parser.add_argument("--tiny", metavar="DIR", help="folder that tests/models/make_tiny.py has filled")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    if not arguments.default and not arguments.tiny:
        parser.error("give --default, --tiny or both")
    if arguments.default:
        write("default", make_default(arguments.default))
    if arguments.tiny:
        import tiny_models
        for name, golden in tiny_models.make_all(arguments.tiny, made_by("make_models.py --tiny DIR")):
            write(name, golden)


if __name__ == "__main__":
    sys.exit(main())
