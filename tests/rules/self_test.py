"""Plants each kind of finding in a small tree and sees that check.py finds it there, and finds nothing before it is planted."""
import os
import shutil
import tempfile

import check
import source

CLEAN = {
    "src/base/check.cc": "#include \"base/check.h\"\nvoid f() { _exit(70); }\n",
    "src/base/check.h": "#pragma once\n#include <string>\n",
    "src/graph/graph.h": "#pragma once\n#include \"base/check.h\"\n",
    "src/device/device.h": "#pragma once\n",
    "src/passes/a.h": "#pragma once\n#include \"device/device.h\"\n#include \"graph/graph.h\"\n",
    "src/run/run.h": "#pragma once\n",
    "src/chips/cpu/cpu.h": "#pragma once\n#include \"device/device.h\"\nvoid avx512();\n",
    "src/chips/reference/core.cc": "void core() { op.evaluate(); }\n",
    "src/chips/registry.cc": "#include \"chips/cpu/cpu.h\"\nconst char* name = \"cpu\";\n",
    "src/ops/add.cc": "const OpRow op_add = {\"add\", \"y = a + b\", {}, evaluate};\n",
    "src/llm/template/lexer.cc": "#include \"base/check.h\"\n// it says \\\" cpu\nstatic_assert(sizeof(int) == 4);\n",
    "src/llm/cache/kv.h": "#pragma once\n",
    "src/import/gguf/file.cc": "#include \"graph/graph.h\"\n",
    "include/busbar/busbar.h": "#pragma once\n#include <vector>\n",
    "tools/main.cc": "#include \"run/run.h\"\nint main() { return 0; }\n",
    "src/agree/conform/add.cc": "const char* op = \"add\";\n",
    "tests/conformance/add.cc": "const char* op = \"add\";\nTEST(A, B) { EXPECT_EQ(1, f(\"cpu\")); }\n",
    "tests/fuzz/gguf.cc": "int LLVMFuzzerTestOneInput(const char*, int);\n",
    "tests/fuzz/template.cc": "int LLVMFuzzerTestOneInput(const char*, int);\n",
    "tests/rules/exceptions.txt": "# none\n",
    "README.md": "Read it.\n",
}

# rule, file, what is put there (added at the end, or the whole file where it is new), a part of what must be said
PLANTED = [
    ("includes", "src/base/bad.cc", '#include "graph/graph.h"\n'),
    ("includes", "src/base/bad.cc", '  #  include "run/run.h"\n'),
    ("includes", "src/graph/bad.cc", '#include "device/device.h"\n'),
    ("includes", "src/run/bad.cc", '#include "passes/a.h"\n'),
    ("includes", "src/run/bad.cc", '#include "chips/cpu/cpu.h"\n'),
    ("includes", "src/passes/bad.cc", '#include "chips/cpu/cpu.h"\n'),
    ("includes", "src/chips/cpu/bad.cc", '#include "graph/graph.h"\n'),
    ("includes", "src/chips/other/bad.cc", '#include "chips/cpu/cpu.h"\n'),
    ("includes", "src/llm/template/lexer.cc", '#include "llm/cache/kv.h"\n'),
    ("includes", "src/llm/template/lexer.cc", '#include "graph/graph.h"\n'),
    ("includes", "tools/main.cc", '#include "chips/cpu/cpu.h"\n'),
    ("includes", "include/busbar/busbar.h", '#include "base/check.h"\n'),
    ("includes", "src/base/bad.cc", '#include "../graph/graph.h"\n'),
    ("includes", "src/attic/bad.cc", "int x;\n"),
    ("includes", "src/stray.cc", "int x;\n"),
    ("sizes", "src/base/long.cc", "int x;\n" * 601),
    ("sizes", "src/base/long.cc", "void f() {\n" + "    x();\n" * 149 + "}\n"),
    ("sizes", "src/base/long.cc", "namespace a {\nstruct B {\n    int c(int d) const {\n" + "        if (d) { x(); }\n" * 149 + "    }\n};\n}\n"),
    ("sizes", "src/base/long.cc", "B::B(int a)\n    : a_{a}, b_{1} {\n" + "    for (int i = 0; i < 3; ++i) {}\n" * 149 + "}\n"),
    ("sizes", "src/base/long.cc", "const Row r = {.f = [](int a) {\n" + "    x();\n" * 150 + "}};\n"),
    ("sizes", "tests/long.py", "def f():\n" + "    x()\n" * 150),
    ("sizes", "long", "#!/bin/sh\n" + "x\n" * 600),
    ("ops", "src/ops/add.cc", 'const OpRow op_sub = {"sub", "y = a - b", {}, evaluate};\n', "no case"),
    ("ops", "src/ops/add.cc", 'const OpRow op_norm = {"norm", "y = a / |a|", {}, define};\n', "no oracle"),
    ("ops", "src/ops/add.cc", 'const OpRow op_add = {"add", "", {}};\n', "no line"),
    ("ops", "src/ops/add.cc", 'const OpRow op_add = {"plus", "y = a + b", {}};\n', "begin with its name"),
    ("ends", "src/run/bad.cc", "void f() { std::abort(); }\n"),
    ("ends", "src/run/bad.cc", "void f() { exit(1); }\n"),
    ("ends", "src/run/bad.cc", "void f() { std::terminate(); }\n"),
    ("ends", "tools/main.cc", "void f(int a) { assert(a); }\n"),
    ("fuzz", "src/import/safetensors/file.cc", "int x;\n"),
    ("fuzz", "src/import/onnx/file.cc", "int x;\n"),
    ("fuzz", "src/llm/tokenizer/bpe.cc", "int x;\n"),
    ("fuzz", "tests/fuzz/gguf_more.cc", "int main();\n"),
    ("chip-names", "src/run/bad.cc", "bool has_AVX512 = false;\n"),
    ("chip-names", "src/run/bad.cc", "bool cuda = false;\n"),
    ("chip-names", "src/chips/cpu/bad.cc", "int opencl;\n"),
    ("chip-names", "src/plan/bad.cc", 'auto c = find("cpu");\n'),
    ("chip-names", "tools/main.cc", 'auto c = find("reference");\n'),
    ("honest-tests", "tests/conformance/add.cc", "TEST(A, DISABLED_b) {}\n"),
    ("honest-tests", "src/base/a_test.cc", "TEST(A, b) { EXPECT_TRUE(true); }\n"),
    ("honest-tests", "tests/CMakeLists.txt", "set_tests_properties(a PROPERTIES WILL_FAIL ON)\n"),
    ("words", "src/run/bad.cc", "// TODO: more\n"),
    ("words", "src/run/bad.cc", "// a stub for now\n"),
    ("words", "README.md", "from pypi." + "org\n"),
    ("words", "README.md", "see /" + "work/main/x\n"),
    ("links", "README.md", "[more](docs/none.md)\n"),
    ("files", "weights.bin", "\0" * 200_001),
    ("files", "golden.json", "1" * 2_000_001),
    ("files", "src/base/bare.h", "int x;\n"),
    ("exceptions", "tests/rules/exceptions.txt", "sizes src/base/check.cc it was long once\n"),
    ("exceptions", "tests/rules/exceptions.txt", "sizes src/base/check.cc\n"),
]

