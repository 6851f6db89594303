"""Starts headway-server and talks to it. For what is beside it; standard library only."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

BUILD = os.environ.get("BUILD", "build")
MODEL = os.environ.get("MODEL", "weights/demo")
CHAT_PROMPTS = "tools/chat_prompts.json"
PROGRAM = os.path.join(BUILD, "headway-server")
SLOW = any(word in BUILD for word in ("address", "thread"))  # sanitizers: a tenth of the speed


def require_files():
    """Ends the test with a sentence when there is nothing to test."""
    if not os.access(PROGRAM, os.X_OK):
        sys.exit(f"{PROGRAM} is missing: run make, or set BUILD to the build folder")
    if not os.path.isdir(MODEL):
        sys.exit(f"the model folder {MODEL} is missing: set MODEL to a model")


class Server:
    """One server process on a free port. A context manager that checks for a clean exit."""

    def __init__(self, *options, environment=None):
        self.process = subprocess.Popen(
            [PROGRAM, "--model", MODEL, "--port", "0", *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment} if environment else None)
        first = self.process.stdout.readline()
        match = re.search(r"https?://127\.0\.0\.1:(\d+)", first)
        if not match:
            raise RuntimeError(f"no address in {first!r}: {self.process.stderr.read()}")
        self.port = int(match[1])
        self.log = []
        # Read what it writes, or a full pipe would stop it.
        for pipe in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._drain, args=(pipe,), daemon=True).start()

    def _drain(self, pipe):
        with pipe:
            for line in pipe:
                self.log.append(line)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        if kind is None and code:
            raise AssertionError(f"the server left with {code}: {''.join(self.log)}")

    def stop(self, seconds=120):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the server does not end: {''.join(self.log)}") from None

    # ---- HTTP ----

    def connect(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self, timeout=10, receive_buffer=None):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        try:
            sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        return sock

    def request(self, method, path, body=None, headers=None, connection=None):
        """Returns status, headers and the body's bytes."""
        own = connection is None
        connection = connection or self.connect()
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        headers = dict(headers or {})
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        if own:
            connection.close()
        return response.status, response.headers, data

    def get(self, path):
        status, _, data = self.request("GET", path)
        return status, data.decode()

    def post(self, path, **fields):
        """What a POST gives, as an object."""
        status, _, data = self.request("POST", path, fields)
        if status != 200:
            raise AssertionError(f"{status}: {data.decode()}")
        return json.loads(data)

    def complete(self, **fields):
        """A whole completion, as an object."""
        return self.post("/v1/completions", **fields)

    def chat(self, messages, **fields):
        """A whole chat completion; a string is the user's one message."""
        return self.post("/v1/chat/completions", messages=as_messages(messages), **fields)

    def stream(self, path="/v1/completions", **fields):
        """A streamed completion: the list of its events, the last one "[DONE]"."""
        status, headers, data = self.request("POST", path, {**fields, "stream": True})
        if status != 200:
            raise AssertionError(f"{status}: {data.decode()}")
        assert headers["Content-Type"].startswith("text/event-stream"), headers
        return parse_events(data.decode())

    def has_chat(self):
        """Whether the model has a chat template."""
        return self.request("POST", "/apply-template", {"messages": as_messages("Hi")})[0] == 200

    def chat_stream(self, messages, **fields):
        return self.stream("/v1/chat/completions", messages=as_messages(messages), **fields)

    def open_stream(self, receive_buffer=None, **fields):
        """Sends a streaming request on a bare socket and leaves the reading to the caller."""
        sock = self.raw(timeout=60, receive_buffer=receive_buffer)
        sock.sendall(post_bytes({**fields, "stream": True}))
        return sock

    # ---- figures ----

    def metric(self, name):
        match = re.search(rf"^headway_{name} (\S+)$", self.get("/metrics")[1], re.M)
        assert match, f"no metric {name}"
        return float(match[1])

    def wait_metric(self, name, wanted, seconds=60):
        """Waits until wanted(value) and returns how long that took."""
        start = time.monotonic()
        while not wanted(value := self.metric(name)):
            if time.monotonic() - start > seconds:
                raise AssertionError(f"{name} is still {value} after {seconds} s")
            time.sleep(0.005)
        return time.monotonic() - start

    def wait_log(self, wanted, seconds=30):
        """Waits for a line of the log that matches."""
        start = time.monotonic()
        while not any(re.search(wanted, line) for line in self.log):
            if time.monotonic() - start > seconds:
                raise AssertionError(f"no line with {wanted}: {''.join(self.log)}")
            time.sleep(0.01)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self):
        """Bytes of memory in use."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def as_messages(messages):
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def chat_prompts():
    """Lists of questions, by kind."""
    with open(CHAT_PROMPTS, encoding="utf-8") as file:
        return json.load(file)


def post_bytes(fields, path="/v1/completions"):
    body = json.dumps(fields).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def read_all(sock):
    """Everything until the server closes or the socket's time-out; then closes the socket."""
    data = b""
    with sock:
        try:
            while piece := sock.recv(65536):
                data += piece
        except (socket.timeout, ConnectionResetError):
            pass
    return data


def parse_events(text):
    assert text.endswith("\n\n"), repr(text[-80:])
    events = []
    for part in text[:-2].split("\n\n"):
        assert part.startswith("data: "), repr(part)
        events.append(part[6:] if part == "data: [DONE]" else json.loads(part[6:]))
    return events


def text_of(events, index=0):
    """The text of one choice, put together."""
    return "".join(choice["text"] for event in events if event != "[DONE]"
                   for choice in event["choices"] if choice["index"] == index)


class SharedServer(unittest.TestCase):
    """Tests that leave the server as it was share one."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)
