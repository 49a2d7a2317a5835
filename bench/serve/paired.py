#!/usr/bin/env python3
"""Runs `busbar serve` and something else A B B A on the same file and threads; prints Markdown for docs/serve.md.

usage: paired.py llama|bench|probe BUSBAR MODEL [--streams 8,16] [--prompt 128] [--tokens 64] [--rounds 5] [--threads N]
  llama   against llama.cpp's llama-batched-bench, which bench/peers/build.py builds: that many prompts at once, then that many
          tokens of each; nothing is sampled there and nothing is served. "all" counts from the first request to the last answer,
          "decode" from when all streams have begun
  bench   against `busbar bench`, one stream: what the server adds to a token, seen by a client that sleeps in between ("decode") and by
          one that is woken for every token, on the same processors ("decode, client awake")
  probe   with the live probe against a server without it, after the sums of all weights have been taken; also per
          second of one processor, which a busy machine disturbs less
Ratio = server / other, median of the rounds and its 95 % interval. stdout: Markdown. stderr: each run.
"""
import argparse
import json
import os
import random
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(HERE, "..", "peers")]
import build  # noqa: E402
import figures  # noqa: E402
import programs  # noqa: E402
import streams  # noqa: E402


def let_memory_settle():
    """What a process held goes back to the host of a virtual machine for some seconds after its end: whoever runs then, and that
    would always be the server, is slower (steps of 6 ms instead of 3.4, a quarter of a second long)."""
    time.sleep(4)


