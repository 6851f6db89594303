#!/usr/bin/env python3
"""headway-server --capture from outside: the file holds the tokens of what was served, and nothing of
what was not; it goes on after a restart, ends at its limit, and is its owner's alone. Read here by a
parser of its own. BUILD is the build folder, MODEL the model's."""
import os
import struct
import subprocess
import tempfile
import time
import unittest

from harness import MODEL, PROGRAM, Server, require_files


def records(path):
    """The vocabulary and the (prompt, generated) tokens of each text."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:12] == b"headway-text", data[:12]
    version, vocab = struct.unpack_from("<ii", data, 12)
    assert version == 1
    at, texts, before = 20, [], -1
    while at < len(data):
        number, prompt, n = struct.unpack_from("<III", data, at)
        assert number > before, (number, before)
        before = number
        tokens = struct.unpack_from(f"<{n}i", data, at + 12)
        texts.append((list(tokens[:prompt]), list(tokens[prompt:])))
        at += 16 + 4 * n
    return vocab, texts


def checksum(words):
    """FNV-1a, word by word."""
    total = 0xcbf29ce484222325
    for word in words:
        total = (total ^ word) * 0x100000001b3 & (1 << 64) - 1
    return (total ^ total >> 32) & 0xffffffff


def metric(server, name):
    for line in server.get("/metrics")[1].splitlines():
        if line.startswith(f"headway_{name} "):
            return float(line.split()[1])
    return None


class Capture(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "texts")

    def tearDown(self):
        self.folder.cleanup()

    def test_keeps_what_is_served(self):
        asked = [{"prompt": "Once upon", "max_tokens": 20, "temperature": 0},
                 {"prompt": "int main", "max_tokens": 9, "seed": 5, "n": 3},
                 {"prompt": ["a", "b"], "max_tokens": 5, "echo": True, "logprobs": 1},
                 {"prompt": "x", "max_tokens": 30, "stop": ["e"]}]
        expected = []
        with Server("--capture", self.path) as server:
            for fields in asked:
                answer = server.complete(**fields, return_token_ids=True)
                expected += [(c["prompt_token_ids"], c["token_ids"]) for c in answer["choices"]]
            server.stream(prompt="streamed", max_tokens=7, temperature=0)
            server.complete(prompt="nothing generated", max_tokens=0, echo=True)
            self.assertEqual(server.request("POST", "/v1/completions", {"prompt": 5})[0], 400)
            cut = server.raw()
            body = b'{"prompt": "cut off", "max_tokens": 100000, "ignore_eos": true, "stream": true}'
            cut.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                        b"\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            cut.recv(100)
            cut.close()
            while metric(server, "num_requests_running"):
                time.sleep(0.05)
            self.assertEqual(metric(server, "capture_active"), 1)
            self.assertEqual(metric(server, "capture_texts_total"), len(expected) + 1)
            self.assertEqual(metric(server, "capture_bytes"), os.path.getsize(self.path))
            tokens = metric(server, "capture_tokens_total")
        vocab, texts = records(self.path)
        self.assertEqual(vocab, 257)
        self.assertEqual(sorted(texts[:-1]), sorted(expected))
        self.assertEqual(bytes(texts[-1][0][-8:]), b"streamed")
        self.assertEqual(len(texts[-1][1]), 7)
        self.assertEqual(sum(len(p) + len(g) for p, g in texts), tokens)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        # A restart goes on behind them, even where the last one was cut short.
        with open(self.path, "ab") as file:
            file.write(b"half a record")
        with Server("--capture", self.path) as server:
            server.complete(prompt="again", max_tokens=3, ignore_eos=True)
        self.assertEqual(records(self.path)[1][:-1], texts)
        self.assertEqual(len(records(self.path)[1]), len(texts) + 1)

    def test_ends_at_its_limit(self):
        full = (1 << 20) // 4 - 1024  # words: a file that is almost as large as it may be
        record = [0, 5, full - 9] + [i % 257 for i in range(full - 9)]
        with open(self.path, "wb") as file:
            file.write(b"headway-text" + struct.pack("<ii", 1, 257))
            file.write(struct.pack(f"<{len(record) + 1}I", *record, checksum(record)))
        with Server("--capture", self.path, "--capture-limit", 1) as server:
            for _ in range(1000):
                server.complete(prompt="a" * 300, max_tokens=1)
                if metric(server, "capture_left_out_total"):
                    break
            self.assertEqual(metric(server, "capture_texts_total"), 3)
            self.assertEqual(metric(server, "capture_active"), 0)
            self.assertEqual(server.complete(prompt="a", max_tokens=1)["object"], "text_completion")
            server.wait_log("its limit is reached")
        self.assertLessEqual(os.path.getsize(self.path), 1 << 20)
        _, texts = records(self.path)
        self.assertEqual([len(p) for p, _ in texts[1:]], [301] * 3)

    def test_is_off_unless_asked_for(self):
        with Server() as server:
            server.complete(prompt="a", max_tokens=1)
            self.assertEqual(metric(server, "capture_active"), 0)
            self.assertIsNone(metric(server, "capture_bytes"))

    def refused(self, text):
        done = subprocess.run([PROGRAM, "--model", MODEL, "--port", "0", "--capture", self.path],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(text, done.stderr)

    def test_refuses_other_files(self):
        with open(self.path, "wb") as file:
            file.write(b"headway-text" + struct.pack("<ii", 1, 300))
        self.refused("has texts of a vocabulary of 300 tokens, the model has 257")
        with open(self.path, "wb") as file:
            file.write(b"something of somebody's")
        self.refused("is no text of headway's")
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), b"something of somebody's")
        self.path = os.path.join(self.folder.name, "nowhere", "texts")
        self.refused("could not be written")


if __name__ == "__main__":
    require_files()
    unittest.main()
