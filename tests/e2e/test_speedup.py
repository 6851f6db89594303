#!/usr/bin/env python3
"""What the server tells of its speculation: each token's origin, the time that plain decoding would
have taken, and /v1/speedup, which decodes both ways. On the demo. BUILD is the build folder."""
import json
import unittest

from harness import Server, SharedServer, require_files

PROMPT = "import os\nimport sys\n\ndef main():\n    "
TEXT = {"prompt": PROMPT, "max_tokens": 120, "temperature": 0, "ignore_eos": True}


class Trace(SharedServer):
    def check(self, trace, answer, text):
        self.assertEqual(bytes(b for t in trace for b in t["bytes"]).decode("utf-8", "replace"), text)
        drafted = [t for t in trace if t["drafter"]]
        speculation = answer["metrics"]["speculative_decoding"]
        self.assertEqual(len(drafted), speculation["num_accepted_draft_tokens"])
        self.assertGreater(len(drafted), 40)
        self.assertEqual({t["pass"] for t in trace},
                         set(range(1, answer["metrics"]["forwards"] + 1)))
        for t in trace:
            self.assertRegex(t["drafter"] or "head 1", "^(head [1-7]( and look-up)?|look-up)$")
            self.assertEqual(t["token"], bytes(t["bytes"]).decode("utf-8", "replace"))
        # A pass of one row has no drafts; of several rows of one text the first is no draft.
        for before, t in zip(trace, trace[1:]):
            if t["drafter"]:
                self.assertGreater(t["rows"], 1)
            if before["pass"] == t["pass"]:
                self.assertTrue(before["drafter"], "two tokens of one pass that nobody proposed")

    def test_whole(self):
        speculation = {"mode": 4, "trace": True}
        answer = self.server.complete(**TEXT, speculation=speculation, return_token_ids=True)
        choice = answer["choices"][0]
        self.assertEqual(len(choice["trace"]), len(choice["token_ids"]))
        self.check(choice["trace"], answer, choice["text"])

    def test_streamed(self):
        events = self.server.stream(**TEXT, speculation={"mode": 4, "trace": True},
                                    stream_options={"include_usage": True})[:-1]
        choices = [e["choices"][0] for e in events if e["choices"]]
        trace = [t for c in choices for t in c["trace"]]
        self.check(trace, events[-1], "".join(c["text"] for c in choices))

    def test_plain_text_has_no_drafters(self):
        answer = self.server.complete(**TEXT, speculation={"mode": "off", "trace": True})
        self.assertEqual({t["drafter"] for t in answer["choices"][0]["trace"]}, {None})

    def test_only_when_asked(self):
        for speculation in ("auto", 2, {"mode": "auto"}, {"trace": False}, {}):
            answer = self.server.complete(**TEXT, speculation=speculation)
            self.assertNotIn("trace", answer["choices"][0])

    def test_estimates(self):
        decode = self.server.complete(**TEXT)["metrics"]["decode"]
        self.assertGreater(decode["tokens_per_forward"], 1)
        self.assertAlmostEqual(decode["estimated_speedup"],
                               decode["estimated_plain_seconds"] / decode["seconds"], delta=0.01)
        off = self.server.complete(**TEXT, speculation="off")["metrics"]["decode"]
        self.assertEqual((off["tokens_per_forward"], off["estimated_speedup"]), (1, 1))

    def test_refusals(self):
        for speculation, says in (({"mode": "fast"}, "'speculation' must be"),
                                  ({"mode": 32}, "from 0 to 31"),
                                  ({"trace": 1}, "'trace'"),
                                  ({"traces": True}, "'traces' is no field of 'speculation'"),
                                  ([2], "'speculation' must be")):
            status, _, data = self.server.request("POST", "/v1/completions",
                                                  {**TEXT, "speculation": speculation})
            self.assertEqual(status, 400, speculation)
            self.assertIn(says, json.loads(data)["error"]["message"])


