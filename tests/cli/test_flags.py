"""Every flag of every command: what it accepts, what it says to anything else."""
import re
import shutil

from harness import Case, busbar, small_gguf

COMMANDS = ("run", "tokenize", "eval", "show", "chips", "doctor", "bench")
COMMON = {  # flag: values that are right, values that are wrong, a word of the message
    "--chip": (("auto", "cpu", "reference"), ("gpu", "cpu,gpu", "cpu,", "", "CPU"), "--chip: expected auto, cpu"),
    "--numerics": (("strict", "accurate", "fast"), ("exact", "", "Strict"), "expected strict, accurate or fast"),
    "--order": (("free", "invariant"), ("any", ""), "expected free or invariant"),
    "--gate": (("auto", "off"), ("on", ""), "expected auto, full or off"),
    "--kv": (("f32", "f16", "bf16"), ("q8", "f64"), "expected f32, f16 or bf16"),
    "--threads": (("0", "1", "2"), ("-1", "two", "1.5", "1025", "99999999999999999999", ""), "expected a whole number of 0 to 1024"),
    "--context": (("0", "64", "100"), ("-1", "x", "16777217", "1e3"), "expected a whole number of 0 to 16777216"),
    "--no-pass": (("head_rows",), ("heads", ""), "fold_constants"),
    "--split": (("cpu:0-1", "cpu:0-0,cpu:1-1"), ("cpu", "cpu:0", "cpu:0-x", "cpu:1-0", "cpu:0-0", "cpu:0-2", "cpu:1-1", "gpu:0-1", ","),
                "[split] expected"),
}
RUN = {
    "-n": (("0", "3"), ("-1", "x", "1.5"), "--max-tokens: expected a whole number of 0 or more"),
    "--temperature": (("0", "0.7"), ("-0.1", "nan", "inf", "warm"), "--temperature: expected a number of 0 or more"),
    "--top-k": (("0", "5"), ("-1", "x"), "--top-k: expected a whole number"),
    "--top-p": (("1", "0.5"), ("0", "1.1", "-1", "nan"), "--top-p: expected a number above 0, at most 1"),
    "--min-p": (("0", "0.2", "1"), ("-0.1", "1.1"), "--min-p: expected a number of 0 to 1"),
    "--repeat-penalty": (("1", "1.3"), ("0", "-1", "inf"), "--repeat-penalty: expected a number above 0"),
    "--seed": (("0", "12345678901"), ("-1", "x"), "--seed: expected a whole number"),
    "--logprobs": (("0", "3"), ("-1", "1001"), "--logprobs: expected a whole number of 0 to 1000"),
    "--speculate": (("auto", "on", "off"), ("yes", ""), "--speculate: expected auto, on or off"),
    "--stop": (("x",), ("",), "--stop: expected some text"),
}


class Help(Case):
    def test_every_command_has_help_with_an_example(self):
        for command in COMMANDS:
            with self.subTest(command):
                result = self.ok(command, "--help")
                self.assertEqual(result.err, "")
                self.assertEqual(result.out, self.ok(command, "-h").out)
                examples = result.out[result.out.index("Examples:"):]
                self.assertIn(f"busbar {command}", examples)
                for flag in (*COMMON, "--no-fallback", "--json", "--quiet", "--verbose", "--isa", "--trace"):
                    self.assertIn(flag, result.out)
                self.assertLessEqual(max(map(len, result.out.splitlines())), 110, "lines fit a terminal")

    def test_the_program_lists_its_commands_and_exit_codes(self):
        result = self.ok("--help")
        for command in COMMANDS:
            self.assertRegex(result.out, rf"(?m)^  {command} ")
        for code in (0, 1, 2, 3, 4, 5, 6, 70, 130):
            self.assertRegex(result.out, rf"\b{code} [a-z]")
        self.assertLessEqual(max(map(len, result.out.splitlines())), 120)

    def test_version(self):
        self.assertRegex(self.ok("--version").out, r"^busbar \d+\.\d+\.\d+\n$")

    def test_examples_name_only_flags_that_exist(self):
        for command in COMMANDS:
            text = self.ok(command, "--help").out
            options, examples = text.split("Examples:")
            for flag in re.findall(r"(?<=\s)--?[a-z][a-z-]*", examples):
                self.assertRegex(options, rf"(?m)^  (-., ?|-.,)?{flag}\b|^  {flag}\b", f"{command}: {flag}")


