#!/usr/bin/env python3
"""Answers that are decoded again plainly: proofs in answers, and audits of a share of them, which come
later and disturb nothing. On the demo. BUILD is the build folder."""
import concurrent.futures
import hashlib
import json
import signal
import time
import unittest

from harness import SLOW, Server, SharedServer, require_files, text_of

TEXT = {"prompt": "import os\nimport sys\n", "max_tokens": 60}


class Proof(SharedServer):
    def check(self, proof, text, index=0):
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.assertEqual({k: proof[k] for k in ("index", "identical", "sha256", "plain_sha256")},
                         {"index": index, "identical": True, "sha256": digest,
                          "plain_sha256": digest})

    def test_whole(self):
        for fields in ({"temperature": 0}, {"seed": 3}, {"stop": ["\n\n", "t"], "seed": 5},
                       {"speculation": 4, "temperature": 0}, {"speculation": "off"}):
            answer = self.server.complete(**TEXT, **fields, proof=True)
            self.assertEqual(len(answer["proof"]), 1)
            self.check(answer["proof"][0], answer["choices"][0]["text"])

    def test_several_choices(self):
        answer = self.server.complete(**{**TEXT, "prompt": ["def f", "int main"]}, n=2, proof=True)
        self.assertEqual(len(answer["proof"]), 4)
        for i, choice in enumerate(answer["choices"]):
            self.check(answer["proof"][i], choice["text"], i)

    def test_streamed(self):
        for options in ({}, {"stream_options": {"include_usage": True}}):
            events = self.server.stream(**TEXT, seed=1, proof=True, **options)
            self.assertEqual(events[-2]["choices"], [])
            self.assertEqual("usage" in events[-2], bool(options))
            self.check(events[-2]["proof"][0], text_of(events))

    def test_no_more_than_asked(self):
        self.assertNotIn("proof", self.server.complete(**TEXT))
        self.assertNotIn("logprobs", json.dumps(self.server.complete(**TEXT, proof=True)).replace(
            '"logprobs": null', ""))


class Audits(unittest.TestCase):
    def test_all_answers(self):
        n = 24 if SLOW else 96
        with Server("--audit", 1) as server, concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(server.complete, **TEXT, seed=i, n=1 + i % 2,
                                   speculation=["auto", 4, "off"][i % 3]) for i in range(n)]
            for answer in answers:
                answer.result()
            server.wait_metric("exactness_audits_total", lambda done: done == n + n // 2)
            self.assertEqual(server.metric("exactness_mismatches_total"), 0)
            self.assertEqual(server.metric("exactness_audits_skipped_total"), 0)
            self.assertEqual(server.metric("exactness_audited_tokens_total"), (n + n // 2) * 60)
            # Whoever leaves has no answer to be audited.
            plug = server.open_stream(**{**TEXT, "max_tokens": 800, "ignore_eos": True})
            server.wait_metric("num_requests_running", lambda running: running == 1)
            plug.close()
            server.wait_metric("num_requests_running", lambda running: running == 0)
            self.assertEqual(server.metric("exactness_audits_waiting"), 0)

    def test_a_part(self):
        with Server("--audit", 0.25) as server:
            for i in range(20):
                server.complete(**TEXT, seed=i)
            server.wait_metric("exactness_audits_total", lambda done: done == 5)

    def test_under_load_they_come_too(self):
        with Server("--audit", 1) as server:
            plug = server.open_stream(**{**TEXT, "max_tokens": 1000, "ignore_eos": True, "n": 8})
            server.complete(**TEXT)
            server.wait_metric("exactness_audits_total", lambda done: done >= 1, 30)
            plug.close()

    def test_the_end_does_not_wait_for_them(self):
        with Server("--audit", 1) as server:
            for i in range(40):
                server.complete(**{**TEXT, "max_tokens": 300, "ignore_eos": True})
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(30)
            self.assertLess(time.monotonic() - start, 20 if SLOW else 4)


if __name__ == "__main__":
    require_files()
    unittest.main()