class Speedup(SharedServer):
    def test_both_ways(self):
        got = self.server.post("/v1/speedup", **TEXT, rounds=3, speculation=4)
        self.assertEqual(got["object"], "speedup")
        self.assertIs(got["identical"], True)
        self.assertEqual(got["completion_tokens"], 120)
        self.assertEqual(got["text"], self.server.complete(**TEXT)["choices"][0]["text"])
        self.assertEqual(got["plain"]["forwards"], 120)
        self.assertLess(got["speculative"]["forwards"], 100)
        ratios = got["speedup"]
        self.assertEqual(sorted(ratios["rounds"])[1], ratios["median"])
        self.assertTrue(0 < ratios["min"] <= ratios["median"] <= ratios["max"])
        self.assertEqual(len(ratios["rounds"]), 3)
        self.assertAlmostEqual(got["estimated"]["error"], got["estimated"]["plain_seconds"] /
                               got["plain"]["seconds"] - 1, delta=0.01)
        accepted = sum(d["accepted"] for d in got["drafters"])
        self.assertGreaterEqual(accepted, 120 - got["speculative"]["forwards"])
        for d in got["drafters"]:
            self.assertAlmostEqual(d["rate"], d["accepted"] / d["tried"], delta=1e-3)

    def test_advice(self):
        """What warm-up knows is logged; once texts were decoded /v1/models knows the heads' rates."""
        with Server() as server:
            def model():
                return json.loads(server.get("/v1/models")[1])["data"][0]

            server.wait_log("speculation: A step with 1 draft takes [0-9.]+ times a plain one: it pays where")
            self.assertIn("A step with 7 drafts takes ", " ".join(model()["advice"]))
            self.assertNotIn("are right", " ".join(model()["advice"]))
            for seed in range(4):
                server.complete(**{**TEXT, "temperature": 1}, seed=seed, speculation=2)
            after = model()
            rates = [d["rate"] for d in after["drafters"][1:] if d["tried"] >= 50]
            self.assertGreaterEqual(len(rates), 1)
            self.assertIn("are right " + ", ".join(f"{rate:.2f}" for rate in rates) + " of the time", after["advice"][0])
            self.assertRegex(" ".join(after["advice"]), "with 1 draft takes [0-9.]+ times a plain one and brings 1.")

    def test_the_model_knows_its_drafters(self):
        self.server.complete(**TEXT, speculation=4)
        model = json.loads(self.server.get("/v1/models")[1])["data"][0]
        self.assertEqual([d["drafter"] for d in model["drafters"]],
                         ["look-up"] + [f"head {i}" for i in range(1, model["prediction_heads"])])
        first = model["drafters"][1]
        self.assertEqual(first["tried"], self.server.metric('head_tried_total{head="1"}'))
        self.assertAlmostEqual(first["rate"], first["accepted"] / first["tried"], delta=1e-3)

    def test_sampled_texts_are_the_same_too(self):
        for seed in range(3):
            got = self.server.post("/v1/speedup", **{**TEXT, "temperature": 0.8, "seed": seed}, rounds=2)
            self.assertIs(got["identical"], True)

    def test_beside_others(self):
        """Requests that are not timed go on, to the texts that they have alone."""
        alone = self.server.complete(**TEXT)["choices"][0]["text"]
        plug = self.server.open_stream(**{**TEXT, "max_tokens": 900})
        got = self.server.post("/v1/speedup", **TEXT, rounds=1)
        self.assertIs(got["identical"], True)
        self.assertEqual(self.server.complete(**TEXT)["choices"][0]["text"], alone)
        plug.close()

    def test_one_token(self):
        got = self.server.post("/v1/speedup", **{**TEXT, "max_tokens": 1})
        self.assertEqual((got["speedup"]["median"], got["identical"]), (0, True))

    def test_refusals(self):
        for fields, says in (({"rounds": 0}, "'rounds'"), ({"rounds": 9}, "'rounds'"),
                             ({"stream": True}, "times one text"), ({"n": 2}, "times one text"),
                             ({"prompt": ["a", "b"]}, "times one text"),
                             ({"speculation": "off"}, "nothing to compare"),
                             ({"echo": True}, "times one text"),
                             ({"messages": [{"role": "user", "content": "x"}]}, "prompt")):
            status, _, data = self.server.request("POST", "/v1/speedup", {**TEXT, **fields})
            self.assertEqual(status, 400, fields)
            self.assertIn(says, json.loads(data)["error"]["message"])
        status, _, data = self.server.request("POST", "/v1/completions", {**TEXT, "rounds": 2})
        self.assertEqual(status, 400)


if __name__ == "__main__":
    require_files()
    unittest.main()
