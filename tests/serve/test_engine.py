"""Many answers at once: the same bytes as alone, nobody else's text, memory given back, nobody kept waiting, a stop that drops nothing."""
import concurrent.futures
import json
import os
import random
import signal
import socket
import threading
import time

import harness


def completion(server, prompt, tokens=24, **more):
    status, _, reply = server.post("/v1/completions", {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **more})
    if status != 200:
        raise AssertionError(reply)
    return reply


def post_bytes(body):
    return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


class Batch(harness.Case):
    # Whoever is alone gets drafts, a batch none: what must be equal alone and together also says that drafts change nothing.
    arguments = ("--order", "invariant", "--sequences", "6", "--cache-tokens", "6000", "--step-ms", "2", "--speculate", "on")

    def free(self):
        return self.server.metric("busbar_cache_pages_free")

    def all_free(self):
        pages = self.server.metric("busbar_cache_pages")
        harness.until(lambda: self.free() == pages and self.server.metric("busbar_requests_running") == 0, "all pages given back")

    def test_together_as_alone(self):
        """Greedy and drawn, short and long, with cancelled neighbours: bit for bit, since every logit is."""
        source = random.Random(harness.SEED)
        words = ["hello", " world", "llo", " wor", "x", "é", "\n"]
        asks = []
        for i in range(24):
            prompt = "".join(source.choice(words) for _ in range(source.choice([3, 40, 150, 400])))
            asks.append((f"canary{i:03d} " + prompt, {"temperature": source.choice([0, 0.9]), "seed": i, "logprobs": 1, "tokens": source.choice([5, 40])}))

        def ask(item):
            reply = completion(self.server, item[0], **item[1])
            return reply["choices"][0]["text"], reply["choices"][0]["logprobs"]["token_logprobs"]
        alone = [ask(item) for item in asks]

        def nuisance(i):
            with socket.create_connection(("127.0.0.1", self.server.port)) as s:
                body = json.dumps({"prompt": f"poison{i} " * 50, "max_tokens": 500, "ignore_eos": True, "stream": True}).encode()
                s.sendall(post_bytes(body))
                time.sleep(source.random() * 0.2)
        order = list(range(24))
        source.shuffle(order)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            bad = [pool.submit(nuisance, i) for i in range(12)]
            together = dict(zip(order, pool.map(lambda i: ask(asks[i]), order)))
            for b in bad:
                b.result()
        for i in range(24):
            self.assertEqual(together[i], alone[i], (harness.SEED, i))
        self.all_free()

    def test_kept_pasts_are_found_and_change_nothing(self):
        prompt = "kept hello world " * 30
        first = completion(self.server, prompt, logprobs=1)
        again = completion(self.server, prompt, logprobs=1)
        self.assertEqual(first["choices"], again["choices"])
        tokens, cached = again["usage"]["prompt_tokens"], again["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertEqual(cached, (tokens - 1) // 64 * 64)
        longer = completion(self.server, prompt + first["choices"][0]["text"] + " and")
        self.assertGreaterEqual(longer["usage"]["prompt_tokens_details"]["cached_tokens"], cached)

    def test_memory_is_planned(self):
        """More is asked for than there is: the rest waits, nobody fails, and kept pasts give way."""
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            replies = list(pool.map(lambda i: completion(self.server, f"{i} wait " * 100, tokens=300), range(24)))
        self.assertTrue(all(r["usage"]["completion_tokens"] == 300 for r in replies))
        self.all_free()

    def test_a_client_that_goes_frees_its_pages(self):
        """One that reads a stream, and one that waits for a whole answer: most of the 5,700 tokens are never made."""
        self.all_free()
        for stream in (True, False):
            generated = self.server.metric("busbar_generated_tokens_total")
            body = json.dumps({"prompt": "x", "max_tokens": 1900, "ignore_eos": True, "stream": stream, "n": 3}).encode()
            with socket.create_connection(("127.0.0.1", self.server.port)) as s:
                s.sendall(post_bytes(body))
                harness.until(lambda: self.server.metric("busbar_requests_running") == 3, "an answer under way")
            self.all_free()
            self.assertLess(self.server.metric("busbar_generated_tokens_total") - generated, 5000)

    def test_a_long_prompt_does_not_stall_others(self):
        """While a prompt of 1,900 tokens is read in steps of about 2 ms, a stream beside it goes on: tokens in between."""
        long = {"prompt": [5] * 1900, "max_tokens": 1}
        times, done = [], []

        def reader():
            self.server.stream("/v1/completions", {"prompt": "hello", "max_tokens": 1500, "ignore_eos": True}, lambda e: times.append(time.monotonic()) or not done)
        thread = threading.Thread(target=reader)
        thread.start()
        harness.until(lambda: len(times) > 5, "a stream under way")
        begin = time.monotonic()
        self.assertEqual(self.server.post("/v1/completions", long)[0], 200)
        end = time.monotonic()
        done.append(True)
        thread.join()
        self.assertGreater(sum(begin < t < end for t in times), 5)

    def test_a_full_queue_says_when_to_come_back(self):
        with harness.Server("--queue", "2", "--sequences", "1", "--context", "2048") as server:
            stop = threading.Event()
            threads = []
            for i in range(3):
                threads.append(threading.Thread(target=lambda: server.stream("/v1/completions", {"prompt": "x", "max_tokens": 2000, "ignore_eos": True}, lambda _: not stop.is_set())))
                threads[-1].start()
                harness.until(lambda: server.metric("busbar_requests_running") + server.metric("busbar_requests_waiting") == i + 1, "queued")
            status, headers, reply = server.post("/v1/completions", {"prompt": "x"})
            self.assertEqual((status, reply["error"]["type"]), (429, "rate_limit_error"))
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
            stop.set()
            for t in threads:
                t.join()


class Stopping(harness.unittest.TestCase):
    def test_grace_second_signal_and_reopened_log(self):
        server = harness.Server("--context", "2048", "--grace", "0.1")
        os.rename(server.log, server.log + ".1")
        server.process.send_signal(signal.SIGHUP)
        harness.until(lambda: os.path.exists(server.log), "a new log")
        got = []
        thread = threading.Thread(target=lambda: got.extend(server.stream("/v1/completions", {"prompt": "x", "n": 16, "max_tokens": 2000, "ignore_eos": True})))
        thread.start()
        harness.until(lambda: server.metric("busbar_requests_running") > 0, "an answer under way")
        self.assertEqual(server.stop(), 0)
        thread.join()
        self.assertIn("stops", got[-1]["error"]["message"])
        server = harness.Server("--context", "2048")
        body = b'{"prompt": "x", "max_tokens": 2000, "n": 16, "ignore_eos": true, "stream": true}'
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(post_bytes(body))
            harness.until(lambda: server.metric("busbar_requests_running") > 0, "an answer under way")
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(harness.TIMEOUT), 130)
