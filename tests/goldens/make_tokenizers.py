#!/usr/bin/env python3
"""Trains small tokenizers of every form that tokenizer.json files take and writes them with the ids that the Python package
`tokenizers` gives for edge-case and random texts: tests/goldens/tokenizers/NAME.json. Deterministic.

    pip install tokenizers
    python3 tests/goldens/make_tokenizers.py [FOLDER]
"""
import json
import os
import random
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's what they've said: we'll see, I'm sure you'd agree, they're here.",
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by words but not",
    "def main(argc, argv):\n    for i in range(10):\n        print(i * 2, end=' ')\n    return 0\n\n\tif x == 0x1F: y += 3.14159",
    "Größe, naïve café, über, Straße, façade, Ærø, smørrebrød, coöperate, Dvořák, Ångström, élève, Übergrößenträger",
    "Привет, как дела? Москва и Санкт-Петербург. Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "中文分词测试:今天天气很好,我们去公园散步吧。日本語のテキストも、ひらがなとカタカナがあります。한국어 문장도 있습니다.",
    "नमस्ते दुनिया, हिन्दी में पाठ। สวัสดีชาวโลก ภาษาไทยไม่มีวรรค مرحبا بالعالم שלום עולם",
    "😀😃🚀👩‍👩‍👧‍👦👍🏽 1234567890 2024-01-31 12:34:56 $1,234.50 50% a@b.com https://example.org/path?q=1&r=2#top ½ ² ⅷ ٣",
    "don't DON'T Don'T it's IT'S we'Ve CamelCaseWords HTTPServer snake_case_words kebab-case-words iPhone McDonald ALLCAPS",
]
SCRIPTS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "0123456789²½ⅷ٣४Ⅻ①", " ", "      \t\n\r", "  \n\n\r\n",
    "\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u0085\u180e\u200b\u200d\ufeff", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "'''sStTrReEvVmMlLdD\u017f",
    "éèàçßñøåÄÖÜİıǅſ", "\u0301\u0300\u0308\u0327\u0903\u094d\u20dd", "абвгдежзАБВГДЕЖЗёЁ", "αβγδΑΒΓΔςσΣ", "中文汉字漢字龥龦一丁",
    "ひらがなカタカナー゠ヿ\u3040", "한국어가각힣", "नमस्तेहिन्दी", "สวัสดี", "مرحبا", "שלום", "😀🚀👍🏽\u200d👩👧❤️", "\x00\x01\x1f\x7f\x80\x9f",
    "\u2160\u24b6\u203f_", "€£¥¢§©®™±×÷", "。、「」!?", "ﬁﬀ①②㎏Ａｂｃ", "\u0958\u212b\u1e9b\u0344", "\u2581", "<0x0A>", "\ue000\U000f0000\U0001d400\U00020000",
]
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS_A, LETTERS_B = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}"


def mixed_case(after, exclude=""):
    a, b = LETTERS_A + exclude + "]", LETTERS_B + exclude + "]"
    head = r"[^\r\n\p{L}\p{N}]?"
    return f"{head}{a}*{b}+{after}|{head}{a}+{b}*{after}"


PATTERNS = {
    "llama3": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL],
    "qwen2": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL],
    "qwen35": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + TAIL],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
                    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
                    r"| ?[\p{P}\p{S}]+[\r\n]*|" + TAIL],
    "gpt-4o": [mixed_case(CONTRACTIONS + "?") + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL],
    "tekken": [mixed_case("") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL],
    "cl100k": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "seed-coder": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + TAIL],
    # Not a GGUF row, but what files hold: class intersections, and {1,3}+, which Ruby repeats and PCRE takes as possessive.
    "intersections": [r"[\p{Han}]+|" + mixed_case(CONTRACTIONS + "?", r"&&[^\p{Han}]") +
                      r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL],
    "repeats": [r"\p{N}{1,3}+|[^\W\d_]{2}?|\h+|\w+|[[:punct:]]+|\b|\S"],
}


def byte_level(patterns, normalizer=None, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), **model):
    t = Tokenizer(models.BPE(**model))
    if normalizer:
        t.normalizer = normalizer
    if isinstance(patterns, list):
        steps = [pre.Split(Regex(p), "isolated") for p in patterns] + [pre.ByteLevel(add_prefix_space=False, use_regex=False)]
        t.pre_tokenizer = pre.Sequence(steps) if len(steps) > 1 else steps[0]
    else:
        t.pre_tokenizer = patterns
    t.decoder = decoders.ByteLevel()
    train(t, special, alphabet=pre.ByteLevel.alphabet())
    return t


def train(t, special=(), alphabet=(), size=480, **more):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), initial_alphabet=sorted(alphabet),
                                  show_progress=False, **more)
    t.train_from_iterator(CORPUS, trainer)