# Not findings, though they look like ones.
HARMLESS = [
    ("src/run/good.cc", "// includes nothing: #include \"passes/a.h\"\n/* exit( abort( */\nconst char* s = \"abort() TO\" \"DO cpu\";\n"),
    ("src/run/good.cc", "const auto r = R\"(exit( {{{{ )\";\nint n = 1'000'000;\nchar c = '{';\n"),
    ("src/run/good.cc", "void f() { exited(); thing.exit(1); static_assert(true); }\n"),
    ("src/run/good.cc", "const int table[] = {\n" + "    1,\n" * 300 + "};\n"),
    ("src/run/good.cc", "namespace a {\n" + "void f() {\n    x();\n}\n" * 190 + "}\n"),
    ("src/base/a_test.cc", 'TEST(A, b) { EXPECT_EQ(name, "cpu"); }\n'),
    ("README.md", "[rules](tests/rules/exceptions.txt#x), [spec](https://example.org/a)\n"),
    ("README.md", "build/work/x and ~/.cache; runs on cpu, avx512, opencl\n"),
]


def plant(root, name, text):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    old = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            old = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(old + text)
    return path, old


def unplant(path, old):
    if old:
        with open(path, "w", encoding="utf-8") as file:
            file.write(old)
    else:
        os.remove(path)


def findings_with(root, name, text):
    path, old = plant(root, name, text)
    try:
        return {rule: found for rule, found in check.check(root).items() if found}
    finally:
        unplant(path, old)


def main():
    wrong = []
    root = tempfile.mkdtemp(prefix="rules-")
    try:
        for name, text in CLEAN.items():
            plant(root, name, text)
        clean = {rule: found for rule, found in check.check(root).items() if found}
        if clean:
            wrong.append(f"the clean tree has findings: {clean}")
        for rule, name, text, *said in PLANTED:
            found = findings_with(root, name, text).get(rule, [])
            if not any(path == name and "".join(said) in what for path, _, what in found):
                wrong.append(f"[{rule}] does not see {text[:70]!r} in {name}")
        for name, text in HARMLESS:
            found = findings_with(root, name, text)
            if found:
                wrong.append(f"sees in {name} {text[:70]!r}: {found}")
        excepted = findings_with(root, "tests/rules/exceptions.txt", "files src/run/run.h because\n")
        if "exceptions" not in excepted:
            wrong.append("an exception that nothing needs goes unseen")
    finally:
        shutil.rmtree(root)
    lengths = source.cpp_functions("int f(int a) {\n    return a;\n}\n\nauto g = [](int b) {\n    return b;\n};\n")
    if [(name, line, count) for name, line, count in lengths if name == "f"] != [("f", 1, 3)] or len(lengths) != 2:
        wrong.append(f"function lengths: {lengths}")
    for line in wrong:
        print(f"rules self-test: {line}")
    print(f"  rules self-test: {len(PLANTED) + len(HARMLESS) + 3 - len(wrong)} of {len(PLANTED) + len(HARMLESS) + 3} hold")
    return 1 if wrong else 0
