"""show, chips, doctor, bench: what is printed, and the same as JSON."""
import os

import small_model
from harness import Case, fetched, small_folder, small_gguf

TENSORS = 3 + 9 * small_model.LAYERS


class Show(Case):
    def test_file(self):
        for model, container in ((small_gguf(), "gguf v3"), (small_folder(), "safetensors")):
            told = self.ok("show", "file", model, "--json").json()
            expected = {"container": container, "family": "llama", "layers": small_model.LAYERS, "hidden": small_model.WIDTH,
                        "vocabulary": small_model.VOCABULARY, "context": small_model.CONTEXT, "tied": False, "rope": "default",
                        "tensors": TENSORS, "path": model}
            self.assertEqual({key: told[key] for key in expected}, expected)
            self.assertIn("metadata", told)
            text = self.ok("show", "file", model)
            self.assertRegex(text.out, rf"(?m)^layers +{small_model.LAYERS}$")
            self.assertEqual(text.err, "")

    def test_tensors(self):
        for model in (small_gguf(), small_folder()):
            told = self.ok("show", "tensors", model, "--json").json()
            self.assertEqual(len(told), TENSORS)
            self.assertEqual({key for row in told for key in row}, {"name", "encoding", "shape", "bytes", "offset", "file"})
            self.assertEqual(sum(row["bytes"] for row in told), sum(len(t[3]) for t in small_model.weights()))
            self.assertEqual(len(self.ok("show", "tensors", model).out.splitlines()), TENSORS)

    def test_graph_passes_plan(self):
        graph = self.ok("show", "graph", small_gguf())
        self.assertEqual(self.ok("show", "graph", small_gguf(), "--json").json()["graph"], graph.out)
        passes = self.ok("show", "passes", small_gguf(), "--json").json()
        self.assertEqual(passes[0]["pass"], "fold_constants")
        self.assertTrue(all(row["why"] and not row["skipped"] for row in passes))
        skipped = self.ok("show", "passes", small_gguf(), "--json", "--no-pass", "share_activations", "--no-pass", "head_rows").json()
        self.assertEqual([row["pass"] for row in skipped if row["skipped"]], ["head_rows", "share_activations"])
        plan = self.ok("show", "plan", small_gguf(), "--rows", "16", "--json").json()
        self.assertEqual((plan["rows"], plan["chip"], plan["copies"], plan["numerics"], plan["order"]), (16, "cpu", 0, "accurate", "free"))
        self.assertEqual({key for row in plan["steps"] for key in row}, {"op", "node", "row", "chip", "flops", "bytes", "seconds"})
        text = self.ok("show", "plan", small_gguf())
        self.assertRegex(text.out, r"(?m)^plan  llama 2 layers")
        self.assertRegex(text.out, r"(?m)^placed \d+/\d+ nodes on cpu")
        self.assertEqual(self.ok("show", "plan", small_gguf()).out, text.out, "a plan is a function of its input")

    def test_tables(self):
        ops = self.ok("show", "ops", "--json").json()
        self.assertTrue({"rms_norm", "matmul", "attention"} <= {op["name"] for op in ops})
        self.assertTrue(all(op["doc"] for op in ops))
        self.assertIn("rms_norm", self.ok("show", "ops").out)
        support = self.ok("show", "support", "--json").json()
        for key, value in support.items():
            self.assertIn(key, self.ok("show", "support").out)
            self.assertIn(f"| {key} | {value} |", self.ok("show", "support", "--markdown").out)

    def test_tiny_models_of_every_family(self):
        folder = fetched("BUSBAR_TINY_MODELS")
        names = sorted(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
        self.assertGreater(len(names), 10)
        for name in names:
            self.assertTrue(self.ok("show", "plan", os.path.join(folder, name), "--json").json()["steps"], name)


class Machine(Case):
    def test_chips(self):
        told = self.ok("chips", "--json").json()
        self.assertEqual([row["chip"] for row in told], ["cpu", "reference", "opencl", "plugin"])
        for row in told:
            if row["chip"] in ("opencl", "plugin") and not row["usable"]:
                self.assertTrue(row["why"], row)
                continue
            self.assertTrue(row["usable"], row)
            self.assertTrue({"detail", "maker", "driver", "isas", "kernels", "memory_bytes", "read_gb_s", "gflop_s"} <= set(row), row)
        self.assertGreater(told[0]["read_gb_s"], 0)
        text = self.ok("chips")
        self.assertEqual(text.err, "")
        self.assertRegex(text.out, r"(?m)^cpu +\S")
        for isa in told[0]["isas"]:
            self.assertIn(isa, text.out)
            self.ok("run", small_gguf(), "-p", "x", "-n", "2", "--isa", isa)

    def test_doctor(self):
        with_cache = dict(os.environ, BUSBAR_CACHE=self.path("cache"))
        result = self.fails_or_not(with_cache)
        self.assertRegex(result.out, r"(?m)^FIX +default model: .*\n +-> \./quickstart$")
        self.assertEqual(result.code, 1, "something is to be fixed")
        told = self.fails_or_not(with_cache, "--json").json()
        self.assertTrue(all(set(row) == {"good", "what", "fix"} for row in told))
        self.assertTrue(all(row["good"] or row["fix"] for row in told))
        nowhere = self.fails_or_not(dict(os.environ, BUSBAR_CACHE="/proc/nowhere"))
        self.assertRegex(nowhere.out, r"FIX +cache: /proc/nowhere cannot be written")

    def fails_or_not(self, environment, *arguments):
        import harness
        return harness.busbar("doctor", *arguments, env=environment)

    def test_bench(self):
        told = self.ok("bench", small_gguf(), "-p", "16", "-n", "4", "--repeat", "2", "--json").json()
        keys = {"prefill_tok_s", "decode_tok_s", "decode_bytes_per_token", "decode_gb_s", "roof_gb_s", "prefill_gop_s", "roof_gop_s",
                "threads", "chip", "spread"}
        self.assertTrue(keys <= set(told), told)
        for key in keys - {"chip", "spread"}:
            self.assertGreater(told[key], 0, key)
        self.assertRegex(told["chip"], r"^cpu \(.+\)$")
        least, most = told["spread"]["decode_tok_s"]
        self.assertLessEqual(least, told["decode_tok_s"])
        self.assertLessEqual(told["decode_tok_s"], most)
        text = self.ok("bench", small_gguf(), "-p", "8", "-n", "2", "--repeat", "1", "--batch", "2", "--depth", "3")
        for word in ("prompt ", "generate ", "memory ", "tok/s", "GB/s", "GOP/s", "roof"):
            self.assertIn(word, text.out)
