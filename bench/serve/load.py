"""Clients by the hundred on one thread: requests to `busbar serve` as coroutines, each answer in a form that can be compared.

An answer is what a client ends up with, whole or streamed: for each choice its text, tool calls, finish and logprobs. Times of
events and comments of a stream are kept beside it. Standard library only.
"""
import argparse
import asyncio
import json
import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "serve"))
import harness  # noqa: E402


class Refused(Exception):
    """An answer that is none: its status and what it said."""


class Answer:
    def __init__(self, choices):
        self.choices = [{"text": "", "calls": {}, "finish": None, "logprobs": []} for _ in range(choices)]
        self.times = []   # of events with text or tokens
        self.moved = []   # (events before, seconds between the two events around it, cause): where another chip went on
        self.level = None

    def same_as(self, other):
        return self.choices == other.choices

    def take(self, choice, piece):
        """A choice of a chunk, or a whole one: a chunk of all."""
        mine = self.choices[choice["index"]]
        mine["text"] += piece.get("content") or piece.get("text") or ""
        for i, call in enumerate(piece.get("tool_calls") or []):
            known = mine["calls"].setdefault(str(call.get("index", i)), ["", ""])
            known[0] += call["function"].get("name") or ""
            known[1] += call["function"].get("arguments") or ""
        mine["finish"] = choice["finish_reason"] or mine["finish"]
        scores = choice.get("logprobs") or {}
        if "content" in scores:
            mine["logprobs"] += [[t["token"], t["logprob"]] for t in scores["content"]]
        elif scores:
            mine["logprobs"] += [list(x) for x in zip(scores["tokens"], scores["token_logprobs"])]


async def exchange(port, method, path, body=None):
    """Sends one request on a connection of its own; gives reader, writer, status and headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    data = b"" if body is None else json.dumps(body).encode()
    kind = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}\r\n".encode() + data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
    status = int(head.split(" ", 2)[1])
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:] if line)}
    return reader, writer, status, headers


async def chunks(reader):
    """The pieces of a chunked body; ends with the body, raises where the connection ends before."""
    while True:
        size = int((await reader.readuntil(b"\r\n"))[:-2], 16)
        piece = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield piece[:-2].decode()


async def get(port, path):
    reader, writer, _, _ = await exchange(port, "GET", path)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


async def metrics(port):
    text = await get(port, "/metrics")
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+)(?:\{[^}]*\})? (\S+)$", text, re.M)}


async def ask(port, path, body, **hooks):
    """What ask_patiently() gives, or Refused after two minutes."""
    try:
        return await asyncio.wait_for(ask_patiently(port, path, body, **hooks), 120)
    except asyncio.TimeoutError:
        raise Refused("no answer in 120 s") from None


async def ask_patiently(port, path, body, accepted=lambda: None, cause=lambda: None):
    """The Answer, or Refused: also where a stream does not end in [DONE]. accepted() is told of
    the head of a good answer, cause() is asked when it moves to another chip."""
    answer = Answer(body.get("n", 1))
    reader, writer, status, headers = await exchange(port, "POST", path, body)
    answer.level = headers.get("x-busbar-failover")
    try:
        if status != 200:
            raise Refused(f"{status}: {(await reader.read())[:500]!r}")
        accepted()
        if not body.get("stream"):
            for choice in json.loads(await reader.readexactly(int(headers["content-length"])))["choices"]:
                answer.take(choice, choice.get("message", choice))
            return answer
        rest, done, at_move = "", False, None
        async for piece in chunks(reader):
            *events, rest = (rest + piece).split("\n\n")
            for event in events:
                if event.startswith(": moved") and at_move is None:
                    at_move = len(answer.times)
                if not event.startswith("data: "):
                    continue
                if event == "data: [DONE]":
                    done = True
                    continue
                told = json.loads(event[6:])
                if "error" in told:
                    raise Refused(f"in the stream: {told['error']['message']}")
                for choice in told["choices"]:
                    answer.take(choice, choice.get("delta", choice))
                    if choice["finish_reason"] is None and "role" not in choice.get("delta", {}):
                        answer.times.append(time.perf_counter())
                        if at_move is not None and at_move > 0:
                            answer.moved.append((at_move, answer.times[-1] - answer.times[at_move - 1], cause()))
                        at_move = None
        if not done:
            raise Refused("the stream ended without [DONE]")
        return answer
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Refused(f"the connection ended: {error!r}") from None
    finally:
        writer.close()


def resident_bytes(process):
    with open(f"/proc/{process}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


class Faults:
    """Orders for the chip of examples/chips/faulty: each holds once, for the chip as it is open now."""

    def __init__(self, folder=None):
        self.path = os.path.join(folder or harness.FOLDER, f"orders-{time.monotonic_ns()}")
        self.count = 0
        self.order("fault=none")

    def order(self, what):
        self.count += 1
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(f"{self.count} {what}\n")
        os.replace(self.path + ".new", self.path)

    def chip(self, more=""):
        return chip(f"orders={self.path}{more}")


def chip(options="fault=none"):
    return f"plugin:{os.path.dirname(harness.BUSBAR)}/libbusbar_chip_faulty.so?threads=1&{options}"


class Progress:
    """A line now and then, on stderr."""

    def __init__(self, quiet=False):
        self.begin = self.last = time.monotonic()
        self.quiet = quiet

    def __call__(self, words, now=False):
        if self.quiet or not now and time.monotonic() - self.last < 5:
            return
        self.last = time.monotonic()
        print(f"  {self.last - self.begin:5.0f} s  {words}", file=sys.stderr, flush=True)


def parser_of(description):
    """The arguments that every script of faults has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("busbar")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--quiet", action="store_true")
    return parser


def run_and_print(run, o):
    """The result of run(o) as a line of JSON, and the exit code that it means. Leaves no server and no file behind."""
    harness.BUSBAR = o.busbar
    try:
        result = run(o)
    finally:
        harness.clean()
    print(json.dumps(result))
    return 0 if result["ok"] else 1
