#!/usr/bin/env python3
"""Checks the rules that keep the tree as it was designed. The first part of ./test.

usage: check.py [--root FOLDER] [--report FILE] [--self-test]
Prints PATH:LINE: [rule] what, for each finding; then one line for each rule. Exit: 0 all rules hold, 1 not.
--self-test plants each kind of finding in a small tree and sees that it is found (self_test.py).
The few exceptions stand in exceptions.txt, each with its reason; one that is no longer needed is a finding too.
"""
import argparse
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import source  # noqa: E402

# Rooms, and what each may include besides itself: what stands to its left in the river.
LEFT = {
    "base": "", "dtype": "base", "ops": "base dtype", "graph": "base dtype ops", "device": "base dtype ops",
    "import": "base dtype ops graph", "passes": "base dtype ops graph device",
    "plan": "base dtype ops graph device import passes",
    "run": "base dtype ops graph device import plan",  # never passes: what runs was decided before
    "agree": "base dtype ops graph device import passes plan run",
    "llm": "base dtype ops graph device import passes plan run agree",
    "serve": "base dtype ops graph device import passes plan run agree llm",
}
LEFT = {room: set(left.split()) for room, left in LEFT.items()}
CHIP_SEES = {"base", "dtype", "ops", "device"}
TEMPLATE_SEES = {"base"}  # chat templates are text: they know nothing of models
REGISTRY = ("src/chips/registry.cc", "src/chips/registry.h", "src/chips/registry_test.cc")

# Every folder or file that reads a stranger's bytes, and the fuzz target that feeds it.
PARSERS = {
    "src/import/gguf/": "gguf", "src/import/safetensors/": "safetensors", "src/import/json.": "json_config",
    "src/import/config": "json_config", "src/llm/tokenizer/": "tokenizer_json", "src/llm/template/": "template",
    "src/serve/request/": "serve_request",
}
NO_PARSERS = ("src/import/arch/",)  # these see fields that a reader has checked

# Words that belong to one chip, and the folder (under src/chips/) in which they may stand.
CHIP_WORDS = {
    "opencl": "opencl", "cuda": "cuda", "nvidia": "cuda", "ptx": "cuda", "rocm": "rocm", "ascend": "ascend", "vulkan": "vulkan",
    "sycl": "sycl", "musa": "musa", "cambricon": "cambricon",
    **{word: "cpu" for word in ("sse2", "sse4", "avx", "avx2", "avx512", "amx", "vnni", "avx512f", "avx512bw", "avx512vl", "_mm", "_mm256", "_mm512",
                                "immintrin", "neon", "sve")},
}

SOURCE_LINES, FUNCTION_LINES = 600, 150
BINARY_BYTES, TEXT_BYTES = 200_000, 2_000_000


class Tree:
    def __init__(self, root):
        self.root, self.names, self.texts = root, source.files_of(root), {}

    def text(self, name):
        if name not in self.texts:
            with open(os.path.join(self.root, name), encoding="utf-8", errors="replace") as file:
                self.texts[name] = file.read()
        return self.texts[name]

    def cpp(self, *folders):
        return [n for n in self.names if n.endswith(source.CPP) and n.startswith(folders or ("src/", "include/", "tools/", "tests/", "bench/", "lab/"))]

    def exists(self, name):
        return name in self.names


def is_test(name):
    return name.endswith("_test.cc") or name.startswith("tests/")


def room_of(name):
    """'base', 'chips/cpu', 'tools' ... of a path in the tree; None where no rule of rooms holds."""
    parts = name.split("/")
    if name in REGISTRY:
        return "registry"
    if parts[0] == "src" and len(parts) > 2:
        return "/".join(parts[1:3]) if parts[1] == "chips" else parts[1]
    return parts[0] if parts[0] in ("tools", "tests", "include", "bench", "lab", "examples") else None


