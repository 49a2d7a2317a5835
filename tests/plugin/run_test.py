#!/usr/bin/env python3
"""The command with chips of strangers: usage run_test.py BUSBAR. The default model is read where BUSBAR_DEFAULT_MODEL says."""
import json
import os
import subprocess
import sys
import unittest

BUSBAR = os.path.abspath(sys.argv.pop(1))
FOLDER = os.path.dirname(BUSBAR)
MODEL = os.environ.get("BUSBAR_DEFAULT_MODEL", "")


def library(name, options=""):
    return f"plugin:{FOLDER}/libbusbar_chip_{name}.so" + ("?" + options if options else "")


def run(chip, *more, tokens=8):
    done = subprocess.run(
        [BUSBAR, "run", MODEL, "--chip", chip, "--raw", "-p", "The capital of France is", "-n", str(tokens), "--temperature", "0",
         "--numerics", "strict", "--gate", "off", "--json", *more], capture_output=True, text=True, timeout=300)
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else None, done.stderr


@unittest.skipUnless(MODEL, "BUSBAR_DEFAULT_MODEL names no model")
class Run(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tokens = run("cpu")[1]["tokens"]

    def test_a_chip_that_only_multiplies_matrices_runs_the_model(self):
        code, said, err = run(library("minimal"))
        self.assertEqual(code, 0, err)
        self.assertEqual(said["tokens"], self.tokens)
        nodes = said["placement"]["nodes"]
        self.assertGreaterEqual(nodes["plugin:minimal"], 7 * 30, nodes)  # every product of every layer
        self.assertGreater(said["placement"]["flops_share"]["plugin:minimal"], 0.4)
        self.assertIn("refused by plugin:minimal", err)

    def test_a_chip_with_every_op_takes_all_of_it(self):
        code, said, err = run(library("faulty"), "--no-fallback")
        self.assertEqual(code, 0, err)
        self.assertEqual(said["tokens"], self.tokens)
        self.assertEqual(list(said["placement"]["nodes"]), ["plugin:faulty"])

    def test_streams_and_programs_give_the_same(self):
        code, said, err = run(library("skeleton"))
        self.assertEqual(code, 0, err)
        self.assertEqual(said["tokens"], self.tokens)
        self.assertGreater(said["placement"]["flops_share"]["plugin:skeleton"], 0.9)

    def test_no_fallback_lists_what_was_refused_and_why(self):
        code, _, err = run(library("minimal"), "--no-fallback")
        self.assertEqual(code, 4, err)
        self.assertIn("rms_norm", err)

    def test_bad_addresses_end_with_their_codes(self):
        for chip, code, words in (("plugin:nowhere/libx.so", 4, "No such file"), ("plugin:", 2, "plugin:PATH"),
                                  (library("faulty", "fault=typo"), 4, "rope_layout"),
                                  (library("faulty", "timeout=soon"), 2, "timeout"),
                                  (library("faulty", "memory=1000000"), 5, "free")):
            got, _, err = run(chip, "--no-fallback")
            self.assertEqual(got, code, err)
            self.assertIn(words, err)

    def test_a_fault_shows(self):
        code, said, err = run(library("faulty", "fault=rope_layout"), "--no-fallback")
        self.assertEqual(code, 0, err)
        self.assertNotEqual(said["tokens"], self.tokens)

    def test_a_hang_is_named(self):
        code, _, err = run(library("faulty", "fault=hang&layer=3&op=attention&timeout=500"), "--no-fallback")
        self.assertEqual(code, 4, err)
        self.assertIn("layer.3.attention", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
