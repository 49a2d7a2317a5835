"""The Jinja2 environment that transformers renders chat templates in, shared by the scripts of this folder.

Needs only the package jinja2 (written with 3.1.6; Debian's python3-jinja2 3.1.2 gives the same results).
"""
import datetime
import functools
import json

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock
from jinja2.sandbox import ImmutableSandboxedEnvironment

CLOCK = 1785240000  # 2026-07-28 12:00:00: strftime_now reads this as local time


class Generation(Extension):
    """{% generation %} renders its body, as a call block does."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(CLOCK, datetime.timezone.utc).replace(tzinfo=None).strftime(format)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


@functools.lru_cache(maxsize=8)
def compiled(env, source):
    return env.from_string(source)  # costs more than all of its renderings


def attempt(work):
    """{"text": ...} or {"error": what was raised, "message": its text}."""
    try:
        return {"text": work()}
    except Exception as error:  # whatever a template can raise is an answer here
        return {"error": type(error).__name__, "message": str(error)}


def render(env, source, variables):
    return attempt(lambda: env.from_string(source).render(**variables))


def render_all(env, source, cases):
    """One template over many sets of variables, compiled once."""
    try:
        template = env.from_string(source)
    except Exception as error:
        return {name: {"error": type(error).__name__, "message": str(error)} for name in cases}
    return {name: attempt(lambda: template.render(**variables)) for name, variables in cases.items()}