def sentencepiece(normalizer, pre_tokenizer, decoder, template=True, **model):
    t = Tokenizer(models.BPE(unk_token="<unk>", **model))
    t.normalizer = normalizer
    if pre_tokenizer:
        t.pre_tokenizer = pre_tokenizer
    t.decoder = decoder
    # Trained with the words cut apart, as SentencePiece does; used without.
    use, t.pre_tokenizer = t.pre_tokenizer, pre.Metaspace(prepend_scheme="always", split=True)
    train(t, ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)], size=620, limit_alphabet=120)
    text = json.loads(t.to_str())
    text["pre_tokenizer"] = json.loads(use.__getstate__()) if use else None
    for token in text["added_tokens"]:
        token["special"] = not token["content"].startswith("<0x")
    text["added_tokens"] = [a for a in text["added_tokens"] if a["special"]]
    t = Tokenizer.from_str(json.dumps(text))
    if template:
        t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t


def llama2_decoder():
    return decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def words(pre_tokenizer, normalizer=None, decoder=None, special=("<unk>", "[CLS]", "[SEP]"), **more):
    t = Tokenizer(models.BPE(unk_token="<unk>", **more.pop("model", {})))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizer
    if decoder:
        t.decoder = decoder
    train(t, special, size=330, limit_alphabet=110, **more)
    return t


def configurations():
    gpt2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    yield "gpt2", byte_level(gpt2)
    yield "smollm", byte_level(pre.Sequence([pre.Digits(individual_digits=True), gpt2]))
    for name, patterns in PATTERNS.items():
        normalizer = normalizers.NFC() if name in ("qwen2", "qwen35") else None
        t = byte_level(patterns, normalizer, **({"ignore_merges": True} if name == "llama3" else {}))
        if name == "llama3":
            t.post_processor = processors.Sequence([
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])])
        yield name, t

    t = byte_level(pre.Sequence([pre.Punctuation("contiguous"), gpt2, pre.Split(Regex("[0-9][0-9][0-9]"), "isolated")]))
    yield "falcon", t
    t = byte_level(pre.ByteLevel(add_prefix_space=True, use_regex=True), special=["<s>", "</s>", "<mask>"])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    yield "roberta", t
    t = byte_level(gpt2, normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]))
    t.add_tokens([AddedToken("Word", single_word=True, normalized=True), AddedToken("left", lstrip=True, normalized=False),
                  AddedToken("right", rstrip=True, normalized=False), AddedToken("both", lstrip=True, rstrip=True),
                  AddedToken("bothers", normalized=True), AddedToken("  ", normalized=False), AddedToken("É", normalized=True),
                  AddedToken("<think>", normalized=False), AddedToken("<|im_", normalized=False)])
    t.add_special_tokens([AddedToken("[SPECIAL]", single_word=True, normalized=False)])
    yield "added", t

    prepend = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    yield "llama2", sentencepiece(prepend, None, llama2_decoder(), byte_fallback=True, fuse_unk=True)
    yield "metaspace-first", sentencepiece(None, pre.Metaspace(prepend_scheme="first", split=False),
                                           decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"),
                                                              decoders.Fuse()]), byte_fallback=True)
    yield "metaspace-always", sentencepiece(None, pre.Metaspace(prepend_scheme="always", split=True), decoders.Metaspace(), fuse_unk=True)
    yield "metaspace-never", sentencepiece(None, pre.Metaspace(prepend_scheme="never", split=True),
                                           decoders.Metaspace(prepend_scheme="never"), template=False)
    yield "gemma", sentencepiece(normalizers.Replace(" ", "\u2581"), pre.Split(" ", "merged_with_previous"),
                                 decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]),
                                 byte_fallback=True, fuse_unk=True)

    t = words(pre.BertPreTokenizer(), normalizers.BertNormalizer(), decoders.WordPiece(), continuing_subword_prefix="##",
              model={"continuing_subword_prefix": "##"})
    t.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    yield "bert-pieces", t
    yield "word-suffix", words(pre.Whitespace(), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
                               decoders.BPEDecoder(suffix="</w>"), end_of_word_suffix="</w>", model={"end_of_word_suffix": "</w>"})
    yield "accents", words(pre.WhitespaceSplit(), normalizers.Sequence([
        normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip(True, True), normalizers.Replace(Regex("[aeiou]{2}"), "_")]))
    yield "nfd-digits", words(pre.Sequence([pre.Digits(individual_digits=False), pre.Punctuation("merged_with_previous")]),
                              normalizers.Sequence([normalizers.NFD(), normalizers.Strip(False, True)]), model={"fuse_unk": True})
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        for invert in [False, True]:
            yield f"split-{behavior}{'-invert' if invert else ''}", words(pre.Sequence([
                pre.Split(Regex(r"\s|[a-e]"), behavior, invert), pre.Split(".", "merged_with_previous")]))
    yield "odd-splits", words(pre.Sequence([pre.CharDelimiterSplit("e"), pre.Split("a+", "removed"), pre.FixedLength(length=3)]))


