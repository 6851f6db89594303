#!/usr/bin/env python3
"""What who runs the server sees and does: the log's lines, and the end that SIGTERM brings in time, also
to endless requests and to clients that hardly read."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import unittest.mock

from harness import MODEL, PROGRAM, Server, post_bytes, read_all

SLOW = 1 if os.environ.get("BUILD", "build") == "build" else 10  # under sanitizers
LONG = ("--context", "400000")  # so that a text goes on for long enough
ENDLESS = {"prompt": "The", "max_tokens": 1 << 20, "ignore_eos": True}


def send(server, **fields):
    """A request for an endless text, not streamed."""
    sock = server.raw(60)
    sock.sendall(post_bytes({**ENDLESS, **fields}))
    return sock


class Process(unittest.TestCase):
    """A process of one's own, whose standard error is a file."""

    def run_server(self, *options, model=MODEL):
        self.file = open("/tmp/headway-log-test", "w+")
        self.addCleanup(self.file.close)
        process = subprocess.Popen([PROGRAM, "--model", model, "--port", "0", *options],
                                   stdout=subprocess.PIPE, stderr=self.file, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.url = re.search(r"http://\S+", process.stdout.readline()).group()
        return process

    def fetch(self, path, fields=None, seconds=30):
        command = ["curl", "-s", "-m", str(seconds), self.url + path]
        if fields is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(fields)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)

    def lines(self, wanted):
        """The log's lines about requests, when there are so many."""
        for _ in range(200):
            self.file.seek(0)
            found = [line for line in self.file.read().splitlines() if "request" in line.split("message")[0]]
            if len(found) >= wanted:
                return found
            time.sleep(0.05)
        self.fail(found)


class Log(Process):
    def test_a_line_for_each_request(self):
        self.run_server(*LONG)
        self.fetch("/v1/completions", {"prompt": "The", "max_tokens": 20, "temperature": 0, "ignore_eos": True})
        self.fetch("/health")
        self.fetch("/v1/completions", {"prompt": "The", "temprature": 1})
        self.fetch('/no"thing')
        self.fetch("/v1/completions", {**ENDLESS, "stream": True}, seconds=0.5)
        lines = self.lines(4)
        self.assertEqual(len(lines), 4, lines)  # /health is for debugging
        pattern = (r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info request id=req-[0-9a-f]{16} client=127\.0\.0\.1 "
                   r"method=POST path=/v1/completions status=200 seconds=[\d.]+ prompt_tokens=4 tokens=20 "
                   r"first_token=[\d.]+ forwards=\d+ (drafted=\d+ accepted=\d+ )?finish=length$")
        self.assertRegex(lines[0], pattern)
        self.assertIn("status=400", lines[1])
        self.assertIn(r'path="/no\"thing" status=404', lines[2])
        self.assertRegex(lines[3], r'status=200 end="(client left|connection lost)" .* tokens=\d+')

    def test_json(self):
        self.run_server("--log-format", "json", "--log-level", "debug")
        self.fetch("/health")
        self.fetch("/v1/completions", {"prompt": "The", "max_tokens": 5, "ignore_eos": True, "n": 2})
        health, line = map(json.loads, self.lines(2))
        self.assertEqual((health["level"], health["path"]), ("debug", "/health"))
        self.assertEqual((line["event"], line["status"], line["tokens"], line["prompt_tokens"]),
                         ("request", 200, 10, 4))

    def test_errors_alone(self):
        process = self.run_server("--log-level", "error")
        self.fetch("/v1/completions", {"prompt": "The", "max_tokens": 5})
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(20), 0)
        self.file.seek(0)
        self.assertEqual(self.file.read(), "")


