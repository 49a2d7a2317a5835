"""A replica is lost, or hangs, in the middle of answers: another one goes on, and every byte is as if nothing had happened."""
import concurrent.futures
import os
import unittest

import harness

ASKS = [{"prompt": f"hello {i} " * (1 + 7 * i), "max_tokens": 60, "ignore_eos": True, "temperature": 0.8 * (i % 2), "seed": i, "logprobs": 1,
         "n": 1 + i % 3, "frequency_penalty": 0.5} for i in range(8)]


def faulty(options):
    return f"plugin:{os.path.dirname(harness.BUSBAR)}/libbusbar_chip_faulty.so?{options}"


@unittest.skipUnless(os.path.exists(os.path.join(os.path.dirname(harness.BUSBAR), "libbusbar_chip_faulty.so")), "the faulty chip is not built")
class Failover(unittest.TestCase):
    def server(self, *chips, more=(), sequences=8):
        """Without the gate, whose own steps would meet the fault: a chip that hangs would never be ready."""
        replicas = [word for chip in chips for word in ("--replica", faulty(chip))]
        return harness.Server("--gate", "off", "--reopen-seconds", "0", "--order", "invariant", "--context", "2048", "--sequences", str(sequences), "--threads", "1", *replicas, *more)

    def answers(self, server):
        """Each request's answers, in the order of ASKS, all asked at once; half of them streamed."""
        def one(i):
            if i % 2 == 0:
                status, headers, reply = server.post("/v1/completions", ASKS[i])
                self.assertEqual(status, 200, reply)
                self.assertIn(headers["X-Busbar-Failover"], ("exact", "none"))
                return [(c["text"], c["finish_reason"], c["logprobs"]["token_logprobs"]) for c in reply["choices"]]
            out = [["", None, []] for _ in range(ASKS[i]["n"])]
            events = server.stream("/v1/completions", ASKS[i])
            self.assertEqual(events[-1], "[DONE]", events[-1])
            for choice in (e["choices"][0] for e in events[:-1]):
                got = out[choice["index"]]
                got[0] += choice["text"]
                got[1] = choice["finish_reason"] or got[1]
                got[2] += choice["logprobs"]["token_logprobs"] if choice["logprobs"] else []
            return [tuple(x) for x in out]
        with concurrent.futures.ThreadPoolExecutor(len(ASKS)) as pool:
            return list(pool.map(one, range(len(ASKS))))

    def test_lost_at_many_steps(self):
        with self.server("fault=none") as server:
            undisturbed = self.answers(server)
        for step in (0, 1, 5, 30, 50):
            with self.server(f"fault=lost&step={step}", "fault=none") as server:
                self.assertEqual(self.answers(server), undisturbed, f"lost at step {step}")
                self.assertEqual(server.metric("busbar_replicas_usable"), 1)
                self.assertEqual(server.metric("busbar_replicas_lost_total"), 1)
                self.assertGreaterEqual(server.metric("busbar_answers_moved_total"), 1)
                self.assertEqual(server.ask("GET", "/ready")[0], 200)
                self.assertEqual([c["usable"] for c in server.ask("GET", "/status")[2]["chips"]], [False, True])

    def test_hung(self):
        with self.server("fault=none") as server:
            undisturbed = self.answers(server)
        with self.server("fault=hang&step=20", "fault=none", more=("--hang-seconds", "1.5")) as server:
            self.assertIn(b',level="exact"} 1', server.ask("GET", "/metrics")[2])
            self.assertEqual(self.answers(server), undisturbed)
            self.assertEqual((server.metric("busbar_replicas_lost_total"), server.metric("busbar_replicas_hung_total")), (1, 1))
            self.assertIn(b',level="none"} 1', server.ask("GET", "/metrics")[2])

    def test_a_full_replica_takes_them_at_once(self):
        """Both run as many answers as they may, and others wait: those of the lost one go on before any of the other's ends."""
        with self.server("fault=lost&step=60", "fault=none", sequences=2) as server:
            most = []

            def look(events):
                if len(events) % 20 == 0:
                    most.append(server.ask("GET", "/status")[2]["chips"][1]["running"])

            def one(i):
                return server.stream("/v1/completions", {"prompt": "x", "max_tokens": 400, "ignore_eos": True, "seed": i, "logprobs": 1}, look if i == 0 else None)
            with concurrent.futures.ThreadPoolExecutor(5) as pool:
                for events in pool.map(one, range(5)):
                    self.assertEqual(events[-1], "[DONE]")
                    scores = [e["choices"][0]["logprobs"] or {"tokens": []} for e in events[:-1]]
                    self.assertEqual(sum(len(s["tokens"]) for s in scores), 400)
            self.assertGreaterEqual(server.metric("busbar_answers_moved_total"), 2)
            self.assertEqual(max(most), 4, most)

    def test_both_lost(self):
        """A request that two chips failed with is refused; then nothing is ready, and the server still stops as it should."""
        with self.server("fault=lost&step=10", "fault=lost&step=10") as server:
            body = {"prompt": "x", "max_tokens": 60, "ignore_eos": True}
            status, headers, reply = server.post("/v1/completions", body)
            self.assertEqual(status, 503, reply)
            self.assertIn("two chips", reply["error"]["message"])
            self.assertIn("Retry-After", headers)
            self.assertEqual(server.ask("GET", "/ready")[0], 503)
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.post("/v1/completions", body)[0], 503)
