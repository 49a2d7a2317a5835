"""What strangers' files and prompts may do: exit 3 (or 5) with the address, never a signal, never a hang."""
import json
import os
import random
import shutil
import struct

import harness
import small_model
from harness import Case, busbar, fetched, small_folder, small_gguf


class Missing(Case):
    def test_no_such_model(self):
        for command in (["run", "-p", "x"], ["tokenize", "x"], ["eval", "--ids", "/dev/null"], ["show", "file"], ["show", "plan"], ["bench"]):
            where = 2 if command[0] == "show" else 1
            self.fails(3, [self.path("gone.gguf"), "found nothing of that name"], *command[:where], self.path("gone.gguf"), *command[where:])

    def test_folders_without_what_they_need(self):
        os.mkdir(self.path("empty"))
        self.fails(3, ["empty", "no config.json"], "run", self.path("empty"), "-p", "x")
        bare = small_model.write_folder(self.path("bare"), leave_out=("model.safetensors",))
        self.fails(3, [bare, "safetensors"], "run", bare, "-p", "x")
        self.fails(3, "regular file", "run", "/dev/null", "-p", "x")
        self.fails(3, ["small.json", "GGUF"], "run", self.write("small.json", "{}"), "-p", "x")

    def test_missing_prompt_files(self):
        for flag in ("--messages", "--chat-template-file"):
            self.fails(3, [self.path("gone"), "[file] cannot open"], "run", small_gguf(), flag, self.path("gone"), *(["-p", "x"] if "chat" in flag else []))
        self.fails(3, [self.path("gone"), "cannot open"], "tokenize", small_gguf(), "--file", self.path("gone"))
        self.fails(3, [self.folder, "cannot read"], "tokenize", small_gguf(), "--file", self.folder)

    def test_a_shard_is_missing(self):
        folder = fetched("BUSBAR_TINY_MODELS")
        for name in os.listdir(folder):
            if name.startswith("llama_split-00001") or name.startswith("llama_split-00003"):
                shutil.copy(os.path.join(folder, name), self.path(name))
        self.fails(3, "00002-of-00003.gguf", "show", "plan", self.path("llama_split-00001-of-00003.gguf"))
        shutil.copytree(os.path.join(folder, "mistral_sharded"), self.path("sharded"))
        shard = sorted(name for name in os.listdir(self.path("sharded")) if name.endswith(".safetensors"))[0]
        os.unlink(os.path.join(self.path("sharded"), shard))
        self.fails(3, shard, "show", "plan", self.path("sharded"))


