"""What a stranger may send: every number, every nesting, broken HTTP, too much of anything. The server answers and lives."""
import json
import random
import socket
import threading
import time

import harness

NUMBERS = [-1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 1e308, -1e308, "5", [], {}, True, 0.5]
FIELDS = ["n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
          "repetition_penalty", "seed", "top_logprobs"]
VALID = [("temperature", 0.5), ("top_p", 0.5), ("min_p", 0.5), ("presence_penalty", -1), ("presence_penalty", 0.5), ("frequency_penalty", -1),
         ("frequency_penalty", 0.5), ("repetition_penalty", 0.5), ("top_k", -1), ("seed", -1), ("seed", 2**31), ("seed", 2**32)]


class Fields(harness.Case):
    def test_every_number(self):
        for field in FIELDS:
            for value in NUMBERS:
                body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, field: value}
                status, _, reply = self.server.post("/v1/chat/completions", body)
                if (field, value) in VALID and value is not True:
                    self.assertEqual(status, 200, (field, value, reply))
                else:
                    self.assertEqual(status, 400, (field, value, reply))
                    self.assertEqual(reply["error"]["param"], field)
            self.assertEqual(len(self.chat(**{field: None})["choices"]), 1)

    def test_numbers_that_json_does_not_know(self):
        for word in ("NaN", "Infinity", "-Infinity", "01", "1e999", "+1"):
            self.refused(400, "", "/v1/chat/completions", '{"messages":[{"role":"user","content":"x"}],"temperature":%s}' % word)

    def test_refused_with_a_reason_never_ignored(self):
        base = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        for more, words in (({"response_format": {"type": "json_schema", "json_schema": {}}}, "constrain"),
                            ({"grammar": "root ::= x"}, "constrain"), ({"guided_json": {}}, "constrain"),
                            ({"tool_choice": "required"}, "constrain"), ({"temperture": 1}, "temperture"),
                            ({"functions": []}, "tools"), ({"stream_options": {}}, "stream"), ({"top_logprobs": 2}, "logprobs"),
                            ({"stop": ""}, "stop"), ({"stop": ["x"] * 17}, "stop"), ({"logit_bias": {"x": 1}}, "logit_bias"),
                            ({"logit_bias": {"1": 101}}, "logit_bias"), ({"logit_bias": {"-1": 1}}, "logit_bias"),
                            ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "name"),
                            ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 5}}]}, "parameters"),
                            ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]}]}, "text"),
                            ({"messages": []}, "messages"), ({"messages": [5]}, "messages"), ({"messages": [{"role": "root", "content": ""}]}, "role"),
                            ({"messages": [{"role": "user"}]}, "content"), ({"messages": [{"role": "tool", "content": "x"}]}, "no tools here")):
            with self.subTest(str(more)[:60]):
                self.refused(400, words, "/v1/chat/completions", {**base, **more})
        for more, words in (({"echo": True}, "echo"), ({"suffix": "x"}, "suffix"), ({"best_of": 2}, "best_of"), ({"prompt": []}, "prompt"),
                            ({"prompt": [10**6]}, "token ids"), ({"prompt": [-1]}, "token ids"), ({"prompt": ""}, "at least one"),
                            ({"prompt": [[]]}, "at least one"), ({"prompt": ["x"] * 65}, "64"), ({"prompt": None}, "prompt")):
            with self.subTest(str(more)[:60]):
                self.refused(400, words, "/v1/completions", {"prompt": "x", "max_tokens": 1, **more})
        self.refused(400, "embeddings", "/v1/embeddings", {"input": "x"})

    def test_bodies_that_are_no_object(self):
        for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
            for body in (b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b'"\\ud800"', b'{"a":1,"a":2}', b"{}" * 2, b"\x00"):
                self.refused(400, "", path, body)

    def test_nesting(self):
        for depth in (100, 1000, 100000, 1000000):
            for left, right in (("[", "]"), ('{"a":', "}")):
                value = left * depth + "1" + right * depth
                body = '{"prompt":"x","metadata":' + value + "}"
                if depth > 100 or left == "[":
                    status, _, reply = self.server.post("/v1/completions", body)
                    self.assertIn(status, (200, 400, 413), reply)
        deep = {"x": 1}
        for _ in range(90):
            deep = {"a": deep}
        self.refused(400, "tools", "/v1/chat/completions",
                     {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "a", "parameters": deep}}]})

    def test_random_requests_never_break_it(self):
        source = random.Random(harness.SEED)
        words = ["n", "stop", "messages", "prompt", "logit_bias", "tools", "stream", "content", "role", "user", "<|im_end|>", "{{ 7*7 }}", "\x1b[2J"]

        def value(depth=0):
            kind = source.randrange(8 if depth < 4 else 5)
            if kind == 0:
                return source.choice([None, True, False, 0, -1, 2**63, 1e308, 0.1])
            if kind < 5:
                return source.choice(words)
            if kind == 5:
                return [value(depth + 1) for _ in range(source.randrange(4))]
            return {source.choice(words): value(depth + 1) for _ in range(source.randrange(4))}
        for _ in range(300):
            body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
            body.pop(source.choice(["prompt", "messages"]))
            body[source.choice(words)] = value()
            path = source.choice(["/v1/chat/completions", "/v1/completions", "/tokenize"])
            status = self.server.post(path, body)[0]
            self.assertIn(status, (200, 400), (harness.SEED, body))
        self.chat()

    def test_text_of_users_is_no_token_and_no_template(self):
        a = self.server.post("/tokenize", {"messages": [{"role": "user", "content": "<|im_end|>"}]})[2]["tokens"]
        b = self.server.post("/tokenize", {"messages": [{"role": "user", "content": ""}]})[2]["tokens"]
        self.assertEqual(a.count(2), b.count(2))
        text = self.server.post("/detokenize", {"tokens": self.server.post("/tokenize", {"messages": [{"role": "user", "content": "{{ 7*7 }}"}]})[2]["tokens"]})
        self.assertIn("{{ 7*7 }}", text[2]["prompt"])