def may_include(name, room, other, target):
    if room in ("tests", "bench", "lab", "examples") or other == room:
        return True
    if room in ("tools", "api"):  # the two ends that people hold: the command and the C++ API
        return not other.startswith("chips/")
    if other == "tools" or other == "registry":
        return room == "registry"
    if room == "registry":
        return other.startswith("chips/") or other in CHIP_SEES
    if room.startswith("chips/"):
        return other in CHIP_SEES
    if name.startswith("src/llm/template/"):
        return other in TEMPLATE_SEES
    return other in LEFT.get(room, set())


def check_includes(tree):
    for name in tree.cpp():
        room = room_of(name)
        if room is None:
            yield name, 1, "stands in no room (see docs: the rooms)"
            continue
        if room.startswith("chips/") is False and name.startswith("src/") and room not in LEFT and room not in ("registry", "api"):
            yield name, 1, f"'{room}' is no room"
            continue
        text = source.without_comments(tree.text(name))
        for match in re.finditer(r'(?m)^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', text):
            line, quote, target = source.line_of(text, match.start()), match.group(1), match.group(2)
            if "../" in target:
                yield name, line, f"includes {target}: name files from src/ on"
            if room == "include":
                if quote == '"' and not tree.exists("include/" + target):
                    yield name, line, f"a public header may include standard and public headers only, not {target}"
                continue
            inside = "src/" + target
            if quote == "<" or not tree.exists(inside):
                continue  # a library's header, a public one, or one beside the file: that is the same room
            if name.startswith("src/llm/template/") and inside.startswith("src/llm/") and not inside.startswith("src/llm/template/"):
                yield name, line, f"the template knows text only and may not include {target}"
            elif not may_include(name, room, room_of(inside), target):
                yield name, line, f"{room} may not include {room_of(inside)} ({target}): it stands to the right of it"


def check_sizes(tree):
    for name in tree.names:
        if not name.endswith(source.CPP + (".py", ".sh", ".cmake", "CMakeLists.txt")) and "." in os.path.basename(name):
            continue
        if name == "LICENSE":
            continue
        text = tree.text(name)
        lines = text.count("\n")
        if lines > SOURCE_LINES:
            yield name, lines, f"has {lines} lines, {SOURCE_LINES} are the limit: split it by op or by stage"
        functions = []
        if name.endswith(source.CPP):
            functions = source.cpp_functions(text)
        elif name.endswith(".py"):
            try:
                functions = source.python_functions(text)
            except SyntaxError as error:
                yield name, error.lineno or 1, f"is no Python: {error.msg}"
                continue
        for function, line, length in functions:
            if length > FUNCTION_LINES:
                yield name, line, f"{function} has {length} lines, {FUNCTION_LINES} are the limit"


def check_ops(tree):
    """Every op row: a line of documentation, an oracle kernel and a conformance case. Rows are `const OpRow op_x = {"x", "line", ...`."""
    def mentions(folder, pattern):
        return any(re.search(pattern, source.without_comments(tree.text(n))) for n in tree.cpp(folder))
    # A core op's row holds its plain definition, `evaluate...`, which the reference chip runs as it is.
    runs_definitions = mentions("src/chips/reference/", r"\bevaluate\(")
    for name in tree.cpp("src/ops/"):
        text = source.without_comments(tree.text(name))
        for match in re.finditer(r'(?m)^(?:inline )?(?:const|constexpr) OpRow op_(\w+)\s*=\s*', text):
            op, line = match.group(1), source.line_of(text, match.start())
            row = text[match.end():].split("};", 1)[0]
            strings = re.findall(r'"((?:\\.|[^"\\])*)"', row)[:2]
            if not strings or strings[0] != op:
                yield name, line, f"op_{op} must begin with its name, \"{op}\""
            elif len(strings) < 2 or len(strings[1]) < 5:
                yield name, line, f"op_{op} has no line of documentation"
            defined = runs_definitions and re.search(r"\bevaluate\w*", row)
            if not defined and not mentions("src/chips/reference/", rf'"{op}"|\bop_{op}\b'):
                yield name, line, f"op {op} has no oracle kernel in src/chips/reference/"
            if not mentions("src/agree/conform/", rf'"{op}"|\bop_{op}\b'):
                yield name, line, f"op {op} has no case in src/agree/conform/"


