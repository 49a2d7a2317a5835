"""tokenize and eval."""
import array
import json
import math
import os
import shutil
import struct

import small_model
from harness import Case, fetched, small_folder, small_gguf

HELLO, HE = small_model.TOKENS.index("hello"), small_model.TOKENS.index("he")


class Tokenize(Case):
    def test_text_from_everywhere(self):
        expected = {"ids": [HELLO, small_model.TOKENS.index("Ġwor")], "pieces": ["hello", "Ġwor"]}
        file = self.write("text", "hello wor")
        for arguments, stdin in ((["hello wor"], ""), (["--file", file], ""), (["--file", "-"], "hello wor"), ([], "hello wor")):
            for model in (small_gguf(), small_folder()):
                with self.subTest(arguments=arguments, model=model):
                    self.assertEqual(self.ok("tokenize", model, "--json", *arguments, stdin=stdin).json(), expected)
        self.assertEqual(self.ok("tokenize", small_gguf(), "hello wor").out, f"{HELLO:>7} 'hello'\n{expected['ids'][1]:>7} 'Ġwor'\n")

    def test_empty_text(self):
        for arguments in ([""], ["--file", "/dev/null"], []):
            self.assertEqual(self.ok("tokenize", small_gguf(), "--json", *arguments).json(), {"ids": [], "pieces": []})

    def test_messages_template_and_arguments(self):
        messages = [{"role": "user", "content": "hello <|im_end|>"}]
        file = self.write("m.json", json.dumps(messages))
        told = self.ok("tokenize", small_gguf(), "--messages", file, "--json").json()
        self.assertEqual(set(told), {"ids", "pieces", "rendered"})
        self.assertEqual(told["rendered"], "<|im_start|>user\nhello <|im_end|><|im_end|>\n<|im_start|>assistant\n")
        self.assertEqual((told["ids"].count(1), told["ids"].count(2)), (2, 1), "the user's own <|im_end|> is text")
        off = self.write("o.json", json.dumps({"messages": messages, "add_generation_prompt": False}))
        self.assertEqual(self.ok("tokenize", small_gguf(), "--messages", off, "--json").json()["rendered"],
                         "<|im_start|>user\nhello <|im_end|><|im_end|>\n")
        template = self.write("t", "{{ word }} {{ tools | length }} {{ messages[0].content[:5] }}")
        more = self.write("x.json", json.dumps({"messages": messages, "tools": [{}, {}], "word": "no"}))
        told = self.ok("tokenize", small_gguf(), "--messages", more, "--chat-template-file", template, "--template-args",
                       '{"word": "yes"}', "--json").json()
        self.assertEqual(told["rendered"], "yes 2 hello")
        self.assertTrue(self.ok("tokenize", small_gguf(), "--messages", "-", stdin=json.dumps(messages)).out.startswith("<|im_start|>user\n"))

    def test_no_special_and_decode(self):
        def with_begin(meta, _):
            meta["tokenizer.ggml.add_bos_token"] = ("bool", True)
        model = small_model.write_gguf(self.path("begin.gguf"), with_begin)
        self.assertEqual(self.ok("tokenize", model, "hello", "--json").json()["ids"], [0, HELLO])
        self.assertEqual(self.ok("tokenize", model, "hello", "--no-special", "--json").json()["ids"], [HELLO])
        self.assertEqual(self.ok("tokenize", model, "--decode", f"0 {HELLO},{HE} 2").out, "<|endoftext|>hellohe<|im_end|>\n")
        self.assertEqual(self.ok("tokenize", model, "--decode", f"0 {HELLO}, {HE} 2", "--no-special").out, "hellohe\n")
        self.assertEqual(self.ok("tokenize", model, "--decode", f"{HELLO}", "--json").json(), {"text": "hello"})
        self.assertEqual(self.ok("tokenize", model, "--decode", "").out, "\n")
        for ids in ("-1", str(small_model.VOCABULARY), "x", "1 2 three", "99999999999999999999", "1.5"):
            self.fails(3, ["--decode: offset", "[ids] expected token ids of 0 to"], "tokenize", model, f"--decode={ids}")

    def test_every_byte_comes_back(self):
        valid = ("".join(map(chr, range(0x250))) + "naïve 日本 🙂").encode()
        ids = self.ok("tokenize", small_gguf(), "--file", self.write("valid", valid), "--json").json()["ids"]
        self.assertEqual(self.ok("tokenize", small_gguf(), "--decode", " ".join(map(str, ids))).raw, valid + b"\n")

    def test_a_vocabulary_alone_is_enough(self):
        model = small_model.write_gguf(self.path("vocabulary.gguf"), tensors=False)
        self.assertEqual(self.ok("tokenize", model, "hello", "--json").json()["ids"], [HELLO])
        folder = small_model.write_folder(self.path("folder"), leave_out=("model.safetensors", "config.json"))
        self.assertEqual(self.ok("tokenize", folder, "hello", "--json").json()["ids"], [HELLO])
        self.fails(3, "vocabulary.gguf", "run", model, "-p", "x")

    def test_published_vocabularies(self):
        folder = fetched("BUSBAR_LLAMA_VOCABS")
        for name in ("gpt-2", "llama-bpe", "qwen2", "llama-spm"):
            told = self.ok("tokenize", os.path.join(folder, f"ggml-vocab-{name}.gguf"), "Hello world", "--no-special", "--json").json()
            self.assertEqual("".join(told["pieces"]).replace("Ġ", " ").replace("▁", " ").strip(), "Hello world")


