#!/usr/bin/env python3
"""Renders every *.jinja of a folder over many conversations with Jinja2 and writes the results to FOLDER/expected.json.

    make_templates.py FOLDER

Published templates are not ours to commit: fetch them (the source package llama-cpp-python 0.3.36 carries 70 under
vendor/llama.cpp/models/templates), run this, and set BUSBAR_TEMPLATES=FOLDER for test_template.
"""
import json
import pathlib
import sys

import jinja2

from jinja_environment import CLOCK, environment, render_all

SPECIAL = {
    "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
}

SYSTEM = {"role": "system", "content": "You are a careful assistant.\nAnswer in one line. "}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, <now> & \"today\".",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City, e.g. Zürich"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "minimum": 1},
                "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": ["number", "null"]}},
                          "required": ["lat"]},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city"],
        },
        "return": {"type": "string"},
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number", "description": "second\nnumber"}},
                       "required": ["a", "b"]},
    },
}
PLAIN = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def answer(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, id="abc123def"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(text, name="get_weather", id="abc123def"):
    return {"role": "tool", "name": name, "tool_call_id": id, "content": text}


def conversations():
    hello = user("Hello <|im_end|> there, \u00e9\u6f22\U0001f600 'quoted' \"text\"")
    turns = [hello, answer("Hi!"), user("  And now?\n"), answer(" Now is now. "), user("Thanks")]
    thinking = [hello, answer("<think>\nHm, first.\n</think>\n\nHi!"), user("Again?")]
    reasoned = [hello, answer("Hi!", reasoning_content="They said hello.\n"), user("Again?")]
    calls = [user("Weather in Paris?"), answer("", tool_calls=[call("get_weather", {"city": "Paris", "days": 2, "where": {"lat": 48.85, "lon": None}})])]
    result = calls + [tool('{"temp": 21.5, "sky": "clear"}')]
    none_content = [user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [call("get_weather", {"city": "Rome"})]}, tool("sunny")]
    two = [user("Both"), answer("Let me see.", tool_calls=[call("get_weather", {"city": "Oslo"}, "aaaaaaaa1"), call("add", {"a": 1, "b": -2.5}, "aaaaaaaa2")]),
           tool("rain", id="aaaaaaaa1"), tool("-1.5", "add", "aaaaaaaa2"), answer("Rain, and -1.5."), user("ok")]
    thought_call = [user("Sum"), answer("", reasoning_content="Use add.", tool_calls=[call("add", {"a": 1e20, "b": 0.1})]), tool("1e20", "add"),
                    answer("<think>done</think>It is large."), user("and?")]
    text_arguments = [user("Sum"), answer("", tool_calls=[call("add", '{"a": 1, "b": 2}')]), tool("3", "add")]
    parts = [{"role": "user", "content": [{"type": "text", "text": "First. "}, {"type": "text", "text": "Second."}]}, answer("ok"), user("go")]
    part_system = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    image = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    two_users = [user("one"), user("two")]
    starts_with_answer = [answer("I start."), user("no")]
    developer = [{"role": "developer", "content": "Use metric units."}, hello]
    odd_role = [hello, {"role": "critic", "content": "Hm."}]
    late_system = [hello, answer("Hi"), SYSTEM, user("x")]
    slash = [{"role": "system", "content": "/no_think be quick"}, user("Hello /think")]
    tools = [WEATHER, ADD]
    base = {"messages": turns, "add_generation_prompt": True}
    yield "one", {"messages": [hello], "add_generation_prompt": True}
    yield "one_closed", {"messages": [hello], "add_generation_prompt": False}
    yield "system", {"messages": [SYSTEM, hello], "add_generation_prompt": True}
    yield "system_only", {"messages": [SYSTEM], "add_generation_prompt": True}
    yield "turns", base
    yield "turns_closed", {"messages": turns[:-1], "add_generation_prompt": False}
    yield "turns_system", {"messages": [SYSTEM] + turns, "add_generation_prompt": True}
    yield "no_flag", {"messages": turns}
    yield "think_off", {**base, "enable_thinking": False, "thinking": False}
    yield "think_on", {**base, "enable_thinking": True, "thinking": True, "reasoning_effort": "high"}
    yield "thinking", {"messages": thinking, "add_generation_prompt": True}
    yield "thinking_closed", {"messages": thinking[:2], "add_generation_prompt": False}
    yield "reasoned", {"messages": reasoned, "add_generation_prompt": True, "enable_thinking": True}
    yield "reasoned_closed", {"messages": reasoned[:2], "add_generation_prompt": False, "preserve_thinking": True, "clear_thinking": False}
    yield "tools", {"messages": [hello], "tools": tools, "add_generation_prompt": True}
    yield "tools_system", {"messages": [SYSTEM, hello], "tools": tools + [PLAIN], "add_generation_prompt": True}
    yield "tools_think_off", {"messages": [SYSTEM, hello], "tools": tools, "add_generation_prompt": True, "enable_thinking": False}
    yield "tools_none", {"messages": [hello], "tools": None, "documents": None, "add_generation_prompt": True}
    yield "tools_empty", {"messages": [hello], "tools": [], "add_generation_prompt": True}
    yield "calls", {"messages": calls, "tools": tools, "add_generation_prompt": False}
    yield "result", {"messages": result, "tools": tools, "add_generation_prompt": True}
    yield "result_no_tools", {"messages": [SYSTEM] + result, "add_generation_prompt": True}
    yield "result_answered", {"messages": result + [answer("21.5 and clear."), user("thanks")], "tools": tools, "add_generation_prompt": True}
    yield "none_content", {"messages": none_content, "tools": tools, "add_generation_prompt": True}
    yield "two_calls", {"messages": [SYSTEM] + two, "tools": tools, "add_generation_prompt": True}
    yield "thought_call", {"messages": thought_call, "tools": tools, "add_generation_prompt": True, "enable_thinking": True}
    yield "text_arguments", {"messages": text_arguments, "tools": tools, "add_generation_prompt": True}
    yield "tools_in_user", {"messages": [SYSTEM, hello], "tools": tools, "tools_in_user_message": False, "date_string": "26 Jul 2024",
                            "add_generation_prompt": True}
    yield "builtin", {"messages": [hello], "builtin_tools": ["code_interpreter", "brave_search"], "add_generation_prompt": True}
    yield "parts", {"messages": parts, "add_generation_prompt": True}
    yield "part_system", {"messages": part_system, "add_generation_prompt": True}
    yield "image", {"messages": image, "add_generation_prompt": True}
    yield "two_users", {"messages": two_users, "add_generation_prompt": True}
    yield "starts_with_answer", {"messages": starts_with_answer, "add_generation_prompt": True}
    yield "developer", {"messages": developer, "add_generation_prompt": True, "model_identity": "You are a test."}
    yield "odd_role", {"messages": odd_role, "add_generation_prompt": True}
    yield "late_system", {"messages": late_system, "add_generation_prompt": True}
    yield "slash", {"messages": slash, "add_generation_prompt": True, "xml_tools": tools}
    yield "documents", {"messages": [hello], "documents": [{"title": "A", "text": "First document."}, {"title": "B", "text": "Second."}],
                        "add_generation_prompt": True}
    yield "continue", {"messages": [hello, answer("Hel")], "add_generation_prompt": False, "continue_final_message": True}
    yield "empty", {"messages": [], "add_generation_prompt": True}


def main():
    folder = pathlib.Path(sys.argv[1])
    env = environment()
    cases = {name: {**SPECIAL, **variables} for name, variables in conversations()}
    templates = {}
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_bytes().decode("utf-8")
        templates[path.name] = render_all(env, source, cases)
    out = {"made_by": f"jinja2 {jinja2.__version__}", "clock": CLOCK, "cases": cases, "templates": templates}
    (folder / "expected.json").write_text(json.dumps(out, ensure_ascii=False))
    count = sum(len(t) for t in templates.values())
    errors = sum("error" in r for t in templates.values() for r in t.values())
    print(f"{len(templates)} templates x {len(cases)} conversations: {count} results, {errors} of them errors")


if __name__ == "__main__":
    main()