def check_ends(tree):
    """Nothing of ours ends the process but base/check."""
    for name in tree.cpp("src/", "include/", "tools/"):
        if name in ("src/base/check.cc",) or is_test(name):
            continue
        code = source.blanked(tree.text(name))
        for match in re.finditer(r"(?<![\w.>])(abort|exit|_exit|_Exit|quick_exit|assert)\s*\(|\bstd::terminate\b|\b__builtin_trap\b", code):
            yield name, source.line_of(code, match.start()), f"{match.group().strip('( ')} ends the process: throw an Error, or use BUSBAR_CHECK"


def check_fuzz(tree):
    """Every parser of a stranger's bytes has a fuzz target."""
    missing = set()
    for name in tree.cpp("src/import/", "src/llm/tokenizer/", "src/llm/template/"):
        if is_test(name) or name.endswith(".h") or name.startswith(NO_PARSERS):
            continue
        target = next((t for prefix, t in PARSERS.items() if name.startswith(prefix)), None)
        if target and not tree.exists(f"tests/fuzz/{target}.cc") and target not in missing:
            missing.add(target)
            yield name, 1, f"has no fuzz target: tests/fuzz/{target}.cc is missing"
        elif target is None and name.count("/") > 2:
            yield name, 1, "is in a reader's folder that tests/rules/check.py does not know: add it to PARSERS with its fuzz target"
    for name in tree.names:
        if re.fullmatch(r"tests/fuzz/\w+\.cc", name) and "LLVMFuzzerTestOneInput" not in tree.text(name):
            yield name, 1, "is no fuzz target: it defines no LLVMFuzzerTestOneInput"


def check_chip_names(tree):
    words = "|".join(sorted(map(re.escape, CHIP_WORDS), key=len, reverse=True))
    pattern = re.compile(rf"(?<![A-Za-z0-9])({words})(?![A-Za-z0-9])", re.IGNORECASE)
    for name in tree.cpp("src/", "include/", "tools/"):
        if name in REGISTRY or is_test(name):
            continue
        text, room = source.without_comments(tree.text(name)), room_of(name) or ""  # a comment is documentation
        for match in pattern.finditer(text):
            if room != "chips/" + CHIP_WORDS[match.group(1).lower()]:
                yield name, source.line_of(text, match.start()), f"names a chip: '{match.group(1)}' belongs in its folder or in the registry"
        if not room.startswith("chips/"):
            for match in re.finditer(r'"(cpu|reference)"', text):
                yield name, source.line_of(text, match.start()), f"names the chip {match.group()}: roles are data in the registry"


def check_honest_tests(tree):
    for name in tree.cpp():
        text = source.blanked(tree.text(name))
        for match in re.finditer(r"\bDISABLED_\w*|\bEXPECT_NONFATAL_FAILURE\b|\bEXPECT_FATAL_FAILURE\b|\bGTEST_SUCCEED\b", text):
            yield name, source.line_of(text, match.start()), f"{match.group()}: a test is run and must hold, or is not there"
        for match in re.finditer(r"\b(?:EXPECT|ASSERT)_TRUE\(\s*true\s*\)", text):
            yield name, source.line_of(text, match.start()), "a check that cannot fail"
    for name in tree.names:
        if name.endswith("CMakeLists.txt") and re.search(r"WILL_FAIL|DISABLED\s+(?:TRUE|ON)", tree.text(name)):
            yield name, 1, "marks a test as disabled or as an expected failure"


OPEN_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK|stubs?|stubbed)\b|\bnot (?:yet )?implemented\b", re.IGNORECASE)
# Character classes keep these patterns from finding themselves.
HOSTS = re.compile(r"pypi[.]org|pythonhosted[.]org|crates[.]io|registry[.]npmjs|proxy[.]golang[.]org|repo1?[.]maven|deb[.]debian[.]org|index[.]docker")
MACHINE_PATHS = re.compile(r"(?<![\w.)\-/])/(?:work|root|home/\w+)/")


