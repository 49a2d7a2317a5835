#!/usr/bin/env python3
"""Runs Busbar and its peers A B B A on the same file, threads and context; prints Markdown for docs/speed.md.

The peers are built natively once, into the cache folder: llama.cpp from the source package llama-cpp-python 0.3.36 (by
scripts/fetch.py), ik_llama.cpp from a checkout that --ik names, as it is and with its weights repacked at start (-rtr 1).
--llama-bin and --ik-bin name folders with tools that are built already. stdout: Markdown. stderr: each run.
Needs git, cmake, ninja, a C++ compiler.
"""
import argparse
import datetime
import os
import random
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import build  # noqa: E402
import errors  # noqa: E402
import figures  # noqa: E402
import programs  # noqa: E402


def options(arguments):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="\n".join(__doc__.splitlines()[2:]),
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="a .gguf file")
    p.add_argument("--busbar", default=os.path.join(ROOT, "build", "busbar"), help="the program (build/busbar)")
    p.add_argument("--rounds", type=int, default=7, help="rounds of A B B A (7)")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for all programs (all CPUs)")
    p.add_argument("--prompt", type=int, default=512, help="tokens of the prompt (512)")
    p.add_argument("--tokens", type=int, default=64, help="tokens to generate (64)")
    p.add_argument("--figure", choices=("prompt", "generate"), help="that one alone (both)")
    p.add_argument("--depth", type=int, default=0, help="tokens in the cache before generating (0)")
    p.add_argument("--numerics", default="accurate", choices=("strict", "accurate", "fast"), help="Busbar's (accurate)")
    p.add_argument("--kv", choices=("f32", "f16", "bf16"), help="Busbar's cache element (f16, as the peers)")
    p.add_argument("--ik", metavar="CHECKOUT", help="a checkout of ik_llama.cpp to build")
    p.add_argument("--ik-bin", metavar="DIR", help="its tools, built already")
    p.add_argument("--llama-bin", metavar="DIR", help="llama.cpp's tools, built already")
    p.add_argument("--no-llama", action="store_true", help="without llama.cpp")
    p.add_argument("--no-error", action="store_true", help="without the logit error")
    p.add_argument("--windows", type=int, default=8, help="windows of 512 tokens for the logit error (8)")
    p.add_argument("--text", help="for the logit error; else Busbar's own text")
    p.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="for building")
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the bootstrap")
    p.add_argument("--json", metavar="FILE", help="keep every single figure too")
    o = p.parse_args(arguments)
    for name, least in (("rounds", 1), ("threads", 1), ("prompt", 1), ("tokens", 1), ("depth", 0), ("windows", 2)):
        if getattr(o, name) < least:
            p.error(f"--{name}: expected {least} or more, got {getattr(o, name)}")
    if not os.path.isfile(o.model):
        p.error(f"--model: no such file: {o.model}")
    return o


def open_peers(o):
    peers = []
    if not o.no_llama:
        origin = "built by its user" if o.llama_bin else f"source package {build.fetch.SOURCES_FOLDER}"
        peers.append(programs.LlamaBench("llama.cpp", origin, o.llama_bin or build.llama_cpp(o.jobs), o.model, o.threads, ["-ngl", "0"]))
    if o.ik or o.ik_bin:
        where = o.ik_bin or build.ik_llama_cpp(o.ik, o.jobs)
        origin = "built by its user" if o.ik_bin else "a checkout"
        peers.append(programs.LlamaBench("ik_llama.cpp", origin, where, o.model, o.threads, ["-ngl", "0"]))
        peers.append(programs.LlamaBench("ik_llama.cpp -rtr 1", origin, where, o.model, o.threads, ["-ngl", "0", "-rtr", "1"]))
    if not peers:
        raise programs.Trouble("no peer to run: without llama.cpp, give --ik or --ik-bin")
    return peers


def compare(o, busbar, peers):
    """{(figure, peer): {"ours", "theirs", "ratios"}}: rounds outermost, so that a slow minute falls on all."""
    wanted = [o.figure] if o.figure else ["prompt", "generate"]
    found = {(f, p.name): {"ours": [], "theirs": [], "ratios": []} for f in wanted for p in peers}
    shape = (o.prompt, o.tokens, o.depth)
    for n in range(o.rounds):
        for peer in peers:
            for figure in wanted:
                times = [program.time(figure, *shape) for program in (busbar, peer, peer, busbar)]
                ours, theirs = [times[0], times[3]], [times[1], times[2]]
                row = found[figure, peer.name]
                row["ours"] += ours
                row["theirs"] += theirs
                row["ratios"].append(figures.ratio_of_round(ours, theirs))
                print(f"round {n + 1}/{o.rounds} {figure} {peer.name}: {ours[0]:.1f} {theirs[0]:.1f} {theirs[1]:.1f} {ours[1]:.1f} tok/s, "
                      f"ratio {row['ratios'][-1]:.3f}", file=sys.stderr, flush=True)
    return found


def own_text():
    """Busbar's own text, as one file's content, in the order that the program has it."""
    place = os.path.join(ROOT, "src", "agree", "text")
    parts = []
    for name in sorted(n for n in os.listdir(place) if n.endswith(".txt")):
        with open(os.path.join(place, name), encoding="utf-8") as file:
            parts.append(file.read())
    return "\n".join(parts)


def logit_errors(o, busbar, peers):
    with tempfile.TemporaryDirectory(prefix="busbar-peers-", dir=build.folder()) as work:
        text = o.text
        if not text:
            text = os.path.join(work, "text.txt")
            with open(text, "w", encoding="utf-8") as file:
                file.write(own_text())
        all_of_them = []
        try:
            all_of_them.append(errors.of_busbar(busbar, text, o.windows))
        except programs.Trouble as error:
            all_of_them.append({"program": "Busbar", "why_not": str(error).replace("|", "/").replace("\n", " ")[:300]})
        for peer in peers:
            print(f"logit error of {peer.name}", file=sys.stderr, flush=True)
            all_of_them.append(errors.of_llama(peer, text, o.windows, work))
        return all_of_them


def main(arguments):
    o = options(arguments)
    try:
        peers = open_peers(o)
        busbar = programs.Busbar(o.busbar, o.model, o.threads, o.numerics, ["--kv", o.kv] if o.kv else [])
        found = compare(o, busbar, peers)
        report = {
            "model": os.path.basename(o.model), "threads": o.threads, "date": datetime.date.today().isoformat(),
            "machine": busbar.machine, "busbar": busbar.label, "numerics": o.numerics + (f", cache {o.kv}" if o.kv else ""), "seed": o.seed, "rounds": o.rounds,
            "rows": [], "calibrators": busbar.roofs, "text": o.text or "Busbar's own text (src/agree/text)",
            "programs": {"Busbar": busbar.version, **{p.name: p.version for p in peers}},
            "errors": [] if o.no_error else logit_errors(o, busbar, peers)}
        words = {"prompt": f"prompt {o.prompt}", "generate": f"generate {o.tokens} at depth {o.depth}"}
        for (figure, peer), row in found.items():
            median, low, high = figures.median_interval(row["ratios"], o.seed)
            report["rows"].append({"figure": words[figure], "peer": peer, "ratio": median, "interval": [low, high], **row})
        if o.json:
            errors.save(o.json, report)
        print(figures.markdown(report), end="")
    except (programs.Trouble, build.fetch.Trouble) as trouble:
        print(f"run.py: {trouble}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
