"""bench: what a run holds, the logit error, and whether a run is slower than one that was kept."""
import copy
import functools
import itertools
import json
import math
import os
import random
import statistics

import harness
from harness import Case, busbar, small_gguf

SHORT = ("-p", "16", "-n", "4", "--error-positions", "0")


@functools.lru_cache(None)
def kept_run():
    path = os.path.join(harness.FOLDER, "kept.json")
    result = busbar("bench", small_gguf(), *SHORT, "--repeat", "4", "--save", path, "--json")
    assert result.code == 0, result
    with open(path, encoding="utf-8") as file:
        stored = json.load(file)
    assert stored == result.json(), "what --save keeps is what --json prints"
    return stored


def with_shares(prefill, decode, read=1.0, f32=1.0, speed=1.0):
    """The kept run with other figures; `read`, `f32`: how fast the machine was that day, `speed`: how fast it made the program."""
    run = copy.deepcopy(kept_run())
    one = run["repeats"][0]
    run["repeats"] = [dict(one, roof_gb_s=read, roof_gop_s=f32, prefill_tok_s=p * speed, decode_tok_s=d * speed) for p, d in zip(prefill, decode)]
    return run


def interval_by_counting(a, b):
    """The ratios that shifts are tested with, as the test is defined: every way to share out the ranks is as likely."""
    n, m = len(a), len(b)
    statistic = sorted(sum(r for r in chosen) - n * (n - 1) // 2 for chosen in itertools.combinations(range(n + m), n))
    out = -1
    while sum(1 for u in statistic if u <= out + 1) / len(statistic) <= 0.025:
        out += 1
    ratios = sorted(y / x for x in a for y in b)
    at = max(out, 0)
    return statistics.median(ratios), ratios[at], ratios[-1 - at], out >= 0


class Bench(Case):
    def put(self, name, run):
        return self.write(name, json.dumps(run))

    def against(self, code, before, now, *more):
        result = busbar("bench", "--stored", self.put("now", now), "--against", self.put("before", before), "--json", *more)
        self.assertEqual(result.code, code, result)
        return result.json()["against"]

    def test_run(self):
        run = kept_run()
        self.assertEqual(len(run["repeats"]), 4)
        for r in run["repeats"]:
            self.assertAlmostEqual(r["decode_share"], r["decode_gb_s"] / r["roof_gb_s"], delta=1e-9)
            self.assertAlmostEqual(r["prefill_share"], r["prefill_gop_s"] / r["roof_gop_s"], delta=1e-9)
            integers = run["prefill_integer_products"]
            self.assertTrue(0 <= integers <= 1 and (integers == 0 or r["roof_integer_gop_s"] > 0), integers)
            at_roofs = (1 - integers) / r["roof_gop_s"] + (integers / r["roof_integer_gop_s"] if integers else 0)
            self.assertAlmostEqual(r["prefill_product_share"], r["prefill_gop_s"] * at_roofs, delta=1e-9)
            self.assertGreater(r["decode_tok_s"], 0)
        for key in ("prefill_tok_s", "decode_share"):
            self.assertAlmostEqual(run[key], statistics.median(r[key] for r in run["repeats"]), delta=1e-9 * run[key])
        memory = run["memory"]
        self.assertGreaterEqual(memory["planned"], memory["weights"] + memory["kv"] + memory["scratch"])
        self.assertEqual(run["shape"], {"prompt": 16, "tokens": 4, "depth": 0, "batch": 1})
        self.assertRegex(run["model_hash"], "^[0-9a-f]{64}$")
        self.assertNotIn("logit_error", run)

    def test_logit_error(self):
        short = ("-p", "4", "-n", "2", "--repeat", "1", "--error-positions", "100", "--json")
        same = self.ok("bench", small_gguf(), *short, "--numerics", "strict", "--order", "invariant").json()["logit_error"]
        self.assertEqual((same["bit_equal"], same["mean_kl"], same["positions"], same["broken"]), (True, 0, 100, 0))
        told = self.ok("bench", small_gguf(), *short, "--kv", "bf16")
        rounded = told.json()["logit_error"]
        self.assertFalse(rounded["bit_equal"])
        self.assertTrue(1e-9 < rounded["mean_kl"] < 1e-2, rounded)
        self.assertLessEqual(rounded["low"], rounded["mean_kl"])
        self.assertEqual(rounded["second_halves"]["positions"], 0, "no whole window of 512")
        text = self.write("text", "hello world " * 5)
        other = self.ok("bench", small_gguf(), *short, "--kv", "bf16", "--error-text", text).json()["logit_error"]
        self.assertEqual(other["text"], text)
        self.assertLess(other["positions"], 100)
        self.assertNotEqual(other["mean_kl"], rounded["mean_kl"])
        self.fails(3, "nothing-there", "bench", small_gguf(), *short, "--error-text", self.path("nothing-there"))

    def test_against_now(self):
        for factor, code in ((1000, 1), (0.001, 0)):
            run = copy.deepcopy(kept_run())
            for r in run["repeats"]:
                for key in ("prefill_tok_s", "decode_tok_s"):
                    r[key] *= factor
            result = busbar("bench", small_gguf(), *SHORT, "--repeat", "4", "--against", self.put("before", run))
            self.assertEqual(result.code, code, result)
            self.assertIn("verdict   " + ("slower" if code else "not slower"), result.out)

    def test_verdicts(self):
        noisy = [0.50, 0.51, 0.52, 0.50, 0.49]
        run = with_shares(noisy, noisy)
        same = self.against(0, run, run)
        self.assertEqual(same["verdict"], "not slower")
        self.assertLessEqual(same["figures"]["decode"]["low"], 1)
        self.assertGreaterEqual(same["figures"]["decode"]["high"], 1)
        slow = [0.7 * x for x in noisy]
        for prefill, decode in ((slow, noisy), (noisy, slow)):
            self.assertEqual(self.against(1, run, with_shares(prefill, decode))["verdict"], "slower")
        # Half as fast a machine and half as fast a program; a slower program on a faster machine.
        self.against(0, run, with_shares(noisy, noisy, 0.5, 0.5, 0.5))
        self.against(1, run, with_shares(slow, noisy, 2, 2, 2))
        # The program went with one of the two roofs: that may be what limits it. Slower than both is slower.
        self.against(0, run, with_shares(noisy, noisy, read=1.5))
        self.against(0, run, with_shares(noisy, noisy, f32=0.6, speed=0.6))
        self.against(1, run, with_shares(noisy, noisy, read=1.5, f32=1.4))
        # As far apart, but the noise is as large.
        wild = [0.2, 0.9, 0.5, 0.35, 0.7]
        self.against(0, with_shares(wild, wild), with_shares([0.7 * x for x in wild], wild))
        # Within the margin.
        little = [0.99 * x for x in [0.5, 0.5001, 0.5002, 0.5003, 0.5004]]
        steady = with_shares([0.5, 0.5001, 0.5002, 0.5003, 0.5004], noisy)
        self.against(0, steady, with_shares(little, noisy))
        self.against(1, steady, with_shares(little, noisy), "--margin", "0")
        old = copy.deepcopy(run)  # kept by a build that knew no integer roof
        for one in [old, *old["repeats"]]:
            for key in ("roof_integer_gop_s", "prefill_product_share", "prefill_integer_products"):
                one.pop(key, None)
        self.against(0, old, run)
        few = with_shares(noisy[:2], noisy[:2])
        self.assertEqual(self.against(6, few, few)["verdict"], "not enough evidence")
        # A roof that was not measured on one of the days does not count; without any, the rates themselves.
        half, bare = with_shares(noisy, noisy, f32=0), with_shares(noisy, noisy, 0, 0)
        self.assertEqual(self.against(1, half, with_shares(noisy, noisy, read=2))["figures"]["decode"]["by"], "the read roof")
        self.assertIn("plain rate", self.against(0, bare, run)["figures"]["decode"]["by"])
        self.against(1, bare, with_shares(slow, slow))

    def test_interval(self):
        source = random.Random(harness.SEED)
        for n, m in ((5, 5), (4, 4), (3, 5), (3, 3), (2, 9), (7, 6), (1, 8)):
            a, b = ([math.exp(source.gauss(0, 0.1)) for _ in range(k)] for k in (n, m))
            with self.subTest(seed=harness.SEED, n=n, m=m):
                result = busbar("bench", "--stored", self.put("now", with_shares(b, b)), "--against", self.put("before", with_shares(a, a)), "--json")
                got = result.json()["against"]["figures"]["prefill"]
                ratio, low, high, enough = interval_by_counting(a, b)
                for key, expected in (("ratio", ratio), ("low", low), ("high", high)):
                    self.assertAlmostEqual(got[key], expected, delta=1e-12, msg=key)
                self.assertEqual(result.code == 6, not enough and result.code != 1, result)

    def test_not_comparable(self):
        run = kept_run()
        for key, value, words in (("machine", {"cpus": 99, "devices": ["cpu: Another One"]}, ["same machine", "Another One"]),
                                  ("model_hash", "0" * 64, ["same model"]), ("threads", 77, ["same threads", "77", "--threads"]),
                                  ("shape", dict(run["shape"], prompt=99), ["same shape", "99"])):
            self.fails(3, ["before", *words], "bench", "--stored", self.put("now", run), "--against", self.put("before", dict(run, **{key: value})))
        self.fails(3, "same shape", "bench", small_gguf(), "-p", "8", "-n", "2", "--repeat", "1", "--error-positions", "0",
                   "--against", self.put("before", run))

    def test_bad_files(self):
        run = kept_run()
        bad = ["", "x", "[]", "{}", "[" * 100000, json.dumps(dict(run, format="another")), json.dumps(dict(run, chip=7)), json.dumps(dict(run, shape=[])),
               json.dumps(dict(run, chip="a\x1b[2J")), json.dumps(dict(run, repeats=[])), json.dumps(dict(run, repeats=[7])), json.dumps(dict(run, memory="much")),
               json.dumps(dict(run, logit_error={})), json.dumps(dict(run, decode_tok_s=None)), json.dumps(run).encode() + b"\xff"]
        for key in ("prefill_share", "decode_tok_s"):
            for value in (None, -1, "7", True):
                bad.append(json.dumps(dict(run, repeats=[dict(run["repeats"][0], **{key: value})])))
        bad.append(json.dumps(dict(run, repeats=[dict(run["repeats"][0], decode_tok_s=0)])))
        bad += [json.dumps({k: v for k, v in run.items() if k != left_out}) for left_out in ("machine", "model_hash", "threads", "shape", "repeats", "date")]
        good = self.put("good", run)
        for data in bad:
            with self.subTest(data=data[:60]):
                self.fails(3, ["bad", "bench --save"], "bench", "--stored", good, "--against", self.write("bad", data))
        self.fails(3, "nothing-there", "bench", "--stored", good, "--against", self.path("nothing-there"))
        self.fails(3, "cannot write", "bench", small_gguf(), "-p", "4", "-n", "1", "--repeat", "1", "--error-positions", "0", "--save",
                   self.path("no/folder/here"))
        self.fails(2, "MODEL", "bench")
        self.fails(2, "both", "bench", small_gguf(), "--stored", good)
        self.fails(2, "--against", "bench", "--stored", good)
