#!/usr/bin/env python3
"""Answers that are decoded again plainly: proofs in answers, and audits of a share of them, which come
later and disturb nothing. On the demo. BUILD is the build folder."""
import concurrent.futures
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from harness import BUILD, MODEL, SLOW, Server, SharedServer, require_files, text_of

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
            self.assertEqual("usage" in events[-2], bool(options))
            self.check(events[-2]["proof"][0], text_of(events))
            # Clients look at choices[0] of all chunks but that of usage.
            self.assertEqual(events[-2]["choices"], [] if options else [
                {"index": 0, "text": "", "logprobs": None, "finish_reason": None}])

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


class Replay(SharedServer):
    """headway-bench repeats lines as --audit-file has them."""

    FIELDS = ({"temperature": 0}, {"seed": -3}, {"stop": ["\n\n", "t"], "seed": 5},
              {"seed": 1 << 62, "top_k": 40, "top_p": 0.9, "min_p": 0.01},
              {"seed": 2, "repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.5},
              {"seed": 4, "speculation": 4, "ignore_eos": True, "min_tokens": 3},
              {"seed": 6, "logit_bias": {"97": 2.5, "98": -100}, "stop_token_ids": [122]},
              {"seed": 7, "allowed_token_ids": list(range(32, 127))})

    def line(self, **fields):
        """What a request would be logged as, had its answer differed."""
        answer = self.server.complete(**TEXT, **fields, return_token_ids=True)
        said = answer["choices"][0]["token_ids"]
        return {**TEXT, **fields, "prompt": answer["choices"][0]["prompt_token_ids"],
                "metadata": {"id": answer["id"], "left_out": "", "differs_at": 0, "said": said}}

    def replay(self, *lines):
        """What it prints, the list of its JSON and its exit status."""
        with tempfile.TemporaryDirectory() as folder:
            log, table = os.path.join(folder, "log"), os.path.join(folder, "json")
            with open(log, "w", encoding="utf-8") as file:
                file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
            done = subprocess.run([f"{BUILD}/headway-bench", "--model", MODEL, "--replay", log, "--json", table],
                                  capture_output=True, text=True, timeout=300, check=False)
            if not os.path.exists(table):
                return done.stderr, None, done.returncode
            with open(table, encoding="utf-8") as file:
                return done.stdout + done.stderr, json.load(file)["replay"], done.returncode

    def test_what_was_said_is_said_again(self):
        lines = [self.line(**fields) for fields in self.FIELDS]
        told, table, status = self.replay(*lines)
        self.assertEqual(status, 0, told)
        self.assertIn(f"{len(lines)} requests, 0 differ, 0 not repeated", told)
        self.assertTrue(all(entry["drafts"] > 0 for entry in table), table)
        for line, entry in zip(lines, table):
            said = line["metadata"]
            self.assertEqual((entry["id"], entry["tokens"], entry["identical"], entry["differs_at"]),
                             (said["id"], len(said["said"]), True, None))

    def test_what_was_altered_is_found(self):
        lines = [self.line(seed=8) for _ in range(5)]
        said = [line["metadata"]["said"] for line in lines]
        said[1][9] ^= 1
        del said[2][-1]
        said[3].append(7)
        lines[4]["seed"] = 9
        told, table, status = self.replay("", *lines)
        self.assertEqual(status, 1)
        self.assertEqual([entry["line"] for entry in table], [2, 3, 4, 5, 6])
        self.assertEqual([entry["differs_at"] for entry in table[:4]], [None, 9, 59, 60])
        self.assertFalse(table[4]["identical"])
        self.assertRegex(told, rf"token 9 differs: logged {said[1][9]}, " + ", ".join(
            rf"{way} {said[1][9] ^ 1} \(-[0-9.e-]+\)" for way in ("plain", "with drafts", "with a tree of drafts")))
        self.assertIn("token 60 differs: logged 7, plain nothing, with drafts nothing, with", told)
        self.assertIn("5 requests, 4 differ, 0 not repeated", told)

    def test_other_logs(self):
        told, table, status = self.replay({"prompt": "import ", "max_tokens": 5, "temperature": 0},
                                          {**self.line(), "metadata": {"left_out": "its structure"}})
        self.assertEqual((status, table[0]["tokens"], len(table)), (0, 5, 1))
        self.assertIn("2 requests, 0 differ, 1 not repeated", told)
        for bad, why in (("", "no request"), ("{", "line 1"), ({"prompt": "a", "guided_regex": "b"}, "guided_regex"),
                         ({"prompt": "a", "temperature": 9}, "temperature"), ({"prompt": [1, 1 << 40]}, "prompt"),
                         ({"prompt": [300]}, "prompt"), ({}, "prompt"), ({"prompt": "a", "speculation": "x"}, "speculation"),
                         ({"prompt": "a", "metadata": {"said": 1}}, "said")):
            told, _, status = self.replay(bad)
            self.assertEqual((status, len(told.splitlines())), (1, 1), told)
            self.assertIn(why, told)


if __name__ == "__main__":
    require_files()
    unittest.main()
