#!/usr/bin/env python3
"""Writes jinja.json: template snippets and what Jinja2 makes of them.

    pip install jinja2==3.1.6 && make_jinja.py

Each snippet: a source and either its text or the kind of error. All see the same variables.
"""
import json
import pathlib

import jinja2

from jinja_environment import CLOCK, environment, render

VARIABLES = {
    "s": "Hello, World", "u": "stra\u00dfe \u00c9t\u00e9 \u6f22\u5b57 \U0001f600", "empty": "", "blank": " \t\n x \u00a0\u3000", "digits": "0042",
    "lines": "one\ntwo\r\n\nthree\n", "quote": "it's \"so\"\\ \n\t\u0001\u00ad\u200b", "html": "<a href=\"x\">&'</a>", "bos_token": "<s>",
    "n": 7, "zero": 0, "neg": -3, "f": 2.5, "tiny": 1e-7, "huge": 1e22, "whole": 3.0, "t": True, "no": False, "nothing": None,
    "l": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}], "el": [],
    "d": {"b": 1, "a": 2, "items": "shadow", "get": "g", "default": "dflt", "keys": [1], "C": 3}, "ed": {},
    "rows": [{"name": "x", "age": 3, "sub": {"v": 1}}, {"name": "Y", "age": 1, "sub": {"v": 2}}, {"name": "z", "age": 3}],
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "text", "text": "yo"}], "tool_calls": None}],
    "tree": [{"n": "a", "kids": [{"n": "b", "kids": []}, {"n": "c", "kids": [{"n": "d", "kids": []}]}]}],
}

# Expressions, each printed.
EXPRESSIONS = pathlib.Path(__file__).with_name("jinja_expressions.txt").read_text().strip("\n").split("\n")

