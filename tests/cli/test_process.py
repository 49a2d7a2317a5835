"""The process among others: pipes, disks, signals, memory, a file that changes while it is read."""
import os
import resource
import shutil
import signal
import subprocess
import time

import harness
import small_model
from harness import Case, busbar, fetched, small_gguf

LONG = ("-p", "Write a very long story about the sea.", "-n", "4000", "--context", "8192")


def start(*arguments, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([harness.BUSBAR, *arguments], **options)


def wait_for(stream, count):
    """The first `count` bytes that come out of a stream."""
    data = b""
    while len(data) < count:
        more = os.read(stream.fileno(), 4096)
        if not more:
            break
        data += more
    return data


class Output(Case):
    def test_full_disk(self):
        model, ids = small_gguf(), self.write("ids", "1 2 3")
        for arguments in (["run", model, "-p", "x", "-n", "3"], ["run", model, "-p", "x", "-n", "3", "--json"], ["tokenize", model, "hello"],
                          ["show", "file", model], ["show", "plan", model], ["eval", model, "--ids", ids], ["chips"], ["--help"], ["run", "--help"],
                          ["--version"]):
            with self.subTest(arguments):
                with open("/dev/full", "wb") as full:
                    result = busbar(*arguments, stdout=full)
                self.assertEqual(result.code, 3, result)
                self.assertIn("stdout: [output] cannot write", result.err)
        self.fails(3, ["/dev/full", "cannot write"], "eval", model, "--ids", ids, "--logits", "/dev/full")
        result = busbar("run", model, "-p", "x", "-n", "3", "--trace", "/dev/full")
        self.assertEqual(result.code, 3, result)
        self.assertIn("/dev/full: [trace] cannot write", result.err)

    def test_full_stderr_costs_no_answer(self):
        expected = self.ok("run", small_gguf(), "-p", "x", "-n", "3").raw
        with open("/dev/full", "wb") as full:
            done = subprocess.run([harness.BUSBAR, "run", small_gguf(), "-p", "x", "-n", "3", "-vv"], stdout=subprocess.PIPE, stderr=full,
                                  check=False, timeout=harness.TIMEOUT)
        self.assertEqual((done.returncode, done.stdout), (0, expected))

    def test_closed_pipe(self):
        model = small_gguf()
        for arguments in (["run", model, "-p", "x", "--context", "4096"], ["show", "plan", model], ["tokenize", model, "hello " * 20000],
                          ["show", "ops"]):
            with self.subTest(arguments[0]):
                process = start(*arguments)
                self.assertEqual(len(process.stdout.read(1)), 1)
                process.stdout.close()
                err = process.stderr.read()
                process.stderr.close()
                self.assertEqual(process.wait(harness.TIMEOUT), 0, err)
                self.assertNotIn(b"busbar:", err)
        closed = subprocess.run(["sh", "-c", '"$0" run "$1" -p x -n 3 >&-', harness.BUSBAR, model], stderr=subprocess.PIPE, check=False)
        self.assertEqual(closed.returncode, 3, closed.stderr)


class Interrupt(Case):
    def test_while_answering(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        process = start("run", model, *LONG)
        early = wait_for(process.stdout, 10)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=harness.TIMEOUT)
        self.assertEqual(process.returncode, 130, err)
        whole = (early + out).decode("utf-8")
        self.assertTrue(whole.endswith("\n"))
        self.assertNotIn(b"busbar:", err)
        full = self.ok("run", model, *LONG[:2], "-n", "60", "--context", "8192").out
        common = os.path.commonprefix([whole.rstrip("\n"), full])
        self.assertGreaterEqual(len(common), min(len(whole) - 1, len(full) - 1), "what was produced stays")

    def test_json_is_still_printed(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        process = start("run", model, *LONG, "--json", "--trace", self.path("trace.json"))
        wait_for(process.stderr, 8)  # the placement line: the model is loaded
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=harness.TIMEOUT)
        self.assertEqual(process.returncode, 130, err)
        told = harness.Result((), 130, out, b"").json()
        self.assertEqual(told["finish"], "interrupted")
        with open(self.path("trace.json"), encoding="utf-8") as file:
            self.assertIn('"load"', file.read())

    def test_at_any_moment(self):
        """Before, while and after loading."""
        model = fetched("BUSBAR_DEFAULT_MODEL")
        for delay in (0.02, 0.05, 0.1, 0.2, 0.4):
            process = start("run", model, *LONG)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=harness.TIMEOUT)
            # Within its first moments the process has not asked for the signal yet, and dies as any program would.
            allowed = (130,) if delay > 0.1 else (130, -signal.SIGINT)
            self.assertIn(process.returncode, allowed, f"after {delay} s: {err}")

    def test_while_waiting_for_input(self):
        for arguments in (["tokenize", small_gguf()], ["run", small_gguf()], ["eval", small_gguf(), "--ids", "-"]):
            process = start(*arguments, stdin=subprocess.PIPE)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            try:
                self.assertEqual(process.wait(20), 130, arguments)
            finally:
                process.kill()
                process.communicate()

    def test_eval_and_bench(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        ids = self.write("ids", "5 " * 4000)
        for arguments in (["eval", model, "--ids", ids, "--json"], ["bench", model, "--repeat", "1000"]):
            process = start(*arguments)
            wait_for(process.stderr, 8)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=harness.TIMEOUT)
            self.assertEqual(process.returncode, 130, (arguments, err))
            self.assertEqual(out, b"")

    def test_twice_ends_at_once(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        process = start("run", model, "-p", "sea " * 6000)
        wait_for(process.stderr, 8)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        process.communicate(timeout=harness.TIMEOUT)
        self.assertEqual(process.returncode, 130)
        self.assertLess(time.monotonic() - begin, 10)


class Changed(Case):
    def test_cut_while_in_use(self):
        source = fetched("BUSBAR_DEFAULT_MODEL")
        model = self.path("cut while used.gguf")
        for keep in (1000000, 60000000):
            shutil.copy(source, model)
            process = start("run", model, *LONG)
            wait_for(process.stdout, 10)
            os.truncate(model, keep)
            _, err = process.communicate(timeout=harness.TIMEOUT)
            self.assertEqual(process.returncode, 3, err)
            self.assertIn(b"cut while used.gguf: [file]", err)
            self.assertIn(b"cut short", err)

    def test_cut_while_loading(self):
        model = self.path("small.gguf")
        data, head = small_model.gguf_bytes()
        for _ in range(10):
            with open(model, "wb") as file:
                file.write(data)
            process = start("run", model, "-p", "hello", "-n", "100")
            time.sleep(0.01)
            os.truncate(model, head + 100)
            _, err = process.communicate(timeout=harness.TIMEOUT)
            self.assertIn(process.returncode, (0, 3), err)
            if process.returncode == 3:
                self.assertIn(b"small.gguf", err)

    def test_removed_while_in_use_is_no_error(self):
        model = self.path("small.gguf")
        shutil.copy(small_gguf(), model)
        process = start("run", model, stdin=subprocess.PIPE)
        time.sleep(0.5)
        os.unlink(model)
        out, err = process.communicate(b"hello", timeout=harness.TIMEOUT)
        self.assertEqual(process.returncode, 0, err)
        self.assertTrue(out)


class Memory(Case):
    def test_a_context_that_does_not_fit(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        result = self.fails(5, ["[memory]", "MB", "cache", "16777216 positions", "--context "], "run", model, "-p", "x", "--context", "16777216")
        fitting = int(result.err.split("; --context ")[1].split()[0])
        self.assertGreater(fitting, 64)
        self.assertEqual(fitting % 64, 0)

    def test_little_address_space(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        for megabytes in (24, 40, 64, 110, 160, 220, 300, 400):
            def limit(bytes_=megabytes << 20):
                resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_))
            result = busbar("run", model, "-p", "Hello", "-n", "2", preexec_fn=limit)
            self.assertIn(result.code, (0, 5, 127), f"{megabytes} MB: {result}")
            if result.code == 5:
                self.assertIn("busbar: ", result.err)
                self.assertRegex(result.err, r"\d", f"the numbers: {result}")
        def no_limit_needed():
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        self.ok("run", model, "-p", "Hello", "-n", "2", preexec_fn=no_limit_needed)

    def test_little_address_space_small_model(self):
        codes = set()
        for megabytes in range(10, 120, 6 if not harness.MORE else 1):
            def limit(bytes_=megabytes << 20):
                resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_))
            result = busbar("run", small_gguf(), "-p", "x", "-n", "2", preexec_fn=limit)
            self.assertIn(result.code, (0, 5, 127), f"{megabytes} MB: {result}")  # 127: the loader found no room for the program itself
            codes.add(result.code)
        self.assertIn(5, codes)

    def test_few_files(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
        result = busbar("run", small_gguf(), "-p", "x", "-n", "2", preexec_fn=limit)
        self.assertIn(result.code, (0, 3), result)

    def test_hostile_counts_take_no_memory(self):
        def huge(meta, _):
            meta["llama.context_length"] = ("u32", 0xFFFFFFFF)
            meta["llama.block_count"] = ("u32", 0x7FFFFFFF)
        model = small_model.write_gguf(self.path("huge.gguf"), huge)
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        for command in (["run", model, "-p", "x"], ["show", "plan", model], ["show", "file", model]):
            result = busbar(*command, preexec_fn=limit, timeout=60)
            self.assertIn(result.code, (3, 5) if command[1] != "file" else (0, 3), result)
