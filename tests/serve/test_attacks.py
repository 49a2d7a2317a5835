"""How servers like this one have been broken, row by row: docs/serve.md has the map. What test_limits.py has is not here again."""
import json
import os
import random
import re
import resource
import socket
import subprocess
import threading
import time
import unittest

import harness

NASTY = ["(", "[", "*", "\\", "(?R)", "(a+)+$", "%llguidance {}", "root ::= root", "\u0000", "\u202e", "{{ 7*7 }}", "{% for x in range(10**9) %}", "</tool_call>", "<|im_end|>",
         "x" * 20000, "\ud800".encode("utf-8", "surrogatepass").decode("latin1")]


class Requests(harness.Case):
    template = harness.TOOL_TEMPLATE

    def test_tool_schemas_that_broke_others(self):
        """Descriptions, patterns and types of tools are text for the template: never a pattern to compile, never a crash."""
        for nasty in NASTY:
            for parameters in ({"type": "object", "properties": {"a": {"type": "string", "pattern": nasty}}}, {"type": nasty}, {"$ref": "#" + nasty},
                               {"properties": nasty}, {"enum": [nasty, 5, None]}):
                tool = {"type": "function", "function": {"name": "a", "description": nasty, "parameters": parameters}}
                body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "tools": [tool]}
                status, _, reply = self.server.post("/v1/chat/completions", body)
                self.assertIn(status, (200, 400), (nasty, reply))
        self.chat()

    def test_the_cap_of_n(self):
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        self.assertEqual(len(self.server.post("/v1/chat/completions", {**body, "n": 16})[2]["choices"]), 16)
        self.refused(400, "16", "/v1/chat/completions", {**body, "n": 17})

    def test_packed_bodies(self):
        for coding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
            self.refused(415, "Content-Encoding", "/v1/completions", b"\x1f\x8b" + b"\0" * 100, headers={"Content-Encoding": coding})

    def test_no_url_is_fetched(self):
        """Not even looked up: nobody knocks at a door of ours that every field names."""
        with socket.create_server(("127.0.0.1", 0)) as door:
            url = f"http://127.0.0.1:{door.getsockname()[1]}/"
            for content in ([{"type": "image_url", "image_url": {"url": url}}], [{"type": "input_audio", "input_audio": {"data": url}}],
                            [{"type": "video_url", "video_url": {"url": url}}], [{"type": "file", "file": {"file_data": url}}]):
                self.refused(400, "text", "/v1/chat/completions", {"messages": [{"role": "user", "content": content}], "max_tokens": 1})
            self.chat(url, user=url, metadata={"callback": url})
            door.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                door.accept()

    def test_one_door(self):
        """The process listens at one address, this machine's own: no inner port, no debug port."""
        inodes = set()
        for fd in os.listdir(f"/proc/{self.server.process.pid}/fd"):
            try:
                found = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{self.server.process.pid}/fd/{fd}"))
            except FileNotFoundError:
                continue
            inodes.update(found.groups() if found else [])
        listening = []
        for table in ("tcp", "tcp6", "udp", "udp6"):
            with open("/proc/net/" + table, encoding="ascii") as file:
                for line in list(file)[1:]:
                    fields = line.split()
                    if fields[9] in inodes and (fields[3] == "0A" or table.startswith("udp")):
                        listening.append((table, fields[1]))
        self.assertEqual(listening, [("tcp", f"0100007F:{self.server.port:04X}")])

    def test_answers_leak_nothing(self):
        """Errors of every kind, greped for addresses, paths and names."""
        bodies = [b"{", b'{"prompt":', b'{"prompt":"x","n":"5"}', b'{"messages":[{"role":"user","content":"{{ 1/0 }}"}],"max_tokens":1,"chat_template_kwargs":{"messages":5}}',
                  b'{"prompt":[99999999]}', b'{"model":"../../etc/passwd","prompt":"x"}', b'{"prompt":"\\ud800"}']
        for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/../../etc/passwd", "/v1/models/..%2f..%2fetc"):
            for body in bodies:
                status, headers, reply = self.server.post(path, body)
                text = json.dumps(reply) + str(headers)
                for leak in (r"0x[0-9a-f]{6}", "/tmp/", "/root", "/home", re.escape(harness.FOLDER), r"\.cc\b", r"\.h\b", re.escape(socket.gethostname())):
                    self.assertIsNone(re.search(leak, text), (leak, status, text))


class Templates(unittest.TestCase):
    def test_a_models_template_can_reach_nothing_and_run_for_ever_nowhere(self):
        """Templates come in model files: what one asks for in vain is an answer of 400, in bounded time, and the server lives."""
        loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}"
        grows = "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}"
        reach = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
        deep = "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}"
        for name, template in (("loops", loops), ("grows", grows), ("reach", reach), ("deep", deep), ("include", "{% include '/etc/passwd' %}"), ("import", "{% import 'os' as os %}")):
            with self.subTest(name):
                path = os.path.join(harness.FOLDER, name + ".jinja")
                with open(path, "w", encoding="ascii") as file:
                    file.write(template)
                done = subprocess.Popen([harness.BUSBAR, "serve", harness.small_model_path(), "--port", "0", "--access-log", "", "--gate", "off", "--chat-template-file", path],
                                        stderr=subprocess.PIPE, text=True)
                self.addCleanup(harness.patience(done).cancel)
                said = ""
                for line in done.stderr:
                    said += line
                    if line.startswith("ready, "):
                        break
                else:  # refused when it was read
                    self.assertEqual(done.wait(harness.TIMEOUT), 3, said)
                    done.stderr.close()
                    continue
                port = int(re.search(r":(\d+) \(the model", said).group(1))
                try:
                    begin = time.monotonic()
                    body = b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1}'
                    with socket.create_connection(("127.0.0.1", port), timeout=harness.TIMEOUT) as s:
                        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" %
                                  (len(body), body))
                        reply = b"".join(iter(lambda: s.recv(65536), b""))
                    self.assertRegex(reply, rb"^HTTP/1.1 (400|200)")
                    self.assertNotIn(b"root:", reply)
                    self.assertLess(time.monotonic() - begin, 10)
                finally:
                    done.terminate()
                    self.assertEqual(done.wait(harness.TIMEOUT), 0)
                    done.stderr.close()