class Models(Case):
    """A model that says something wrong is refused with the place and what was expected."""

    def gguf(self, change, words, code=3):
        path = small_model.write_gguf(self.path("bad.gguf"), change)
        return self.fails(code, ["bad.gguf", *words], "run", path, "-p", "x")

    def hub(self, change, words):
        shutil.rmtree(self.path("bad"), ignore_errors=True)
        path = small_model.write_folder(self.path("bad"), change)
        return self.fails(3, [path, *words], "run", path, "-p", "x")

    def test_architecture(self):
        def change(meta, _):
            meta["general.architecture"] = ("string", "mamba")
        self.gguf(change, ["'mamba'", "Known: llama, mistral, qwen2, qwen3"])
        def field(config, _):
            config["model_type"] = "mamba"
        self.hub(field, ["'mamba'", "Known: llama, mistral, qwen2, qwen3"])
        def none(config, _):
            del config["model_type"]
        self.hub(none, ["model_type"])

    def test_fields_that_change_the_result(self):
        for field, value in (("logit_scale", 0.5), ("final_logit_softcapping", 30.0), ("hidden_act", "relu"), ("quantization_config", {"bits": 4}),
                             ("rope_scaling", {"rope_type": "ntk", "factor": 2.0}), ("residual_multiplier", 2.0)):
            with self.subTest(field):
                def change(config, _, field=field, value=value):
                    config[field] = value
                self.hub(change, [field if field != "rope_scaling" else "'ntk'"])
        def unknown(meta, _):
            meta["llama.rope.scaling.type"] = ("string", "ntk")
        self.gguf(unknown, ["llama.rope.scaling.type", "'ntk'"])

    def test_numbers_that_make_no_sense(self):
        for field, value in (("num_hidden_layers", 0), ("num_attention_heads", 3), ("hidden_size", -32), ("num_hidden_layers", 10 ** 12),
                             ("num_key_value_heads", 0), ("rms_norm_eps", 0), ("rms_norm_eps", "small"), ("vocab_size", 2 ** 62),
                             ("head_dim", 7), ("num_hidden_layers", 1.5), ("intermediate_size", None), ("max_position_embeddings", 0)):
            with self.subTest(f"{field}={value}"):
                def change(config, _, field=field, value=value):
                    config[field] = value
                self.hub(change, [])

    def test_tensors(self):
        def lost(_, tensors):
            tensors.pop(4)
        self.gguf(lost, ["blk.0.attn_q.weight"])
        self.hub(lost, ["model.layers.0.self_attn.q_proj.weight"])
        def more(_, tensors):
            tensors.append(["blk.0.attn_sinks", "model.layers.0.self_attn.sinks", [4], b"\0" * 16])
        self.gguf(more, ["blk.0.attn_sinks"])
        self.hub(more, ["self_attn.sinks"])
        def turned(_, tensors):
            tensors[5][2] = tensors[5][2][::-1]
        self.gguf(turned, ["blk.0.attn_k.weight", "expected shape [16, 32]", "[32, 16]"])
        self.hub(turned, ["self_attn.k_proj.weight", "expected shape [16, 32]", "[32, 16]"])
        def short(_, tensors):
            tensors[-1][3] = tensors[-1][3][:-64]
        self.gguf(short, ["ffn_down.weight"])
        self.hub(short, [])

    def test_a_tokenizer_of_another_model(self):
        extra = 64
        def larger(meta, _):
            meta["tokenizer.ggml.tokens"] = ("array", ("string", small_model.TOKENS + [f"more{i}" for i in range(extra)]))
            meta["tokenizer.ggml.token_type"] = ("array", ("i32", meta["tokenizer.ggml.token_type"][1][1] + [1] * extra))
        words = ["tokenizer", f"at most {small_model.VOCABULARY}", str(small_model.VOCABULARY + extra)]
        self.gguf(larger, words)
        path = small_model.write_folder(self.path("other"), leave_out=("tokenizer.json",))
        other = small_model.tokenizer()
        other["model"]["vocab"].update({f"more{i}": small_model.VOCABULARY + i for i in range(extra)})
        with open(os.path.join(path, "tokenizer.json"), "w", encoding="utf-8") as file:
            json.dump(other, file)
        self.fails(3, [path, *words], "run", path, "-p", "x")
        self.fails(3, [path, *words], "eval", path, "--text", self.write("t", "x"))
        self.ok("eval", path, "--ids", self.write("i", "1 2 3"))

    def test_a_smaller_tokenizer_leaves_padding_unused(self):
        def padded(_, tensors):
            for tensor in tensors:
                if tensor[0] in ("token_embd", "output"):
                    tensor[2][0] += 30
                    tensor[3] += struct.pack("<f", 100.0) * (30 * small_model.WIDTH)
        told = self.ok("run", small_model.write_gguf(self.path("padded.gguf"), padded), "-p", "x", "-n", "30", "--json").json()
        self.assertLess(max(told["tokens"]), small_model.VOCABULARY)

    def test_tokenizers(self):
        for key, value, word in (("tokenizer.ggml.model", ("string", "unigram9"), "unigram9"), ("tokenizer.ggml.pre", ("string", "new-pre"), "new-pre"),
                                 ("tokenizer.ggml.pre", None, "tokenizer.ggml.pre"), ("tokenizer.ggml.tokens", None, "tokenizer.ggml.tokens"),
                                 ("tokenizer.ggml.eos_token_id", ("u32", 99999), "99999")):
            with self.subTest(key=key, value=value):
                def change(meta, _, key=key, value=value):
                    if value is None:
                        del meta[key]
                    else:
                        meta[key] = value
                self.gguf(change, [word])

    def test_json_files(self):
        for name in ("config.json", "tokenizer.json", "generation_config.json", "model.safetensors.index.json"):
            for text in ("", "{", "[" * 100000, '{"a": ' * 5000 + "1" + "}" * 5000, "\xff\xfe", '{"model_type": "llama", "a": 1e999}', "null", "[]", '"x"'):
                with self.subTest(name=name, text=text[:20]):
                    path = self.path("json")
                    shutil.rmtree(path, ignore_errors=True)
                    leave = ("model.safetensors",) if "index" in name else ()
                    small_model.write_folder(path, leave_out=leave)
                    with open(os.path.join(path, name), "w", encoding="latin-1") as file:
                        file.write(text)
                    result = busbar("run", path, "-p", "x", "-n", "1")
                    allowed = (0, 3) if name == "generation_config.json" else (3,)
                    self.assertIn(result.code, allowed, result)
                    if result.code:
                        self.assertIn(path, result.err, result)


