#!/usr/bin/env python3
"""What a machine can do to a server: memory that runs out at any point of a request, descriptors that run
out, disks that are full, an end without warning."""
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import tempfile
import time
import unittest

from harness import MODEL, PROGRAM, SLOW, Server, post_bytes, read_all, require_files

HERE = os.path.dirname(os.path.abspath(__file__))
CC = os.environ.get("CC", "cc")

REQUESTS = {
    "whole": ("/v1/completions", {"prompt": "The quick", "max_tokens": 12, "logprobs": 2, "echo": True, "stop": ["zzz"],
                                  "frequency_penalty": 0.5, "seed": 3, "bad_words": ["q"], "stop_token_ids": [1],
                                  "logit_bias": {"5": 1}}),
    "stream": ("/v1/completions", {"prompt": ["The quick", "a"], "max_tokens": 12, "stream": True, "seed": 3, "n": 2,
                                   "return_token_ids": True, "stream_options": {"include_usage": True}}),
    "large": ("/v1/completions", {"prompt": "x" * 900, "user": "y" * 20000, "max_tokens": 2, "temperature": 0}),
    "tokens": ("/tokenize", {"content": "The quick", "with_pieces": True}),
    "refused": ("/v1/completions", {"prompt": "x", "temprature": 1}),
    "unknown": ("/nothing", {"a": [1, {"b": 2}]}),
}


@unittest.skipIf(SLOW, "sanitizers have an allocator of their own")
class Memory(unittest.TestCase):
    """Each allocation of each request fails once."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        library = self.folder.name + "/fail.so"
        subprocess.run([CC, "-shared", "-fPIC", "-O1", "-o", library, HERE + "/fail_allocation.c", "-ldl"], check=True)
        self.path = self.folder.name + "/count"
        with open(self.path, "wb") as file:
            file.write(bytes(16))
        self.file = open(self.path, "r+b")
        self.addCleanup(self.file.close)
        self.map = mmap.mmap(self.file.fileno(), 16)
        self.environment = {"LD_PRELOAD": library, "FAIL_ALLOCATION": self.path}

    def arm(self, n):
        self.map[:16] = struct.pack("<qq", n, 0)

    def failed(self):
        left, failed = struct.unpack("<qq", self.map[:16])
        self.map[:8] = struct.pack("<q", 0)
        return failed

    def send(self, server, path, fields):
        sock = server.raw(20)
        request = post_bytes(fields, path).replace(b"Host: t\r\n", b"Host: t\r\nConnection: close\r\n")
        try:
            sock.sendall(request)
        except OSError:
            pass
        return read_all(sock)

    def check(self, name, answer, right):
        """The right answer, an error, a stream that says it is broken, or nothing."""
        if not answer:
            return "closed"
        self.assertTrue(answer.startswith(b"HTTP/1.1 "), answer)
        status = int(answer[9:12])
        if status >= 500 or status == 429:
            json.loads(answer.split(b"\r\n\r\n", 1)[1])
            return "refused"
        self.assertIn(b"\r\nContent-Type: ", answer)
        if self.shape(answer) == self.shape(right):
            return "right"
        # One that was cut is not whole by its own account.
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"chunked" in head:
            self.assertTrue(not body.endswith(b"0\r\n\r\n") or b'"error"' in body,
                            (name, self.shape(answer), self.shape(right), answer))
        else:
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.assertLess(len(body), length, (name, answer))
        return "cut"

    @staticmethod
    def shape(answer):
        """What does not differ from one time to the next."""
        texts = {}
        body = answer.split(b"\r\n\r\n", 1)[1].decode(errors="replace")
        if "data: " not in body:
            try:
                value = json.loads(body)
            except ValueError:
                return answer
            return answer[:12], json.dumps(value.get("choices", value.get("tokens", value)))
        for line in body.splitlines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:]).get("choices", []):
                    texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"] + (choice["finish_reason"] or "")
        return texts, "[DONE]" in body

    def test_every_allocation_of_a_request(self):
        counts = {}
        with Server("--threads", 1, "--log-level", "error", environment=self.environment) as server:
            for name, (path, fields) in REQUESTS.items():
                for _ in range(2):
                    right = self.send(server, path, fields)
                n = seen = 0
                while True:
                    n += 1
                    self.arm(n)
                    answer = self.send(server, path, fields)
                    time.sleep(0.002)  # what is freed behind the answer may count too
                    if not self.failed():
                        break
                    self.assertIsNone(server.process.poll(), f"{name}: the server ended at allocation {n}: {server.log}")
                    outcome = self.check(name, answer, right)
                    counts["-> " + outcome] = counts.get("-> " + outcome, 0) + 1
                    seen += 1
                counts[name] = seen
                self.assertGreater(seen, 5, name)
                again = self.send(server, path, fields)
                self.assertEqual(self.shape(again), self.shape(right))
            server.wait_metric("num_requests_running", lambda n: n == 0)
        print("test_faults: allocations that failed, by request and by outcome:", counts)


class Descriptors(unittest.TestCase):
    def test_they_run_out_and_come_back(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0], limits[1]))
        try:
            resource.prlimit(0, resource.RLIMIT_NOFILE, limits)
            server = Server("--timeout", 60, "--max-per-address", 500)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with server:
            pid = server.process.pid
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (server.descriptors() + 8, limits[1]))
            socks = [server.raw() for _ in range(30)]
            time.sleep(0.3)
            before = self.cpu(pid)
            time.sleep(1)
            self.assertLess(self.cpu(pid) - before, 0.3, "seconds of CPU in one second of waiting")
            # One that has come in is served, and so are all when there is room.
            socks[0].sendall(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
            self.assertIn(b" 200 ", socks[0].recv(100))
            for sock in socks[:-1]:
                sock.close()
            socks[-1].sendall(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
            self.assertIn(b" 200 ", socks[-1].recv(100))
            socks[-1].close()
            self.assertEqual(server.get("/health")[0], 200)

    @staticmethod
    def cpu(pid):
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Disks(unittest.TestCase):
    def test_the_log_finds_no_room(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            process = subprocess.Popen([PROGRAM, "--model", MODEL, "--port", "0"], stdout=subprocess.PIPE, stderr=full,
                                       text=True)
            try:
                port = process.stdout.readline().split("127.0.0.1:")[1].split()[0]
                url = f"http://127.0.0.1:{port}/v1/completions"
                for _ in range(3):
                    done = subprocess.run(["curl", "-s", url, "-H", "Content-Type: application/json", "-d",
                                           '{"prompt": "x"}'], capture_output=True, text=True, timeout=30, check=True)
                    self.assertIn("text_completion", done.stdout)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(30), 0)
            finally:
                process.kill()
                process.stdout.close()

    def test_captured_texts_find_no_room(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/texts"
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            with Server("--capture", path) as server:
                server.complete(prompt="x")
                # As a full disk: a file may not grow.
                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, limit[1]))
                for _ in range(3):
                    server.complete(prompt="x")
                self.assertEqual(server.request("GET", "/health")[0], 200)


class Ends(unittest.TestCase):
    def test_killed_and_started_again_on_its_port(self):
        server = Server()
        stream = server.open_stream(prompt="The", max_tokens=900, ignore_eos=True)
        stream.recv(100)
        server.process.kill()
        server.process.wait()
        again = Server("--port", server.port)
        self.assertEqual(again.port, server.port)
        again.complete(prompt="x")
        self.assertEqual(again.stop(), 0)
        stream.close()


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=1)
