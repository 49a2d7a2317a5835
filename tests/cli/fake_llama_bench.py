#!/usr/bin/env python3
"""Stands for llama-bench, llama-quantize and llama-perplexity, by the name it is called as: takes what they take, prints
what they print, at a speed that FAKE_TOK_S gives. FAKE_WRONG=threads: it runs on another number of threads."""
import json
import os
import sys

NAME, ARGUMENTS = os.path.basename(sys.argv[0]), sys.argv[1:]


def value(flag, default=None):
    return ARGUMENTS[ARGUMENTS.index(flag) + 1] if flag in ARGUMENTS else default


def bench():
    if "--help" in ARGUMENTS:
        print("  -d, --n-depth <n>" if os.environ.get("FAKE_KIND") != "ik" else "  -gp <pp,tg>")
        return 0
    if value("-o") != "json" or not os.path.isfile(value("-m")) or (os.environ.get("FAKE_KIND") == "ik" and "-d" in ARGUMENTS):
        return 1
    tokens = int(value("-n"))
    if value("-gp"):
        tokens = int(value("-gp").split(",")[1])
    threads = int(value("-t")) + (os.environ.get("FAKE_WRONG") == "threads")
    speed = float(os.environ["FAKE_TOK_S"])
    print(json.dumps([{"build_commit": "fake", "n_threads": threads, "n_prompt": int(value("-p")), "n_gen": tokens,
                       "samples_ts": [speed / 9] * (int(value("-r")) - 1) + [speed]}]))
    return 0


def perplexity():
    base = value("--kl-divergence-base")
    if "--kl-divergence" not in ARGUMENTS:
        with open(base, "w", encoding="ascii") as file:
            file.write(value("-m"))
        return 0
    if not os.path.exists(base):
        return 1
    print("Mean    KLD:   0.003100 ±   0.000100\nSame top p: 96.000 ± 0.100 %")
    return 0


def quantize():
    out, kind = ARGUMENTS[-3], ARGUMENTS[-2]
    with open(out, "w", encoding="ascii") as file:
        file.write(kind)
    return 0


if __name__ == "__main__":
    sys.exit({"llama-bench": bench, "llama-perplexity": perplexity, "llama-quantize": quantize}[NAME]())