class Prompts(Case):
    def test_empty(self):
        for arguments, stdin in ((["-p", ""], ""), (["-p", "-"], ""), ([], ""), (["--raw"], "")):
            self.fails(3, "empty prompt", "run", small_gguf(), *arguments, stdin=stdin)

    def test_longer_than_the_context(self):
        self.fails(3, ["prompt", "tokens", "the context holds 256", "--context "], "run", small_gguf(), "-p", "x y " * 300)
        self.fails(3, ["the context holds 64", "--context "], "run", small_gguf(), "-p", "x y " * 40, "--context", "64")
        self.ok("run", small_gguf(), "-p", "x y " * 40, "--context", "512", "-n", "1")

    def test_invalid_utf8(self):
        for text in (b"\xff", b"abc\xc3", b"\xed\xa0\x80", b"a\x80b"):
            self.fails(3, "expected UTF-8", "run", small_gguf(), "-p", "-", stdin=text)
            self.fails(3, "expected UTF-8", "tokenize", small_gguf(), text)
            self.fails(3, "expected UTF-8", "run", small_gguf(), "--raw", stdin=text)

    def test_zero_bytes_and_odd_characters(self):
        for text in (b"\0", b"a\0b", "\u202e\u200d\U0010ffff".encode(), b"\x1b[31mred", b"\r\n\t"):
            self.ok("run", small_gguf(), "-p", "-", "-n", "1", stdin=text)

    def test_messages(self):
        for text, words in (("", []), ("{", []), ("[1]", []), ("{}", ["messages"]), ('{"messages": 3}', ["messages"]), ("3", []),
                            ('[{"content": "x"}]', []), ('[{"role": 5, "content": "x"}]', []), ("[" * 10000, []), ('[{"role": "user"}]', [])):
            with self.subTest(text[:30]):
                file = self.write("m.json", text)
                self.fails(3, words, "run", small_gguf(), "--messages", file)
        self.fails(3, "no tools here", "run", small_gguf(), "--messages", self.write("m.json", '[{"role": "tool", "content": "x"}]'))
        self.fails(3, "no tools here", "tokenize", small_gguf(), "--messages", "-", stdin='[{"role": "tool", "content": "x"}]')

    def test_templates(self):
        for text in ("{% for", "{{ x() }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ 'x' * 10**12 }}", "{{ messages[99].content }}",
                     "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ raise_exception('told you') }}", "{" * 100000, "{{" + "(" * 50000):
            with self.subTest(text[:40]):
                file = self.write("t.jinja", text)
                result = busbar("run", small_gguf(), "-p", "x", "-n", "1", "--chat-template-file", file, timeout=60)
                self.assertIn(result.code, (3, 0) if text.startswith(("{{{", "{{ messages")) else (3,), result)
                if "told you" in text:
                    self.assertIn("told you", result.err)
                if result.code == 3 and "raise" not in text:
                    self.assertIn("t.jinja", result.err, result)

    def test_no_template(self):
        def none(meta, _):
            del meta["tokenizer.chat_template"]
        path = small_model.write_gguf(self.path("base.gguf"), none)
        self.fails(3, ["base.gguf", "template", "--raw"], "run", path, "-p", "x")
        self.ok("run", path, "-p", "x", "--raw", "-n", "1")


