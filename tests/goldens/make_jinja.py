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
EXPRESSIONS = r"""
1 + 2 * 3 - 4 // 3 % 2
7 / 2 | 7 // 2
-7 // 2
-7 % 3
7 % -3
-7.5 // 2
7.5 % -2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
0.1 + 0.2
1e100
1e16
1e15
123456789012345678
1.0
100000.0 * 10
1_000 + 0x1f + 0o17 + 0b101
.5
1.5e3
1 / 0
1 // 0
1.0 % 0
10000000000 * 10000000000
3 * 'ab'
'ab' * 3
[1] * 3
(1, 2) * 2
'a' * -1
'a' + 'b' 'c'
'a' + 1
1 + 'a'
[1] + [2]
(1,) + (2,)
[1] + (2,)
'a' ~ 1 ~ none ~ true ~ 2.0 ~ [1, 'x']
-n
+n
-n|abs
-neg
- neg ** 2
not n
not not n
n if n > 3
n if n < 3
(n if n < 3) is defined
n if false else 'other'
'a' if 0 else 'b' if 1 else 'c'
1 < 2 < 3
1 < 3 < 2
1 == 1.0 == true
1 in [1, 2] and 3 not in [1, 2]
'a' in 'cat'
'' in 'cat'
1 in 'cat'
'b' in d
'x' not in d
2 in l
n is divisibleby 7
n is divisibleby(2)
n is odd
zero is even
missing
missing is defined
missing is not defined
missing == missing
missing.x
missing['x']
missing + 1
missing | default('dd')
missing | d
empty | default('dd')
empty | default('dd', true)
nothing | default('dd')
nothing | default('dd', boolean=true)
d.missing
d.missing is defined
d.missing.deeper
d['missing'] | default('x')
none.foo
none.foo.bar
none is none
missing is none
d.missing is none
'x'.foo
l[10]
l[-1]
l[0:2]
l[::-1]
l[::2]
l[5:1:-1]
l[-2:]
l[:-1]
l['x']
l.0
d.items
d['items']
d.get
d['get']
d['default']
d.default
d.keys
d['keys']
d['keys']()
d.get('b')
d.get('zz')
d.get('zz', 5)
d.items()
d.keys() | list
d.values()
d.items() | list
d.items() | length
d.pop('b')
d.pop
d.update({'z': 1})
l.append(4)
l.append
l.sort()
l.index(2)
l.index(9)
l.count(1)
l.copy()
(1, 2, 1).count(1)
(1, 2, 1).index(2)
s.__class__
d.__class__
''.__class__.__mro__
s[0]
s[-1]
s[100]
s[1:4]
s[::-1]
s[::3]
s[4:1:-1]
s[:-3:2]
u[::-1]
u[3:6]
u[-1]
u[4]
u|length
u|upper
u|lower
u|title
u|capitalize
u.title()
u.swapcase()
u.casefold()
u|list
(1,)
()
(1, 'a', none)
[]
{}
{'a': 1, 'b': [1, {'c': none}], 3: 4.5, none: true}
{'a': 1, 'a': 2}
{1: 'a', 1.0: 'b', true: 'c'}
{[1]: 2}
mixed
quote
[quote]
[u]
[html]
["it's"]
['a"b']
["a\"b'c"]
['\x7f\x80\u2028\ud7ff']
'\x41\u00e9\n\t\\\'\"\q\101'
'a\
b'
[1.0, 1e22, 1e-7, 0.0001, 123456.789, -0.0, 5e-324, 1.7976931348623157e308]
[true, false, none]
f|tojson
huge|tojson
d|tojson
d|tojson(indent=2)
d|tojson(indent=4)
[]|tojson(indent=2)
mixed|tojson
mixed|tojson(indent=2)
d|tojson(sort_keys=true)
d|tojson(separators=(',', ':'))
u|tojson
u|tojson(ensure_ascii=true)
u|tojson(true)
html|tojson
quote|tojson
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
(1, 2)|tojson
missing|tojson
range(3)|tojson
s|tojson(indent='--')
[1,[2]]|tojson(indent='--')
[1,[2]]|tojson(indent=0)
words|join
words|join(', ')
words|join('-', attribute='x')
rows|join('|', attribute='name')
rows|map(attribute='age')|join(',')
rows|map(attribute='sub.v')|list
rows|map(attribute='sub.v', default='none')|list
rows|map(attribute='missing')|list
words|map('upper')|list
words|map('replace', 'p', 'P')|join(' ')
words|map('length')|sum
words|map('nosuch')|list
words|map|list
words|select('in', ['fig'])|list
mixed|select|list
mixed|reject|list
mixed|select('string')|list
mixed|reject('none')|list
l|select('gt', 1)|list
l|select('odd')|list
rows|selectattr('age', 'equalto', 3)|map(attribute='name')|list
rows|selectattr('sub')|list|length
rows|rejectattr('sub')|list
rows|rejectattr('age', 'lt', 2)|map(attribute='name')|join
rows|selectattr('sub.v', 'defined')|list
rows|selectattr('sub', 'defined')|map(attribute='name')|first
rows|selectattr('age', 'eq', 99)|first
rows|selectattr('age', 'eq', 99)|list|length
rows|selectattr('age')|length
rows|groupby('age')
rows|groupby('age')|map(attribute='grouper')|list
rows|groupby('age')|map(attribute='list')|map('length')|list
rows|groupby('sub.v', default=0)|list|length
words|groupby(0)|list
l|sort
l|sort(reverse=true)
words|sort
words|sort(case_sensitive=true)
words|sort(reverse=true)
rows|sort(attribute='age')|map(attribute='name')|list
rows|sort(attribute='age,name')|map(attribute='name')|list
rows|sort(attribute='age', reverse=true)|map(attribute='name')|list
mixed|sort
words|unique|list
words|unique(case_sensitive=true)|list
rows|unique(attribute='age')|map(attribute='name')|list
[[1],[1]]|unique|list
d|dictsort
d|dictsort(true)
d|dictsort(reverse=true)
{'a': 2, 'b': 1}|dictsort(by='value')
{'a': 2, 'b': 1}|dictsort(false, 'value', true)
d|dictsort(by='x')
l|dictsort
d|items|list
missing|items|list
l|items|list
l|first
el|first
l|last
el|last
s|first
s|last
d|first
d|last
l|map('string')|last
l|reverse|list
s|reverse
d|reverse|list
5|reverse
l|min
l|max
words|min
words|max
el|min
rows|max(attribute='age')
l|sum
l|sum(start=10)
rows|sum(attribute='age')
[1.5, 2]|sum
words|sum
[[1], [2]]|sum(start=[])
l|batch(2)|list
l|batch(2, 'x')|list
l|slice(2)|list
l|slice(2, 'x')|list
[1,2,3,4,5,6,7]|slice(3)|list
l|list
s|list
d|list
5|list
5|length
nothing|length
missing|length
s|count
d|count
'42'|int
'42.9'|int
' 42 '|int
'4_2'|int
'0x1f'|int(base=16)
'1f'|int(base=16)
'0b11'|int(0, 2)
'z'|int
'z'|int(5)
'-7'|int
3.99|int
-3.99|int
true|int
nothing|int
nothing|int(9)
el|int
'1e3'|int
'inf'|int
'nan'|int
missing|int
'1.5'|float
'x'|float
'x'|float(2.5)
'1e400'|float
'infinity'|float
'-nan'|float
7|float
nothing|float
42.55|round
42.55|round(1)
42.55|round(1, 'floor')
42.55|round(1, 'ceil')
2.5|round
3.5|round
-2.5|round
2.675|round(2)
42|round
1234|round(-2)
1250|round(-2)
1350|round(-2)
1234.5|round(-2)
42|round(0, 'floor')
'x'|round
2.5|round(method='x')
neg|abs
-2.5|abs
'x'|abs
blank|trim
'xxaxx'|trim('x')
blank.strip()
blank.lstrip()
blank.rstrip()
'xyaxy'.strip('xy')
'xyaxy'.lstrip('yx')
'xyaxy'.rstrip('yx')
'\u00e9a\u00e9'.strip('\u00e9')
s.split()
s.split(',')
s.split(', ')
s.split('l', 1)
s.rsplit('l', 1)
s.split('l', maxsplit=1)
s.rsplit('l')
s.split('zz')
s.split('')
empty.split()
empty.split(',')
blank.split()
'  a  b  c '.split(none, 1)
'  a  b  c '.rsplit(none, 1)
'a,b,,c,'.split(',')
'<think>x</think>\n\nanswer'.split('</think>')[-1].lstrip('\n')
('<think>\nx\n</think>\n\ny'.split('</think>')|first).rstrip('\n').split('<think>')[-1].lstrip('\n')
(s.split(',')|first).rstrip()
lines.splitlines()
lines.splitlines(true)
'a\x0bb\x0cc\x1cd\x85e\u2028f'.splitlines()
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.rpartition('-')
s.startswith('Hell')
s.startswith(('x', 'H'))
s.startswith('ello', 1)
s.endswith('World')
s.endswith(('x', 'ld'))
s.endswith('Wor', 0, -2)
s.startswith(5)
s.find('o')
s.find('o', 5)
s.rfind('o')
s.find('zz')
s.find('')
u.find('\u6f22')
u.rfind('t')
s.index('W')
s.index('zz')
s.count('l')
s.count('')
s.count('l', 5)
s.replace('l', 'L')
s.replace('l', 'L', 1)
s.replace('', '-')
s.replace('', '-', 3)
s|replace('l', '')
s|replace('l', 'LL', 2)
42|replace(4, 5)
s|replace('l')
s.upper()
s.lower()
'hello wORLD'.capitalize()
'hello wORLD they\'re'.title()
"they're bill's-friends (from) [the] <uk>"|title
'\u01c6 \ufb01 \u00df'.title()
'\u0130\u03a3 \u039f\u0394\u039f\u03a3'.lower()
'\u1f80 \u0149 \ufb03'.upper()
s.center(20, '*')
s.center(21)
s.ljust(15, '.')
s.rjust(15)
'-42'.zfill(6)
'42'.zfill(1)
s|center(21)
s.removeprefix('Hello')
s.removesuffix('World')
s.removeprefix('x')
'a\tb\n\tc'.expandtabs(4)
'abc'.isalpha()
'ab1'.isalpha()
'\u6f22'.isalpha()
''.isalpha()
'12'.isdigit()
'\u00b2'.isdigit()
'\u00b2'.isdecimal()
'\u00bd'.isnumeric()
'a1'.isalnum()
' \n'.isspace()
'aB'.islower()
'AB1'.isupper()
'Ab Cd'.istitle()
'abc'.isascii()
'a_1'.isidentifier()
', '.join(words)
', '.join([1])
', '.join('abc')
'-'.join(d)
s.nosuch()
'{} {}'.format(1, 'a')
'{1} {0} {x}'.format(1, 'a', x=3)
'{0[a]} {0.a} {1[0]}'.format({'a': 1}, [2])
'{:>8}|{:<8}|{:^8}|{:*^9}'.format('a', 'b', 'c', 'd')
'{:05d}|{:+d}|{: d}|{:x}|{:#x}|{:b}|{:o}|{:X}'.format(42, 42, 42, 255, 255, 5, 8, 255)
'{:,}|{:_}|{:,.2f}'.format(1234567, 1234567, 1234567.891)
'{:.2f}|{:.0f}|{:e}|{:g}|{:%}|{:.1%}'.format(3.14159, 2.5, 12345.678, 0.00001, 0.5, 0.123)
'{:.3}|{:.3}|{:10.4}|'.format(3.14159, 'abcdef', 2.0)
'{:5}|{:5}|{:<5}|'.format(3, 'a', 2.5)
'{!r} {!s}'.format('a', 'b')
'{{}} {}'.format(1)
'{:{}}'.format('a', 5)
'{:{w}.{p}f}'.format(3.14159, w=8, p=2)
'{}'.format()
'{a}'.format()
'{'.format(1)
'}'.format(1)
'{:d}'.format('a')
'{:s}'.format(1)
'{:x}'.format(1.5)
'{}'.format(none)
'{:5}'.format(none)
'{}'.format(missing)
'{0.__class__}'.format(s)
'{:08.3f}'.format(-3.14159)
'{:+.1e}'.format(12345)
'{:c}'.format(233)
'%s is %d years' % ('x', 3)
'%s' % 'a'
'%s' % ['a']
'%s %s' % ('a',)
'%s' % ('a', 'b')
'%(a)s-%(b)d' % {'a': 1, 'b': 2}
'%5d|%-5d|%05d|%+d|% d' % (42, 42, 42, 42, 42)
'%x %X %o %#x' % (255, 255, 8, 255)
'%.2f|%8.3f|%-8.1f|%e|%g|%G' % (3.14159, 3.14159, 3.14159, 12345.6, 0.00001, 1e20)
'%r %s' % ('a', none)
'%c%c' % (65, 'b')
'%%' % ()
'%*d|%.*f' % (5, 42, 1, 2.55)
'%d' % 3.99
'%d' % 'a'
'%5.1s|' % 'abc'
'%s, %s!'|format('a', 'b')
'%(x)s'|format(x=1)
'abc' % 5
'%y' % 1
html|e
html|escape
html|escape|escape
html|forceescape
html|safe
(html|safe) ~ '<'
(html|safe) + '<'
'<' + (html|safe)
('%s'|safe) % '<'
(html|e)|length
(html|safe)|upper
[html|safe]
(html|safe).split('&')
('{}'|safe).format('<')
['<', '>'|safe]|join('&')
lines|indent
lines|indent(2, true)
lines|indent(width=2, blank=true)
lines|indent('> ')
lines|indent('> ', first=true, blank=true)
5|indent
missing|indent
s|truncate(5)
s|truncate(5, true)
s|truncate(5, true, '..')
s|truncate(5, leeway=0)
s|truncate(9, false, '...', 0)
s|truncate(2)
s|wordcount
'a b-c d_e \u00e9f'|wordcount
html|urlencode
u|urlencode
'a/b c'|urlencode
{'a b': 'c/d', 'e': 1}|urlencode
[('a', 1)]|urlencode
5|urlencode
5|string
5|string|length
nothing|string
missing|string
5|upper
5|trim
d|attr('b')
d|attr('get')
s|attr('upper')
range(5)
range(1, 10, 3)|list
range(5, 0, -2)|list
range(0)|list
range(5)[1:3]
range(5)[-1]
range(10)|last
range(200000)
range()
range(1, 2, 0)
range(3)|length
3 in range(5)
dict(a=1, b=2)
dict([('a', 1)], b=2)
dict({'a': 1}, a=3)
namespace(a=1).a
namespace(a=1).b
namespace({'x': 2}).x
namespace(a=1)
cycler('a', 'b').next()
cycler()
joiner()()
range is callable
s is callable
strftime_now('%Y-%m-%d %H:%M:%S %d %b %Y %B %A %a %j %y %I %p %%')
raise_exception('no: ' ~ n)
n is number
t is number
t is integer
n is integer
f is float
f is integer
t is boolean
n is boolean
t is true
no is false
n is true
1 is true
s is string
n is string
d is mapping
l is mapping
l is sequence
s is sequence
d is sequence
n is sequence
missing is sequence
l is iterable
n is iterable
missing is iterable
d.items() is sequence
d.items() is iterable
d.items() is mapping
(words|map('upper')) is sequence
(words|map('upper')) is iterable
range(3) is sequence
'abc' is lower
'ABC' is upper
'Abc' is lower
'upper' is filter
'nosuch' is filter
'odd' is test
'nosuch' is test
n is eq 7
n is equalto(7)
n is == 7
n is ne 8
n is gt 3
n is ge 7
n is lt 3
n is le 7
n is greaterthan 3
n is lessthan 3
n is in [7]
n is not in [7]
none is sameas none
t is sameas true
n is sameas 7
'a' is escaped
('a'|e) is escaped
n is nosuch
n|nosuch
n is odd is even
1 is odd and 2 is even or 3 is none
n is defined and n is not none
[1, 2] == [1, 2]
[1, 2] == (1, 2)
{'a': 1} == {'a': 1.0}
[1, 2] < [1, 3]
'a' < 'b'
'a' < 1
none < 1
'\u6f22' > 'z'
[1] < ['a']
missing < 1
true + true
true == 1
true ~ 1
n.real
n.foo
f.is_integer()
n()
s()
nothing()
missing()
d.b()
s.upper
(1, 2)[0]
[1, 2, 3][1]
{'a': {'b': 'c'}}.a.b
{'a': {'b': 'c'}}['a']['b']
d['b', 'a']
l[true]
l[1.0]
'abc'[1:][0]
'abc'.upper()[::-1]|lower
messages[0].content
messages[1].content[0].text
messages[1].content is string
messages[1]['tool_calls'] is none
messages[0].tool_calls is defined
messages[0]['tool_calls'] is none
messages[-1].role
messages[1:]|length
messages[::-1]|map(attribute='role')|join(',')
(messages|last).role
messages|selectattr('role', 'equalto', 'user')|list|length
messages|map(attribute='content')|map('string')|join('/')
1 if
'a' 'b' ~ 'c'
[1, 2,]
{'a': 1,}
[1 2]
(1
a.b.
1 +
'unclosed
'a' | upper | lower ~ 'B'
-1|abs
(-1)|abs
2 + 3|string
'a' + 'b'|upper
not true == false
1 + 1 == 2 and 'x'
0 or empty or 'z'
1 and 0
loop
[x for x in l]
lambda: 1
n = 3
1;2
{{}}
{'a'}
f'x'
s if s else
**d
range(*[1, 4])|list
dict(**{'a': 1})
'{a}'.format(**d)
""".strip("\n").split("\n")

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