class Draining(unittest.TestCase):
    def end(self, server, at_most):
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(60), 0)
        self.assertLess(time.monotonic() - start, at_most * SLOW)

    def test_requests_that_would_not_end(self):
        with Server("--drain-seconds", 1, *LONG) as server:
            streams = [server.open_stream(**ENDLESS) for _ in range(2)]
            read = {}
            readers = [threading.Thread(target=lambda s=s: read.update({s: read_all(s).decode()})) for s in streams]
            for reader in readers:
                reader.start()
            whole = send(server)
            server.wait_metric("num_requests_running", lambda n: n == 3)
            # Hardly read: half a second's worth, and what the kernel holds.
            slow = server.open_stream(receive_buffer=4096, **{**ENDLESS, "n": 2})
            server.wait_metric("num_requests_running", lambda n: n == 5)
            self.end(server, 6)
            for reader, stream in zip(readers, streams):
                reader.join()
                events = read[stream]
                self.assertIn('"code":"shutting_down"', events[-400:])
                self.assertIn("data: [DONE]", events[-40:])
            self.assertTrue(read_all(whole).startswith(b"HTTP/1.1 503"))
            slow.close()

    def test_requests_that_end_in_time(self):
        with Server("--drain-seconds", 60) as server:
            stream = server.open_stream(prompt="The", max_tokens=300, ignore_eos=True)
            server.wait_metric("num_requests_running", lambda n: n == 1)
            self.end(server, 20)
            self.assertIn('"finish_reason":"length"', read_all(stream).decode())

    def test_an_unfinished_request_is_not_waited_for(self):
        with Server("--drain-seconds", 1) as server:
            half = server.raw(60)
            half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
            time.sleep(0.3)
            self.end(server, 6)
            half.close()


