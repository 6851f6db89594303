#!/usr/bin/env python3
"""What libmicrohttpd refuses by itself: one answer in the shape of all errors, counted and logged, and
the connection is closed."""
import json
import re
import time
import unittest

from harness import SharedServer, read_all, require_files

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FLOOD = b"".join(b"X-%d: y\r\n" % i for i in range(10000))

REFUSALS = {
    "no host": (400, b"GET /health HTTP/1.1\r\n\r\n", "Host header is missing"),
    "space behind the length": (400, HEAD + b"Content-Length: 29 \r\n\r\n" + b"x" * 29, "whole number"),
    "length of letters": (400, HEAD + b"Content-Length: x\r\n\r\n", "whole number"),
    "no colon": (400, b"GET /health HTTP/1.1\r\nHost: t\r\nrubbish\r\n\r\n", "malformed"),
    "no version": (400, b"GET /health\r\n\r\n", "malformed"),
    "rubbish": (400, b"\x16\x03\x01 \x02 \x01\r\n\r\n", "malformed"),
    "a version of letters": (400, b"GET /health HTTX/1.1\r\nHost: t\r\n\r\n", "malformed"),
    "endless length": (413, HEAD + b"Content-Length: 18446744073709551616\r\n\r\n", "length"),
    "endless chunk": (413, CHUNKED + b"fffffffffffffffffffff\r\n", "length"),
    "endless line": (414, b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", "request line is longer"),
    "endless headers": (431, b"GET /health HTTP/1.1\r\nHost: t\r\n" + FLOOD + b"\r\n", "do not fit"),
    "endless header": (431, b"GET /health HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 100000 + b"\r\n\r\n", "do not fit"),
    "endless cookie": (431, b"GET /health HTTP/1.1\r\nHost: t\r\nCookie: " + b"a" * 20000 + b"\r\n\r\n", "do not fit"),
    "version 2": (505, b"GET /health HTTP/2.0\r\nHost: t\r\n\r\n", "version"),
    "version 0.9": (505, b"GET /health HTTP/0.9\r\nHost: t\r\n\r\n", "version"),
    "chunk that is no number": (400, CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", "chunked body"),
    "chunk that does not end": (400, CHUNKED + b"2\r\n{}xx0\r\n\r\n", "chunked body"),
    "trailer without colon": (400, CHUNKED + b"2\r\n{}\r\n0\r\nrubbish\r\n\r\n", "chunked body"),
}


class Refusals(SharedServer):
    def send(self, data):
        """What comes back, and whether the connection was closed before a second had passed."""
        sock = self.server.raw(5)
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        start = time.monotonic()
        text = read_all(sock)
        return text, time.monotonic() - start < 1

    def counted(self, status):
        pages = re.findall(r'http_responses_total{route="[^"]+",code="%d"} (\d+)' % status,
                           self.server.get("/metrics")[1])
        return sum(map(int, pages))

    def check(self, status, data, says):
        before, lines = self.counted(status), len(self.server.log)
        text, closed = self.send(data)
        self.assertEqual(len(re.findall(rb"HTTP/1.[01] \d\d\d ", text)), 1, text)
        self.assertTrue(text.startswith(b"HTTP/1.1 %d " % status), text)
        self.assertTrue(closed, "the connection stays open")
        head, body = text.split(b"\r\n\r\n", 1)
        error = json.loads(body)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertIn(says, error["message"])
        self.assertIn(b"application/json", head)
        self.assertEqual(self.counted(status), before + 1)
        name = re.search(rb"x-request-id: (\S+)", head)[1].decode()
        for _ in range(100):
            if any(name in line and f"status={status}" in line for line in self.server.log[lines:]):
                return
            time.sleep(0.01)
        self.fail(f"no line about {name}: {self.server.log[lines:]}")

    def test_each(self):
        for name, (status, data, says) in REFUSALS.items():
            with self.subTest(name):
                self.check(status, data, says)

    def test_behind_another_request(self):
        text, closed = self.send(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\nGET /health HTTP/1.1\r\n\r\n")
        self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", text), [b"200", b"400"])
        self.assertTrue(closed)

    def test_ids_of_clients(self):
        for given, kept in (("my-id_1:2/3=4@x", True), ("a" * 64, True), ("a" * 65, False), ("a b", False),
                            ('x"y', False), ("", False)):
            headers = self.server.request("GET", "/v1/models", headers={"X-Request-Id": given})[1]
            self.assertEqual(headers["x-request-id"] == given, kept, given)
            self.assertTrue(kept or headers["x-request-id"].startswith("req-"), given)
        self.server.wait_log("my-id_1:2/3=4@x")


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=1)
