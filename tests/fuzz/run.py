#!/usr/bin/env python3
"""Runs every fuzz target for a while and reports what crashed, with the command that shows it again.

usage: run.py [--seconds N] [--jobs N] [--report FILE] BUILD [TARGET...]
BUILD    the folder of the fuzz build; its targets are BUILD/tests/fuzz/fuzz_*
TARGET   only these, with or without fuzz_
A target starts from tests/fuzz/corpus/TARGET/ and what earlier runs found in BUILD/found/TARGET/. A crash, a hang of more
than 10 s or more than 2 GB of memory is a failure; its input is kept in BUILD/crashes/. Exit: 0 all held, 1 not.
"""
import argparse
import glob
import os
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))


def run_target(program, build, seconds):
    """(outcome, name, why, output) of one target."""
    name = os.path.basename(program).removeprefix("fuzz_")
    found, crashes = os.path.join(build, "found", name), os.path.join(build, "crashes")
    corpus, words = os.path.join(HERE, "corpus", name), os.path.join(HERE, name + ".dict")
    os.makedirs(found, exist_ok=True)
    os.makedirs(crashes, exist_ok=True)
    command = [program, found] + ([corpus] if os.path.isdir(corpus) else [])
    command += [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=1024",
                f"-artifact_prefix={crashes}/{name}-", "-print_final_stats=1", "-verbosity=1", "-close_fd_mask=0"]
    command += [f"-dict={words}"] if os.path.exists(words) else []
    symbolizer = {"ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-14"} if os.path.exists("/usr/bin/llvm-symbolizer-14") else {}
    environment = dict(os.environ, ASAN_OPTIONS="detect_stack_use_after_return=1", UBSAN_OPTIONS="print_stacktrace=1", **symbolizer)
    begin = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", env=environment, timeout=seconds + 120, check=False)
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        status, output = "no end", (late.stdout or b"").decode(errors="replace")
    runs = re.search(r"stat::number_of_executed_units: (\d+)", output)
    kept = re.search(r"Test unit written to (\S+)", output)
    took = time.monotonic() - begin
    if status == 0 and runs:
        return "passed", name, f"{int(runs[1]):,} inputs in {took:.0f} s", output
    again = f"{shlex.quote(program)} {shlex.quote(kept[1])}" if kept else shlex.join(command)
    return "failed", name, f"status {status} after {took:.0f} s; again with: {again}", output


def main():
    if any(word in ("-h", "--help") for word in sys.argv[1:]):
        print(__doc__.strip())
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report")
    parser.add_argument("build")
    parser.add_argument("targets", nargs="*")
    given = parser.parse_args()
    programs = sorted(p for p in glob.glob(os.path.join(given.build, "tests/fuzz/fuzz_*")) if os.access(p, os.X_OK) and os.path.isfile(p))
    built = {os.path.basename(p).removeprefix("fuzz_"): p for p in programs}
    expected = sorted(os.path.basename(p)[:-3] for p in glob.glob(os.path.join(HERE, "*.cc")))
    chosen = [t.removeprefix("fuzz_") for t in given.targets] or expected
    results = [("failed", name, "it is not built", "") for name in chosen if name not in built]
    chosen = [name for name in chosen if name in built]
    rounds = -(-len(chosen) // given.jobs)
    print(f"  {len(chosen)} targets, {given.seconds} s each, {given.jobs} at a time: about {rounds * (given.seconds + 3)} s", flush=True)
    with ThreadPoolExecutor(given.jobs) as pool:
        for result in pool.map(lambda name: run_target(built[name], given.build, given.seconds), chosen):
            outcome, name, why, output = result
            results.append(result)
            if outcome == "failed":
                print("\n".join(output.splitlines()[-120:]), flush=True)
            print(f"  {outcome}: {name}: {why}", flush=True)
    if given.report:
        with open(given.report, "w", encoding="utf-8") as out:
            out.writelines(f"{outcome}\t{name}\t{why if outcome == 'failed' else ''}\n" for outcome, name, why, _ in results)
    return 1 if not results or any(outcome == "failed" for outcome, *_ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