class Usage(Case):
    def test_wrong_commands_and_flags(self):
        model = small_gguf()
        for words, arguments in (
                (["expected a command (run, serve, tokenize", "got none"], []),
                (["expected a command (run, serve, tokenize", "got 'frobnicate'"], ["frobnicate"]),
                (["expected a command", "got '--frob'"], ["--frob"]),
                (["busbar run has no option or argument '--frob'"], ["run", model, "--frob"]),
                (["busbar run has no option or argument 'second'"], ["run", model, "second"]),
                (["expected MODEL, got none"], ["run"]),
                (["expected MODEL, got none"], ["show", "plan"]),
                (["expected file, tensors, graph", "'stage'"], ["show", "stage", model]),
                (["--threads: expected one value, got none"], ["run", model, "--threads"]),
                (["--threads: expected one value, got several"], ["run", model, "--threads", "1", "--threads", "2"]),
                (["expected one of --text and --ids, got none"], ["eval", model]),
                (["expected one of --text and --ids, got both"], ["eval", model, "--text", "a", "--ids", "b"]),
                (["--prompt and --messages"], ["run", model, "-p", "x", "--messages", "f"]),
                (["--raw and --system"], ["run", model, "-p", "x", "--raw", "--system", "s"]),
                (["--raw and --messages"], ["run", model, "--raw", "--messages", "s"]),
                (["expected one of TEXT, --file"], ["tokenize", model, "x", "--file", "f"]),
                (["expected --messages with them"], ["tokenize", model, "x", "--template-args", "{}"]),
                (["expected a JSON object, got array"], ["tokenize", model, "--messages", self.write("m", "[]"), "--template-args", "[]"]),
                (["expected an instruction set of this machine", "'mmx'"], ["run", model, "-p", "x", "--isa", "mmx"]),
                (["-p", "expected"], ["bench", model, "--repeat", "0"]),
        ):
            with self.subTest(arguments):
                if words[0] == "-p":
                    words = ["--repeat: expected a whole number of 1 to 1000, got '0'"]
                self.fails(2, words, *arguments)

    def test_common_flags(self):
        model = small_gguf()
        for flag, (right, wrong, word) in COMMON.items():
            for value in right:
                with self.subTest(flag=flag, value=value):
                    self.ok("run", model, "-p", "x", "-n", "1", flag, value)
            for value in wrong:
                with self.subTest(flag=flag, value=value):
                    result = self.fails(2, word, "run", model, "-p", "x", "-n", "1", f"{flag}={value}" if value.startswith("-") else flag,
                                        *([] if value.startswith("-") else [value]))
                    if flag != "--split" and value:
                        self.assertIn(f"got '{value}'", result.err)

    def test_run_flags(self):
        model = small_gguf()
        for flag, (right, wrong, word) in RUN.items():
            for value in right:
                with self.subTest(flag=flag, value=value):
                    self.ok("run", model, "-p", "x", *(["-n", "1"] if flag != "-n" else ["--context", "64"]), flag, value)
            for value in wrong:
                with self.subTest(flag=flag, value=value):
                    self.fails(2, word, "run", model, "-p", "x", flag, value)

    def test_unknown_values_are_refused_by_every_command(self):
        arguments = {"run": ["M"], "tokenize": ["M", "x"], "eval": ["M", "--ids", "f"], "show": ["file", "M"], "bench": ["M"]}
        for command in COMMANDS:
            with self.subTest(command):
                self.fails(2, "--chip: expected", command, *arguments.get(command, []), "--chip", "abacus")

    def test_a_mix_of_chips(self):
        alone = self.ok("run", small_gguf(), "-p", "x", "-n", "4", "--json").json()
        both = self.ok("run", small_gguf(), "-p", "x", "-n", "4", "--json", "--chip", "cpu,reference", "--split", "cpu:0-0,reference:1-1").json()
        self.assertEqual(both["tokens"], alone["tokens"])
        self.assertEqual(set(both["placement"]["nodes"]), {"cpu", "reference"})
        self.assertGreater(both["placement"]["copies"], 0)
        self.assertGreater(both["placement"]["copied"]["bytes"], 0)
        self.fails(2, "each chip once", "run", small_gguf(), "-p", "x", "--chip", "cpu,cpu")

    def test_switches(self):
        for flag in ("--no-fallback", "--json", "--quiet", "-v", "-vv", "--verbose"):
            with self.subTest(flag):
                self.ok("run", small_gguf(), "-p", "x", "-n", "1", flag)

    def test_a_repeatable_flag_leaves_the_model_alone(self):
        self.ok("run", "--stop", "a", "--stop", "b", "--no-pass", "head_rows", small_gguf(), "-p", "x", "-n", "1")

    def test_names_of_all_kinds(self):
        for name in ("with space.gguf", "with\nnewline.gguf", "-dash.gguf", "ünï.gguf", "quote'\".gguf", "{0}%s{.gguf"):
            with self.subTest(name):
                shutil.copy(small_gguf(), self.path(name))
                self.ok("run", "-p", "x", "-n", "1", "--", name, cwd=self.folder)
        raw = self.folder.encode() + b"/\xff\xfe.gguf"
        shutil.copy(small_gguf().encode(), raw)
        self.ok("run", raw, "-p", "x", "-n", "1")
        for stage in ("file", "tensors", "plan", "graph"):
            self.ok("show", stage, raw, "--json").json()
        self.assertEqual(busbar("run", raw + b"x", "-p", "x").code, 3)
