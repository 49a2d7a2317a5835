"""What every test here needs: the program, a run of it, small models, what is fetched."""
import functools
import json
import os
import random
import shutil
import subprocess
import tempfile
import unittest

import small_model

BUSBAR = ""
SEED = int(os.environ.get("BUSBAR_SEED", random.SystemRandom().randrange(1 << 32)))
MORE = os.environ.get("BUSBAR_MORE", "") == "1"
TIMEOUT = 120  # a command that takes longer hangs; the machine may be busy
FOLDER = tempfile.mkdtemp(prefix="busbar-cli-")


def clean():
    shutil.rmtree(FOLDER, ignore_errors=True)


class Result:
    def __init__(self, arguments, code, out, err):
        self.arguments, self.code, self.raw, self.err = arguments, code, out, err.decode("utf-8", "replace")
        self.out = out.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"busbar {' '.join(map(repr, self.arguments))}\nexit {self.code}\nstdout: {self.out[-1500:]}\nstderr: {self.err[-1500:]}"


def busbar(*arguments, stdin=b"", timeout=TIMEOUT, **options):
    """Runs the program to its end. `stdin` is bytes, or a file object."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    options.setdefault("stdout", subprocess.PIPE)
    done = subprocess.run([BUSBAR, *arguments], stderr=subprocess.PIPE, timeout=timeout, check=False, **given, **options)
    return Result(arguments, done.returncode, done.stdout or b"", done.stderr)


@functools.lru_cache(None)
def small_gguf():
    """A llama of two layers with random weights and a byte-level tokenizer: it answers at once, with nonsense."""
    path = os.path.join(FOLDER, "small.gguf")
    small_model.write_gguf(path)
    return path


@functools.lru_cache(None)
def small_folder():
    path = os.path.join(FOLDER, "small")
    small_model.write_folder(path)
    return path


def fetched(variable):
    """The path in an environment variable that ./test sets; skips the test without it."""
    path = os.environ.get(variable, "")
    if not path:
        raise unittest.SkipTest(f"{variable} is not set")
    if not os.path.exists(path):
        raise AssertionError(f"{variable}={path}: nothing there")
    return path


class Case(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=FOLDER)

    def tearDown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        return self.path(name)

    def ok(self, *arguments, **options):
        result = busbar(*arguments, **options)
        self.assertEqual(result.code, 0, result)
        return result

    def fails(self, code, words, *arguments, **options):
        """The exit code, nothing on stdout, one message on stderr that holds all of `words`."""
        result = busbar(*arguments, **options)
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.raw, b"", result)
        self.assertIn("busbar: ", result.err, result)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, result.err, result)
        return result