EDGES = ["", " ", "\n", "  ", " \n ", "a", "é", "Hello world", "Hello  world", " Hello", "Hello ", "\tHello\n\n\nworld  \n", "don't it'S we'LL I\u2019m 'tis",
         "it'\u017f '\u017f", "1234567 12 1 3.14159 ²³", "x" * 100, "ab" * 40, " " * 40 + "x", "!!!???...", "中文字符 mixed with english", "a\u0301\u0327 e\u0301",
         "👩‍👩‍👧‍👦 family", "<|im_start|>user\nhi<|im_end|>\n", "<s>text</s> <unk>", "<mask> a  <mask>  b", "Word words Word. LEFT left  left right  x both  y bothers",
         "[SPECIAL] x[SPECIAL] [SPECIAL]y", "<think>ok</think>", "\r\n\r\nx\r", "\u2581a \u2581\u2581", "<0x0A><0x41>", "a\x00b", "\u3000全角\u3000", "E\u0301 É é", "ſ ﬁ ①"]


def random_text(rng):
    out = []
    for _ in range(rng.randint(1, 12)):
        chars = rng.choice(SCRIPTS)
        out.append("".join(rng.choice(chars) for _ in range(rng.randint(1, 5))))
    if rng.random() < 0.15:
        out.insert(rng.randint(0, len(out)), rng.choice(["<|im_end|>", "<s>", "</s>", "<mask>", "[SPECIAL]", "Word", "both", "left", "right", "<think>"]))
    return "".join(out)


def case(t, text, added):
    ids = t.encode(text, add_special_tokens=True).ids
    plain = t.encode(text, add_special_tokens=False).ids
    out = {"text": text, "ids": ids}
    # The package prints an added token that is sought in the normalised text as normalised; Busbar prints it as the file writes it.
    if not any(t.id_to_token(i) != content for i, content in added.items() if i in ids):
        out["shown"] = t.decode(ids, skip_special_tokens=False)
        out["decoded"] = t.decode(ids, skip_special_tokens=True)
    if plain != ids:
        out["plain"] = plain
    return out


def shrink(spec):
    """The same structure over a dozen tokens: a seed for the fuzzer (tests/fuzz/tokenizer_json.cc)."""
    spec = json.loads(json.dumps(spec))
    vocab = {"a": 0, "b": 1, "ab": 2, " ": 3, "\u0120": 4, "\u2581": 5, "l": 6, "ll": 7, "<0xE4>": 8, "\u0120a": 9, "1": 10, "<unk>": 11}
    for token in spec["added_tokens"]:
        token["id"] = vocab.setdefault(token["content"], len(vocab))
    post = spec["post_processor"]
    for key in ("sep", "cls"):
        if post and key in post:
            post[key][1] = vocab[post[key][0]]
    spec["model"]["vocab"] = vocab
    pair = spec["model"]["merges"] and isinstance(spec["model"]["merges"][0], str)
    spec["model"]["merges"] = [" ".join(m) if pair else m for m in (["a", "b"], ["l", "l"], ["\u0120", "a"])]
    spec["model"]["continuing_subword_prefix"] = None
    return spec


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
    os.makedirs(folder, exist_ok=True)
    for name, t in configurations():
        rng = random.Random(name)
        texts = EDGES + [random_text(rng) for _ in range(25)]
        spec = json.loads(t.to_str())
        if name == "gpt2":   # the older spelling of merges
            spec["model"]["merges"] = [" ".join(m) for m in spec["model"]["merges"]]
            assert Tokenizer.from_str(json.dumps(spec)).encode(EDGES[10]).ids == t.encode(EDGES[10]).ids
        added = {a["id"]: a["content"] for a in spec["added_tokens"]}
        seeds = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz", "corpus", "tokenizer_json")
        if len(sys.argv) <= 1:
            os.makedirs(seeds, exist_ok=True)
            with open(os.path.join(seeds, name), "w", encoding="utf-8") as f:
                json.dump(shrink(spec), f, ensure_ascii=False, separators=(",", ":"))
        lines = ",\n".join(json.dumps(case(t, text, added), ensure_ascii=False, separators=(",", ":")) for text in texts)
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as f:
            f.write('{"made_by":"make_tokenizers.py","versions":{"tokenizers":"%s"},\n"tokenizer":%s,\n"cases":[\n%s\n]}\n' %
                    (tokenizers.__version__, json.dumps(spec, ensure_ascii=False, separators=(",", ":")), lines))


if __name__ == "__main__":
    main()
