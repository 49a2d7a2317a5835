#!/usr/bin/env python3
"""Random template expressions and what Jinja2 makes of them: input for the differential test of test_template.

    random_jinja.py COUNT [SEED] > FILE; BUSBAR_JINJA=FILE test_template --gtest_filter='Golden.*'

The file has the form of jinja.json. The seed is in it and in the test's output.
"""
import copy
import json
import random
import sys
import warnings

import jinja2

from jinja_environment import CLOCK, environment, render
from make_jinja import VARIABLES

STRINGS = ["''", "'a'", "'Ab, c'", "' x\\n y '", "'\u00e9\u6f22\u00df'", "'12'", "'-3.5'", "'%s'", "'{}|{0}'", "'<b>'", "\"it's\"", "s", "u", "blank", "lines", "quote"]
NUMBERS = ["0", "1", "2", "-1", "3", "7", "2.5", "-0.5", "1e3", "n", "f", "zero", "neg", "true", "none", "100"]
LISTS = ["[]", "[1, 2, 3]", "['b', 'A', 'a']", "l", "words", "rows", "mixed", "(1, 'x')", "range(4)", "el", "d", "d.items()", "missing", "messages", "d.values()"]
DICTS = ["{}", "{'a': 1, 'b': [2]}", "d", "rows[0]", "{1: 'x', none: 2.5}", "messages[0]"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list", "join", "join('-')", "string", "int", "float", "abs", "round",
           "tojson", "tojson(indent=2)", "reverse", "sort", "unique|list", "dictsort", "items|list", "sum", "min", "max", "default('D')", "default('D', true)",
           "batch(2)|list", "slice(2)|list", "map('string')|list", "select|list", "reject('none')|list", "selectattr('age', 'gt', 1)|list", "map(attribute='name')|list",
           "groupby('age')", "replace('a', 'bb')", "indent(2)", "truncate(5)", "wordcount", "e", "safe", "urlencode", "format(1)", "center(9)", "round(1)", "count"]
METHODS = ["upper()", "strip()", "split()", "split('a')", "split(',', 1)", "rsplit(none, 1)", "title()", "replace('a', 'X', 1)", "startswith('a')", "endswith(('b', 'c'))",
           "find('a')", "count('a')", "join(['x', 'y'])", "format(1, 2)", "zfill(5)", "splitlines()", "partition(',')", "isalpha()", "isdigit()", "islower()", "lstrip('aA')",
           "get('a')", "get('zz', 4)", "items()", "keys()|list", "values()|list", "index(1)", "name", "age", "missing", "capitalize()", "swapcase()", "ljust(6, '.')", "a.b"]
TESTS = ["defined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "odd", "even", "boolean", "true", "eq 1", "gt 2", "in [1, 'a']",
         "divisibleby 3", "lower", "upper", "callable", "sameas none", "not none", "not string"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
SLICES = ["[0]", "[-1]", "[1:]", "[:-1]", "[::-1]", "[::2]", "[3:0:-1]", "['a']", "[-2:]", "[9]", "[1:2]"]


def expression(r, depth):
    if depth == 0 or r.random() < 0.15:
        return r.choice(r.choice([STRINGS, NUMBERS, LISTS, DICTS]))
    sub = lambda: expression(r, depth - 1)
    kind = r.randrange(12)
    if kind < 3:
        left, right = sub(), sub()
        if ".items()" not in left + right and ".keys()" not in left + right:  # views as sets are outside the subset
            return f"{left} {r.choice(OPERATORS)} {right}"
    if kind < 5:
        return f"({sub()})|{r.choice(FILTERS)}"
    if kind < 7:
        return f"({sub()}).{r.choice(METHODS)}"
    if kind == 7:
        return f"({sub()}) is {r.choice(TESTS)}"
    if kind == 8:
        # Jinja2 folds a slice of a constant that has none to undefined, and fails on the same slice of a variable.
        return f"{r.choice(STRINGS + LISTS)}{r.choice(SLICES)}"
    if kind == 9:
        return f"({sub()} if {sub()} else {sub()})"
    if kind == 10:
        return r.choice(["[{}, {}]", "({}, {})", "{{'k': {}, 'a': {}}}"]).format(sub(), sub())
    return r.choice(["not {}", "-{}", "{}|upper", "({})"]).format(sub())


def main():
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    warnings.simplefilter("ignore")
    r = random.Random(seed)
    env = environment()
    cases = []
    while len(cases) < count:
        source = "{{ " + expression(r, r.randrange(1, 5)) + " }}"
        result = render(env, source, copy.deepcopy(VARIABLES))  # the filter indent changes a list in place
        text = result.get("text", "")
        # Addresses of Python's objects, numbers past 127 bits and large texts are no part of the promise.
        if " at 0x" in text.lower() or len(text) > 20000 or any(len(w) > 36 and w.isdigit() for w in text.split()):
            continue
        cases.append([source, result["text"]] if "text" in result else [source, None, result["error"] + ": " + result["message"]])
    json.dump({"made_by": f"random_jinja.py {count} {seed} with jinja2 {jinja2.__version__}", "clock": CLOCK, "variables": VARIABLES, "cases": cases}, sys.stdout)


if __name__ == "__main__":
    main()
