#!/usr/bin/env python3
"""Generated tokens per second of `busbar serve`, all streams together, at 1, 4, 8 and 16 streams at once.

usage: streams.py BUSBAR MODEL [--streams 1,4,8,16] [--prompt 128] [--tokens 64] [--repeat 3] [--json] [-- SERVE-ARGUMENTS...]
Each stream is a completion of token ids (other ones for each stream and repeat, so that no kept past helps), ended by its
number of tokens. Printed: the median over the repeats of tokens / seconds from the first request to the last answer; of the
same without the prompt (from the first token of the last stream to start, to its end); and the median and 99th percentile of
the time between two tokens as a client sees it. Standard library only.
"""
import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time


def start(command):
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    port = None
    for line in process.stderr:
        found = re.search(r":(\d+) \(the model", line)
        port = int(found.group(1)) if found else port
        if line.startswith("ready, "):
            threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
            return process, port
    sys.exit(f"the server ended with {process.wait()}")


def stream(port, prompt, tokens, times, begin):
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True, "logprobs": 0})
    connection = http.client.HTTPConnection("127.0.0.1", port)
    begin.wait()
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise RuntimeError(reply.read())
    for line in reply:
        if line.startswith(b"data: {") and b'"token_logprobs"' in line:
            times.append(time.perf_counter())


def once(port, source, vocabulary, streams, prompt, tokens):
    times, barrier = [[] for _ in range(streams)], threading.Barrier(streams + 1)
    threads = [threading.Thread(target=stream, args=(port, [source.randrange(1000, vocabulary) for _ in range(prompt)], tokens, t, barrier)) for t in times]
    for t in threads:
        t.start()
    barrier.wait()
    begin = time.perf_counter()
    for t in threads:
        t.join()
    if any(len(t) != tokens for t in times):
        raise RuntimeError(f"expected {tokens} tokens in each stream, got {[len(t) for t in times]}")
    end, all_begun = max(t[-1] for t in times), max(t[0] for t in times)
    decoded = sum(sum(1 for x in t if x > all_begun) for t in times)
    gaps = [b - a for t in times for a, b in zip(t, t[1:])]
    return streams * tokens / (end - begin), decoded / (end - all_begun), gaps


def main():
    own, _, more = (sys.argv[1:], None, []) if "--" not in sys.argv else (sys.argv[1:sys.argv.index("--")], None, sys.argv[sys.argv.index("--") + 1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("busbar")
    parser.add_argument("model")
    parser.add_argument("--streams", default="1,4,8,16")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args(own)
    counts = [int(n) for n in o.streams.split(",")]
    process, port = start([o.busbar, "serve", o.model, "--port", "0", "--access-log", "", "--sequences", str(max(counts)),
                           "--context", str(o.prompt + o.tokens + 64), *more])
    source = random.Random(1)
    try:
        once(port, source, 2000, 1, o.prompt, o.tokens)  # warm
        rows = []
        for n in counts:
            runs = [once(port, source, 2000, n, o.prompt, o.tokens) for _ in range(o.repeat)]
            gaps = sorted(g for r in runs for g in r[2])
            rows.append({"streams": n, "tokens_per_second": statistics.median(r[0] for r in runs), "decode_tokens_per_second": statistics.median(r[1] for r in runs),
                         "gap_ms_median": 1000 * statistics.median(gaps), "gap_ms_p99": 1000 * gaps[int(0.99 * len(gaps))],
                         "spread": [min(r[0] for r in runs), max(r[0] for r in runs)]})
            if not o.json:
                r = rows[-1]
                print(f"{n:3d} streams: {r['tokens_per_second']:7.1f} tok/s ({r['spread'][0]:.1f} to {r['spread'][1]:.1f}), decoding alone "
                      f"{r['decode_tokens_per_second']:7.1f}; gap {r['gap_ms_median']:.1f} ms, 99 %: {r['gap_ms_p99']:.1f} ms", flush=True)
        if o.json:
            print(json.dumps({"model": o.model, "prompt": o.prompt, "tokens": o.tokens, "rows": rows}))
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
