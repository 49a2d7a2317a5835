#!/usr/bin/env python3
"""SIGTERM while streams are open: every one must end whole.

usage: stops.py BUSBAR [--stops 20] [--streams 50] [--sequences 20] [--tokens 800] [--seed N] [--quiet]
BUSBAR   the program
Starts a server, opens the streams - some answer, the others wait for a place - and stops it with SIGTERM at a random
moment. Then /ready must say 503, a new request must get a 503 with Retry-After, each stream must end in [DONE] with the text that it has
undisturbed, and the process must exit with 0. Prints one line of JSON; exit 1 where anything was dropped. Standard library only.
"""
import asyncio
import random
import signal
import sys
import time

import load
from load import harness


def body(i, tokens):
    return {"prompt": f"stream {i} hello", "max_tokens": tokens, "ignore_eos": True, "seed": i, "temperature": 0.8, "stream": True}


async def expected(port, o):
    return await asyncio.gather(*(load.ask(port, "/v1/completions", body(i, o.tokens)) for i in range(o.streams)))


async def stop(server, o, delay):
    """How many streams were open at the signal, what each came to, and what newcomers were told."""
    opened, all_open = 0, asyncio.Event()

    def accepted():
        nonlocal opened
        opened += 1
        if opened == o.streams:
            all_open.set()
    streams = [asyncio.create_task(load.ask(server.port, "/v1/completions", body(i, o.tokens), accepted=accepted)) for i in range(o.streams)]
    await asyncio.wait_for(all_open.wait(), harness.TIMEOUT)
    await asyncio.sleep(delay)
    still = sum(not s.done() for s in streams)
    server.process.send_signal(signal.SIGTERM)
    told = []
    while not told or told[0] == 200:  # the signal is on its way
        told = []
        for method, path, data in (("GET", "/ready", None), ("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})):
            _, writer, status, headers = await load.exchange(server.port, method, path, data)
            writer.close()
            told += [status, "retry-after" in headers]
    return still, await asyncio.gather(*streams, return_exceptions=True), told


def run_stops(o):
    progress, source, begin = load.Progress(o.quiet), random.Random(o.seed), time.monotonic()
    arguments = ("--order", "invariant", "--context", "1024", "--sequences", str(o.sequences), "--threads", "1")
    dropped, open_at_signal, troubles, seconds = 0, [], [], []
    with harness.Server(*arguments) as server:
        wanted = asyncio.run(expected(server.port, o))
    for n in range(o.stops):
        server = harness.Server(*arguments)
        still, answers, told = asyncio.run(stop(server, o, source.random() * o.most_delay))
        at = time.monotonic()
        code = server.process.wait(harness.TIMEOUT)
        seconds.append(time.monotonic() - at)
        open_at_signal.append(still)
        for i, (got, whole) in enumerate(zip(answers, wanted)):
            if isinstance(got, BaseException) or not got.same_as(whole):
                dropped += 1
                troubles.append(f"stop {n}, stream {i}: {got if isinstance(got, BaseException) else 'another text'}")
        if code != 0 or told != [503, True, 503, True]:
            troubles.append(f"stop {n}: expected exit 0, and 503 with Retry-After of /ready and for new work, got exit {code} and {told}")
        progress(f"stop {n + 1} of {o.stops}: {still} streams were open, {dropped} dropped so far")
    for trouble in troubles[:5]:
        progress(trouble, now=True)
    return {"stops": o.stops, "streams": o.streams, "open_at_signal": [min(open_at_signal), max(open_at_signal)], "dropped": dropped,
            "other_troubles": len(troubles) - dropped, "seconds": round(time.monotonic() - begin, 1), "seed": o.seed, "ok": not troubles}


def main(arguments):
    parser = load.parser_of(__doc__)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--sequences", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument("--most-delay", type=float, default=0.2)
    return load.run_and_print(run_stops, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
