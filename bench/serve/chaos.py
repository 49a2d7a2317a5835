#!/usr/bin/env python3
"""Chaos: requests by the thousand over two replicas of which one is lost, hangs or lies again and again.

usage: chaos.py BUSBAR [--requests 20000] [--faults 200] [--at-once 16] [--seed N] [--quiet]
BUSBAR   the program, with libbusbar_chip_faulty.so beside it
Every answer - text, finish, tool calls, logprobs - is compared with that of an undisturbed run on one chip. Each fault is ordered
at a random step of the chip while requests run; before the next one the chip must have come back through the gate. Besides:
the gap that a client sees between two tokens where its answer moved, and how resident memory grows (the median of what is
there before each fault, of the last tenth of the requests against the second). Prints one line of JSON; exit 1 where an answer
failed or differed, or a fault did not come. Standard library only.
"""
import asyncio
import json
import random
import statistics
import sys
import time

import load
from load import harness

# What the chip does, and how the server is to see it.
FAULTS = {"lost": ("fault=lost", "failed"), "hang": ("fault=hang&size=0.8", "hung"), "slow": ("fault=slow&size=30", "hung"),
          "no-op product": ("fault=noop_kernel&op=matmul", "lied"), "no-op products": ("fault=noop_kernel&op=multi_matmul", "lied"),
          "stale input": ("fault=stale_buffer&op=matmul", "lied")}