class Wire(harness.Case):
    arguments = ("--connections", "12000", "--header-seconds", "2", "--body-seconds", "2.5", "--ping-seconds", "0.3", "--sequences", "16")

    def test_ten_thousand_idle_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 10500:
            self.skipTest(f"10,500 open files are needed, the system lets us have {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10500), hard))
        idle = []
        try:
            for _ in range(10000):
                idle.append(socket.create_connection(("127.0.0.1", self.server.port), timeout=harness.TIMEOUT))
            harness.until(lambda: self.server.metric("busbar_connections") >= 10000, "all of them open")
            times = []
            for _ in range(20):
                begin = time.monotonic()
                self.chat()
                times.append(time.monotonic() - begin)
            self.assertLess(sorted(times)[10], 1)
        finally:
            for s in idle:
                s.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        harness.until(lambda: self.server.metric("busbar_connections") < 100, "all of them closed")

    def test_slow_clients(self):
        """Headers and bodies that trickle in are given up, one that does not read its stream is cut; nobody else waits for any of them."""
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        body = b'{"prompt":"x","max_tokens":1900,"ignore_eos":true,"n":16,"stream":true,"logprobs":5}'
        slow = [socket.create_connection(("127.0.0.1", self.server.port)) for _ in range(50)]
        lazy, half = [], []
        stop = threading.Event()

        def trickle():
            for letter in head:
                for s in slow:
                    try:
                        s.send(bytes([letter]))
                    except OSError:
                        pass
                if stop.wait(0.3):
                    return
        thread = threading.Thread(target=trickle)
        thread.start()
        begin = time.monotonic()
        try:
            for _ in range(10):
                half.append(socket.create_connection(("127.0.0.1", self.server.port)))
                half[-1].sendall(head + b"Content-Length: 100\r\n\r\n{")
            for _ in range(2):
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.connect(("127.0.0.1", self.server.port))
                s.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                lazy.append(s)
            harness.until(lambda: self.server.metric("busbar_requests_running") > 0, "streams under way")
            self.chat()
            # 16 answers with logprobs are more than 4 MB: the stream is cut, and its answers end.
            harness.until(lambda: self.server.metric("busbar_requests_running") + self.server.metric("busbar_requests_waiting") == 0, "streams nobody reads to be cut", 60)
            self.chat()
            for s in slow + half:
                s.settimeout(max(0.1, begin + harness.TIMEOUT - time.monotonic()))
                self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 408"))
            self.assertGreater(time.monotonic() - begin, 2)
        finally:
            stop.set()
            thread.join()
            for s in slow + lazy + half:
                s.close()

    def test_a_silent_stream_is_kept_alive(self):
        """While it waits for its turn behind 64 others it gets comments; what is not silent gets none."""
        loud = {"prompt": "x", "max_tokens": 1900, "ignore_eos": True, "n": 16}
        threads = [threading.Thread(target=self.server.post, args=("/v1/completions", loud)) for _ in range(4)]
        for thread in threads:
            thread.start()
        harness.until(lambda: self.server.metric("busbar_requests_waiting") >= 40, "answers under way and in the queue")
        body = json.dumps({"prompt": "y", "max_tokens": 30, "ignore_eos": True, "stream": True}).encode()
        out = self.server.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" %
                              (len(body), body), timeout=harness.TIMEOUT)
        for thread in threads:
            thread.join()
        before, _, after = out.partition(b"data: ")
        self.assertIn(b": ping\n\n", before)
        self.assertNotIn(b": ping", after)
        self.assertIn(b"data: [DONE]", after)

    def test_mutated_requests(self):
        """Bytes of good requests, flipped, cut, doubled and swapped: an answer or a closed door, and the next client is served."""
        source = random.Random(harness.SEED)
        body = b'{"prompt": "hello", "max_tokens": 2, "logit_bias": {"5": 1}}'
        good = [b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
                b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"5\r\n{\"pro\r\n%x;x=y\r\nmpt\": \"hello\"}\r\n0\r\nA: b\r\n\r\n" % 15]
        for i in range(400):
            data = bytearray(source.choice(good))
            for _ in range(source.choice([1, 1, 2, 5])):
                at, kind = source.randrange(len(data)), source.randrange(5)
                if kind == 0:
                    data[at] ^= 1 << source.randrange(8)
                elif kind == 1:
                    data[at:at + source.randrange(1, 9)] = b""
                elif kind == 2:
                    data[at:at] = data[at:at + source.randrange(1, 40)]
                elif kind == 3:
                    data[at:at] = source.choice([b"\r\n", b"\0", b"\n", b" ", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\xff" * 4, b"9" * 30])
                else:
                    data[at] = source.randrange(256)
                if not data:
                    data = bytearray(b"\n")
            out = self.server.raw(bytes(data), close=True)
            self.assertRegex(out, rb"^(HTTP/1\.1 [1-5]\d\d |$)", (harness.SEED, i, bytes(data)))
        self.chat()
