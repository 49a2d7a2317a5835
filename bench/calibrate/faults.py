#!/usr/bin/env python3
"""How often is a chip that lies found out, and an honest one accused? Plants every fault of libbusbar_chip_faulty.so many times
and asks each check. Not part of ./test: it takes minutes to hours.

usage: faults.py MODEL [--busbar build/busbar] [--trials N] [--clean N] [--checks gate,bisect,verify,conform] [--faults a,b]
                 [--json FILE]
Each trial has a fresh seed and, where the fault takes one, another layer. Prints a Markdown table for docs/agreement.md: found /
trials with a 95 % Wilson interval, and how often the op (or edge) named is one that has the fault. Checks:
  gate     busbar eval with --gate auto and an empty cache folder (exit 4 and "[gate]")
  bisect   busbar verify --bisect (exit 1)
  verify   busbar verify, levels 2 and 4 (exit 1)
  conform  busbar conform, without a model (exit 1)
"""
import argparse
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time

# Fault -> ops one of which must be named ("" = any op that the fault can hit).
FAULTS = {
    "rope_layout": ["rotate"], "half_accumulate": ["matmul", "multi_matmul"], "noop_kernel": [""], "stale_buffer": [""],
    "missing_sync": [""], "scale_off_by_one": ["matmul", "multi_matmul", "gather_rows"], "nan_long": ["attention"],
    "mask_off_by_one": ["attention", "cache_mask"], "eps_wrong": ["rms_norm", "add_rms_norm"], "bf16_flush": [""],
    "one_weight": ["matmul", "multi_matmul", "gather_rows"], "layer_swap": ["matmul", "multi_matmul"],
    "leak_batch": ["attention"], "rare": [""],
}
NAMES_OPS = ("gate", "bisect")
OPS = ("matmul|multi_matmul|batch_matmul|gather_rows|rms_norm|add_rms_norm|rotate|rotary_table|attention|cache_append|"
       "gated_silu|silu|add|multiply")


def wilson(hits, n):
    if n == 0:
        return 0.0, 1.0
    z, p = 1.96, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def command(check, options, chip):
    if check == "gate":
        return [options.busbar, "eval", options.model, "--ids", options.few, "--chip", chip, "--context", "512"]
    if check == "bisect":
        return [options.busbar, "verify", options.model, "--bisect", "--chip", chip, "--context", "512", *options.text]
    if check == "verify":
        return [options.busbar, "verify", options.model, "--chip", chip, "--positions", str(options.positions), "--context", "512",
                *options.text]
    return [options.busbar, "conform", "--chip", chip]


def ask(check, options, chip, seed):
    """(found, text, seconds). A crash or a usage error of ours stops the calibration: it is no answer."""
    with tempfile.TemporaryDirectory() as empty:
        cache = options.cache if check == "verify" else empty  # the oracle's outputs are the same in every trial
        environment = dict(os.environ, BUSBAR_SEED=str(seed), BUSBAR_CACHE=cache)
        start = time.monotonic()
        done = subprocess.run(command(check, options, chip), capture_output=True, text=True, env=environment, timeout=3600)
        seconds = time.monotonic() - start
    text = done.stdout + done.stderr
    found = done.returncode == (4 if check == "gate" else 1)
    if done.returncode not in (0, 1, 4, 6) or (done.returncode == 4 and check == "gate" and "[gate]" not in text):
        sys.exit(f"{check} on {chip} (seed {seed}): exit {done.returncode}\n{text}")
    return found, text, seconds


def named(text):
    if "tables: " in text:
        return "gather_rows"  # the gate's look at what is only looked up in
    match = re.search(rf"\(({OPS}) on |first wrong (?:op|edge|cache|copy) ({OPS})\b", text)
    return (match.group(1) or match.group(2)) if match else ""


def show(hits, n):
    low, high = wilson(hits, n)
    return f"{hits}/{n} ({low:.2f}-{high:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--busbar", default="build/busbar")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--clean", type=int, default=50)
    parser.add_argument("--layers", type=int, default=2, help="layers of the model: faults are planted in one of them")
    parser.add_argument("--vocabulary", type=int, default=0,
                        help="feed random ids below this, for models without a tokenizer; 0: the text that verify brings")
    parser.add_argument("--positions", type=int, default=500)
    parser.add_argument("--checks", default="gate,bisect")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--options", default="", help="more options of the chip, such as size=0.001")
    parser.add_argument("--json")
    options = parser.parse_args()
    options.cache = tempfile.mkdtemp()
    words = [str(random.randrange(options.vocabulary or 90)) for _ in range(options.positions)]
    options.few, many = os.path.join(options.cache, "few.txt"), os.path.join(options.cache, "many.txt")
    for name, count in ((options.few, 4), (many, len(words))):
        with open(name, "w") as file:
            file.write(" ".join(words[:count]))
    options.text = ["--ids", many] if options.vocabulary else []
    library = os.path.join(os.path.dirname(os.path.abspath(options.busbar)), "libbusbar_chip_faulty.so")
    checks, faults = options.checks.split(","), options.faults.split(",")
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}; {os.path.basename(options.model)}; {options.trials} trials, {options.clean} clean runs", file=sys.stderr)
    random.seed(seed)
    results, times = {}, {check: [] for check in checks}

    def trial(check, chip):
        found, text, seconds = ask(check, options, chip, random.randrange(1 << 30))
        times[check].append(seconds)
        return found, named(text)

    for fault in faults:
        for check in checks:
            hits = right = 0
            for _ in range(options.trials):
                layer = "" if fault in ("one_weight", "layer_swap") or check == "conform" else f"&layer={random.randrange(options.layers)}"
                more = "&" + options.options if options.options else ""
                found, op = trial(check, f"plugin:{library}?fault={fault}{layer}{more}")
                hits += found
                right += found and ("" in FAULTS[fault] or op in FAULTS[fault])
            results[fault, check] = (hits, right, options.trials)
            print(f"{fault:<18} {check:<8} found {show(hits, options.trials)}, rightly named {right}/{hits}", file=sys.stderr)
    for check in checks:
        alarms = sum(trial(check, f"plugin:{library}?fault=none")[0] for _ in range(options.clean))
        results["none", check] = (alarms, 0, options.clean)
        print(f"{'none':<18} {check:<8} accused {show(alarms, options.clean)}", file=sys.stderr)

    print("| fault | " + " | ".join(f"{c}: found (95 %), rightly named" for c in checks) + " |")
    print("|---" * (len(checks) + 1) + "|")
    for fault in faults + ["none"]:
        cells = []
        for check in checks:
            hits, right, n = results[fault, check]
            cells.append(show(hits, n) + ("" if check not in NAMES_OPS or hits == 0 else f", {right}/{hits}"))
        print(f"| `{fault}` | " + " | ".join(cells) + " |")
    print("| median time | " + " | ".join(f"{sorted(times[c])[len(times[c]) // 2]:.2f} s" for c in checks) + " |")
    if options.json:
        with open(options.json, "w") as file:
            json.dump([{"fault": f, "check": c, "found": h, "named": r, "trials": n} for (f, c), (h, r, n) in results.items()],
                      file, indent=1)


if __name__ == "__main__":
    main()
