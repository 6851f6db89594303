#!/usr/bin/env python3
"""POST /infill as clients of llama-server send it, on a model with tokens to fill in the middle with
that says what it is told (scripted_gguf.py). BUILD is the build folder."""
import json
import os
import tempfile
import unittest

import scripted_gguf
from harness import Server, parse_events, require_files

MIDDLE = ["retu", "rn ", "1;", "\n"]
GAP = {"input_prefix": "int one(void)\n{\n", "prompt": "    ", "input_suffix": "}\n"}
# What llama.vim sends beside the texts.
VIM = {"n_predict": 128, "n_indent": 4, "top_k": 40, "top_p": 0.99, "stream": False,
       "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True, "t_max_prompt_ms": 500,
       "t_max_predict_ms": 1000,
       "response_fields": ["content", "timings/prompt_n", "timings/predicted_n", "truncated",
                           "tokens_cached", "timings/none"]}


def write_model(path):
    script = scripted_gguf.Script()
    for name in ("prefix", "suffix"):
        script.cue(f"<|fim_{name}|>")
    script.say(script.cue("<|fim_middle|>"), *MIDDLE)
    for name in ("repo_name", "file_sep"):
        script.cue(f"<|{name}|>")
    scripted_gguf.write(path, script, None)


def gap(before="int one(void)\n{\n    ", behind="}\n"):
    return f"<|fim_prefix|>{before}<|fim_suffix|>{behind}<|fim_middle|>"


def file(name, text):
    return f"<|file_sep|>{name}\n{text}\n"


