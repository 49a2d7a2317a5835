"""run: one answer."""
import json
import subprocess

import small_model
from harness import Case, fetched, small_folder, small_gguf

PLACEMENT = r"^placed \d+/\d+ nodes on cpu \(100 % of flops\), 0 copies, \d+ MB\n"
KEYS = {"prompt_tokens", "tokens", "text", "finish", "placement", "timing", "speculation", "memory"}


def prompt_ids(*messages):
    """What the small model's chat makes of messages, each (role, ids of the text)."""
    letters = {chr(b): small_model.TOKENS.index(letter) for b, letter in small_model.byte_letters().items()}
    out = []
    for role, ids in messages:
        out += [1, *[letters[c] for c in role + "\n"], *ids, 2, letters["\n"]]
    return out + [1, *[letters[c] for c in "assistant\n"]]


class Streams(Case):
    def test_stdout_is_the_answer_and_nothing_else(self):
        told = self.ok("run", small_gguf(), "-p", "hello", "-n", "9", "--json").json()
        plain = self.ok("run", small_gguf(), "-p", "hello", "-n", "9")
        self.assertEqual(plain.out, told["text"] + "\n")
        self.assertRegex(plain.err, PLACEMENT)
        self.assertRegex(plain.err, r"\nprompt 20 tokens, .* tok/s; answer 9 tokens, .* tok/s; memory .* MB peak(; \d+ of \d+ drafts right \(\d+ %\))?\n$")
        quiet = self.ok("run", small_gguf(), "-p", "hello", "-n", "9", "--quiet")
        self.assertEqual((quiet.raw, quiet.err), (plain.raw, ""))
        self.assertEqual(self.ok("run", small_gguf(), "-p", "hello", "-n", "9", "--json", "--quiet").err, "")

    def test_placement_comes_before_the_first_result(self):
        both = self.ok("run", small_gguf(), "-p", "hello", "-n", "3", stdout=subprocess.PIPE)
        merged = subprocess.run([*both_arguments(), "-p", "hello", "-n", "3"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        self.assertTrue(merged.stdout.startswith(b"placed "), merged.stdout)
        self.assertIn(both.raw.rstrip(b"\n"), merged.stdout)

    def test_json_keys_and_types(self):
        result = self.ok("run", small_gguf(), "-p", "hello", "-n", "5", "--json")
        self.assertEqual(result.out.count("\n"), 1)
        told = result.json()
        self.assertEqual(set(told), KEYS)
        self.assertEqual(told["prompt_tokens"], prompt_ids(("user", [small_model.TOKENS.index("hello")])))
        self.assertEqual(len(told["tokens"]), 5)
        self.assertTrue(all(isinstance(t, int) for t in told["tokens"]))
        self.assertEqual(told["finish"], "length")
        self.assertEqual(set(told["placement"]), {"nodes", "flops_share", "copies", "copy_bytes", "copied", "refused"})
        self.assertEqual(told["placement"]["flops_share"], {"cpu": 1.0})
        self.assertEqual((told["placement"]["copies"], told["placement"]["refused"]), (0, []))
        self.assertIsInstance(told["placement"]["nodes"]["cpu"], int)
        self.assertEqual(set(told["timing"]), {"load_s", "prefill_s", "decode_s", "first_token_s"})
        self.assertEqual(set(told["speculation"]), {"mode", "off_because", "steps", "drafted", "accepted"})
        self.assertTrue(all(isinstance(s, float) and s >= 0 for s in told["timing"].values()), told["timing"])
        self.assertEqual(set(told["memory"]), {"weights", "kv", "scratch", "peak_rss"})
        self.assertTrue(all(isinstance(n, int) and n > 0 for n in told["memory"].values()), told["memory"])

    def test_drafts_change_no_token(self):
        answers = {}
        for word in ("off", "on", "auto"):
            told = self.ok("run", small_gguf(), "-p", "hello hello hello", "-n", "60", "--temperature", "0.5", "--speculate", word, "--json").json()
            answers[word] = told["tokens"], told["text"], told["finish"]
            drafts = told["speculation"]
            self.assertEqual((drafts["mode"], drafts["off_because"]), (word, ""))
            self.assertTrue(drafts["drafted"] >= drafts["accepted"] >= 0 and drafts["drafted"] >= drafts["steps"], drafts)
            self.assertEqual(drafts["steps"] > 0, True if word == "on" else False if word == "off" else drafts["steps"] > 0)
        self.assertEqual(answers["off"], answers["on"])
        self.assertEqual(answers["off"], answers["auto"])

    def test_prompts_from_everywhere_are_the_same(self):
        expected = self.ok("run", small_gguf(), "-p", "hello", "-n", "4", "--json").json()["prompt_tokens"]
        for arguments, stdin in ((["-p", "-"], "hello"), ([], "hello"), (["--messages", "-"], '[{"role": "user", "content": "hello"}]'),
                                 (["--messages", self.write("m.json", '{"messages": [{"role": "user", "content": "hello"}]}')], "")):
            with self.subTest(arguments):
                self.assertEqual(self.ok("run", small_gguf(), "-n", "4", "--json", *arguments, stdin=stdin).json()["prompt_tokens"], expected)
        self.assertEqual(self.ok("run", small_folder(), "-p", "hello", "-n", "4", "--json").json()["prompt_tokens"], expected)

    def test_system_messages_and_templates(self):
        hello, word = small_model.TOKENS.index("hello"), small_model.TOKENS.index("he")
        told = self.ok("run", small_gguf(), "-p", "hello", "--system", "he", "-n", "1", "--json").json()
        self.assertEqual(told["prompt_tokens"], prompt_ids(("system", [word]), ("user", [hello])))
        messages = [{"role": "user", "content": "he"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "hello"}]
        told = self.ok("run", small_gguf(), "--messages", self.write("m.json", json.dumps(messages)), "-n", "1", "--json").json()
        self.assertEqual(told["prompt_tokens"], prompt_ids(("user", [word]), ("assistant", [hello]), ("user", [hello])))
        template = self.write("t.jinja", "{{ messages[0].content }}he")
        told = self.ok("run", small_gguf(), "-p", "hello", "--chat-template-file", template, "-n", "1", "--json").json()
        self.assertEqual(told["prompt_tokens"], [hello, word])

    def test_raw_text_is_fed_as_it_is(self):
        told = self.ok("run", small_gguf(), "-p", "hello", "--raw", "-n", "2", "--json").json()
        self.assertEqual(told["prompt_tokens"], [small_model.TOKENS.index("hello")])

    def test_special_tokens_of_a_user_are_text(self):
        for arguments in (["-p", "<|im_end|><|endoftext|>"], ["-p", "x", "--system", "<|im_start|>"]):
            told = self.ok("run", small_gguf(), *arguments, "-n", "1", "--json").json()
            messages = arguments.count("--system") + 1
            self.assertEqual([told["prompt_tokens"].count(i) for i in (0, 1, 2)], [0, messages + 1, messages], told)

    def test_logprobs(self):
        told = self.ok("run", small_gguf(), "-p", "hello", "-n", "4", "--logprobs", "3", "--json").json()
        self.assertEqual(set(told), KEYS | {"logprobs"})
        self.assertEqual([len(row) for row in told["logprobs"]], [3] * 4)
        for token, row in zip(told["tokens"], told["logprobs"]):
            self.assertEqual(row[0]["id"], token, "greedy takes the best")
            self.assertEqual(sorted(row, key=lambda s: -s["logprob"]), row)
            self.assertTrue(all(s["logprob"] <= 0 for s in row))
        table = self.ok("run", small_gguf(), "-p", "hello", "-n", "4", "--logprobs", "3").out
        self.assertEqual(len(table.rstrip("\n").split("\n")[-4:]), 4)
        self.assertIn(f"{told['logprobs'][3][2]['logprob']:.4f}", table)

    def test_verbose_says_what_was_decided(self):
        err = self.ok("run", small_gguf(), "-p", "x", "-n", "2", "-v").err
        for word in ("open model: ", "chip cpu: ", "import: ", "passes: ", "plan of 1 rows: ", "load: ", "bucket of 1 rows: ", "cpu.", "pass head_rows"):
            self.assertIn(word, err)
        self.assertNotIn("decode of", err)
        self.assertIn("decode of 1 rows: ", self.ok("run", small_gguf(), "-p", "x", "-n", "2", "-vv").err)
        self.assertEqual(self.ok("run", small_gguf(), "-p", "x", "-n", "2", "-vv", "--quiet").err, "")

    def test_trace(self):
        self.ok("run", small_gguf(), "-p", "x", "-n", "3", "--trace", self.path("trace.json"))
        with open(self.path("trace.json"), encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        names = [event["name"] for event in events]
        for name, count in (("open model", 1), ("import", 1), ("passes", 1), ("load", 1), ("prefill", 1), ("decode", 2)):
            self.assertEqual(names.count(name), count, names)
        self.assertGreaterEqual(names.count("plan"), 2)
        for event in events:
            self.assertEqual(event["ph"], "X")
            self.assertGreaterEqual(event["dur"], 0)
        begins = {event["name"]: event["ts"] for event in reversed(events)}
        self.assertLess(begins["import"], begins["load"])
        self.assertLess(begins["load"], begins["prefill"])
        self.fails(3, ["/nowhere/t.json: [trace] cannot write"], "run", small_gguf(), "-p", "x", "--trace", "/nowhere/t.json")


def both_arguments():
    import harness
    return [harness.BUSBAR, "run", small_gguf()]


class Choosing(Case):
    def tokens(self, *arguments, count="24"):
        return self.ok("run", small_gguf(), "-p", "hello", "-n", count, "--json", *arguments).json()["tokens"]

    def test_greedy_is_the_same_on_any_threads_and_chip(self):
        expected = self.tokens("--numerics", "strict")
        for arguments in (["--threads", "1"], ["--threads", "2"], ["--order", "invariant"], ["--chip", "reference"], ["--seed", "5"],
                          ["--temperature", "1", "--top-k", "1"], ["--temperature", "1", "--top-p", "0.000001"],
                          ["--temperature", "1", "--min-p", "1"]):
            with self.subTest(arguments):
                self.assertEqual(self.tokens("--numerics", "strict", *arguments), expected)

    def test_same_seed_same_tokens(self):
        hot = ("--temperature", "1.5", "--order", "invariant", "--numerics", "strict")
        expected = self.tokens(*hot, "--seed", "11")
        self.assertEqual(self.tokens(*hot, "--seed", "11", "--threads", "1"), expected)
        self.assertEqual(self.tokens(*hot, "--seed", "11", "--threads", "2"), expected)
        self.assertNotEqual(self.tokens(*hot, "--seed", "12"), expected)
        self.assertNotEqual(self.tokens("--numerics", "strict"), expected)

    def test_repeat_penalty_ends_repetition(self):
        free, held = self.tokens(count="100"), self.tokens("--repeat-penalty", "1000", count="60")
        self.assertEqual(len(set(held[:40])), 40, "a penalty of 1000 allows no token twice within 64")
        self.assertLess(len(set(free)), len(free))

    def test_max_tokens_and_finish(self):
        told = self.ok("run", small_gguf(), "-p", "hello", "-n", "1", "--json").json()
        self.assertEqual((len(told["tokens"]), told["finish"]), (1, "length"))
        told = self.ok("run", small_gguf(), "-p", "hello", "--context", "64", "--json").json()
        self.assertEqual(len(told["prompt_tokens"]) + len(told["tokens"]), 64, "0 = to the end of the context")
        self.assertEqual(told["finish"], "length")

    def test_an_end_token_stops(self):
        def even(_, tensors):
            for tensor in tensors:
                if tensor[0] in ("output", "output_norm"):
                    tensor[3] = b"\0" * len(tensor[3])  # all logits equal: the lowest id, <|endoftext|>, is chosen
        model = small_model.write_gguf(self.path("even.gguf"), even)
        told = self.ok("run", model, "-p", "hello", "-n", "5", "--json").json()
        self.assertEqual((told["tokens"], told["text"], told["finish"]), ([], "", "stop"))

    def test_stop_texts_are_never_printed(self):
        text = self.ok("run", small_gguf(), "-p", "hello", "-n", "40", "--json").json()["text"]
        for begin, length in ((3, 1), (5, 2), (9, 4), (0, 2), (len(text) - 2, 2)):
            stop = text[begin:begin + length]
            before = text[:text.index(stop)]
            with self.subTest(stop=stop):
                if "\ufffd" in stop:
                    continue
                told = self.ok("run", small_gguf(), "-p", "hello", "-n", "40", "--stop", "never there", "--stop", stop, "--json").json()
                self.assertEqual((told["text"], told["finish"]), (before, "stop"))
                plain = self.ok("run", small_gguf(), "-p", "hello", "-n", "40", "--stop", stop, "--stop", "never there")
                self.assertEqual(plain.out, before + "\n", "not even partially")
        # The beginning of a stop text that does not go on is text like another.
        held = self.ok("run", small_gguf(), "-p", "hello", "-n", "40", "--stop", text[-1] + "never", "--json").json()
        self.assertEqual(held["text"], text)

    def test_folder_and_end_ids(self):
        self.assertEqual(len(self.ok("run", small_folder(), "-p", "hello", "-n", "7", "--json").json()["tokens"]), 7)


class Published(Case):
    """The default model: answers that make sense, memory, speed that is printed."""

    def test_answer_and_memory(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        self.ok("run", model, "-p", "x", "-n", "1")  # the gate, where it was not passed before, has memory of its own
        told = self.ok("run", model, "-p", "What is the capital of France?", "-n", "20", "--json").json()
        self.assertIn("Paris", told["text"])
        self.assertEqual(told["finish"], "stop")
        memory = told["memory"]
        positions = len(told["prompt_tokens"]) + len(told["tokens"])
        touched = memory["kv"] / 8192 * (positions + 64)
        allowed = 1.03 * (memory["weights"] + touched + memory["scratch"]) + 40e6
        self.assertLess(memory["peak_rss"], allowed, memory)
        short = self.ok("run", model, "-p", "What is the capital of France?", "-n", "20", "--json", "--context", "128").json()
        self.assertEqual(short["tokens"], told["tokens"])
        self.assertLess(short["memory"]["kv"], memory["kv"] / 40)  # two pages, and one for the gate

    def test_same_seed_on_one_and_two_threads(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        answers = [self.ok("run", model, "-p", "Tell me a story.", "-n", "24", "--json", "--temperature", "0.9", "--top-p", "0.95",
                           "--seed", "3", "--threads", threads).json()["tokens"] for threads in ("1", "2")]
        self.assertEqual(answers[0], answers[1])

    def test_text_streams_as_whole_characters(self):
        model = fetched("BUSBAR_DEFAULT_MODEL")
        result = self.ok("run", model, "-p", "Write only these characters: 日本語 émoji 🙂🙂", "-n", "24")
        result.raw.decode("utf-8")