class Served:
    def __init__(self, o, *arguments):
        self.o, self.source = o, random.Random(o.seed)
        self.server = streams.Server(o.busbar, o.model, "--sequences", str(max(o.streams)), "--context", str(o.prompt + o.tokens + 64),
                                     "--threads", str(o.threads), *arguments)
        try:
            self.time(1)  # warm
        except BaseException:  # whoever made this object has none yet to close
            self.close()
            raise

    def time(self, n):
        before = self.processor_seconds()
        whole, decode, _ = streams.once(self.server.port, self.source, 2000, n, self.o.prompt, self.o.tokens)
        found = {"all": whole, "decode": decode, "a second of one processor": n * self.o.tokens / (self.processor_seconds() - before)}
        if self.o.what == "bench":
            found["decode, client awake"] = decode
            found["decode"] = streams.once(self.server.port, self.source, 2000, n, self.o.prompt, self.o.tokens, sleeps=True)[1]
        return found

    def processor_seconds(self):
        """Of all threads: what others do on the machine shows less in it than in the time on the wall."""
        total = 0
        for thread in os.listdir(f"/proc/{self.server.process.pid}/task"):
            with open(f"/proc/{self.server.process.pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0]) / 1e9
        return total

    def close(self):
        self.server.close()


class BatchedBench:
    """One stream first, which does not count: it touches the weights for the first time."""

    def __init__(self, o):
        self.o = o
        self.path = os.path.join(o.llama_bin or build.llama_cpp(o.threads), "llama-batched-bench")

    def time(self, n):
        o = self.o
        command = [self.path, "-m", o.model, "-c", str(n * (o.prompt + o.tokens)), "-npp", str(o.prompt), "-ntg", str(o.tokens), "-npl", f"1,{n}",
                   "-t", str(o.threads), "-ngl", "0", "--output-format", "jsonl"]
        rows = [json.loads(line) for line in programs.run(command).splitlines() if line.startswith("{")]
        if len(rows) != 2 or (rows[1]["pl"], rows[1]["pp"], rows[1]["tg"], rows[1]["n_threads"]) != (n, o.prompt, o.tokens, o.threads):
            raise programs.Trouble(f"{' '.join(command)}: expected a row of 1 and one of {n} streams, got {rows}")
        let_memory_settle()
        return {"all": n * o.tokens / rows[1]["t"], "decode": rows[1]["speed_tg"]}

    def close(self):
        pass


class Bench:
    def __init__(self, o):
        self.program = programs.Busbar(o.busbar, o.model, o.threads, "accurate")
        self.o = o

    def time(self, _):
        decode = self.program.time("generate", 0, self.o.tokens, self.o.prompt)
        let_memory_settle()
        return {"decode": decode, "decode, client awake": decode}

    def close(self):
        pass


def compare(o, ours, theirs):
    found = {}
    for n in range(o.rounds):
        for count in o.streams:
            runs = [program.time(count) for program in (ours, theirs, theirs, ours)]
            for kind in (k for k in runs[0] if k in runs[1]):
                a, b = [runs[0][kind], runs[3][kind]], [runs[1][kind], runs[2][kind]]
                row = found.setdefault((count, kind), {"ours": [], "theirs": [], "ratios": []})
                row["ours"] += a
                row["theirs"] += b
                row["ratios"].append(figures.ratio_of_round(a, b))
                print(f"round {n + 1}/{o.rounds}, {count} streams, {kind}: {a[0]:.1f} {b[0]:.1f} {b[1]:.1f} {a[1]:.1f} tok/s, ratio {row['ratios'][-1]:.3f}",
                      file=sys.stderr, flush=True)
    return found


def wait_for_sums(server):
    """Until the probe has taken the sums of all weights: before, it cannot cost what it will."""
    while server.metric("busbar_probe_weights") < json.loads(server.get("/status"))["chips"][0]["probe"]["weights"]:
        time.sleep(1)


def main(arguments):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("llama", "bench", "probe"))
    p.add_argument("busbar")
    p.add_argument("model")
    p.add_argument("--streams", type=lambda s: [int(n) for n in s.split(",")])
    p.add_argument("--prompt", type=int, default=128)
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--probe", metavar="PERCENT", help="the server's share for the live probe")
    p.add_argument("--llama-bin", metavar="DIR", help="llama.cpp's tools, built already")
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    p.add_argument("--json", action="store_true", help="every single figure instead of Markdown")
    o = p.parse_args(arguments)
    o.streams = o.streams or {"llama": [8, 16], "bench": [1], "probe": [1, 8]}[o.what]
    programs_of = []
    try:
        programs_of.append(Served(o, *(["--probe", o.probe] if o.probe else [])))
        programs_of.append({"llama": BatchedBench, "bench": Bench, "probe": lambda o: Served(o, "--probe", "0")}[o.what](o))
        if o.what == "probe":
            wait_for_sums(programs_of[0].server)
        found = compare(o, *programs_of)
        cost = programs_of[0].server.metric("busbar_probe_seconds_total") if o.what == "probe" else None
    except (programs.Trouble, build.fetch.Trouble) as trouble:
        print(f"paired.py: {trouble}", file=sys.stderr)
        return 3
    finally:
        for program in programs_of:
            program.close()
    if o.json:
        print(json.dumps({"what": o.what, "model": o.model, "rows": [{"streams": n, "kind": kind, **row} for (n, kind), row in found.items()], "seed": o.seed}))
        return 0
    other = {"llama": "llama-batched-bench", "bench": "busbar bench", "probe": "without the probe"}[o.what]
    print(f"{os.path.basename(o.model)}, prompt {o.prompt}, {o.tokens} tokens, {o.threads} threads, {o.rounds} rounds, seed {o.seed}\n")
    print(f"| streams | | server, tok/s | {other}, tok/s | ratio | interval |\n|---|---|---|---|---|---|")
    for (n, kind), row in found.items():
        middle, low, high = figures.median_interval(row["ratios"], o.seed)
        print(f"| {n} | {kind} | {figures.spread(row['ours'], 1)} | {figures.spread(row['theirs'], 1)} | {middle:.3f} | {low:.3f} .. {high:.3f} |")
    if cost is not None:
        print(f"\nBy its own count the probe took {cost:.2f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