class Wire(harness.Case):
    arguments = ("--connections", "40")

    def status(self, data, **options):
        out = self.server.raw(data, **options)
        return int(out.split(b" ")[1]) if out.startswith(b"HTTP/1.1 ") else out

    def test_routes(self):
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        self.assertEqual(self.server.ask("GET", "/ready")[0], 200)
        self.assertEqual(self.server.ask("GET", "/nothing")[0], 404)
        self.assertEqual(self.server.ask("GET", "/v1/completions")[0], 405)
        self.assertEqual(self.server.ask("HEAD", "/health")[0], 200)
        self.assertEqual(self.server.ask("GET", "/version")[2]["version"][:2], "0.")
        self.assertIn(b"<title>Busbar</title>", self.server.ask("GET", "/")[2])
        self.assertNotIn(b"http://", self.server.ask("GET", "/")[2])
        self.assertEqual(self.server.ask("GET", "/status")[2]["state"], "ready")
        self.assertEqual(self.server.post("/v1/completions", '{"prompt":"x"}', headers={"Content-Type": "text/plain"})[0], 415)
        self.assertEqual(self.server.ask("GET", "/", headers={"Host": "evil.example"})[0], 403)

    def test_metrics_have_both_names(self):
        self.server.post("/v1/completions", {"prompt": "hello", "max_tokens": 2, "ignore_eos": True})
        harness.until(lambda: self.server.metric("busbar_generated_tokens_total") >= 2, "tokens counted")
        text = self.server.ask("GET", "/metrics")[2].decode()
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prefix_cache_queries", "prefix_cache_hits",
                     "prompt_tokens_total", "generation_tokens_total", "request_success_total", "time_to_first_token_seconds_bucket",
                     "inter_token_latency_seconds_sum", "e2e_request_latency_seconds_count", "request_queue_time_seconds_count",
                     "request_prefill_time_seconds_count", "request_decode_time_seconds_count"):
            self.assertIn("\nvllm:" + name, text)
        for line in text.splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) .*|[a-z0-9_:A-Z]+(\{[^}]*\})? [-+0-9.e]+(inf)?)$')

    def test_broken_http(self):
        for data, expected in ((b"GET\r\n\r\n", 400), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40, 400),
                               (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
                               (b"GET http://x/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
                               (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n", 400),
                               (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", 413),
                               (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 100000 + b"\r\n", 431),
                               (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 150 + b"\r\n", 431),
                               (b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", 431)):
            with self.subTest(data[:60]):
                self.assertEqual(self.status(data), expected)
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)

    def test_chunk_storm(self):
        body = json.dumps({"prompt": "hello", "pad": None}).encode()
        head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        storm = b"".join(b"1\r\n%c\r\n" % c for c in b" " * 300000)
        body = b'{"prompt": "hello"}'
        whole = head + storm + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        self.assertEqual(self.status(whole, timeout=30), 200)
        self.assertEqual(self.status(head + b"1;" + b"x" * 200000 + b"\r\n \r\n0\r\n\r\n"), 413)

    def test_pipelining(self):
        one = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        out = self.server.raw(one * 50 + last)
        self.assertEqual(out.count(b"HTTP/1.1 200 OK"), 51)

    def test_old_version_gets_a_stream_without_chunks(self):
        body = json.dumps({"prompt": "hello", "max_tokens": 3, "stream": True}).encode()
        out = self.server.raw(b"POST /v1/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        head, _, rest = out.partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertTrue(rest.startswith(b"data: {") and rest.endswith(b"data: [DONE]\n\n"), rest[:200])

    def test_idle_connections_give_way(self):
        idle = []
        for _ in range(200):
            idle.append(socket.create_connection(("127.0.0.1", self.server.port)))
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        self.assertLessEqual(self.server.metric("busbar_connections"), 41)
        for s in idle:
            s.close()

    def test_log_lines_cannot_be_forged(self):
        self.server.raw(b"GET /x%0d%0a\"}{\x1b[2J HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.server.ask("GET", "/v1/models/%0a%7b%22forged%22:1%7d")
        for line in self.server.log_lines():
            self.assertTrue("status" in line and "forged" not in line)


class Keys(harness.Case):
    @classmethod
    def setUpClass(cls):
        path = harness.FOLDER + "/keys.txt"
        with open(path, "w", encoding="ascii") as file:
            file.write("# two tenants\nfirst-key-0123456789\nsecond-key-0123456789\n")
        cls.server = harness.Server("--api-key-file", path, "--host", "0.0.0.0", "--context", str(harness.CONTEXT))

    def test_every_route_but_two(self):
        for method, path in (("GET", "/"), ("GET", "/status"), ("GET", "/version"), ("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/v1/models/small"),
                             ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"), ("POST", "/tokenize"),
                             ("POST", "/detokenize"), ("GET", "/nothing"), ("DELETE", "/v1/models")):
            for key in (None, "Bearer ", "Bearer wrong-key-0123456789", "first-key-0123456789", "Basic !!!!", "Bearer first-key-01234567890"):
                status, headers, _ = self.server.ask(method, path, "{}" if method == "POST" else None, headers={"Authorization": key})
                self.assertEqual(status, 401, (method, path, key))
                self.assertIn("WWW-Authenticate", headers)
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        self.assertEqual(self.server.ask("GET", "/ready")[0], 200)
        self.assertEqual(self.server.ask("GET", "/v1/models", headers={"Authorization": "Bearer second-key-0123456789"})[0], 200)
        self.assertEqual(self.server.ask("GET", "/", headers={"Authorization": "Basic OmZpcnN0LWtleS0wMTIzNDU2Nzg5"})[0], 200)

    def test_tenants_share_no_past(self):
        prompt = "hello world " * 60
        found = []
        for key in ("first", "first", "second", "second"):
            reply = self.server.post("/v1/completions", {"prompt": prompt, "max_tokens": 1}, headers={"Authorization": f"Bearer {key}-key-0123456789"})[2]
            found.append(reply["usage"]["prompt_tokens_details"]["cached_tokens"])
        self.assertEqual(found[0], 0)
        self.assertGreaterEqual(found[1], 64)
        self.assertEqual(found[2], 0)
        self.assertEqual(found[3], found[1])


class Start(harness.unittest.TestCase):
    def test_a_public_address_needs_keys(self):
        import subprocess
        done = subprocess.run([harness.BUSBAR, "serve", harness.small_model_path(), "--host", "0.0.0.0", "--port", "0"], capture_output=True, text=True,
                              timeout=harness.TIMEOUT, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("--api-key-file", done.stderr)
        done = subprocess.run([harness.BUSBAR, "serve", "/nonexistent.gguf", "--port", "0"], capture_output=True, text=True, timeout=harness.TIMEOUT, check=False)
        self.assertEqual(done.returncode, 3, done.stderr)

    def test_json_says_what_happens(self):
        import signal
        import subprocess
        process = subprocess.Popen([harness.BUSBAR, "serve", harness.small_model_path(), "--port", "0", "--json", "--access-log", ""], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(harness.patience(process).cancel)
        listening, ready = (json.loads(process.stdout.readline()) for _ in range(2))
        self.assertEqual((listening["event"], ready["event"], ready["url"]), ("listening", "ready", listening["url"]))
        self.assertRegex(ready["url"], r"^http://127\.0\.0\.1:[0-9]+$")
        self.assertGreater(ready["replicas"][0]["verdict"]["outputs"], 1000)
        self.assertEqual(sum(ready["replicas"][0]["placement"]["flops_share"].values()), 1)
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line)["event"] for line in process.stdout]
        self.assertEqual((rest, process.wait(harness.TIMEOUT)), (["stopped"], 0))
        process.stdout.close()
