#!/usr/bin/env python3
"""Large bodies. JSON text of a megabyte can hold values that take eighty: such a body is refused for
little, others are read by a thread of their own, one after another, and all that are held have a
limit. Meanwhile the server answers others: 200 clients at a time, /health within 50 ms."""

import json
import os
import threading
import time
import unittest

from harness import Server

PLAIN = os.environ.get("BUILD", "build") == "build"  # sanitizers keep memory, and take their time
PAD = 349_000  # "{}," so often makes a megabyte


def body(n, **fields):
    text = json.dumps({"prompt": "Hello", "max_tokens": 1, **fields})
    return text[:-1] + ', "pad": [' + ",".join(["{}"] * n) + "]}"


class Bodies(unittest.TestCase):
    def flood(self, server, data, n, at_once=200):
        """The statuses of n requests, the times of /health meanwhile, the most memory."""
        statuses, times, most, lock = [], [], 0, threading.Semaphore(at_once)

        def post():
            with lock:
                statuses.append(server.request("POST", "/v1/completions", data)[0])

        threads = [threading.Thread(target=post) for _ in range(n)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            self.assertEqual(server.request("GET", "/health")[0], 200)
            times.append(time.monotonic() - start)
            most = max(most, server.resident())
            time.sleep(0.005)
        return statuses, sorted(times), most

    def check(self, data, wanted):
        with Server() as server:
            before = server.resident()
            statuses, times, most = self.flood(server, data, 200)
            p99 = times[int(len(times) * 0.99)]
            print(f"test_bodies: {len(data) >> 10} KiB, answers { {s: statuses.count(s) for s in set(statuses)} },"
                  f" /health p99 {p99 * 1e3:.1f} ms of {len(times)}, memory {before >> 20} MiB, at most {most >> 20}")
            self.assertEqual(len(statuses), 200)
            self.assertLessEqual(set(statuses), wanted)
            if not PLAIN:
                return
            self.assertLess(most, 300 << 20)
            # This process has 200 threads too, and both share the cores: the median is the server's.
            self.assertLess(times[len(times) // 2], 0.05)
            self.assertEqual(server.complete(prompt="Hello", max_tokens=1)["usage"]["completion_tokens"], 1)
            time.sleep(0.5)
            self.assertLess(server.resident(), before + (80 << 20))

    def test_values_beyond_the_budget(self):
        self.check(body(PAD), {413, 503})

    def test_values_within_the_budget(self):
        self.check(body(100_000), {400, 503})

    def test_a_large_prompt_is_read(self):
        with Server("--max-body", 1 << 22) as server:
            text = "x" * (3 << 20)
            status, _, data = server.request("POST", "/v1/completions", json.dumps({"prompt": text}))
            self.assertEqual((status, json.loads(data)["error"]["code"]), (400, "context_length_exceeded"))
            status, _, data = server.request("POST", "/tokenize", json.dumps({"content": text}))
            self.assertEqual((status, len(json.loads(data)["tokens"])), (200, len(text)))
            # Large, and answered: what is not read changes nothing.
            fields = {"prompt": "Hello", "max_tokens": 5, "temperature": 0}
            alone = server.complete(**fields)["choices"][0]["text"]
            padded = server.complete(**fields, metadata={"a": text})["choices"][0]["text"]
            self.assertEqual(alone, padded)
            stream = server.open_stream(**fields, metadata={"a": text})
            stream.close()

    def test_a_client_that_goes_away_while_its_body_is_read(self):
        with Server() as server:
            data = body(100_000).encode()
            head = (f"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(data)}\r\n\r\n").encode()
            for _ in range(40):
                sock = server.raw(20)
                sock.sendall(head + data)
                sock.close()
            self.assertEqual(server.request("GET", "/health")[0], 200)
            server.complete(prompt="Hello", max_tokens=1)

    def test_all_bodies_together(self):
        with Server("--max-bodies", 1, "--max-body", 1 << 20) as server:
            half = b"x" * (600 << 10)
            head = (f"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(half) + 10}\r\n\r\n").encode()
            slow = server.raw(20)
            slow.sendall(head + half)  # and then nothing
            time.sleep(0.3)
            status, headers, data = server.request("POST", "/v1/completions", body(200_000))
            self.assertEqual((status, json.loads(data)["error"]["code"]), (503, "server_busy"))
            self.assertTrue(int(headers["Retry-After"]) >= 1)
            server.complete(prompt="Hello", max_tokens=1)  # small ones always find room
            slow.close()
            time.sleep(0.3)
            self.assertEqual(server.request("POST", "/v1/completions", body(100_000))[0], 400)


if __name__ == "__main__":
    unittest.main()
