#!/usr/bin/env python3
"""headway-server from outside: API shapes, errors, disconnects, shutdown, and the holes that
libmicrohttpd 0.9.75 leaves open. BUILD is the build folder, MODEL the model's."""
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import (MODEL, PROGRAM, Server, SharedServer, parse_events, post_bytes, read_all,
                     require_files, text_of)

PROMPT = "Once upon a time"
# Runs to the end of the context, many times over: long enough to be interrupted.
ENDLESS = {"prompt": PROMPT, "max_tokens": 1 << 20, "ignore_eos": True, "n": 8}


class Shared(SharedServer):
    def refused(self, status, param, code, *, method="POST", path="/v1/completions", body=None,
                headers=None):
        got, response_headers, data = self.server.request(method, path, body, headers)
        self.assertEqual(got, status, data)
        error = json.loads(data)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"}, data)
        self.assertEqual((error["param"], error["code"]), (param, code), data)
        self.assertTrue(error["message"].endswith("."), error["message"])
        self.assertTrue(response_headers["x-request-id"])
        if 400 <= status < 500 and status != 429:
            self.assertEqual(response_headers["x-should-retry"], "false")
        return response_headers


class Pages(Shared):
    def test_health_ready_models_page(self):
        self.assertEqual(self.server.get("/health")[0], 200)
        self.assertEqual(self.server.get("/ready")[0], 200)
        models = json.loads(self.server.get("/v1/models")[1])
        self.assertEqual(models["object"], "list")
        model = models["data"][0]
        self.assertEqual((model["id"], model["object"]), (os.path.basename(MODEL), "model"))
        self.assertEqual(json.loads(self.server.get("/v1/models/" + model["id"])[1]), model)
        self.assertIn("<!doctype html>", self.server.get("/")[1])

    def test_metrics_are_prometheus_text(self):
        self.server.complete(prompt=PROMPT)
        status, headers, data = self.server.request("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        names = set()
        for line in data.decode().splitlines():
            if line.startswith("# TYPE "):
                names.add(line.split()[2])
            elif not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                float(value)
                base = name.split("{")[0]
                plain = base.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
                self.assertTrue(base in names or plain in names, line)
        for name in ("requests_total", "num_requests_running", "num_requests_waiting",
                     "prompt_tokens_total", "generation_tokens_total", "kv_cache_usage_perc",
                     "time_to_first_token_seconds", "inter_token_latency_seconds",
                     "e2e_request_latency_seconds", "spec_decode_num_drafts_total",
                     "spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total",
                     "spec_decode_num_accepted_tokens_per_pos_total", "head_tried_total",
                     "head_accepted_total", "head_dead", "lookup_tried_total",
                     "lookup_accepted_total", "kv_bytes", "kv_limit_bytes", "preemptions_total",
                     "sequences_preempted"):
            self.assertIn("headway_" + name, names)
        self.assertGreater(self.server.metric("time_to_first_token_seconds_count"), 0)

    def test_request_metrics_sum_to_the_counters(self):
        names = ("spec_decode_num_drafts_total", "spec_decode_num_draft_tokens_total",
                 "spec_decode_num_accepted_tokens_total", "generation_tokens_total")
        before = [self.server.metric(name) for name in names]
        response = self.server.complete(prompt=PROMPT, max_tokens=60, temperature=0)
        spec = response["metrics"]["speculative_decoding"]
        grown = [self.server.metric(name) - old for name, old in zip(names, before)]
        self.assertEqual(grown, [spec["num_spec_steps"], spec["num_draft_tokens"],
                                 spec["num_accepted_draft_tokens"],
                                 response["usage"]["completion_tokens"]])

    def test_head_and_preflight(self):
        status, _, data = self.server.request("HEAD", "/health")
        self.assertEqual((status, data), (200, b""))
        asked = "authorization,x-stainless-os,openai-organization,openai-project"
        status, headers, _ = self.server.request(
            "OPTIONS", "/v1/completions", headers={"Origin": "http://x",
                                                   "Access-Control-Request-Method": "POST",
                                                   "Access-Control-Request-Headers": asked})
        self.assertEqual(status, 204)
        self.assertEqual(headers["Access-Control-Allow-Origin"], "*")
        self.assertEqual(headers["Access-Control-Allow-Headers"], asked)
        self.assertIn("POST", headers["Access-Control-Allow-Methods"])

    def test_wrong_places(self):
        self.refused(404, None, "unknown_url", method="GET", path="/v2")
        self.refused(404, "model", "model_not_found", method="GET", path="/v1/models/none")
        self.refused(400, None, "no_chat_template", path="/v1/chat/completions", body={})
        for method, path, allow in (("GET", "/v1/completions", "POST"),
                                    ("POST", "/health", "GET"), ("DELETE", "/v1/models", "GET")):
            headers = self.refused(405, None, "method_not_allowed", method=method, path=path)
            self.assertIn(allow, headers["Allow"])
        self.refused(415, None, "unsupported_media_type", body="{}",
                     headers={"Content-Type": "text/plain"})


class Completions(Shared):
    def test_shape(self):
        response = self.server.complete(prompt=PROMPT, max_tokens=12, model=os.path.basename(MODEL))
        self.assertTrue(response["id"].startswith("cmpl-"))
        self.assertEqual(response["object"], "text_completion")
        self.assertEqual(response["model"], os.path.basename(MODEL))
        self.assertLess(abs(response["created"] - time.time()), 60)
        choice = response["choices"][0]
        self.assertEqual(set(choice), {"text", "index", "logprobs", "finish_reason"})
        self.assertIn(choice["finish_reason"], ("stop", "length"))
        usage = response["usage"]
        self.assertEqual(usage["total_tokens"],
                         usage["prompt_tokens"] + usage["completion_tokens"])
        spec = response["metrics"]["speculative_decoding"]
        self.assertEqual(set(spec), {
            "mean_acceptance_length", "draft_acceptance_rate", "acceptance_histogram",
            "acceptance_histogram_by_draft_length", "num_spec_steps", "num_accepted_draft_tokens",
            "num_draft_tokens", "num_spec_tokens"})
        self.assertEqual(len(spec["acceptance_histogram"]), spec["num_spec_tokens"] + 1)
        self.assertEqual(sum(spec["acceptance_histogram"]), spec["num_spec_steps"])
        self.assertEqual(sum(i * n for i, n in enumerate(spec["acceptance_histogram"])),
                         spec["num_accepted_draft_tokens"])
        by_length = spec["acceptance_histogram_by_draft_length"]
        self.assertEqual(sum(int(k) * sum(row) for k, row in by_length.items()),
                         spec["num_draft_tokens"])

    def test_stream_equals_whole(self):
        for fields in ({"temperature": 0}, {"temperature": 1, "seed": 7},
                       {"temperature": 0.8, "seed": 3, "echo": True}):
            fields = {"prompt": PROMPT, "max_tokens": 60, **fields}
            whole = self.server.complete(**fields)
            events = self.server.stream(**fields)
            self.assertEqual(events[-1], "[DONE]")
            self.assertEqual(text_of(events), whole["choices"][0]["text"])
            reasons = [e["choices"][0]["finish_reason"] for e in events[:-1]]
            self.assertEqual(reasons[:-1], [None] * (len(reasons) - 1))
            self.assertEqual(reasons[-1], whole["choices"][0]["finish_reason"])
            self.assertEqual(len({(e["id"], e["created"], e["object"]) for e in events[:-1]}), 1)

    def test_usage_chunk(self):
        events = self.server.stream(prompt=PROMPT, max_tokens=20,
                                    stream_options={"include_usage": True})
        *chunks, usage, done = events
        self.assertEqual(done, "[DONE]")
        self.assertTrue(all(e["usage"] is None for e in chunks))
        self.assertEqual(usage["choices"], [])
        self.assertGreater(usage["usage"]["completion_tokens"], 0)
        self.assertIn("speculative_decoding", usage["metrics"])
        plain = self.server.stream(prompt=PROMPT, max_tokens=5)
        self.assertTrue(all("usage" not in e for e in plain[:-1]))

    def test_obfuscated_chunks_have_few_sizes(self):
        fields = {"prompt": PROMPT, "max_tokens": 40, "stream": True,
                  "stream_options": {"include_obfuscation": True}}
        _, _, data = self.server.request("POST", "/v1/completions", fields)
        sizes = [len(part) - len("data: ") for part in data.split(b"\n\n")
                 if part.startswith(b"data: {")]
        self.assertTrue(sizes)
        self.assertTrue(all(size % 256 == 0 for size in sizes), sizes)

    def test_speculation_never_changes_the_text(self):
        most = json.loads(self.server.get("/v1/models")[1])["data"][0]["prediction_heads"] - 1
        for fields in ({"temperature": 0}, {"temperature": 1, "seed": 11}):
            fields = {"prompt": PROMPT, "max_tokens": 80, "logprobs": 1, **fields}
            choices = [self.server.complete(**fields, speculation=k)["choices"]
                       for k in ("off", "auto", 1, most)]
            for other in choices[1:]:
                self.assertEqual(other, choices[0])
        off = self.server.complete(prompt=PROMPT, speculation="off")
        self.assertEqual(off["metrics"]["speculative_decoding"]["num_draft_tokens"], 0)

    def test_choices_and_prompt_lists(self):
        fields = {"max_tokens": 24, "temperature": 1, "seed": 5}
        one = [self.server.complete(prompt=p, **fields)["choices"][0]["text"] for p in ("A", "B")]
        response = self.server.complete(prompt=["A", "B"], n=2, **fields)
        self.assertEqual([c["index"] for c in response["choices"]], [0, 1, 2, 3])
        self.assertEqual([response["choices"][i]["text"] for i in (0, 2)], one)
        again = self.server.complete(prompt="A", **{**fields, "seed": 6})
        self.assertEqual(response["choices"][1]["text"], again["choices"][0]["text"])
        self.assertNotIn("metrics", response)
        events = self.server.stream(prompt=["A", "B"], n=2, **fields)
        for i, choice in enumerate(response["choices"]):
            self.assertEqual(text_of(events, i), choice["text"])

    def test_token_prompts_and_echo(self):
        response = self.server.complete(prompt=[72, 105], max_tokens=0, echo=True)
        self.assertEqual(response["usage"]["prompt_tokens"], 2)
        self.assertEqual(response["usage"]["completion_tokens"], 0)
        self.assertEqual(response["choices"][0]["finish_reason"], "length")
        many = self.server.complete(prompt=[[72, 105], [72]], max_tokens=3, echo=True)
        self.assertEqual(len(many["choices"]), 2)
        text = "h\u00e9llo \u65e5\u672c \U0001f600 \0 \"\\"
        response = self.server.complete(prompt=text, max_tokens=4, temperature=0, echo=True)
        self.assertTrue(response["choices"][0]["text"].startswith(text))

    def test_logprobs(self):
        response = self.server.complete(prompt=PROMPT, max_tokens=10, logprobs=3, temperature=0)
        choice, logprobs = response["choices"][0], response["choices"][0]["logprobs"]
        n = response["usage"]["completion_tokens"]
        for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            self.assertEqual(len(logprobs[key]), n, key)
        for token, value, top, offset in zip(*(logprobs[k] for k in (
                "tokens", "token_logprobs", "top_logprobs", "text_offset"))):
            self.assertLessEqual(value, 0)
            self.assertIn(len(top), (3, 4))
            self.assertEqual(max(top, key=top.get), token)
            if not token.startswith(("bytes:", "<|")):
                self.assertTrue(choice["text"][offset:].startswith(token), (token, offset))
        plain = self.server.complete(prompt=PROMPT, max_tokens=3, logprobs=0, temperature=0)
        self.assertEqual(len(plain["choices"][0]["logprobs"]["top_logprobs"][0]), 1)

    def test_echo_with_logprobs_covers_the_prompt(self):
        whole = self.server.complete(prompt=[72, 105, 33], max_tokens=2, echo=True, logprobs=1,
                                     temperature=0)["choices"][0]
        logprobs = whole["logprobs"]
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertTrue(all(v <= 0 for v in logprobs["token_logprobs"][1:]))
        self.assertGreaterEqual(len(logprobs["tokens"]), 4)
        self.assertEqual(logprobs["text_offset"], sorted(logprobs["text_offset"]))
        events = self.server.stream(prompt=[72, 105, 33], max_tokens=2, echo=True, logprobs=1,
                                    temperature=0)
        for key in logprobs:
            streamed = [x for e in events[:-1] for x in e["choices"][0]["logprobs"][key]]
            self.assertEqual(streamed, logprobs[key], key)

    def test_stop(self):
        full = self.server.complete(prompt=PROMPT, max_tokens=60, temperature=0)
        text = full["choices"][0]["text"]
        # A piece that is what the model wrote, not a repair of broken UTF-8.
        stop = next(text[i:i + 3] for i in range(15, 55) if "\ufffd" not in text[i:i + 3])
        response = self.server.complete(prompt=PROMPT, max_tokens=60, temperature=0, stop=[stop])
        self.assertEqual(response["choices"][0]["text"], text[:text.index(stop)])
        self.assertEqual(response["choices"][0]["finish_reason"], "stop")
        events = self.server.stream(prompt=PROMPT, max_tokens=60, temperature=0, stop=stop)
        self.assertEqual(text_of(events), text[:text.index(stop)])

    def test_tokens_of_a_stop_string_have_no_logprobs(self):
        fields = {"prompt": PROMPT, "max_tokens": 80, "temperature": 0, "logprobs": 2}
        full = self.server.complete(**fields)["choices"][0]
        at = next(i for i in range(20, 60) if "\ufffd" not in full["text"][i:i + 5])
        stop = full["text"][at:at + 5]
        at = full["text"].index(stop)
        whole = self.server.complete(**fields, stop=stop)["choices"][0]
        self.assertEqual((whole["text"], whole["finish_reason"]), (full["text"][:at], "stop"))
        n = sum(offset < at for offset in full["logprobs"]["text_offset"])
        self.assertLess(max(whole["logprobs"]["text_offset"]), at)
        events = self.server.stream(**fields, stop=stop)[:-1]
        shown = ""
        for event in events:
            choice = event["choices"][0]
            shown += choice["text"]
            self.assertTrue(all(offset < len(shown) for offset in choice["logprobs"]["text_offset"]), choice)
        for key, values in full["logprobs"].items():
            self.assertEqual(whole["logprobs"][key], values[:n], key)
            self.assertEqual([x for e in events for x in e["choices"][0]["logprobs"][key]], values[:n], key)
        # One that could have been one holds nothing back for ever.
        other = self.server.complete(**fields, stop=stop + "\x01")["choices"][0]
        self.assertEqual(other, full)

    def test_keep_alive(self):
        connection = self.server.connect()
        for _ in range(3):
            self.assertEqual(self.server.request("POST", "/v1/completions", {"prompt": "x"},
                                                 connection=connection)[0], 200)
            sock = connection.sock
            events = self.server.request("POST", "/v1/completions", {"prompt": "x", "stream": True},
                                         connection=connection)[2]
            self.assertEqual(parse_events(events.decode())[-1], "[DONE]")
            self.assertIs(connection.sock, sock)
        connection.close()

    def test_http_1_0_stream_ends_with_the_connection(self):
        sock = self.server.raw(60)
        sock.sendall(post_bytes({"prompt": "x", "max_tokens": 4, "stream": True})
                     .replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, body = read_all(sock).split(b"\r\n\r\n", 1)
        self.assertTrue(head.startswith(b"HTTP/1.") and b" 200 " in head, head)
        self.assertEqual(parse_events(body.decode())[-1], "[DONE]")


class Errors(Shared):
    def test_bad_fields(self):
        context = json.loads(self.server.get("/v1/models")[1])["data"][0]["max_model_len"]
        table = [
            ({}, "prompt", None),
            ({"prompt": []}, "prompt", None),
            ({"prompt": 5}, "prompt", None),
            ({"prompt": {"a": 1}}, "prompt", None),
            ({"prompt": [1, "a"]}, "prompt", None),
            ({"prompt": [-1]}, "prompt", None),
            ({"prompt": [1 << 40]}, "prompt", None),
            ({"prompt": [[]]}, "prompt", None),
            ({"prompt": ["a"] * 65}, "prompt", None),
            ({"prompt": [65] * (context + 1)}, "prompt", "context_length_exceeded"),
            ({"prompt": "x" * (40 * context)}, "prompt", "context_length_exceeded"),
            ({"max_tokens": -1}, "max_tokens", None),
            ({"max_tokens": "5"}, "max_tokens", None),
            ({"max_tokens": 1.5}, "max_tokens", None),
            ({"max_tokens": 1 << 40}, "max_tokens", None),
            ({"max_tokens": 2, "min_tokens": 3}, "min_tokens", None),
            ({"temperature": -0.1}, "temperature", None),
            ({"temperature": "hot"}, "temperature", None),
            ({"top_p": 1.1}, "top_p", None),
            ({"top_k": -2}, "top_k", None),
            ({"min_p": 2}, "min_p", None),
            ({"presence_penalty": 3}, "presence_penalty", None),
            ({"frequency_penalty": -3}, "frequency_penalty", None),
            ({"repetition_penalty": 0}, "repetition_penalty", None),
            ({"n": 0}, "n", None),
            ({"n": 65}, "n", None),
            ({"prompt": ["a", "b"], "n": 33}, "n", None),
            ({"best_of": 2, "stream": True}, "best_of", None),
            ({"best_of": 2, "n": 3}, "best_of", None),
            ({"logprobs": True}, "logprobs", None),
            ({"logprobs": 21}, "logprobs", None),
            ({"seed": 0.5}, "seed", None),
            ({"stop": 5}, "stop", None),
            ({"stop": ""}, "stop", None),
            ({"stop": ["a"] * 17}, "stop", None),
            ({"stop": ["a", 1]}, "stop", None),
            ({"stop": "x" * 300}, "stop", None),
            ({"stream": "yes"}, "stream", None),
            ({"echo": 1}, "echo", None),
            ({"stream_options": {}}, "stream_options", None),
            ({"stream": True, "stream_options": 1}, "stream_options", None),
            ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage", None),
            ({"logit_bias": []}, "logit_bias", None),
            ({"logit_bias": {"a": 1}}, "logit_bias", None),
            ({"logit_bias": {"-1": 1}}, "logit_bias", None),
            ({"logit_bias": {"99999999": 1}}, "logit_bias", None),
            ({"logit_bias": {"5": 101}}, "logit_bias", None),
            ({"logit_bias": {"5": "x"}}, "logit_bias", None),
            ({"logit_bias": {str(i): 1 for i in range(301)}}, "logit_bias", None),
            ({"suffix": "end"}, "suffix", None),
            ({"user": 5}, "user", None),
            ({"speculation": "fast"}, "speculation", None),
            ({"speculation": -1}, "speculation", None),
            ({"speculation": 32}, "speculation", None),
            ({"speculation": True}, "speculation", None),
        ]
        for fields, param, code in table:
            with self.subTest(str(fields)[:60]):
                self.refused(400, param, code,
                             body=fields if "prompt" in fields or not fields
                             else {"prompt": "x", **fields})
        self.refused(404, "model", "model_not_found", body={"prompt": "x", "model": "gpt"})

    def test_bad_json(self):
        for body in ("", "{", "[]", "5", '{"prompt":"x","prompt":"y"}', '{"prompt":"x"} trailing',
                     '{"prompt":"x","temperature":NaN}', '{"prompt":"x","temperature":1e999}',
                     '{"prompt":"x","temperature":Infinity}', '{"prompt":"\\ud800"}',
                     '{"prompt":"x","seed":99999999999999999999}', "[" * 100000,
                     b'{"prompt":"\xff\xfe"}'):
            with self.subTest(body[:40]):
                self.refused(400, None, "invalid_json", body=body)

    def test_best_of(self):
        """The n of best_of texts whose tokens are likeliest, the likeliest first."""
        fields = {"prompt": ["The", "It was"], "max_tokens": 12, "seed": 3, "temperature": 1.2}
        every = self.server.complete(**fields, n=6, logprobs=0)
        best = self.server.complete(**fields, n=2, best_of=6)
        self.assertEqual(best["usage"], every["usage"])
        for p in range(2):
            group = every["choices"][6 * p:6 * p + 6]

            def mean(choice):
                values = choice["logprobs"]["token_logprobs"]
                return sum(values) / len(values)
            wanted = [choice["text"] for choice in sorted(group, key=mean, reverse=True)[:2]]
            got = best["choices"][2 * p:2 * p + 2]
            self.assertEqual([choice["text"] for choice in got], wanted)
            self.assertEqual([choice["index"] for choice in got], [2 * p, 2 * p + 1])
            self.assertIsNone(got[0]["logprobs"])

    def test_null_fields_and_those_of_clients_are_ignored(self):
        self.server.complete(prompt="x", max_tokens=None, temperature=None, stop=None, n=None,
                             logprobs=None, seed=None, stream=None, stream_options=None, user="me",
                             store=True, metadata={"a": "b"}, service_tier="auto", logit_bias=None,
                             safety_identifier="x", prompt_cache_key="y", suffix=None, best_of=1)

    def test_large_bodies(self):
        big = json.dumps({"prompt": "x", "pad": "y" * (3 << 20)})
        self.refused(413, None, "body_too_large", body=big)
        # A chunked one tells its length only at the end.
        sock = self.server.raw(20)
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            sock.sendall(b"10000\r\n" + b"z" * 0x10000 + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
        response = read_all(sock)
        self.assertTrue(response.startswith(b"HTTP/1.1 413"), response[:80])
        # Far too long, and said so: the response comes at once.
        sock = self.server.raw(20)
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                     b"Content-Length: 999999999\r\n\r\n")
        self.assertTrue(read_all(sock).startswith(b"HTTP/1.1 413"))

    def test_chunked_body(self):
        body = json.dumps({"prompt": "x", "max_tokens": 2}).encode()
        sock = self.server.raw(60)
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
                     b"\r\n5\r\n" + body[:5] + b"\r\n%x\r\n" % len(body[5:]) + body[5:] +
                     b"\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: t\r\n\r\n")
        response = read_all(sock)
        self.assertTrue(response.startswith(b"HTTP/1.1 200"), response[:80])
        self.assertEqual(response.count(b"HTTP/1.1 "), 1, "nothing is read behind a chunked body")


class Smuggling(Shared):
    """Each of these makes two parties disagree on where the first request ends."""

    SECOND = b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n"

    def responses(self, data, seconds=5):
        sock = self.server.raw(seconds)
        sock.sendall(data)
        start = time.monotonic()
        text = read_all(sock)
        return text, time.monotonic() - start < seconds - 1

    def test_control_two_honest_requests(self):
        sock = self.server.raw(1)
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                     + self.SECOND)
        text = read_all(sock)
        self.assertEqual(text.count(b"HTTP/1.1 400"), 1, text)
        self.assertEqual(text.count(b"HTTP/1.1 200"), 1, text)

    def test_smuggling(self):
        table = {
            "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n",
            "two equal lengths": b"Content-Length: %d\r\nContent-Length: %d\r\n",
            "length list": b"Content-Length: 0, %d\r\n",
            "length and coding": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
            "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
            "space before colon": b"Content-Length : %d\r\n",
            "tab before colon": b"Content-Length\t: %d\r\n",
            "coding, space before colon": b"Transfer-Encoding : chunked\r\n",
            "xchunked": b"Transfer-Encoding: xchunked\r\n",
            "identity": b"Transfer-Encoding: identity\r\n",
            "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
            "chunked, identity": b"Transfer-Encoding: chunked, identity\r\n",
            "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "quoted": b"Transfer-Encoding: \"chunked\"\r\n",
            "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
            "folded coding": b"Transfer-Encoding:\r\n chunked\r\n",
            "folded onto coding": b"Transfer-Encoding: chunked\r\n x\r\n",
            "folded length": b"Content-Length: 0\r\n %d\r\n",
            "folded onto another": b"X-A: b\r\n Content-Length: %d\r\n",
            "first line folded": b" Content-Length: %d\r\n",
            "bare LF": b"X-A: b\nContent-Length: %d\r\n",
            "folded, any header": b"X-A: b\r\n c\r\nContent-Length: 0\r\n",
            "NUL in length": b"Content-Length: 0\x00%d\r\n",
            "NUL behind length": b"Content-Length: 0\x00\r\n",
            "NUL and one more": b"Content-Length: 0\x009\r\n",
            "NUL in coding": b"Transfer-Encoding: chunked\x00x\r\n",
            "NUL in value": b"X-A: b\x00\r\nContent-Length: 0\r\n",
            "bare CR": b"X-A: b\rContent-Length: %d\r\n",
            "NUL in name": b"Content-Length\x00: %d\r\n",
            "negative": b"Content-Length: -1\r\n",
            "plus": b"Content-Length: +%d\r\n",
            "hexadecimal": b"Content-Length: 0x%x\r\n",
            "overflow": b"Content-Length: 18446744073709551616\r\n",
            "empty": b"Content-Length: \r\n",
            "two hosts": b"Host: u\r\nContent-Length: 0\r\n",
            "no colon": b"Content-Length %d\r\n",
        }
        for name, header in table.items():
            with self.subTest(name):
                header = header.replace(b"%d", b"%d" % len(self.SECOND)) \
                               .replace(b"%x", b"%x" % len(self.SECOND))
                order = (header, b"Host: t\r\n") if name.startswith("first") \
                    else (b"Host: t\r\n", header)
                text, closed = self.responses(b"POST /v1/completions HTTP/1.1\r\n"
                                              + b"".join(order) + b"Content-Type: application/json\r\n\r\n"
                                              + self.SECOND)
                self.assertRegex(text[:16], rb"HTTP/1\.1 4(00|13) ")
                self.assertNotIn(b"HTTP/1.1 200", text)
                self.assertTrue(closed, "the connection must be closed")

    def test_coding_in_http_1_0(self):
        text, closed = self.responses(b"POST /v1/completions HTTP/1.0\r\nHost: t\r\n"
                                      b"Transfer-Encoding: chunked\r\n"
                                      b"Connection: keep-alive\r\n\r\n0\r\n\r\n" + self.SECOND)
        self.assertIn(b" 400 ", text[:16])
        self.assertNotIn(b" 200 ", text)
        self.assertTrue(closed)

    def test_missing_host(self):
        self.assertIn(b" 400 ", self.responses(b"GET /health HTTP/1.1\r\n\r\n")[0][:16])

    def test_bodies_of_other_methods_are_not_requests(self):
        for method in (b"GET /health", b"GET /nothing", b"OPTIONS /v1/completions"):
            sock = self.server.raw(1)
            sock.sendall(method + b" HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
                         % len(self.SECOND) + self.SECOND)
            text = read_all(sock)
            self.assertEqual(text.count(b"HTTP/1.1 "), 1, text)

    def test_header_flood(self):
        sock = self.server.raw(10)
        try:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: t\r\n" +
                         b"".join(b"X-%d: y\r\n" % i for i in range(10000)) + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.assertNotIn(b" 200 ", read_all(sock)[:16])
        sock = self.server.raw(10)
        try:
            sock.sendall(b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.assertNotIn(b" 200 ", read_all(sock)[:16])
        self.assertEqual(self.server.get("/health")[0], 200)


class Clients(unittest.TestCase):
    """Clients that leave, stall or crowd. Each test has its own server."""

    def test_disconnect_frees_the_sequences(self):
        with Server() as server:
            for stream in (True, False):
                sock = server.raw(60)
                sock.sendall(post_bytes({**ENDLESS, "stream": stream}))
                server.wait_metric("num_requests_running", lambda n: n == 8)
                before = server.metric("requests_cancelled_total")
                sock.close()
                took = server.wait_metric("num_requests_running", lambda n: n == 0)
                self.assertLess(took, 15, "seconds until the sequences were free")
                self.assertGreater(server.metric("requests_cancelled_total"), before)

    def test_reset_counts_as_gone(self):
        with Server() as server:
            sock = server.open_stream(**ENDLESS)
            sock.recv(100)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sock.close()
            server.wait_metric("num_requests_running", lambda n: n == 0)

    def test_half_closed_clients_get_their_answer(self):
        fields = {"prompt": PROMPT, "max_tokens": 200, "ignore_eos": True, "temperature": 0}
        with Server("--max-sequences", 1, "--context", 400000) as server:
            wanted = server.complete(**fields)["choices"][0]["text"]
            for stream in (False, True):
                for early in (False, True):
                    plug = server.open_stream(**{**ENDLESS, "n": 1})  # so that it has to wait
                    server.wait_metric("num_requests_running", lambda n: n == 1)
                    sock = server.raw(60)
                    sock.sendall(post_bytes({**fields, "stream": stream}))
                    if not early:
                        server.wait_metric("num_requests_waiting", lambda n: n == 1)
                    sock.shutdown(socket.SHUT_WR)
                    time.sleep(0.05)
                    plug.close()
                    data = read_all(sock)
                    if stream:
                        self.assertIn(b"data: [DONE]", data)
                        self.assertNotIn(b" 100 ", data)
                    else:
                        self.assertEqual(data.count(b"HTTP/1.1 200 "), 1)
                        self.assertEqual(json.loads(data.rsplit(b"\r\n\r\n", 1)[1])["choices"][0]["text"], wanted)
            # HTTP/1.0 has no interim answers: there it counts as gone.
            plug = server.open_stream(**{**ENDLESS, "n": 1})
            server.wait_metric("num_requests_running", lambda n: n == 1)
            sock = server.raw(60)
            sock.sendall(post_bytes(fields).replace(b"HTTP/1.1", b"HTTP/1.0"))
            server.wait_metric("num_requests_waiting", lambda n: n == 1)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read_all(sock), b"")
            plug.close()
            server.wait_metric("num_requests_running", lambda n: n == 0)

    def test_half_closed_in_the_middle_of_an_answer(self):
        fields = {"prompt": PROMPT, "max_tokens": 900, "ignore_eos": True, "temperature": 0, "logprobs": 20, "n": 2}
        with Server() as server:
            for version in (b"1.1", b"1.0"):
                sock = server.raw(60, receive_buffer=4096)
                sock.sendall(post_bytes(fields).replace(b"HTTP/1.1", b"HTTP/" + version))
                data = sock.recv(100)  # the rest does not fit what the kernel holds
                sock.shutdown(socket.SHUT_WR)
                time.sleep(0.1)
                data += read_all(sock)
                choices = json.loads(data.split(b"\r\n\r\n", 1)[1])["choices"]
                self.assertEqual([len(choice["logprobs"]["tokens"]) for choice in choices], [900, 900])

    def test_who_left_before_the_first_word_is_noticed(self):
        with Server("--max-sequences", 1, "--context", 400000) as server:
            plug = server.open_stream(**{**ENDLESS, "n": 1})
            server.wait_metric("num_requests_running", lambda n: n == 1)
            for stream, version in ((False, b"1.1"), (True, b"1.1"), (False, b"1.0")):
                sock = server.raw(60)
                sock.sendall(post_bytes({**ENDLESS, "n": 1, "stream": stream}).replace(b"HTTP/1.1", b"HTTP/" + version))
                server.wait_metric("num_requests_waiting", lambda n: n == 1)
                sock.close()
                server.wait_metric("num_requests_waiting", lambda n: n == 0, 5)
            self.assertEqual(server.metric("requests_cancelled_total"), 3)
            plug.close()

    def test_disconnect_while_waiting(self):
        with Server("--max-sequences", 1) as server:
            first = server.open_stream(**{**ENDLESS, "n": 1})
            server.wait_metric("num_requests_running", lambda n: n == 1)
            waiting = server.open_stream(**{**ENDLESS, "n": 4})
            server.wait_metric("num_requests_waiting", lambda n: n == 4)
            waiting.close()
            server.wait_metric("num_requests_waiting", lambda n: n == 0)
            first.close()
            server.wait_metric("num_requests_running", lambda n: n == 0)

    def test_full_queue(self):
        with Server("--max-sequences", 1, "--max-queue", 2) as server:
            first = server.open_stream(**{**ENDLESS, "n": 1})
            server.wait_metric("num_requests_running", lambda n: n == 1)
            waiting = server.open_stream(**{**ENDLESS, "n": 2})
            server.wait_metric("num_requests_waiting", lambda n: n == 2)
            status, headers, data = server.request("POST", "/v1/completions", {"prompt": "x"})
            self.assertEqual((status, json.loads(data)["error"]["code"]), (429, "server_busy"))
            self.assertTrue(int(headers["Retry-After"]) >= 1)
            self.assertNotEqual(headers["x-should-retry"], "false")
            waiting.close()
            server.wait_metric("num_requests_waiting", lambda n: n == 0)
            first.close()
            server.wait_metric("num_requests_running", lambda n: n == 0)
            # A request of which only a part fits leaves nothing behind.
            first = server.open_stream(**{**ENDLESS, "n": 1})
            server.wait_metric("num_requests_running", lambda n: n == 1)
            waiting = server.open_stream(**{**ENDLESS, "n": 1})
            server.wait_metric("num_requests_waiting", lambda n: n == 1)
            self.assertEqual(server.request("POST", "/v1/completions", {**ENDLESS, "n": 2})[0], 429)
            server.wait_metric("num_requests_waiting", lambda n: n == 1)
            first.close()
            waiting.close()
            server.wait_metric("num_requests_running", lambda n: n == 0)
            # One that never fits is told so: to try again would not help.
            status, _, data = server.request("POST", "/v1/completions", {"prompt": "x", "n": 3})
            self.assertEqual((status, json.loads(data)["error"]["param"]), (400, "n"))
            server.complete(prompt="x")

    def test_slow_reader_is_cut_off(self):
        with Server("--max-unread", 1 << 16, "--timeout", 2) as server:
            resident = server.resident()
            sock = server.open_stream(receive_buffer=4096, **{**ENDLESS, "n": 16, "logprobs": 20})
            server.wait_metric("num_requests_running", lambda n: n > 0)
            server.wait_metric("stream_pauses_total", lambda n: n > 0, 120)
            tokens = server.metric("generation_tokens_total")
            time.sleep(0.5)
            self.assertLess(server.metric("generation_tokens_total") - tokens, 16 * 32)
            server.wait_metric("stream_overflows_total", lambda n: n == 1, 120)
            server.wait_metric("num_requests_running", lambda n: n == 0)
            self.assertLess(server.resident() - resident, 64 << 20)
            data = read_all(sock)
            self.assertFalse(data.endswith(b"0\r\n\r\n"), "the stream must not look complete")
            server.wait_log('end="stream unread"')

    def test_a_paused_reader_gets_all_of_it(self):
        fields = {"prompt": PROMPT, "max_tokens": 900, "ignore_eos": True, "temperature": 0, "logprobs": 20, "n": 2}
        with Server("--max-unread", 1 << 14, "--max-sequences", 2) as server:
            wanted = server.complete(**fields)["choices"]
            sock = server.open_stream(receive_buffer=4096, **fields)
            server.wait_metric("stream_pauses_total", lambda n: n > 0)
            before = server.metric("generation_tokens_total")
            # It holds nobody up meanwhile.
            self.assertEqual(server.complete(**{**fields, "n": 1})["choices"][0], wanted[0])
            self.assertLess(server.metric("generation_tokens_total") - before, 900 + 600)
            data = b""
            while not data.endswith(b"0\r\n\r\n"):
                data += sock.recv(65536)
            sock.close()
            body = re.sub(rb"\r\n[0-9A-F]+\r\n", b"", b"\r\n" + data.split(b"\r\n\r\n", 1)[1])
            events = parse_events(body.removesuffix(b"\r\n").decode())
            for i in range(2):
                self.assertEqual(text_of(events, i), wanted[i]["text"])

    def test_paused_readers_are_not_too_many(self):
        with Server("--max-unread", 1 << 14, "--max-sequences", 1, "--context", 100000) as server:
            socks = [server.open_stream(receive_buffer=4096, **{**ENDLESS, "n": 1, "logprobs": 20}) for _ in range(3)]
            server.wait_metric("stream_overflows_total", lambda n: n >= 1)
            server.wait_log("do not read their streams")
            for sock in socks:
                sock.close()
            server.wait_metric("num_requests_running", lambda n: n == 0)
            server.complete(prompt="x")

    def test_unread_response_times_out(self):
        with Server("--timeout", 1) as server:
            sock = server.open_stream(receive_buffer=4096, prompt=PROMPT, n=4, logprobs=20,
                                      max_tokens=100, ignore_eos=True)
            server.wait_metric("num_requests_running", lambda n: n > 0)
            server.wait_metric("num_requests_running", lambda n: n == 0, 60)
            time.sleep(3)
            data = read_all(sock)
            self.assertFalse(data.endswith(b"0\r\n\r\n"), "the stream must not look complete")

    def test_slow_senders_are_cut_off(self):
        with Server("--timeout", 1) as server:
            def drip(sock, data):
                """Sends a byte at a time and returns how long the server bore it."""
                start = time.monotonic()
                with sock:
                    try:
                        for byte in data:
                            sock.sendall(bytes([byte]))
                            time.sleep(0.1)
                        sock.recv(1)
                    except (BrokenPipeError, ConnectionResetError):
                        pass
                return time.monotonic() - start

            request = post_bytes({"prompt": "x" * 60})
            self.assertLess(drip(server.raw(), request), 6)
            sock = server.raw()
            sock.sendall(request[:-60])
            self.assertLess(drip(sock, request[-60:]), 6)
            with server.raw() as idle:
                self.assertEqual(idle.recv(1), b"")

    def test_connection_limit(self):
        with Server("--max-connections", 4, "--timeout", 2) as server:
            idle = [server.raw() for _ in range(12)]
            # The others wait in the kernel until idle ones time out.
            self.assertEqual(server.get("/health")[0], 200)
            self.assertLess(server.descriptors(), 40)
            for sock in idle:
                sock.close()

    def test_api_key(self):
        with tempfile.NamedTemporaryFile("w") as keys:
            keys.write("# ours\nsecret-1\nsecret-2\n")
            keys.flush()
            with Server("--api-key-file", keys.name, "--allow-origin", "") as server:
                for header, status in ((None, 401), ("Bearer secret", 401), ("secret-1", 401),
                                       ("Bearer secret-11", 401), ("Bearer ", 401),
                                       ("Bearer secret-1", 200), ("bearer secret-2", 200)):
                    got, headers, data = server.request(
                        "POST", "/v1/completions", {"prompt": "x"},
                        {"Authorization": header} if header else {})
                    self.assertEqual(got, status, data)
                    self.assertNotIn("Access-Control-Allow-Origin", headers)
                self.assertEqual(server.get("/health")[0], 200)
                self.assertEqual(server.get("/v1/models")[0], 401)


