#!/usr/bin/env python3
"""Generated tokens per second of `busbar serve`, all streams together, at 1, 4, 8 and 16 streams at once.

usage: streams.py BUSBAR MODEL [--streams 1,4,8,16] [--prompt 128] [--tokens 64] [--repeat 3] [--json] [-- SERVE-ARGUMENTS...]
Each stream is a completion of token ids (other ones for each stream and repeat, so that no kept past helps), ended by its
number of tokens. Printed: the median over the repeats of tokens / seconds from the first request to the last answer; of the
same without the prompts (from when all streams have begun, to the end); and the median and 99th percentile of the time
between two events as a client sees it. Standard library only.
"""
import argparse
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time


class Server:
    """`busbar serve` of a model, ready; stopped by close()."""

    def __init__(self, busbar, model, *arguments):
        command = [busbar, "serve", model, "--port", "0", "--access-log", "", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.port, self.said = None, []
        try:
            self.wait_until_ready()
        except BaseException:  # nobody has an object to close yet
            self.close()
            raise

    def wait_until_ready(self):
        for line in self.process.stderr:
            self.said.append(line)
            found = re.search(r":(\d+) \(the model", line)
            self.port = int(found.group(1)) if found else self.port
            if line.startswith("ready, "):
                threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
                return
        sys.exit(f"the server ended with {self.process.wait()}: {''.join(self.said[-5:])}")

    def get(self, path):
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: s.recv(65536), b"")).partition(b"\r\n\r\n")[2].decode()

    def metric(self, name):
        return float(re.search(rf"^{name}(?:{{.*}})? (\S+)$", self.get("/metrics"), re.M).group(1))

    def close(self):
        self.process.terminate()
        self.process.wait(60)


def stream(port, prompt, tokens, temperature, events, begin, troubles, sleeps=False):
    """Notes the time of each event. As little work as can be: the client runs on the server's processors. One that sleeps is not
    woken between the first event and the end, since that alone takes more of a processor than the server does for a token: its
    events in between all have the time of the end."""
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": temperature, "stream": True, "stream_options": {"include_usage": True}})
    with socket.create_connection(("127.0.0.1", port)) as s:
        begin.wait()
        s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        tail = b""
        while part := s.recv(65536):
            events += [time.perf_counter()] * (part.count(b"data: {") if sleeps else b"data: {" in part)
            if sleeps and events:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 19)
            tail = (tail + part)[-600:]
    if f'"completion_tokens":{tokens},'.encode() not in tail or b"data: [DONE]" not in tail:
        troubles.append(tail)


def once(port, source, vocabulary, streams, prompt, tokens, temperature=0, sleeps=False):
    """Tokens per second: of all, and after all have begun; seconds between events. Clients that sleep: for one stream only, else
    nobody knows what came before the last one began."""
    times, barrier, troubles = [[] for _ in range(streams)], threading.Barrier(streams + 1), []
    threads = [threading.Thread(target=stream, args=(port, [source.randrange(vocabulary // 2, vocabulary) for _ in range(prompt)], tokens, temperature, t, barrier, troubles, sleeps))
               for t in times]
    for t in threads:
        t.start()
    barrier.wait()
    begin = time.perf_counter()
    for t in threads:
        t.join()
    if troubles:
        raise RuntimeError(f"expected {tokens} tokens in each stream, one ended with {troubles[0]!r}")
    end, all_begun = max(t[-1] for t in times), max(t[0] for t in times)
    # Tokens after the last stream's first: of each stream the share of its events, since a token may have no text of its own.
    decoded = sum(tokens * sum(1 for x in t if x > all_begun) / len(t) for t in times)
    gaps = [b - a for t in times for a, b in zip(t, t[1:])]
    return streams * tokens / (end - begin), decoded / (end - all_begun), gaps


def main():
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("busbar")
    parser.add_argument("model")
    parser.add_argument("--streams", default="1,4,8,16")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0, help="1 is what clients get who do not ask (0)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args(sys.argv[1:at])
    counts = [int(n) for n in o.streams.split(",")]
    server = Server(o.busbar, o.model, "--sequences", str(max(counts)), "--context", str(o.prompt + o.tokens + 64), *sys.argv[at + 1:])
    source = random.Random(1)
    try:
        once(server.port, source, 2000, 1, o.prompt, o.tokens, o.temperature)  # warm
        rows = []
        for n in counts:
            runs = [once(server.port, source, 2000, n, o.prompt, o.tokens, o.temperature) for _ in range(o.repeat)]
            gaps = sorted(g for r in runs for g in r[2])
            rows.append({"streams": n, "tokens_per_second": statistics.median(r[0] for r in runs), "decode_tokens_per_second": statistics.median(r[1] for r in runs),
                         "gap_ms_median": 1000 * statistics.median(gaps), "gap_ms_p99": 1000 * gaps[int(0.99 * len(gaps))],
                         "spread": [min(r[0] for r in runs), max(r[0] for r in runs)]})
            if not o.json:
                r = rows[-1]
                print(f"{n:3d} streams: {r['tokens_per_second']:7.1f} tok/s ({r['spread'][0]:.1f} to {r['spread'][1]:.1f}), decoding alone "
                      f"{r['decode_tokens_per_second']:7.1f}; gap {r['gap_ms_median']:.1f} ms, 99 %: {r['gap_ms_p99']:.1f} ms", flush=True)
        if o.json:
            print(json.dumps({"model": o.model, "prompt": o.prompt, "tokens": o.tokens, "temperature": o.temperature, "rows": rows}))
    finally:
        server.close()


if __name__ == "__main__":
    main()
