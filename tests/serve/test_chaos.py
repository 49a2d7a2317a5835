"""The scripts of bench/serve that break chips and stop servers, in small: chaos, a fault at every token position, SIGTERM with open streams."""
import os
import sys
import types
import unittest

import harness

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "serve"))
import chaos  # noqa: E402
import positions  # noqa: E402
import stops  # noqa: E402


def options(**given):
    return types.SimpleNamespace(busbar=harness.BUSBAR, seed=harness.SEED, quiet=False, **given)


@unittest.skipUnless(os.path.exists(os.path.join(os.path.dirname(harness.BUSBAR), "libbusbar_chip_faulty.so")), "the faulty chip is not built")
class Chaos(unittest.TestCase):
    def test_500_requests_and_20_faults(self):
        """Lost, hung, slow and lying, back through the gate each time: every answer as in an undisturbed run."""
        result = chaos.run_chaos(options(requests=500, faults=20, at_once=16))
        self.assertTrue(result["ok"], result)
        self.assertEqual((result["failed"], result["different"], result["replicas_lost"], result["reopened"]), (0, 0, 20, 20))
        self.assertGreater(result["answers_moved"], 20)
        self.assertLessEqual({"exact"}, set(result["levels"]))
        self.assertLessEqual(set(result["levels"]), {"exact", "none"})

    def test_a_fault_at_every_token(self):
        for fault, prompts, tokens in (("lost", 2, 8), ("lie", 2, 2)):
            result = positions.run_positions(options(prompts=prompts, tokens=tokens, fault=fault))
            self.assertTrue(result["ok"], result)
            self.assertEqual(result["positions"], len(positions.CALLS) + (prompts - 1) * tokens)


class Stops(unittest.TestCase):
    def test_fifty_streams_end_whole(self):
        result = stops.run_stops(options(stops=1, streams=50, sequences=20, tokens=800, most_delay=0.2))
        self.assertTrue(result["ok"], result)
        self.assertGreaterEqual(result["open_at_signal"][0], 40)