class Shares(unittest.TestCase):
    def ask(self, server, address, **fields):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=(address, 0))
        start = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(fields), {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
        return response.status, body, time.monotonic() - start

    def test_one_client_does_not_hold_the_server(self):
        with Server(*LONG, "--max-queue", 70) as server:
            # 80 texts that would take minutes, most of them in the queue.
            hogs = [send(server, n=64)]
            server.wait_metric("num_requests_waiting", lambda n: n == 48)
            hogs.append(send(server, n=16))
            server.wait_metric("num_requests_waiting", lambda n: n >= 60)
            times = []
            for i in range(20):
                status, body, seconds = self.ask(server, f"127.0.0.{2 + i % 5}", prompt="The", max_tokens=1)
                self.assertEqual((status, body["usage"]["completion_tokens"]), (200, 1))
                times.append(seconds)
            print(f"test_operation: 1 token beside 80 endless texts of another client: at most {max(times):.3f} s")
            self.assertLess(max(times), 2 * SLOW)
            # The client itself has to wait.
            self.assertEqual(self.ask(server, "127.0.0.1", prompt="The", max_tokens=1, n=32)[0], 429)
            for hog in hogs:
                hog.close()

    def test_the_same_text_when_others_take_turns(self):
        fields = {"prompt": "It was", "max_tokens": 300, "ignore_eos": True, "seed": 5}
        with Server("--max-sequences", 2) as server:
            alone = self.ask(server, "127.0.0.1", **fields)[1]["choices"][0]["text"]
            texts = []

            def first():
                texts.extend(choice["text"] for choice in self.ask(server, "127.0.0.1", **fields, n=3)[1]["choices"])

            thread = threading.Thread(target=first)
            thread.start()
            for i in range(30):
                self.ask(server, f"127.0.0.{2 + i % 3}", prompt="The", max_tokens=5)
            thread.join()
            self.assertEqual(texts[0], alone)
            again = self.ask(server, "127.0.0.1", **fields, n=3)[1]["choices"]
            self.assertEqual(texts, [choice["text"] for choice in again])


class Manager(Process):
    def test_systemd_is_told(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(folder + "/notify")
            manager.settimeout(20)
            with unittest.mock.patch.dict(os.environ, {"NOTIFY_SOCKET": folder + "/notify"}):
                process = self.run_server()
            self.assertEqual(manager.recv(100), b"READY=1")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(manager.recv(100), b"STOPPING=1")
            self.assertEqual(process.wait(20), 0)

    def test_settings_from_a_file_and_the_environment(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("# of this machine\nlog-format = json\nlog-level = debug\n")
            file.flush()
            with unittest.mock.patch.dict(os.environ, {"HEADWAY_LOG_FORMAT": "text"}):
                self.run_server("--config", file.name)
            self.fetch("/health")
            self.assertIn(" debug request ", self.lines(1)[0])


class Files(Process):
    def test_a_model_that_is_cut_short(self):
        with tempfile.TemporaryDirectory() as folder:
            model = shutil.copytree(MODEL, folder + "/model")
            process = self.run_server(model=model)
            os.truncate(model + "/model.safetensors", 4096)
            self.fetch("/v1/completions", {"prompt": "The quick brown fox", "max_tokens": 50})
            self.assertEqual(process.wait(20), 1)
            self.file.seek(0)
            self.assertIn("cut short", self.file.read())


    def test_weights_that_are_no_numbers(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, value in (("layers.1.feed_forward.w2.weight", b"\xc0\x7f"), ("norm.weight", b"\x80\x7f"),
                                ("tok_embeddings.weight", b"\x80\xff")):
                model = shutil.copytree(MODEL, f"{folder}/{name}")
                with open(model + "/model.safetensors", "r+b") as file:
                    size = int.from_bytes(file.read(8), "little")
                    tensor = json.loads(file.read(size))[name]
                    wide = {"F32": 4, "BF16": 2}[tensor["dtype"]]
                    file.seek(8 + size + tensor["data_offsets"][0] + 5 * wide + wide - 2)
                    file.write(value)
                done = subprocess.run([PROGRAM, "--model", model, "--port", "0"], capture_output=True, text=True,
                                      timeout=60, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"tensor '{name}' has a number in row 0 that is infinite or none", done.stderr)


class Targets(unittest.TestCase):
    def test_what_is_a_route(self):
        with Server() as server:
            for target, status in (("/health", 200), ("http://somewhere/health", 200), ("http://somewhere", 200),
                                   ("/health%00x", 404), ("/health%20", 404), ("/v1%2fmodels", 404),
                                   ("/health?x=%00", 200), ("http:/health", 404),
                                   ("/v1/models/%64emo", 200), ("/v1/models/demo%00", 404), ("/v1/models/x", 404)):
                self.assertEqual(server.request("GET", target)[0], status, target)

    def test_posts_have_a_type(self):
        # A page of another origin may post what has none, or text, without asking first.
        with Server("--allow-origin", "") as server:
            for kind, status in ((None, 415), ("text/plain", 415), ("application/json", 200),
                                 ("application/json; charset=utf-8", 200)):
                sock = server.raw(60)
                header = f"Content-Type: {kind}\r\n" if kind else ""
                body = '{"prompt": "x", "max_tokens": 1}'
                sock.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: t\r\n{header}Connection: close\r\n"
                             f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
                answer = read_all(sock).decode()
                self.assertTrue(answer.startswith(f"HTTP/1.1 {status}"), (kind, answer[:100]))


class Connections(unittest.TestCase):
    def health(self, server, address):
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10, source_address=(address, 0))
        connection.request("GET", "/health")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        return time.monotonic() - start

    def test_a_thousand_connections_from_one_address(self):
        with Server() as server:
            crowd = [server.raw() for _ in range(1000)]
            times = [self.health(server, f"127.0.0.{2 + i % 9}") for i in range(50)]
            print(f"test_operation: /health beside 1,000 connections of another address: at most {max(times):.3f} s")
            self.assertLess(max(times), 0.5 * SLOW)
            self.health(server, "127.0.0.1")
            self.assertGreater(server.metric("connections_evicted_total"), 700)
            self.assertLess(server.descriptors(), 512 + 60)
            for sock in crowd:
                sock.close()
            server.wait_log("closed for another")

    def test_connections_with_requests_stay(self):
        with Server("--max-connections", 8, *LONG) as server:
            busy = [send(server) for _ in range(4)]  # all that one address may have
            while 'running 4' not in self.metrics(server, "127.0.0.3"):
                time.sleep(0.02)
            with server.raw(5) as sock:
                self.assertEqual(sock.recv(1), b"")
            self.health(server, "127.0.0.2")
            crowd = [socket.create_connection(("127.0.0.1", server.port), source_address=(f"127.0.1.{i}", 0))
                     for i in range(1, 30)]
            self.health(server, "127.0.0.2")
            self.assertIn('running 4', self.metrics(server, "127.0.0.3"))
            for sock in crowd + busy:
                sock.close()

    def metrics(self, server, address):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10, source_address=(address, 0))
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text


if __name__ == "__main__":
    unittest.main()