class Damaged(Case):
    """Files cut anywhere and files with flipped bits, in parts that a seed names."""

    def check(self, path, what, deep):
        for command in ((["run", path, "-p", "hello", "-n", "2"],) if deep else ()) + (["show", "tensors", path],):
            result = busbar(*command, timeout=60)
            self.assertIn(result.code, (0, 3, 5), f"{what}\n{result}")
            if result.code:
                self.assertIn(self.folder, result.err, f"{what}\n{result}")
        return result.code

    def test_gguf_cut(self):
        data, head = small_model.gguf_bytes()
        source = random.Random(harness.SEED)
        for size in [0, 1, 4, 8, 23, 24, head - 1, head, head + 1, len(data) - 1] + [source.randrange(len(data)) for _ in range(100 if harness.MORE else 10)]:
            path = self.write("cut.gguf", data[:size])
            self.fails(3, ["cut.gguf"], "run", path, "-p", "x")

    def test_safetensors_cut(self):
        path = small_model.write_folder(self.path("cut"))
        file = os.path.join(path, "model.safetensors")
        with open(file, "rb") as opened:
            data = opened.read()
        head = 8 + struct.unpack("<Q", data[:8])[0]
        source = random.Random(harness.SEED)
        for size in [0, 1, 7, 8, head - 1, head, len(data) - 1] + [source.randrange(len(data)) for _ in range(100 if harness.MORE else 10)]:
            with open(file, "wb") as opened:
                opened.write(data[:size])
            self.fails(3, ["model.safetensors"], "run", path, "-p", "x")

    def flips(self, data, head, write):
        source = random.Random(harness.SEED)
        codes = []
        for n in range(400 if harness.MORE else 60):
            changed = bytearray(data)
            places = [source.randrange(head if n % 4 else len(data)) for _ in range(source.choice((1, 1, 2, 8)))]
            for place in places:
                changed[place] ^= 1 << source.randrange(8)
            what = f"BUSBAR_SEED={harness.SEED}: flip {n} at {places}"
            codes.append(self.check(write(bytes(changed)), what, deep=True))
        return codes

    def test_gguf_flips(self):
        data, head = small_model.gguf_bytes()
        codes = self.flips(data, head, lambda changed: self.write("flip.gguf", changed))
        self.assertIn(3, codes, "some flip is found")

    def test_safetensors_flips(self):
        path = small_model.write_folder(self.path("flip"))
        file = os.path.join(path, "model.safetensors")
        with open(file, "rb") as opened:
            data = opened.read()

        def write(changed):
            with open(file, "wb") as opened:
                opened.write(changed)
            return path
        codes = self.flips(data, 8 + struct.unpack("<Q", data[:8])[0], write)
        self.assertIn(3, codes, "some flip is found")

    def test_json_flips(self):
        path = small_model.write_folder(self.path("flip"))
        source = random.Random(harness.SEED)
        for name in ("config.json", "tokenizer.json"):
            file = os.path.join(path, name)
            with open(file, "rb") as opened:
                data = opened.read()
            for n in range(200 if harness.MORE else 25):
                changed = bytearray(data)
                for _ in range(source.choice((1, 2, 5))):
                    changed[source.randrange(len(data))] = source.randrange(256)
                with open(file, "wb") as opened:
                    opened.write(changed)
                self.check(path, f"BUSBAR_SEED={harness.SEED}: {name} {n}", deep=True)
            with open(file, "wb") as opened:
                opened.write(data)
        self.ok("run", path, "-p", "x", "-n", "1")


class FoldersOfOthers(Case):
    def test_read_only_working_folder(self):
        os.mkdir(self.path("locked"))
        os.chmod(self.path("locked"), 0o500)
        self.ok("run", small_gguf(), "-p", "x", "-n", "1", cwd=self.path("locked"))
        self.ok("run", small_folder(), "-p", "x", "-n", "1", cwd="/proc")