class Infill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="headway-infill-")
        cls.model = os.path.join(cls.folder.name, "infill.gguf")
        write_model(cls.model)
        cls.server = Server("--model", cls.model)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        cls.folder.cleanup()
        assert code == 0, "".join(cls.server.log)

    def infill(self, **fields):
        return self.server.post("/infill", **{**GAP, **fields})

    def refused(self, status, param, **fields):
        got, _, data = self.server.request("POST", "/infill", {**GAP, **fields})
        error = json.loads(data)["error"]
        self.assertEqual((got, error["param"]), (status, param), error)

    def test_whole(self):
        answer = self.infill(return_tokens=True)
        self.assertEqual(answer["content"], "".join(MIDDLE))
        self.assertEqual(answer["prompt"], gap())
        self.assertEqual({k: answer[k] for k in ("stop", "stop_type", "stopping_word", "truncated",
                                                 "tokens_predicted", "model")},
                         {"stop": True, "stop_type": "eos", "stopping_word": "",
                          "truncated": False, "tokens_predicted": 5, "model": "infill.gguf"})
        self.assertEqual(len(answer["tokens"]), 5)
        self.assertEqual(answer["timings"]["prompt_n"] + answer["timings"]["cache_n"],
                         answer["tokens_evaluated"])
        self.assertEqual(answer["generation_settings"]["temperature"], 0)
        self.assertEqual(self.infill()["tokens"], [])

    def test_any_text(self):
        answer = self.infill(prompt="\0<|fim_middle|>\u00e9", response_fields=["prompt", "x/y", "", "/"])
        self.assertEqual(answer["prompt"], gap("int one(void)\n{\n\0<|fim_middle|>\u00e9"))

    def test_as_a_completion_with_a_suffix(self):
        whole = self.server.complete(prompt=GAP["input_prefix"] + GAP["prompt"], temperature=0,
                                     suffix=GAP["input_suffix"], return_token_ids=True)
        answer = self.infill(return_tokens=True)
        self.assertEqual(whole["choices"][0]["text"], answer["content"])
        self.assertEqual(whole["choices"][0]["token_ids"], answer["tokens"])
        self.assertEqual(len(whole["choices"][0]["prompt_token_ids"]), answer["tokens_evaluated"])

    def test_as_llama_vim_asks(self):
        for extra in ([], [{"filename": "a.h", "text": "int a;\n", "time": [1, 2]}]):
            answer = self.infill(**VIM, input_extra=extra)
            self.assertEqual(set(answer), {"content", "timings/prompt_n", "timings/predicted_n",
                                           "truncated", "tokens_cached"})
            self.assertEqual((answer["content"], answer["timings/predicted_n"]),
                             ("".join(MIDDLE), 5))

    def test_prompts_are_read_ahead(self):
        answer = self.infill(n_predict=0, prompt="", samplers=[])
        self.assertEqual((answer["content"], answer["tokens_predicted"], answer["stop_type"]),
                         ("", 0, "limit"))

    def test_other_files(self):
        extra = [{"filename": "a.h", "text": "int a;\n"}, {"text": "<|file_sep|>"}]
        self.assertEqual(self.infill(input_extra=extra)["prompt"],
                         "<|repo_name|>project\n" + file("a.h", "int a;\n") +
                         file("file", "<|file_sep|>") + "<|file_sep|>file\n" + gap())

    def test_ends(self):
        answer = self.infill(n_predict=2)
        self.assertEqual((answer["content"], answer["stop_type"]), ("return ", "limit"))
        answer = self.infill(stop=["x", "n 1"])
        self.assertEqual((answer["content"], answer["stop_type"], answer["stopping_word"]),
                         ("retur", "word", "n 1"))

    def test_streamed(self):
        status, headers, data = self.server.request("POST", "/infill", {**GAP, "stream": True})
        self.assertEqual((status, headers["Content-Type"]),
                         (200, "text/event-stream; charset=utf-8"))
        *pieces, last = parse_events(data.decode())
        self.assertEqual("".join(p["content"] for p in pieces), "".join(MIDDLE))
        self.assertEqual(sum((p["tokens"] for p in pieces), []),
                         self.infill(return_tokens=True)["tokens"])
        self.assertTrue(all(p["stop"] is False for p in pieces))
        self.assertEqual((last["stop"], last["content"], last["stop_type"], last["prompt"]),
                         (True, "", "eos", gap()))

    def test_speculation_changes_nothing(self):
        texts = {self.infill(speculation=k, temperature=1, seed=4, n_predict=30,
                             ignore_eos=True)["content"] for k in ("off", "auto", 4)}
        self.assertEqual(len(texts), 1, texts)

    def test_what_is_far_is_left_out(self):
        extra = [{"filename": f"{i}", "text": "y" * 50} for i in range(4)]
        with Server("--model", self.model, "--context", 192) as server:
            answer = server.post("/infill", **GAP, n_predict=8, input_extra=extra)
            self.assertEqual(answer["prompt"],
                             "<|repo_name|>project\n" + file("2", "y" * 50) +
                             file("3", "y" * 50) + "<|file_sep|>file\n" + gap())
            self.assertTrue(answer["truncated"])
            self.assertEqual(answer["content"], "".join(MIDDLE))
            answer = server.post("/infill", input_prefix="a" * 200 + "b" * 100,
                                 input_suffix="c" * 20 + "d" * 200, n_predict=8)
            self.assertEqual(answer["tokens_evaluated"], 192 - 8)
            self.assertEqual(answer["prompt"], gap("a" * 36 + "b" * 100, "c" * 20 + "d" * 25))
            answer = server.post("/infill", input_prefix="a", input_suffix="d" * 300, n_predict=8)
            self.assertEqual(answer["prompt"], gap("a", "d" * 180))
            answer = server.post("/infill", input_prefix="a", input_suffix="d", n_predict=-1,
                                 ignore_eos=True)
            self.assertTrue(answer["truncated"])

    def test_refusals(self):
        for extra in ({}, "a", [1], [{}], [{"filename": "a"}], [{"filename": 1, "text": "a"}],
                      [{"text": 1}]):
            self.refused(400, "input_extra", input_extra=extra)
        self.refused(400, "input_prefix", input_prefix=None)
        self.refused(400, "input_suffix", input_suffix=None)
        self.refused(400, "input_suffix", input_suffix=1)
        self.refused(400, "prompt", prompt=["a"])
        self.refused(400, "n_predict", n_predict=-2)
        self.refused(400, "response_fields", response_fields=[1])
        self.refused(400, "response_fields", response_fields="content")
        self.refused(400, "mirostat", mirostat=1)
        self.refused(400, "input_pefix", input_pefix="")
        self.refused(400, "return_tokens", return_tokens=1)

    def test_models_without_the_tokens(self):
        with Server() as server:
            status, _, data = server.request("POST", "/infill", GAP)
            self.assertEqual(status, 501)
            self.assertIn("fill in the middle", json.loads(data)["error"]["message"])


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=2)
