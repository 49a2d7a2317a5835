"""A chip that lies while it serves: found by the live probe, taken out, its answers go on elsewhere, and it comes back through the gate only."""
import os
import unittest

import harness
from test_failover import faulty

ASK = {"prompt": "hello world", "max_tokens": 60, "ignore_eos": True, "temperature": 0.8, "seed": 5, "n": 3, "logprobs": 1}


@unittest.skipUnless(os.path.exists(os.path.join(os.path.dirname(harness.BUSBAR), "libbusbar_chip_faulty.so")), "the faulty chip is not built")
class Probe(unittest.TestCase):
    def server(self, *chips, more=()):
        replicas = [word for chip in chips for word in ("--replica", faulty(chip))]
        return harness.Server("--order", "invariant", "--context", "2048", "--sequences", "8", "--threads", "1", *replicas, *more)

    def answers(self, server, **more):
        status, _, reply = server.post("/v1/completions", {**ASK, **more})
        self.assertEqual(status, 200, reply)
        return [(c["text"], c["finish_reason"], c["logprobs"]["token_logprobs"]) for c in reply["choices"]]

    def loss(self, server):
        return server.ask("GET", "/status")[2]["chips"][0]["loss"]

    def test_no_wrong_token_goes_out(self):
        """Every product of every step is checked: a lie from any step on is found in that step, and no byte differs."""
        with self.server("fault=none", more=("--probe", "100")) as server:
            undisturbed = self.answers(server)
            self.assertGreater(server.metric("busbar_probe_outputs_total"), 1000)
            self.assertEqual(server.metric("busbar_probe_failures_total"), 0)
        for fault in ("noop_kernel&op=matmul&step=0", "noop_kernel&op=multi_matmul&step=17", "stale_buffer&step=40"):
            with self.server("fault=" + fault, "fault=none", more=("--probe", "100", "--gate", "off", "--reopen-seconds", "0")) as server:
                self.assertEqual(self.answers(server), undisturbed, fault)
                self.assertEqual(server.metric("busbar_probe_failures_total"), 1, fault)
                self.assertEqual(server.metric("busbar_replicas_usable"), 1)
                self.assertEqual(self.loss(server), "lied")
                server.wait_for("matmul on plugin:faulty")

    def test_found_by_one_percent(self):
        """A share of one per cent finds a lie of every product within 3,000 steps; the gate does not let the chip back in."""
        lying = "fault=noop_kernel&op=multi_matmul&step=0"
        with self.server(lying, "fault=none", more=("--probe", "1", "--gate", "off", "--reopen-seconds", "0.2")) as server:
            for _ in range(100):
                self.assertEqual(len(self.answers(server)), 3)
                if server.metric("busbar_replicas_usable") == 1:
                    break
            chip = server.ask("GET", "/status")[2]["chips"][0]
            self.assertEqual(chip["loss"], "lied")
            self.assertLess(chip["steps"], 3000)
            server.wait_for("does not come back")
            self.assertEqual(server.metric("busbar_replicas_reopened_total"), 0)
            self.assertEqual(server.metric("busbar_replicas_usable"), 1)

    def test_comes_back_through_the_gate(self):
        with self.server("fault=none") as server:
            undisturbed = self.answers(server, max_tokens=10)
            verdict = server.ask("GET", "/v1/models")[2]["data"][0]["verdicts"][0]
            self.assertEqual(verdict["gate"], "passed")
            self.assertGreater(verdict["outputs_checked"], 1000)
            self.assertRegex(verdict["date"], r"^20\d\d-\d\d-\d\dT")
            self.assertRegex(verdict["model_hash"], "^[0-9a-f]{64}$")
            self.assertEqual(server.metric("busbar_gate_outputs"), verdict["outputs_checked"])
        with self.server("fault=lost&step=80", more=("--reopen-seconds", "0.2")) as server:
            first = server.ask("GET", "/v1/models")[2]["data"][0]["verdicts"][0]
            self.assertEqual(server.post("/v1/completions", {**ASK, "max_tokens": 200})[0], 503)
            harness.until(lambda: server.metric("busbar_replicas_reopened_total") == 1 and server.ask("GET", "/ready")[0] == 200, "the chip to come back")
            self.assertEqual(self.answers(server, max_tokens=10), undisturbed)
            again = server.ask("GET", "/v1/models")[2]["data"][0]["verdicts"][0]
            self.assertEqual(again["gate"], "passed")
            self.assertGreaterEqual(again["date"], first["date"])
            self.assertEqual(sum("gate passed" in line for line in server.said), 2)
