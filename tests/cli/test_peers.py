"""bench/peers/run.py with programs that stand for the peers, and Busbar itself."""
import io
import json
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
from unittest import mock

import harness
import small_model
from harness import Case

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "bench", "peers")
sys.path.insert(0, PEERS)
import build  # noqa: E402
import figures  # noqa: E402
import programs  # noqa: E402


real_run = subprocess.run


class Peers(Case):
    def tools(self, names=("llama-bench", "llama-perplexity", "llama-quantize")):
        folder = self.path("bin")
        os.makedirs(folder)
        for name in names:
            shutil.copy(os.path.join(HERE, "fake_llama_bench.py"), os.path.join(folder, name))
            os.chmod(os.path.join(folder, name), 0o755)
        return folder

    def peers(self, *arguments, **environment):
        model = small_model.write_gguf(self.path("model.gguf"), lambda meta, _: meta.update({"llama.context_length": ("u32", 1024)}))
        return subprocess.run([sys.executable, os.path.join(PEERS, "run.py"), "--busbar", harness.BUSBAR, "--model", model, "--prompt", "16",
                               "--tokens", "4", "--threads", "1", "--seed", "7", *arguments], capture_output=True, text=True, timeout=harness.TIMEOUT,
                              check=False, env=dict(os.environ, BUSBAR_CACHE=self.path("cache"), **environment))

    def test_whole(self):
        kept = self.path("all.json")
        done = self.peers("--llama-bin", self.tools(), "--rounds", "2", "--windows", "2", "--json", kept, FAKE_TOK_S="1e9")
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(kept, encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual([row["figure"] for row in report["rows"]], ["prompt 16", "generate 4 at depth 0"])
        for row in report["rows"]:
            self.assertEqual((len(row["ours"]), row["theirs"]), (4, [1e9] * 4))
            by_hand = [math.sqrt(row["ours"][2 * n] * row["ours"][2 * n + 1]) / 1e9 for n in range(2)]
            self.assertAlmostEqual(row["ratio"], statistics.median(by_hand), delta=1e-12)
        self.assertEqual(done.stdout.count("SLOWER"), 2, "a loss is printed like a win")
        self.assertEqual(len(report["calibrators"]["read roof, GB/s"]), 8)
        ours, theirs = report["errors"]
        self.assertLess(ours["mean_kl"], 1e-3, ours)
        self.assertIn("510 positions", ours["how"], "second halves of two windows")
        self.assertEqual((theirs["mean_kl"], round(theirs["other_first_percent"], 6)), (0.0031, 4))
        for line in ("| llama.cpp | 0.0031 | 4.00 % |", "commit fake", "Bootstrap seed 7", "read roof, GB/s"):
            self.assertIn(line, done.stdout)
        self.assertEqual(os.listdir(self.path("cache/peers")), [], "nothing large is left")

    def test_other_tool_at_depth_and_without_error(self):
        folder = self.tools(["llama-bench"])
        done = self.peers("--no-llama", "--ik-bin", folder, "--rounds", "1", "--no-error", "--depth", "3", "--kv", "bf16", FAKE_TOK_S="1e-3", FAKE_KIND="ik")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(re.findall(r"\| faster \|", done.stdout)), 4, done.stdout)
        self.assertIn("generate 4 at depth 3 | ik_llama.cpp -rtr 1", done.stdout)

    def test_trouble(self):
        folder = self.tools(["llama-bench"])
        for words, arguments, environment in (("n_threads", ["--llama-bin", folder], {"FAKE_WRONG": "threads"}), ("no peer", ["--no-llama"], {}),
                                              ("cannot be run", ["--llama-bin", folder, "--busbar", "/nothing"], {}),
                                              ("checkout of ik_llama.cpp", ["--no-llama", "--ik", self.folder], {})):
            done = self.peers("--rounds", "1", *arguments, FAKE_TOK_S="5", **environment)
            self.assertEqual((done.returncode, done.stdout), (3, ""), done.stderr)
            self.assertIn(words, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_figures(self):
        # Even drift over a round cancels: the machine slows down by a tenth from run to run, both programs alike.
        self.assertAlmostEqual(figures.ratio_of_round([2 * 1.0, 2 * 0.729], [0.9, 0.81]), 2, delta=1e-12)
        source = random.Random(harness.SEED)
        covered = 0
        for _ in range(40):
            values = [math.exp(0.2 + source.gauss(0, 0.1)) for _ in range(15)]
            _, low, high = figures.median_interval(values, 1)
            covered += low <= math.exp(0.2) <= high
        self.assertGreaterEqual(covered, 31, f"a 95 % interval held the truth {covered} times in 40 (seed {harness.SEED})")
        self.assertEqual(figures.verdict(0.9, 1.1), "not told apart")
        with self.assertRaises(programs.Trouble):
            programs.kl_of("no such lines")

    def test_build(self):
        """The unpacking and the build, with a package that holds small programs."""
        cmake = ("cmake_minimum_required(VERSION 3.20)\nproject(x C)\nset(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)\n"
                 f"foreach(t {' '.join(build.TOOLS)})\nadd_executable(${{t}} main.c)\nendforeach()\n")
        files = {"p-1/vendor/llama.cpp/CMakeLists.txt": cmake, "p-1/vendor/llama.cpp/main.c": "int main(void) { return 0; }\n",
                 "p-1/vendor/llama.cpp/.git": "gitdir: elsewhere\n", "p-1/vendor/llama.cpp/../../../../outside": "x", "p-1/setup.py": "raise SystemExit(1)"}
        with tarfile.open(self.path("p-1.tar.gz"), "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content.encode()))
        with mock.patch.dict(os.environ, BUSBAR_CACHE=self.path("cache")), \
                mock.patch.object(build.fetch, "download", return_value=self.path("p-1.tar.gz")) as download, mock.patch("sys.stderr"), \
                mock.patch.object(build.subprocess, "run", side_effect=lambda *a, **k: real_run(*a, **dict(k, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))) as ran:
            binaries = build.llama_cpp(1)
            self.assertTrue(all(os.access(os.path.join(binaries, tool), os.X_OK) for tool in build.TOOLS))
            source = os.path.join(self.path("cache/peers"), build.fetch.SOURCES_FOLDER, "source")
            self.assertEqual(sorted(os.listdir(source)), ["CMakeLists.txt", "main.c"])
            self.assertFalse(os.path.exists(self.path("outside")) or os.path.exists(self.path("cache/outside")))
            calls = ran.call_count
            self.assertEqual(build.llama_cpp(1), binaries)
            self.assertEqual((download.call_count, ran.call_count), (1, calls), "built once")
