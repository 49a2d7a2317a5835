"""The official client, unmodified, through every route that it knows."""
import json
import os
import sys
import unittest

import harness

sys.path.insert(0, os.environ.get("BUSBAR_OPENAI", ""))
try:
    import openai
except ImportError:
    openai = None

WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a place",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}}


@unittest.skipUnless(openai, "BUSBAR_OPENAI names no folder with the package openai")
class Client(harness.Case):
    def setUp(self):
        self.client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        self.model = "small"

    def ask(self, text="hello world", **more):
        options = {"max_tokens": 8, "temperature": 0, **more}
        return self.client.chat.completions.create(model=self.model, messages=[{"role": "user", "content": text}], **options)

    def test_models(self):
        models = list(self.client.models.list())
        self.assertEqual([m.id for m in models], ["small"])
        self.assertEqual(self.client.models.retrieve("small").object, "model")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("other")

    def test_chat_whole_and_streamed_are_the_same(self):
        whole = self.ask(max_tokens=24)
        self.assertEqual(whole.object, "chat.completion")
        self.assertEqual(whole.choices[0].message.role, "assistant")
        self.assertIn(whole.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
        text, finish, usage = "", None, None
        for chunk in self.ask(max_tokens=24, stream=True, stream_options={"include_usage": True}):
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason or finish
            usage = chunk.usage or usage
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(finish, whole.choices[0].finish_reason)
        self.assertEqual((usage.prompt_tokens, usage.completion_tokens), (whole.usage.prompt_tokens, whole.usage.completion_tokens))

    def test_seeds_and_several_answers(self):
        a = self.ask(temperature=1.0, seed=7, n=3, max_tokens=12)
        b = self.ask(temperature=1.0, seed=7, n=3, max_tokens=12)
        texts = [c.message.content for c in a.choices]
        self.assertEqual([c.index for c in a.choices], [0, 1, 2])
        self.assertEqual(texts, [c.message.content for c in b.choices])
        self.assertGreater(len(set(texts)), 1)
        self.assertEqual(self.ask(temperature=1.0, seed=7, max_tokens=12).choices[0].message.content, texts[0])
        self.assertNotEqual(self.ask(temperature=1.0, seed=8, max_tokens=12).choices[0].message.content, texts[0])
        same = self.ask(n=4)
        self.assertEqual(len({c.message.content for c in same.choices}), 1)

    def test_stop_texts_never_show(self):
        whole = self.ask(max_tokens=40, extra_body={"ignore_eos": True}).choices[0].message.content
        self.assertGreater(len(whole), 20)
        stop = whole[10:13]
        at = whole.find(stop)
        cut = self.ask(max_tokens=40, stop=[stop], extra_body={"ignore_eos": True})
        self.assertEqual(cut.choices[0].message.content, whole[:at])
        self.assertEqual(cut.choices[0].finish_reason, "stop")
        streamed = "".join(c.choices[0].delta.content or "" for c in self.ask(max_tokens=40, stop=stop, stream=True, extra_body={"ignore_eos": True}))
        self.assertEqual(streamed, whole[:at])

    def test_logprobs(self):
        answer = self.ask(logprobs=True, top_logprobs=3, max_tokens=6, extra_body={"ignore_eos": True})
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), 6)
        for entry in content:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertEqual(entry.top_logprobs[0].logprob, entry.logprob)  # greedy: the best one
            self.assertGreaterEqual(entry.top_logprobs[0].logprob, entry.top_logprobs[1].logprob)
        self.assertEqual(b"".join(bytes(e.bytes) for e in content).decode("utf-8", "replace"), answer.choices[0].message.content)
        text = self.client.completions.create(model=self.model, prompt="hello", max_tokens=4, temperature=0, logprobs=2, extra_body={"ignore_eos": True})
        self.assertEqual(len(text.choices[0].logprobs.tokens), 4)
        self.assertEqual([len(t) for t in text.choices[0].logprobs.top_logprobs], [2] * 4)

    def test_completions_from_texts_and_ids(self):
        ids = self.server.post("/tokenize", {"prompt": "hello world"})[2]["tokens"]
        create = self.client.completions.create
        one = create(model=self.model, prompt="hello world", max_tokens=8, temperature=0)
        self.assertEqual(create(model=self.model, prompt=ids, max_tokens=8, temperature=0).choices[0].text, one.choices[0].text)
        self.assertEqual(one.usage.prompt_tokens, len(ids))
        both = create(model=self.model, prompt=["hello world", "llo"], max_tokens=8, temperature=0, n=2)
        self.assertEqual([c.index for c in both.choices], [0, 1, 2, 3])
        self.assertEqual(both.choices[0].text, one.choices[0].text)
        self.assertEqual(both.choices[2].text, both.choices[3].text)
        streamed = "".join(c.choices[0].text for c in create(model=self.model, prompt=ids, max_tokens=8, temperature=0, stream=True))
        self.assertEqual(streamed, one.choices[0].text)

    def test_bias_and_penalties(self):
        create = self.client.completions.create
        letter = self.server.post("/tokenize", {"prompt": "w"})[2]["tokens"][0]
        forced = create(model=self.model, prompt="hello", max_tokens=5, temperature=0, logit_bias={str(letter): 100})
        self.assertEqual(forced.choices[0].text, "wwwww")
        plain = create(model=self.model, prompt="hello", max_tokens=5, temperature=0, logit_bias={str(letter): 50}, frequency_penalty=2.0)
        self.assertEqual(plain.choices[0].text, "wwwww")
        once = create(model=self.model, prompt="hello", max_tokens=5, temperature=0, presence_penalty=2.0, frequency_penalty=2.0,
                      logit_bias={str(letter): 3})
        self.assertLess(once.choices[0].text.count("w"), 5)

    def test_errors_are_the_clients_classes(self):
        with self.assertRaises(openai.NotFoundError) as got:
            self.client.chat.completions.create(model="other", messages=[{"role": "user", "content": "x"}])
        self.assertEqual(got.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as got:
            self.ask("hello " * harness.CONTEXT)
        self.assertEqual(got.exception.code, "context_length_exceeded")
        for options in ({"response_format": {"type": "json_object"}}, {"n": 0}, {"tools": [WEATHER], "tool_choice": "required"}):
            with self.assertRaises(openai.BadRequestError):
                self.ask(**options)
        with self.assertRaises(openai.BadRequestError):
            self.client.embeddings.create(model=self.model, input="x")

    def test_tools_need_a_template_that_knows_them(self):
        with self.assertRaises(openai.BadRequestError) as got:
            self.ask(tools=[WEATHER])
        self.assertIn("tools", str(got.exception))


@unittest.skipUnless(openai, "BUSBAR_OPENAI names no folder with the package openai")
class Tools(harness.Case):
    template = harness.TOOL_TEMPLATE

    def forced(self, text, **more):
        client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        return client.chat.completions.create(model="tools", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=8, **more)

    def test_tools_are_rendered_and_a_conversation_with_calls_goes_back(self):
        plain, with_tools = self.forced("x"), self.forced("x", tools=[WEATHER], tool_choice="auto", parallel_tool_calls=False)
        self.assertGreater(with_tools.usage.prompt_tokens, plain.usage.prompt_tokens + 100)
        without = self.forced("x", tools=[WEATHER], tool_choice="none")
        self.assertEqual(without.usage.prompt_tokens, plain.usage.prompt_tokens)
        status, _, reply = self.server.post("/tokenize", {"messages": [
            {"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "at?"}]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"place\": \"Bern\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]})
        self.assertEqual(status, 200, reply)
        text = self.server.post("/detokenize", {"tokens": reply["tokens"]})[2]["prompt"]
        self.assertIn('<tool_call>weather{"place": "Bern"}</tool_call>', text)
        self.assertIn("<|im_start|>user\nWhat?", text)


CALLS = ['Let me see. <tool', '_call>\n{"name": "weather", "argu', 'ments": {"place": "Zürich"}}', '\n</tool_call>', '\n<tool_call>{"name": "weather", ',
         '"arguments": {"place": "Bern"}}</tool_call>']


@unittest.skipUnless(openai, "BUSBAR_OPENAI names no folder with the package openai")
class Calls(harness.Case):
    """A model that always answers with two calls."""

    @classmethod
    def setUpClass(cls):
        cls.model = harness.talking_model_path("talking.gguf", CALLS, harness.TOOL_TEMPLATE)
        super().setUpClass()
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", max_retries=0)

    def ask(self, **more):
        return self.client.chat.completions.create(model="talking", messages=[{"role": "user", "content": "weather?"}], temperature=0, **more)

    def test_without_tools_it_is_text(self):
        self.assertEqual(self.ask().choices[0].message.content, "".join(CALLS))
        self.assertEqual(self.ask().choices[0].finish_reason, "stop")

    def test_calls_are_parsed(self):
        choice = self.ask(tools=[WEATHER]).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertEqual(choice.message.content.strip(), "Let me see.")
        calls = choice.message.tool_calls
        self.assertEqual([(c.type, c.function.name, json.loads(c.function.arguments)) for c in calls],
                         [("function", "weather", {"place": "Zürich"}), ("function", "weather", {"place": "Bern"})])
        self.assertEqual(len({c.id for c in calls}), 2)
        one = self.ask(tools=[WEATHER], parallel_tool_calls=False).choices[0]
        self.assertEqual(len(one.message.tool_calls), 1)
        self.assertEqual(one.finish_reason, "tool_calls")
        both = self.ask(tools=[WEATHER], n=2, stop=["Bern"])  # a stop text inside a call: what there is of it stays text
        self.assertEqual([len(c.message.tool_calls) for c in both.choices], [1, 1])

    def test_calls_are_streamed(self):
        text, calls, finish = "", {}, None
        for chunk in self.ask(tools=[WEATHER], stream=True):
            delta = chunk.choices[0].delta
            text += delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
            for call in delta.tool_calls or []:
                known = calls.setdefault(call.index, [call.id, call.function.name, ""])
                known[2] += call.function.arguments
        self.assertEqual((text.strip(), finish), ("Let me see.", "tool_calls"))
        self.assertEqual([(c[1], json.loads(c[2])) for c in calls.values()], [("weather", {"place": "Zürich"}), ("weather", {"place": "Bern"})])

    def test_stop_texts_across_tokens(self):
        choice = self.ask(stop=["<tool_call>"]).choices[0]
        self.assertEqual((choice.message.content, choice.finish_reason), ("Let me see. ", "stop"))
