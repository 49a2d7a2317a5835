"""A server under test: started on a free port, asked over HTTP, stopped by a signal."""
import array
import http.client
import json
import os
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cli"))
import small_model  # noqa: E402

BUSBAR = ""
SEED = int(os.environ.get("BUSBAR_SEED", random.SystemRandom().randrange(1 << 32)))
FOLDER = tempfile.mkdtemp(prefix="busbar-serve-")
TIMEOUT = 60  # nothing here takes a second; the machine may be busy
CONTEXT = 2048
# Gates passed are remembered within the run and by nobody else: neither does a test depend on what ran before it, nor is a gate run twice.
os.environ["BUSBAR_CACHE"] = os.path.join(FOLDER, "cache")

TOOL_TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\\nTools:\\n' }}{% for t in tools %}{{ t | tojson }}{{ '\\n' }}{% endfor %}"
    "{{ 'Answer with <tool_call>{\"name\": ..., \"arguments\": ...}</tool_call>.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function.name + (c.function.arguments | tojson) + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def clean():
    shutil.rmtree(FOLDER, ignore_errors=True)


def small_model_path(name="small.gguf", template=None):
    path = os.path.join(FOLDER, name)
    if not os.path.exists(path):
        def change(meta, _):
            meta["llama.context_length"] = ("u32", CONTEXT)
            if template:
                meta["tokenizer.chat_template"] = ("string", template)
        small_model.write_gguf(path, change)
    return path


def talking_model_path(name, parts, template=None):
    """A model that answers every chat with `parts`, a token each, and then ends: each token's row of the head is what the
    embedding of the token before it looks like, and the layers add nothing."""
    letters = small_model.byte_letters()
    spelled = ["".join(letters[b] for b in part.encode()) for part in parts]
    path = os.path.join(FOLDER, name)

    def change(meta, stored):
        meta["llama.context_length"] = ("u32", CONTEXT)
        tokens = small_model.TOKENS + spelled
        meta["tokenizer.ggml.tokens"] = ("array", ("string", tokens))
        meta["tokenizer.ggml.token_type"] = ("array", ("i32", [3] * len(small_model.SPECIAL) + [1] * (len(tokens) - len(small_model.SPECIAL))))
        if template:
            meta["tokenizer.chat_template"] = ("string", template)
        source = random.Random(3)
        embedding = [[source.gauss(0, 1) for _ in range(small_model.WIDTH)] for _ in tokens]
        chain = [tokens.index(letters[10])] + list(range(len(small_model.TOKENS), len(tokens))) + [2]
        head = [[0.0] * small_model.WIDTH for _ in tokens]
        for before, after in zip(chain, chain[1:]):
            head[after] = embedding[before]
        for tensor in stored:
            if tensor[0] in ("token_embd", "output"):
                rows = embedding if tensor[0] == "token_embd" else head
                tensor[2], tensor[3] = [len(tokens), small_model.WIDTH], array.array("f", [x for row in rows for x in row]).tobytes()
            elif tensor[0].endswith(("attn_output", "ffn_down")):
                tensor[3] = bytes(len(tensor[3]))
    small_model.write_gguf(path, change)
    return path


class Server:
    """`busbar serve` as a process. Use it as a context: it must end with exit code 0 on SIGTERM."""

    def __init__(self, *arguments, model=None, wait=True, files=None):
        self.log = os.path.join(FOLDER, f"access-{random.SystemRandom().randrange(1 << 40)}.log")
        command = [BUSBAR, "serve", model or small_model_path(), "--port", "0", "--access-log", self.log, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.said = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()
        self.port = int(re.search(r":(\d+) \(the model", self.wait_for("http://")).group(1))
        self.url = f"http://127.0.0.1:{self.port}"
        if wait:
            self.wait_for("ready, ")

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line)
            self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, words):
        end = time.monotonic() + TIMEOUT
        while True:
            line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            if line is None:
                raise AssertionError(f"the server ended with {self.process.wait()}: {''.join(self.said)[-3000:]}")
            if words in line:
                return line

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop() if self.process.poll() is None else self.process.returncode
        if kind is None and code != 0:
            raise AssertionError(f"expected exit code 0, got {code}: {''.join(self.said)[-3000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server did not stop") from None

    def ask(self, method, path, body=None, headers=None, timeout=TIMEOUT):
        """Status, headers, body: as JSON where it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            given = {"Content-Type": "application/json"} if data is not None else {}
            given.update(headers or {})
            connection.request(method, path, data, {k: v for k, v in given.items() if v is not None})
            reply = connection.getresponse()
            text = reply.read()
            if text and "json" in reply.headers.get("Content-Type", ""):
                text = json.loads(text)
            return reply.status, reply.headers, text
        finally:
            connection.close()

    def post(self, path, body, **options):
        return self.ask("POST", path, body, **options)

    def stream(self, path, body, on_event=None):
        """The events of a stream, parsed; the last one is the text [DONE]."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        connection.request("POST", path, json.dumps(dict(body, stream=True)), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        events = []
        if reply.status != 200:
            raise AssertionError(f"{reply.status}: {reply.read()}")
        for line in reply:
            if not line.startswith(b"data: "):
                continue
            text = line[6:].strip().decode()
            events.append(text if text == "[DONE]" else json.loads(text))
            if on_event and on_event(events) is False:
                break
        connection.close()
        return events

    def raw(self, data, timeout=10, close=False):
        """Bytes as they are; everything that comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            try:
                s.sendall(data)
                if close:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused in the middle: what was said about it is what counts
            out = b""
            try:
                while True:
                    part = s.recv(65536)
                    if not part:
                        return out
                    out += part
            except OSError:
                return out

    def metric(self, name):
        text = self.ask("GET", "/metrics")[2].decode()
        found = re.search(rf"^{re.escape(name)}(?:{{.*}})? (.*)$", text, re.M)
        if not found:
            raise AssertionError(f"no metric {name}")
        return float(found.group(1))

    def log_lines(self):
        with open(self.log, encoding="ascii") as file:
            return [json.loads(line) for line in file]


def patience(process):
    """Ends a process that a test waits for in vain, and with it the wait."""
    timer = threading.Timer(2 * TIMEOUT, process.kill)
    timer.start()
    return timer


def until(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for: {what}")
        time.sleep(0.02)


class Case(unittest.TestCase):
    maxDiff = 3000
    arguments, template, model = (), None, None

    @classmethod
    def setUpClass(cls):
        name = "small.gguf" if cls.template is None else "tools.gguf"
        cls.server = Server("--context", str(CONTEXT), *cls.arguments, model=cls.model or small_model_path(name, cls.template))

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def refused(self, status, words, path, body, **options):
        got, _, reply = self.server.post(path, body, **options)
        self.assertEqual(got, status, reply)
        error = reply["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, error["message"])
        for leak in ("0x", "/tmp", "/root", FOLDER, ".cc", socket.gethostname()):
            self.assertNotIn(leak, error["message"])
        return error

    def chat(self, text="hello", **more):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0, **more}
        status, _, reply = self.server.post("/v1/chat/completions", body)
        self.assertEqual(status, 200, reply)
        return reply
