"""All logits of the tiny models that tests/models/make_tiny.py writes, by transformers in float32.

Besides the logits, each case proves that the feature it was made for is at work: another rope kind, no sliding window or
a window one wider must move the logits by more than MOVES, or the golden would pass an engine that lacks the feature.
"""
import base64
import copy
import hashlib
import json
import pathlib

import numpy as np
import torch
import transformers

import gguf_to_torch

MOVES = 0.01
LENGTH = 40


def ids_for(name, vocab, length):
    """Fixed pseudo-random ids, different for each case."""
    digest = lambda i: int.from_bytes(hashlib.sha256(f"{name}/{i}".encode()).digest()[:4], "little")
    return [digest(i) % vocab for i in range(length)]


def load_folder(folder, change=None, dtype=torch.float32):
    """A checkpoint folder as transformers reads it, with `change` applied to its config."""
    config = transformers.AutoConfig.from_pretrained(folder)
    if change:
        change(config)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    assert all(p.dtype == dtype for p in model.parameters()) and model.config._attn_implementation == "eager"
    return model.eval()


def logits_of(model, ids, context):
    if model.model.rotary_emb.rope_type == "dynamic":
        gguf_to_torch.fix_dynamic_rope(model, context)
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    assert torch.isfinite(logits).all()
    return logits.double().numpy()


def window_of(config):
    """(layers with a window, its width), or (0, None)."""
    width = getattr(config, "sliding_window", None)
    if width is None:
        return 0, None
    types = getattr(config, "layer_types", None)
    return (config.num_hidden_layers if types is None else types.count("sliding_attention")), width


def rope_to_default(config):
    config.rope_parameters = {"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}
    config.gguf_rope_divisors = False


def set_window(width):
    def change(config):
        config.sliding_window = width
        if width is None and getattr(config, "layer_types", None) is not None:
            config.layer_types = ["full_attention"] * config.num_hidden_layers
    return change


def use_window(width):
    def change(config):
        config.sliding_window = width
        config.use_sliding_window = True
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    return change


def checks(load, config, ids, context, logits):
    """How far the logits move when a feature of this case is taken away."""
    moved = {}
    difference = lambda change: float(np.abs(logits_of(load(change), ids, context) - logits).max())
    if config.rope_parameters["rope_type"] != "default" or getattr(config, "gguf_rope_divisors", False):
        moved["rope_default"] = difference(rope_to_default)
    if config.rope_parameters["rope_type"] == "yarn":
        # Two features in one: the frequencies, and the factor on cos and sin. Either alone must show.
        plain = load(rope_to_default).model.rotary_emb
        for what in ("inv_freq", "attention_scaling"):
            model = load(None)
            setattr(model.model.rotary_emb, what, getattr(plain, what))
            moved[f"yarn_{what}"] = float(np.abs(logits_of(model, ids, context) - logits).max())
    for what, part, value in (("no_bias", ".bias", 0.0), ("no_qk_norm", "_norm.weight", 1.0)):
        model = load()
        parameters = [p for name, p in model.named_parameters() if name.endswith(part) and "layernorm" not in name
                      and name != "model.norm.weight"]
        if parameters:
            for parameter in parameters:
                torch.nn.init.constant_(parameter, value)
            moved[what] = float(np.abs(logits_of(model, ids, context) - logits).max())
    layers, width = window_of(config)
    if layers:
        assert len(ids) > width, (len(ids), width)
        moved["no_window"] = difference(set_window(None))
        moved["window_plus_one"] = difference(set_window(width + 1))
        moved["window_minus_one"] = difference(set_window(width - 1))
    for what, value in moved.items():
        assert value > MOVES, (what, value)
    return {what: float(f"{value:.3g}") for what, value in moved.items()}


def length_for(config):
    """Past the window, past the length that the rope was trained at, past half of that of the file."""
    rope = config.rope_parameters
    needs = [LENGTH, (window_of(config)[1] or 0) + 8]
    if rope["rope_type"] != "default":
        needs.append((rope.get("original_max_position_embeddings") or 0) + 8)
    return min(max(needs), 160)


def context_for(config):
    """The --context that the golden holds for. Only `dynamic` depends on it: there, twice what the model was trained for."""
    return config.max_position_embeddings * (2 if config.rope_parameters["rope_type"] == "dynamic" else 1)


def pack(logits):
    """Row-major float32, little-endian, base64."""
    return base64.b64encode(logits.astype("<f4").tobytes()).decode()


def compare_gguf(folder_model, paths, ids, context, logits):
    """The GGUF twin, decoded by the package `gguf`, must hold the folder's weights bit for bit and give its logits.

    The folder of a quantised case was decoded by the generator itself, so this is where its decoders meet independent ones.
    """
    model = gguf_to_torch.model_from_gguf(paths)[0]
    twin = model.state_dict()
    for name, weight in folder_model.state_dict().items():
        assert torch.equal(weight, twin[name]), (paths, name)
    difference = np.abs(logits_of(model, ids, context) - logits).max()
    assert difference < 1e-4, (paths, difference)  # rope divisors are stored as float32


def case(folder, made_by):
    name = folder.name
    load = lambda change=None, dtype=torch.float32: load_folder(folder, change, dtype)
    model = load()
    config = copy.deepcopy(model.config)
    context = context_for(config)
    ids = ids_for(name, config.vocab_size, length_for(config))
    logits = logits_of(model, ids, context)
    noise = np.abs(logits_of(load(None, torch.float64), ids, context) - logits).max()
    moved = checks(load, config, ids, context, logits)
    unused = json.loads((folder / "config.json").read_text()).get("sliding_window")
    if unused and not window_of(config)[0]:
        moved["unused_window"] = float(f"{np.abs(logits_of(load(use_window(unused)), ids, context) - logits).max():.3g}")
        assert moved["unused_window"] > MOVES
    assert logits.std() > 0.1 and noise < 1e-4, (name, logits.std(), noise)
    parts = sorted(folder.parent.glob(f"{name}-0*-of-0*.gguf"))
    ggufs = parts or [p for p in [folder.parent / f"{name}.gguf"] if p.exists()]
    if ggufs:
        compare_gguf(model, ggufs, ids, context, logits)
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors")), *ggufs]
    rope = config.rope_parameters["rope_type"]
    print(f"  {name}: {config.model_type}, rope {rope}, {len(ids)} x {config.vocab_size} logits, std {logits.std():.2f}, "
          f"double differs by {noise:.1e}, gguf files {len(ggufs)}, moved {moved}")
    return {
        "made_by": made_by, "name": name, "folder": name, "gguf": ggufs[0].name if ggufs else None,
        "files": {p.relative_to(folder.parent).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
        "family": config.model_type, "rope": rope, "context": context, "vocabulary": config.vocab_size, "ids": ids,
        "moved_without": moved, "double_max_difference": float(f"{noise:.3g}"), "gap_min": smallest_gap(logits),
        "logits_f32_base64": pack(logits),
    }


def smallest_gap(logits):
    top = np.sort(logits, axis=1)
    return float(f"{(top[:, -1] - top[:, -2]).min():.3g}")


def make_all(root, made_by):
    folders = sorted(p.parent for p in pathlib.Path(root).glob("*/config.json"))
    if not folders:
        raise SystemExit(f"{root} holds no checkpoint: run tests/models/make_tiny.py {root} first")
    for folder in folders:
        yield f"tiny_{folder.name}", case(folder, made_by)
