"""The server's page, opened and used in a headless Chromium: a chat turn, and a chip that fails. Skipped where there is none."""
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import unittest
import urllib.request

import harness
import test_failover

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One tab, spoken to by the DevTools protocol over a WebSocket [RFC 6455]."""

    def __init__(self, url, folder):
        self.process = subprocess.Popen([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
                                         "--window-size=1000,800", f"--user-data-dir={folder}", url], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "DevTools listening on ws://" in line:
                host = line.split("ws://")[1].split("/")[0]
                break
        else:
            raise AssertionError("Chromium did not start")
        name, port = host.rsplit(":", 1)

        def tab():
            with urllib.request.urlopen(f"http://{host}/json", timeout=10) as reply:
                pages = [t for t in json.load(reply) if t["type"] == "page"]
            return pages and pages[0]["webSocketDebuggerUrl"]
        harness.until(tab, "a tab")
        path = "/" + tab().split("/", 3)[3]
        self.socket = socket.create_connection((name, int(port)), timeout=harness.TIMEOUT)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                             "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        while self.file.readline().strip():
            pass
        self.number = 0

    def command(self, method, **parameters):
        self.number += 1
        data = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.socket.sendall(b"\x81" + length + bytes(4) + data)
        while True:
            size = self.file.read(2)[1] & 127
            if size > 125:
                size = struct.unpack(">H" if size == 126 else ">Q", self.file.read(2 if size == 126 else 8))[0]
            reply = json.loads(self.file.read(size))
            if reply.get("id") == self.number:
                return reply["result"]

    def run(self, script):
        return self.command("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self, identity):
        return self.run(f"document.getElementById('{identity}').innerText")

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(harness.TIMEOUT)
        self.process.stderr.close()


@unittest.skipUnless(CHROMIUM, "there is no Chromium")
class Page(unittest.TestCase):
    def test_a_chat_turn_and_a_failed_chip(self):
        chips = [word for fault in ("lost&step=40", "none") for word in ("--replica", test_failover.faulty("fault=" + fault))]
        model = harness.talking_model_path("page.gguf", ["<b>Hello", " from", " here</b>"])
        with harness.Server("--gate", "off", "--reopen-seconds", "0", "--context", "2048", "--threads", "1", *chips, model=model) as server:
            browser = Browser(server.url, harness.FOLDER + "/browser")
            try:
                harness.until(lambda: browser.text("state") == "ready", "the page to find the server")
                self.assertEqual(browser.text("model"), "page")
                self.assertEqual(browser.text("chips").count("works"), 2)
                browser.run("document.getElementById('message').value = 'Who is there?'; document.getElementById('form').requestSubmit()")
                harness.until(lambda: browser.text("turns").split("\n") == ["Who is there?", "<b>Hello from here</b>"], "the answer, as text")
                harness.until(lambda: browser.text("send") == "Send", "the turn's end")
                body = {"prompt": "x", "max_tokens": 100, "ignore_eos": True, "n": 4}
                while server.metric("busbar_replicas_usable") == 2:
                    self.assertEqual(server.post("/v1/completions", body)[0], 200)
                harness.until(lambda: "failed" in browser.text("chips"), "the failed chip")
                picture = os.environ.get("BUSBAR_PAGE_PICTURE")
                if picture:
                    with open(picture, "wb") as file:
                        file.write(base64.b64decode(browser.command("Page.captureScreenshot")["data"]))
            finally:
                browser.close()