def check_words(tree):
    for name in tree.names:
        text = tree.text(name)
        if "\0" in text:
            continue
        if name.startswith(("src/", "include/", "tools/")):
            for match in OPEN_WORDS.finditer(text):
                yield name, source.line_of(text, match.start()), f"'{match.group()}': finish it, or leave it out"
        if name == "tests/rules/self_test.py":
            continue
        for match in list(HOSTS.finditer(text)) + list(MACHINE_PATHS.finditer(text)):
            yield name, source.line_of(text, match.start()), f"'{match.group()}' is a registry's host or one machine's path"


def check_files(tree):
    for name in tree.names:
        size = os.path.getsize(os.path.join(tree.root, name))
        if size <= BINARY_BYTES:
            continue
        with open(os.path.join(tree.root, name), "rb") as file:
            binary = b"\0" in file.read(1 << 16)
        if size > (BINARY_BYTES if binary else TEXT_BYTES):
            yield name, 1, f"has {size:,} bytes: weights, archives and other large files are fetched or made, not committed"
    for name in tree.cpp():
        if name.endswith((".h", ".hpp")) and not re.search(r"(?m)^#pragma once$", tree.text(name)):
            yield name, 1, "a header needs #pragma once"


def check_links(tree):
    """A page that names another page or file of the tree names one that is there."""
    for name in tree.names:
        if not name.endswith(".md"):
            continue
        text = tree.text(name)
        for match in re.finditer(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            target = match.group(1)
            path = os.path.normpath(os.path.join(os.path.dirname(name), target))
            if not re.match(r"\w+:", target) and not os.path.exists(os.path.join(tree.root, path)):
                yield name, source.line_of(text, match.start()), f"links to {target}, which is not there"


RULES = {
    "includes": check_includes, "sizes": check_sizes, "ops": check_ops, "ends": check_ends, "fuzz": check_fuzz,
    "chip-names": check_chip_names, "honest-tests": check_honest_tests, "words": check_words, "files": check_files,
    "links": check_links,
}


def read_exceptions(tree):
    """{(rule, path): reason} from lines `rule  path  reason`."""
    name, given = "tests/rules/exceptions.txt", {}
    if tree.exists(name):
        for line in tree.text(name).splitlines():
            parts = line.split(None, 2)
            if parts and not line.startswith("#"):
                given[tuple(parts[:2])] = parts[2] if len(parts) == 3 else ""
    return given


def check(root):
    """{rule: [(path, line, what)]}"""
    tree = Tree(root)
    exceptions = read_exceptions(tree)
    findings, used = {}, set()
    for rule, function in RULES.items():
        findings[rule] = []
        for path, line, what in function(tree):
            if (rule, path) in exceptions:
                used.add((rule, path))
            else:
                findings[rule].append((path, line, what))
    findings["exceptions"] = [("tests/rules/exceptions.txt", 1, f"{rule} {path}: is not needed any more" if reason else f"{rule} {path}: gives no reason")
                              for (rule, path), reason in exceptions.items() if (rule, path) not in used or not reason]
    return findings


def main():
    if any(word in ("-h", "--help") for word in sys.argv[1:]):
        print(__doc__.strip())
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    parser.add_argument("--report")
    parser.add_argument("--self-test", action="store_true")
    given = parser.parse_args()
    if given.self_test:
        import self_test
        return self_test.main()
    findings = check(os.path.abspath(given.root))
    for rule, found in findings.items():
        for path, line, what in found:
            print(f"{path}:{line}: [{rule}] {what}")
    for rule, found in findings.items():
        print(f"  {'ok    ' if not found else 'BROKEN'}  {rule}{f': {len(found)}' if found else ''}")
    if given.report:
        with open(given.report, "w", encoding="utf-8") as out:
            out.writelines(f"{'failed' if found else 'passed'}\trule {rule}\t{len(found) or ''}\n" for rule, found in findings.items())
    return 1 if any(findings.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