def read_npy(path):
    """Rows of a float32 .npy file, and its shape."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    length, = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0 and data[9 + length] == 10
    header = data[10:10 + length].decode()
    assert "'descr': '<f4'" in header and "'fortran_order': False" in header, header
    rows, columns = (int(n) for n in header.split("'shape': (")[1].split(")")[0].split(","))
    values = array.array("f", data[10 + length:])
    assert len(values) == rows * columns, (len(values), rows, columns)
    return [values[i * columns:(i + 1) * columns] for i in range(rows)], (rows, columns)


def likelihood(rows, ids):
    total = 0.0
    for row, following in zip(rows, ids[1:]):
        top = max(row)
        total += top + math.log(sum(math.exp(x - top) for x in row)) - row[following]
    return total / (len(ids) - 1)


class Eval(Case):
    IDS = [5, 9, 100, 7, 263, 44, 44, 44, 2, 0, 81]

    def test_ids_and_logits(self):
        file = self.write("ids", " ".join(map(str, self.IDS)) + "\n")
        told = self.ok("eval", small_gguf(), "--ids", file, "--logits", self.path("out.npy"), "--json").json()
        self.assertTrue({"tokens", "nll", "perplexity"} <= set(told), told)
        self.assertEqual(told["tokens"], len(self.IDS))
        rows, shape = read_npy(self.path("out.npy"))
        self.assertEqual(shape, (len(self.IDS), small_model.VOCABULARY))
        self.assertAlmostEqual(told["nll"], likelihood(rows, self.IDS), places=5)
        self.assertAlmostEqual(told["perplexity"], math.exp(told["nll"]), places=4)
        plain = self.ok("eval", small_gguf(), "--ids", file)
        self.assertEqual(plain.out, f"tokens {len(self.IDS)}  nll {told['nll']:.6f}  perplexity {told['perplexity']:.4f}\n")
        self.assertRegex(plain.err, r"^placed ")
        self.assertEqual(self.ok("eval", small_gguf(), "--ids", file, "--quiet").err, "")
        self.assertEqual(self.ok("eval", small_gguf(), "--ids", "-", "--json", stdin="\n".join(map(str, self.IDS))).json()["nll"], told["nll"])

    def test_more_tokens_than_one_step(self):
        ids = [(i * 37 + 5) % small_model.VOCABULARY for i in range(250)]
        file = self.write("ids", "\n".join(map(str, ids)))
        told = self.ok("eval", small_gguf(), "--ids", file, "--logits", self.path("out.npy"), "--numerics", "strict", "--json").json()
        rows, shape = read_npy(self.path("out.npy"))
        self.assertEqual(shape, (250, small_model.VOCABULARY))
        self.assertAlmostEqual(told["nll"], likelihood(rows, ids), places=5)
        oracle = self.ok("eval", small_gguf(), "--ids", file, "--chip", "reference", "--json").json()
        self.assertAlmostEqual(told["nll"], oracle["nll"], places=4)

    def test_text_is_tokenized_as_tokenize_does(self):
        text = self.write("text", "hello world, he said")
        ids = self.ok("tokenize", small_gguf(), "--file", text, "--json").json()["ids"]
        file = self.write("ids", " ".join(map(str, ids)))
        self.assertEqual(self.ok("eval", small_gguf(), "--text", text, "--json").json()["nll"],
                         self.ok("eval", small_gguf(), "--ids", file, "--json").json()["nll"])
        self.assertEqual(self.ok("eval", small_gguf(), "--text", "-", "--json", stdin="hello world, he said").json()["tokens"], len(ids))

    def test_one_token_has_no_likelihood(self):
        told = self.ok("eval", small_gguf(), "--ids", self.write("ids", "3"), "--json").json()
        self.assertEqual((told["tokens"], told["nll"], told["perplexity"]), (1, 0, 1))

    def test_needs_no_tokenizer(self):
        folder = small_model.write_folder(self.path("bare"), leave_out=("tokenizer.json", "tokenizer_config.json"))
        file = self.write("ids", " ".join(map(str, self.IDS)))
        self.assertEqual(self.ok("eval", folder, "--ids", file, "--json").json()["tokens"], len(self.IDS))
        self.fails(3, ["tokenizer"], "run", folder, "-p", "x")
        self.fails(3, ["tokenizer"], "eval", folder, "--text", file)
        for stage in ("file", "tensors", "graph", "passes", "plan"):
            self.ok("show", stage, folder)
        shutil.rmtree(folder)

    def test_wrong_ids(self):
        for text, words in (("", "at least one token"), ("1 2 -3", "offset 4"), ("1 2 x", "'x'"), (str(small_model.VOCABULARY), "0 to"),
                            ("1 " * 257, "257 tokens do not fit"), ("4294967296", "expected token ids")):
            with self.subTest(text[:20]):
                self.fails(3, words, "eval", small_gguf(), "--ids", self.write("ids", text))
        self.fails(3, "[file] cannot open", "eval", small_gguf(), "--ids", self.path("missing"))
        self.fails(3, ["/nowhere/out.npy", "cannot write"], "eval", small_gguf(), "--ids", self.write("ids", "1 2"), "--logits", "/nowhere/out.npy")
