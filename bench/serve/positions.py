#!/usr/bin/env python3
"""A fault at every token position: the answer must have the bytes that it has without one.

usage: positions.py BUSBAR [--prompts 20] [--tokens 32] [--fault lost|hang|lie] [--seed N] [--quiet]
BUSBAR   the program, with libbusbar_chip_faulty.so beside it
For each prompt, once undisturbed, then once for each token: the chip fails in the step that makes it, and a second chip goes on
(--order invariant, the same kernels: exact). The first prompt is one whose answer is two tool calls. What is compared: text, tool
calls, finish, logprobs. That the fault came at the position it was meant for is seen in the stream. Prints one line of JSON;
exit 1 where a byte differed. Standard library only.
"""
import asyncio
import random
import sys
import time

import load
from load import harness

FAULTS = {"lost": "fault=lost", "hang": "fault=hang&size=1", "lie": "fault=noop_kernel&op=matmul"}
CALLS = ['Let me see. <tool', '_call>\n{"name": "weather", "argu', 'ments": {"place": "Zürich"}}', '\n</tool_call>', '\n<tool_call>{"name": "weather", ',
         '"arguments": {"place": "Bern"}}</tool_call>']
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def start(faults, model):
    replicas = ("--replica", faults.chip(), "--replica", load.chip())
    return harness.Server("--order", "invariant", "--context", "1024", "--sequences", "4", "--threads", "1", "--probe", "100", "--hang-seconds", "0.5", "--reopen-seconds", "0.02",
                          "--most-reopen-seconds", "0.02", *replicas, model=model)


class Sweep:
    def __init__(self, server, faults, fault, progress):
        self.server, self.port, self.faults, self.fault, self.progress = server, server.port, faults, fault, progress
        self.lost = self.count = 0
        self.different, self.gaps = [], []

    async def until_back(self):
        begin = time.monotonic()
        while (now := await load.metrics(self.port))["busbar_replicas_usable"] < 2 or now["busbar_replicas_reopened_total"] < self.lost:
            if time.monotonic() - begin > 60:
                raise AssertionError(f"waited 60 s for the chip to come back after {self.count} faults: {''.join(self.server.said[-30:])}")
            await asyncio.sleep(0.01)

    async def one(self, name, path, body, tokens):
        expected = await load.ask(self.port, path, body)
        for position in range(tokens):
            self.faults.order(f"{FAULTS[self.fault]}&in={position + 1}")
            answer = await load.ask(self.port, path, body)
            self.lost += 1
            self.count += 1
            if not answer.same_as(expected):
                self.different.append((name, position, answer.choices, expected.choices))
            at = [p for p, _, _ in answer.moved]
            if at != ([position] if position else []):
                raise AssertionError(f"{name}: expected the answer to move at position {position}, it moved at {at}: {answer.choices}, {''.join(self.server.said[-12:])}")
            self.gaps += [1000 * seconds for _, seconds, _ in answer.moved]
            await self.until_back()
            self.progress(f"{name}: position {position + 1} of {tokens}; {self.count} faults, {len(self.different)} answers differ")


def bodies(o):
    """Prompts of many lengths, drawn and greedy; logprobs always, since every token then is an event of the stream."""
    source = random.Random(o.seed)
    for i in range(o.prompts - 1):
        words = " ".join(source.choice(["hello", "world", "llo", "x", "é", "\n"]) for _ in range(source.choice([1, 5, 30, 120])))
        yield f"prompt {i + 2}", "/v1/completions", {"prompt": words, "max_tokens": o.tokens, "ignore_eos": True, "seed": i, "stream": True, "logprobs": 1,
                                                     "temperature": source.choice([0, 0.8, 1.5]), "presence_penalty": source.choice([0, 0.5])}


def run_positions(o):
    progress, faults = load.Progress(o.quiet), load.Faults()
    begin = time.monotonic()

    async def sweep_all(server, asks):
        sweep = Sweep(server, faults, o.fault, progress)
        for name, path, body, tokens in asks:
            await sweep.one(name, path, body, tokens)
        return sweep
    calls = {"messages": [{"role": "user", "content": "weather?"}], "temperature": 0, "tools": [TOOL], "stream": True, "logprobs": True}
    with start(faults, harness.talking_model_path("talking.gguf", CALLS, harness.TOOL_TEMPLATE)) as s:
        tools = asyncio.run(sweep_all(s, [("tool calls", "/v1/chat/completions", calls, len(CALLS))]))
    with start(faults, harness.small_model_path()) as s:
        texts = asyncio.run(sweep_all(s, [(*ask, o.tokens) for ask in bodies(o)]))
        failures = s.metric("busbar_probe_failures_total")
    for name, position, got, wanted in (tools.different + texts.different)[:3]:
        progress(f"{name}, fault {o.fault} at position {position}, seed {o.seed}:\n    expected {wanted}\n    got {got}", now=True)
    different, count, ms = len(tools.different) + len(texts.different), tools.count + texts.count, tools.gaps + texts.gaps
    if o.fault == "lie" and failures != texts.count:
        raise AssertionError(f"expected {texts.count} lies to be found, {failures} were")
    return {"fault": o.fault, "prompts": o.prompts, "positions": count, "different": different, "gap_ms": {
        "p50": round(load.quantile(ms, 0.5), 1), "p99": round(load.quantile(ms, 0.99), 1)}, "seconds": round(time.monotonic() - begin, 1), "seed": o.seed,
        "ok": different == 0}


def main(arguments):
    parser = load.parser_of(__doc__)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--fault", choices=list(FAULTS), default="lost")
    return load.run_and_print(run_positions, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