TOOL = {"type": "function", "function": {"name": "weather", "description": "of a place",
                                         "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}}


def request(seed, i):
    """Path and body of request i: every kind of answer that has a state to lose."""
    own = random.Random(seed * 1_000_003 + i)
    words = " ".join(own.choice(["hello", "world", "llo", "x", "é", "\n", "worm"]) for _ in range(own.choice([2, 5, 20, 60])))
    body = {"max_tokens": own.randrange(3, 25), "ignore_eos": True, "temperature": own.choice([0, 0.7, 1.2]), "seed": i, "n": own.choice([1, 1, 1, 2, 3]),
            "stream": own.random() < 0.6}
    if own.random() < 0.3:
        body["frequency_penalty"], body["logit_bias"] = 0.5, {"40": 2}
    if own.random() < 0.3:
        body["top_p"], body["min_p"] = 0.9, 0.01
    if own.random() < 0.2:
        body["stop"] = ["w", "zz"]
    if own.random() < 0.5:
        body["messages"] = [{"role": "user", "content": f"{i} {words}"}]
        if own.random() < 0.3:
            body["tools"] = [TOOL]
        if own.random() < 0.4:
            body["logprobs"], body["top_logprobs"] = True, 2
        return "/v1/chat/completions", body
    body["prompt"] = f"{i} {words}"
    if own.random() < 0.4:
        body["logprobs"] = 1
    return "/v1/completions", body


def server(*replicas, probe):
    chips = [word for chip in replicas for word in ("--replica", chip)]
    return harness.Server("--order", "invariant", "--context", "1024", "--sequences", "32", "--threads", "1", "--queue", "1000", "--probe", probe, "--hang-seconds", "0.5",
                          "--reopen-seconds", "0.02", "--most-reopen-seconds", "0.02", *chips, model=harness.small_model_path("tools.gguf", harness.TOOL_TEMPLATE))


class Run:
    """All requests once, some at a time, no further than allowed. While `more` may be allowed they begin again after the last one."""

    def __init__(self, options, port, what, progress):
        self.o, self.port, self.what, self.progress = options, port, what, progress
        self.answers, self.failed = {}, []
        self.next = self.done = self.under_way = 0
        self.allowed, self.more = options.requests, False
        self.change = asyncio.Condition()
        self.fault = None

    async def clients(self):
        async def client():
            while True:
                async with self.change:
                    await self.change.wait_for(lambda: self.next < self.allowed or not self.more)
                    if self.next >= self.allowed:
                        return
                    i, self.next = self.next, self.next + 1
                    self.under_way += 1
                try:
                    self.answers[i] = await load.ask(self.port, *request(self.o.seed, i % self.o.requests), cause=lambda: self.fault)
                except (load.Refused, OSError) as error:
                    self.failed.append((i, str(error)))
                self.under_way -= 1
                self.done += 1
                self.progress(f"{self.what}: {self.done:,} of {self.o.requests:,} requests")
        await asyncio.gather(*(client() for _ in range(self.o.at_once)))

    async def allow(self, n, more=True):
        async with self.change:
            self.allowed, self.more = max(self.allowed, n), more
            self.change.notify_all()


class Sabotage:
    """One fault in each share of the requests, at a random step, once the chip is there again."""

    def __init__(self, run, process, faults):
        self.run, self.process, self.faults = run, process, faults
        self.source = random.Random(run.o.seed)
        self.kinds = [list(FAULTS)[i % len(FAULTS)] for i in range(run.o.faults)]
        self.source.shuffle(self.kinds)
        self.memory, self.seen, self.back = [], [], []
        run.allowed, run.more = 0, True

    async def until(self, metric, value):
        begin = time.monotonic()
        while (now := await load.metrics(self.run.port)).get(metric, 0) < value:
            if time.monotonic() - begin > 120:
                raise AssertionError(f"waited 120 s for {metric} to be {value}, it is {now.get(metric)}: {self.run.fault}, seed {self.run.o.seed}")
            if self.run.under_way == 0:  # a fault comes in a step
                await self.run.allow(self.run.allowed + 2)
            await asyncio.sleep(0.02)

    async def go(self):
        run = self.run
        for i, kind in enumerate(self.kinds):
            await self.until("busbar_replicas_usable", 2)
            self.memory.append((run.done, load.resident_bytes(self.process)))
            run.fault = kind
            # Early in the share, so that there are steps enough for it to come.
            self.faults.order(f"{FAULTS[kind][0]}&in={self.source.randrange(1, 6 + min(40, run.o.requests // run.o.faults // 2))}")
            await run.allow(int((i + 1) * run.o.requests / run.o.faults))
            await self.until("busbar_replicas_lost_total", i + 1)
            lost = time.monotonic()
            self.seen.append((kind, json.loads(await load.get(run.port, "/status"))["chips"][0]["loss"]))
            await self.until("busbar_replicas_reopened_total", i + 1)
            self.back.append(time.monotonic() - lost)
        await run.allow(run.o.requests, more=False)


def memory_growth(samples, requests):
    """Per cent between the second tenth of the requests and the last; None where the run was short."""
    early = [b for done, b in samples if 0.1 * requests <= done < 0.2 * requests]
    late = [b for done, b in samples if done >= 0.9 * requests]
    if requests < 5000 or not early or not late:
        return None
    return round(100 * (statistics.median(late) / statistics.median(early) - 1), 2)


def gaps(answers):
    """By fault, of answers of one choice that moved: between the two tokens around it, ms."""
    out = {}
    for answer in answers:
        if len(answer.choices) == 1:
            for _, seconds, fault in answer.moved:
                out.setdefault(fault, []).append(1000 * seconds)
    return {fault: {"n": len(ms), "p50": round(load.quantile(ms, 0.5), 1), "p99": round(load.quantile(ms, 0.99), 1)} for fault, ms in sorted(out.items())}


async def all_at(o, port, what, progress):
    run = Run(o, port, what, progress)
    await run.clients()
    return run


async def disturbed(o, server, faults, progress):
    run = Run(o, server.port, "disturbed", progress)
    saboteur = Sabotage(run, server.process.pid, faults)
    tasks = [asyncio.create_task(saboteur.go()), asyncio.create_task(run.clients())]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    saboteur.memory.append((run.done, load.resident_bytes(server.process.pid)))
    return run, saboteur, await load.metrics(server.port)


def run_chaos(o):
    progress, faults = load.Progress(o.quiet), load.Faults()
    with server(load.chip(), probe="0") as one:
        expected = asyncio.run(all_at(o, one.port, "undisturbed", progress))
    if expected.failed:
        raise AssertionError(f"the undisturbed run failed: {expected.failed[:3]}, seed {o.seed}")
    begin = time.monotonic()
    with server(faults.chip(), load.chip(), probe="100") as two:
        run, saboteur, end = asyncio.run(disturbed(o, two, faults, progress))
    different = [i for i, a in run.answers.items() if not a.same_as(expected.answers[i % o.requests])]
    misjudged = [(kind, loss) for kind, loss in saboteur.seen if loss not in (FAULTS[kind][1], "none")]  # none: it is back already
    levels = {a.level for a in run.answers.values()}
    for i in different[:3]:
        progress(f"request {i} differs, seed {o.seed}: {request(o.seed, i % o.requests)}\n    expected {expected.answers[i % o.requests].choices}\n    got {run.answers[i].choices}", now=True)
    for i, why in run.failed[:3]:
        progress(f"request {i} failed, seed {o.seed}: {why}", now=True)
    faults_seen = int(end["busbar_replicas_lost_total"])
    result = {
        "requests": run.done, "faults": {kind: saboteur.kinds.count(kind) for kind in FAULTS}, "failed": len(run.failed), "different": len(different),
        "misjudged": misjudged, "replicas_lost": faults_seen, "lies_found": int(end["busbar_probe_failures_total"]),
        "reopened": int(end["busbar_replicas_reopened_total"]), "answers_moved": int(end["busbar_answers_moved_total"]), "levels": sorted(levels, key=str),
        "gap_ms": gaps(run.answers.values()), "back_after_s": round(statistics.median(saboteur.back), 2),
        "memory_mb": [round(b / 1e6, 1) for _, b in saboteur.memory[:: max(1, len(saboteur.memory) // 10)]],
        "memory_growth_percent": memory_growth(saboteur.memory, o.requests), "tokens": int(end["busbar_generated_tokens_total"]),
        "seconds": round(time.monotonic() - begin, 1), "seed": o.seed}
    result["ok"] = not (run.failed or different or misjudged) and faults_seen == o.faults == result["reopened"] and (result["memory_growth_percent"] or 0) < 1
    return result


def main(arguments):
    parser = load.parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=16)
    return load.run_and_print(run_chaos, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
