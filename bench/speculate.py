#!/usr/bin/env python3
"""What drafts bring: tokens per second with --speculate auto against off, on text that repeats itself and text that does not.

usage: speculate.py MODEL [--busbar PROGRAM] [--rounds 4] [--tokens 96]
Each round is off, auto, auto, off, each a process of its own: a drift that is even over a round cancels. The tokens of all four
must be the same; if not, it says so and ends with 1. Standard library only.
"""
import argparse
import json
import statistics
import subprocess
import sys

NOTICE = ("The ferry leaves the harbour at nine in the morning and returns at five in the afternoon. Tickets are sold at the pier, and "
          "children travel free of charge. In winter there is one crossing a day.\n")
CODE = "def area_{}(width, height):\n    if width < 0 or height < 0:\n        raise ValueError('negative')\n    return {} * width * height\n\n"
TEXTS = {
    "a notice, three times": ["--raw", "-p", NOTICE * 3],
    "functions that are alike": ["--raw", "-p", CODE.format("rectangle", 1) + CODE.format("triangle", 0.5) + CODE.format("double", 2) + "def area_triple("],
    "a story": ["-p", "Tell me a story about a lighthouse keeper who finds a map."],
}


def answer(options, words, mode):
    command = [options.busbar, "run", options.model, *words, "-n", str(options.tokens), "--speculate", mode, "--json", "--quiet"]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return (len(told["tokens"]) - 1) / told["timing"]["decode_s"], told["speculation"], told["tokens"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model")
    parser.add_argument("--busbar", default="build/busbar")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()
    answer(options, TEXTS["a story"], "auto")  # the gate, where it was not passed before
    print("| text | off, tok/s | auto, tok/s | median of ratios | drafts right |\n|---|---|---|---|---|")
    for name, words in TEXTS.items():
        off, auto, ratios = [], [], []
        for _ in range(options.rounds):
            runs = [answer(options, words, mode) for mode in ("off", "auto", "auto", "off")]
            if any(run[2] != runs[0][2] for run in runs):
                print(f"{name}: the tokens differ with drafts", file=sys.stderr)
                return 1
            off += [runs[0][0], runs[3][0]]
            auto += [runs[1][0], runs[2][0]]
            ratios.append((runs[1][0] + runs[2][0]) / (runs[0][0] + runs[3][0]))
        drafts = runs[2][1]
        print(f"| {name} | {statistics.median(off):.1f} | {statistics.median(auto):.1f} | {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} .. {max(ratios):.2f}) | {drafts['accepted']} of {drafts['drafted']} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