# Whole templates.
TEMPLATES = [
    "plain text\n", "a\n\n", "a\r\nb\rc\n", "", "\n", "{{ s }}\n", "{{ s }}\n\n",
    "{% if t %}\nyes\n{% endif %}\nend", "  {% if t %}  \n  yes\n  {% endif %}  \nend", "a {% if t %} b {% endif %} c",
    "a  {%- if t -%}  b  {%- endif -%}  c", "a\n\n  {%- if t %}\n b\n {%- endif %}\n c", "a\n  {%+ if t %}\nb\n  {%+ endif +%}\nc",
    "{% if t -%}\n\n  b{% endif %}", "a {{- s -}} b", "a\n {{- s }}\n{{ s -}} \n b", "a {{+ n }} b", "{{-1}}", "{{ 1 -}} x", "{{- -1 -}}",
    "{# comment #}\nx", "  {# comment #}\n  x", "a {#- c -#} b", "a\n {#+ c +#}\nb", "{# {{ not }} {% seen %} #}x", "{# open",
    "{% raw %}{{ x }}{% endraw %}", "{% raw %}\n{{ x }}\n{% endraw %}\nb", "a {%- raw -%}  {{ x }} {% y %} {%- endraw -%} b", "{% raw %}{% raw %}{% endraw %}",
    "  {% raw %}\n  x\n  {% endraw %}\ny", "{% raw %}x", "{%raw%}a{%endraw%}", "{%- raw %} {# #} {%+ endraw +%}\nz",
    "{%if t%}a{%endif%}", "{%\nif t\n%}a{% endif\n%}", "{% if t: %}a{% endif %}", "{{ '}}' }}", "{{ {'a': {'b': 1}}}}", "{{ {'a': {'b': 1} }.a.b }}", "{{ '%}' }}{% if '%}' %}x{% endif %}",
    "{ { x } }", "{", "{%", "{{", "}}", "%}", "#}", "{ % if %}", "{{ s }", "{% if t }",
    "{% if no %}1{% elif n == 7 %}2{% elif t %}3{% else %}4{% endif %}", "{% if no %}1{% else %}4{% endif %}", "{% if missing %}1{% endif %}x", "{% if a %}", "{% endif %}", "{% if %}x{% endif %}",
    "{% if t %}a{% else %}b{% else %}c{% endif %}", "{% for x in l %}{% if x == 1 %}{% endfor %}{% endif %}",
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in el %}{{ x }}{% else %}none{% endfor %}", "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}",
    "{% for x in l if x > 9 %}a{% else %}b{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }} {% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for a, in [(1,)] %}{{ a }}{% endfor %}",
    "{% for c in 'h\u00e9l' %}[{{ c }}]{% endfor %}", "{% for x in missing %}a{% else %}empty{% endfor %}", "{% for x in none %}a{% endfor %}", "{% for x in 5 %}a{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}", "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}", "{% for x in l %}{{ loop.nosuch }}{% endfor %}", "{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for x in l %}{% if loop.first %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% break %}", "{% continue %}", "{% if t %}{% break %}{% endif %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}|{% endfor %}", "{% for x in l %}{% break %}{% else %}e{% endfor %}", "{% for x in el %}{% else %}{% break %}{% endfor %}",
    "{% for m in messages recursive %}{{ m.role }}{% endfor %}", "{% for t in tree recursive %}({{ t.n }}{{ loop.depth }}{{ loop(t.kids) }}){% endfor %}", "{% for t in tree %}{{ loop(t.kids) }}{% endfor %}", "{% for x in l %}{{ loop(l) }}{% endfor %}",
    "{% set x = 1 %}{% for y in l %}{% set x = y %}{{ x }}{% endfor %}{{ x }}", "{% for y in l %}{% set z = y %}{% endfor %}{{ z }}", "{% for y in l %}{{ z is defined }}{% set z = y %}{% endfor %}", "{% if t %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% set ns = namespace(i=0) %}{% for y in l %}{% set ns.i = ns.i + y %}{% endfor %}{{ ns.i }}", "{% set ns = namespace() %}{{ ns.x is defined }}{% set ns.x = [1] %}{{ ns.x }}{{ ns['x'] }}", "{% set d.x = 1 %}", "{% set nope.x = 1 %}",
    "{% set ns = namespace(stop=false) %}{% for x in l if not ns.stop %}{{ x }}{% set ns.stop = true %}{% endfor %}", "{% set ns = namespace(stop=false) %}{% for x in l if not ns.stop %}{{ x }}{{ loop.last }}{% set ns.stop = true %}{% endfor %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a, b = [1, 2, 3] %}", "{% set (a, b) = 'xy' %}{{ b }}{{ a }}", "{% set a %}x{{ n }}\n{% endset %}[{{ a }}]", "{% set a | upper | replace('X', 'y') %}x{{ s }}{% endset %}{{ a }}",
    "{% set a %}{% set inner = 1 %}{% endset %}{{ inner is defined }}", "{% set true = 1 %}", "{% set 1 = 1 %}", "{% set x = %}", "{% set x %}", "{% set loop = 1 %}{{ loop }}", "{% set messages = messages[1:] %}{{ messages|length }}",
    "{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(b=5, a=4) }} {{ f() }}", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{% endmacro %}{{ f(b=2) }}", "{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}", "{% macro f(a=1, b) %}{% endmacro %}", "{% macro f(a, a) %}{% endmacro %}", "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}\n  x\n{% endmacro %}[{{ f() }}]", "{% macro f() -%}\n  x\n{%- endmacro %}[{{ f() }}]", "{{ f() }}{% macro f() %}{% endmacro %}", "{% macro f() %}{{ late }}{% endmacro %}{% set late = 1 %}{{ f() }}", "{% macro f() %}{{ f.name }}{{ f.arguments }}{% endmacro %}{{ f() }}",
    "{% set x = 1 %}{% macro f() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ f() }}{{ x }}", "{% for i in l %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}{{ f is defined }}", "{% macro f(x) %}{{ x is defined }}{{ x }}{% endmacro %}{{ f() }}{{ f(missing) }}{{ f(none) }}",
    "{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}in {{ n }}{% endcall %}", "{% macro w() %}<{{ caller(1, b=2) }}>{% endmacro %}{% call(a, b) w() %}{{ a }}{{ b }}{% endcall %}", "{% macro w() %}x{% endmacro %}{% call w() %}{% endcall %}", "{% macro w() %}{{ caller() }}{% endmacro %}{{ w() }}",
    "{% call s %}{% endcall %}", "{% macro w() %}{{ caller() }}{{ caller() }}{% endmacro %}{% set q = 1 %}{% call w() %}{% set q = q + 1 %}{{ q }}{% endcall %}{{ q }}", "{% macro f(x) %}{{ x }}{% endmacro %}{{ f('a') ~ f('b')|upper }}{{ f(1) + f(2) }}{{ f(1)|length }}",
    "{% macro f(x, y) %}{{ y|tojson }}{% if x is mapping %}{% for k, v in x.items() %}{{ k }}:{{ f(v) }},{% endfor %}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f({'a': {'b': 1}}, 1) }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aaa{% endfilter %}", "{% filter nosuch %}a{% endfilter %}", "{% filter indent(2) %}\na\nb\n{% endfilter %}", "{% for x in l %}{% filter upper %}a{% break %}{% endfilter %}{% endfor %}b",
    "{% generation %}a{{ n }}{% endgeneration %}", "{%- generation -%} a {%- endgeneration -%} b", "{% generation %}{% set g = 1 %}{% endgeneration %}{{ g is defined }}", "{% for x in l %}{% generation %}{{ loop.index }}{{ x }}{% endgeneration %}{% endfor %}", "{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}", "{% print 1, 'a' %}",
    "{% nosuch %}", "{% %}", "{% 1 %}", "{% do l %}", "{% if n|nosuch %}{% endif %}", "{% if no %}{{ n|nosuch }}{% endif %}ok", "{{ (n|nosuch) if no else 1 }}", "{% if no %}{% for x in l %}{{ n|nosuch }}{% endfor %}{% endif %}ok", "{% if no %}{{ 1 is nosuch }}{% else %}ok{% endif %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}", "{% set j = joiner('|') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set it = words|map('upper') %}{{ it|list }}{{ it|list }}",
    "{% set it = l|select('odd') %}{{ it|first }}{{ it|first }}{{ it|first }}", "{% set r = l|reverse %}{% for x in r %}{{ x }}{% endfor %}{% for x in r %}{{ x }}{% endfor %}", "{% for x in words|map('upper') %}{{ x }}{{ loop.length }}{{ loop.last }} {% endfor %}",
    "{%- for m in messages -%}\n{{- '<|' + m.role + '|>\\n' -}}\n{%- if m.content is string -%}\n{{- m.content -}}\n{%- else -%}\n{%- for c in m.content -%}{{- c.text -}}{%- endfor -%}\n{%- endif -%}\n{%- endfor -%}\n{%- if add_generation_prompt -%}x{%- endif -%}\n",
    "{% for m in messages %}\n  {% if m.role == 'user' %}\n    U: {{ m.content }}\n  {% endif %}\n{% endfor %}\n", "{% if messages[0]['role'] != 'system' %}{{ raise_exception('needs system') }}{% endif %}", "{{ bos_token }}{{ bos_token ~ s }}",
    "{%- if tools is not none and tools -%}T{%- endif -%}", "{% set tools = tools if tools is defined else none %}{{ tools is none }}", "{{ 'a' if messages|length > 1 and messages[1].role == 'assistant' else 'b' }}", "a\n{% set x = 1 %}\nb\n{%- set y = 2 %}\nc",
    "\u00a0{%- if t %}x{% endif -%}\u3000y", "x\n\u00a0{% if t %}y{% endif %}", "\ufeffx", "{{ s }}{# c #}\n{{ s }}", "{% for x in l %}\n{{ x }}\n{% endfor %}", "{% for x in l -%}\n{{ x }}\n{%- endfor %}", "1{% if t %}\n\n2{% endif %}\n\n3",
    "{% block a %}x{% endblock %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
]
OUTSIDE = {"{% block a %}x{% endblock %}"}  # Jinja2 renders it, the subset refuses it


