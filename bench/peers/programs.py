"""The programs that are timed: each gives tokens per second of one run of one kind, prompt or generation."""
import json
import os
import re
import subprocess


class Trouble(Exception):
    """Something a person has to look at; the text says what was expected, what came, what to do."""


def run(command, timeout=3600, **options):
    """stdout of a command that must end well."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout, check=False, **options)
    except OSError as error:
        raise Trouble(f"{command[0]}: cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Trouble(f"{' '.join(command)}: gave no answer in {timeout} s") from None
    if done.returncode != 0:
        raise Trouble(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-800:] or done.stdout.strip()[-800:]}")
    return done.stdout


def parsed(command, text):
    try:
        return json.loads(text)
    except ValueError:
        raise Trouble(f"{' '.join(command)}: expected JSON, got {text[:200]!r}") from None


class Busbar:
    """Its bench measures the roofs around each run: the calibrators."""

    def __init__(self, path, model, threads, numerics, arguments=()):
        self.path, self.model, self.threads, self.numerics, self.arguments = path, model, threads, numerics, list(arguments)
        self.roofs = {"read roof, GB/s": [], "f32 roof, GFLOP/s": [], "integer roof, GOP/s": []}
        self.label = self.version = self.machine = ""

    def time(self, figure, prompt, tokens, depth):
        # Generation needs one token before it; the prompt run generates one because something must.
        shape = ["-p", str(prompt), "-n", "1"] if figure == "prompt" else ["-p", str(max(depth, 1)), "-n", str(tokens)]
        command = [self.path, "bench", self.model, *shape, "--repeat", "1", "--error-positions", "0", "--json", "--quiet",
                   "--numerics", self.numerics, "--threads", str(self.threads), *self.arguments]
        told = parsed(command, run(command))
        if told["threads"] != self.threads:
            raise Trouble(f"Busbar ran on {told['threads']} threads where {self.threads} were asked for")
        for name, key in (("read roof, GB/s", "roof_gb_s"), ("f32 roof, GFLOP/s", "roof_gop_s"), ("integer roof, GOP/s", "roof_integer_gop_s")):
            if told[key] > 0:
                self.roofs[name].append(told[key])
        self.label, self.version = told["chip"], f"build {told['build']}"
        self.machine = "; ".join(told["machine"]["devices"]) + f"; {told['machine']['cpus']} CPUs"
        return told["prefill_tok_s" if figure == "prompt" else "decode_tok_s"]


class LlamaBench:
    """llama-bench of llama.cpp or of ik_llama.cpp. Runs twice in a process and takes the second: the first one after a
    start touches buffers for the first time, and Busbar warms up too."""

    def __init__(self, name, origin, folder, model, threads, arguments=()):
        self.name, self.origin, self.folder, self.model, self.threads, self.arguments = name, origin, folder, model, threads, list(arguments)
        self.path = os.path.join(folder, "llama-bench")
        self.version = ""
        help_text = subprocess.run([self.path, "--help"], capture_output=True, text=True, errors="replace", check=False).stdout
        self.has_depth = "--n-depth" in help_text
        if not self.has_depth and "-gp <" not in help_text:
            raise Trouble(f"{self.path} --help: expected a way to generate at a depth (--n-depth or -gp), found neither")

    def time(self, figure, prompt, tokens, depth):
        if figure == "prompt":
            shape = ["-p", str(prompt), "-n", "0"]
        elif depth == 0:
            shape = ["-p", "0", "-n", str(tokens)]
        elif self.has_depth:
            shape = ["-p", "0", "-n", str(tokens), "-d", str(depth)]
        else:
            shape = ["-p", "0", "-n", "0", "-gp", f"{depth},{tokens}"]
        command = [self.path, "-m", self.model, *shape, "-t", str(self.threads), "-r", "2", "-o", "json", *self.arguments]
        rows = parsed(command, run(command))
        if not isinstance(rows, list) or len(rows) != 1:
            raise Trouble(f"{' '.join(command)}: expected one test, got {len(rows)}")
        row = rows[0]
        asked = {"n_threads": self.threads, "n_gen": 0 if figure == "prompt" else tokens}
        got = {key: row.get(key) for key in asked}
        if got != asked:
            raise Trouble(f"{' '.join(command)}: expected {asked}, it ran {got}")
        self.version = f"{self.origin}, commit {row.get('build_commit', 'unknown')}, {' '.join(self.arguments)}"
        return float(row["samples_ts"][-1])


def kl_of(text):
    """Mean KL and per cent of other first tokens, as llama-perplexity --kl-divergence prints them."""
    mean = re.search(r"Mean\s+KLD:\s+(\S+)", text)
    same = re.search(r"Same top p:\s+(\S+)", text)
    if not mean or not same:
        raise Trouble(f"llama-perplexity: expected lines 'Mean KLD' and 'Same top p', got ...{text[-300:]!r}")
    return float(mean.group(1)), 100 - float(same.group(1))