class Life(unittest.TestCase):
    def start(self, *options):
        server = Server(*options)
        self.addCleanup(server.process.kill)
        return server

    def run_program(self, *options):
        return subprocess.run([PROGRAM, *options], capture_output=True, text=True, timeout=60,
                              check=False)

    def test_options(self):
        self.assertIn("--max-sequences", self.run_program("--help").stdout)
        self.assertIn("headway", self.run_program("--version").stdout)
        for options in (("--nonsense",), ("--port", "70000"), ("--kv-memory", "-1"), ("--model", "/nowhere"),
                        ("--host", "no.such.host.invalid"), ("--api-key-file", "/nowhere")):
            done = self.run_program(*options)
            self.assertEqual(done.returncode, 1, options)
            self.assertTrue(done.stderr.startswith("headway-server: "), done.stderr)

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            done = self.run_program("--port", str(taken.getsockname()[1]))
            self.assertEqual(done.returncode, 1)
            self.assertIn("in use", done.stderr)

    def test_terminate_finishes_what_runs(self):
        server = self.start("--timeout", 600)
        idle = server.connect()
        self.assertEqual(server.request("GET", "/ready", connection=idle)[0], 200)
        fields = {"prompt": PROMPT, "max_tokens": 500, "ignore_eos": True, "temperature": 0}
        wanted = server.complete(**fields)["choices"][0]["text"]
        stream = server.open_stream(**fields, n=4)
        whole = server.raw(300)
        whole.sendall(post_bytes(fields))
        server.wait_metric("num_requests_running", lambda n: n == 5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
        # An open connection is still served: not ready, and nothing new.
        status, headers, _ = server.request("GET", "/ready", connection=idle)
        self.assertEqual((status, headers["Connection"]), (503, "close"))
        idle.close()
        with self.assertRaises(ConnectionRefusedError):
            server.raw()
        self.assertTrue(read_all(stream).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"))
        data = read_all(whole).split(b"\r\n\r\n", 1)[1]
        self.assertEqual(json.loads(data)["choices"][0]["text"], wanted)
        self.assertEqual(server.stop(), 0, "".join(server.log))

    def test_terminate_idle_and_with_open_connections(self):
        server = self.start()
        socks = [server.raw() for _ in range(5)]
        socks[0].sendall(b"GET /health HTTP/1.1\r\nHo")
        time.sleep(0.1)
        start = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - start, 10)
        for sock in socks:
            sock.close()

    def test_second_signal_leaves_at_once(self):
        server = self.start()
        sock = server.open_stream(**ENDLESS)
        server.wait_metric("num_requests_running", lambda n: n == 8)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(10), 128 + signal.SIGINT)
        sock.close()

    def test_many_at_once(self):
        with Server() as server:
            fields = {"prompt": PROMPT, "max_tokens": 30, "temperature": 1}
            alone = [server.complete(**fields, seed=i)["choices"][0]["text"] for i in range(8)]
            texts = [None] * 8

            def run(i):
                texts[i] = text_of(server.stream(**fields, seed=i))

            threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(texts, alone)


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=1)