def write_seeds(sources):
    """The snippets that render, a few dozen to a file, are what the fuzz target `template` starts from."""
    folder = pathlib.Path(__file__).parent.parent / "fuzz" / "corpus" / "template"
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(sources), 60):
        (folder / f"snippets{start // 60}").write_text("\n".join(sources[start:start + 60])[:4000])
    names = "if elif else endif for endfor in recursive set endset macro endmacro call endcall filter endfilter generation endgeneration raw endraw " \
            "break continue with endwith is not and or loop namespace range caller tojson join map selectattr groupby slice batch format replace split"
    tokens = ["{{", "}}", "{%", "%}", "{#", "#}", "-%}", "{%-", "|", "~", "**", "//", "[::-1]"] + names.split()
    lines = ['"%s"' % "".join("\\x%02x" % ord(c) for c in token) for token in tokens]
    (folder.parent.parent / "template.dict").write_text("\n".join(lines) + "\n")


def main():
    env = environment()
    sources = ["{{ " + e + " }}" for e in EXPRESSIONS] + TEMPLATES
    cases = []
    for source in dict.fromkeys(sources):
        result = render(env, source, VARIABLES)
        if source in OUTSIDE:
            result = {"error": "OutsideTheSubset"}
        if " at 0x" in result.get("text", ""):
            continue  # an address of Python's
        cases.append([source, result["text"]] if "text" in result else [source, None, result["error"]])
    head = {"made_by": f"make_jinja.py with jinja2 {jinja2.__version__}", "clock": CLOCK, "variables": VARIABLES}
    lines = ",\n".join(json.dumps(c, ensure_ascii=True) for c in cases)
    text = json.dumps(head, ensure_ascii=True)[:-1] + ',\n"cases": [\n' + lines + "\n]}\n"
    pathlib.Path(__file__).with_name("jinja.json").write_text(text)
    write_seeds([source for source in dict.fromkeys(sources) if "text" in render(env, source, VARIABLES)])
    print(f"{len(cases)} snippets, {sum(len(c) == 3 for c in cases)} of them errors")


if __name__ == "__main__":
    main()
