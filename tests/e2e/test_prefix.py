#!/usr/bin/env python3
"""The prefix cache from outside: prompts that begin as others did read only what is new, and every
answer is the one that it would be alone. On the demo, and on SmolLM2 with its heads where it has been
fetched. BUILD is the build folder."""
import concurrent.futures
import json
import os
import pathlib
import random
import tempfile
import unittest

from harness import SLOW, Server, require_files

PAGE = 64
MODELS = pathlib.Path(os.environ.get("HEADWAY_MODELS", "~/.cache/headway-models")).expanduser()
SMOLLM2 = sorted(MODELS.glob("smollm2*.gguf"))
WORDS = "the a value of int if return list name is not for while x = 1 + ( ) ; \n".split(" ")


def text(dice, n):
    return " ".join(dice.choice(WORDS) for _ in range(n))


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def whole_pages(answer):
    """Of a prompt that was all there: its last token is always read."""
    return (answer["usage"]["prompt_tokens"] - 1) // PAGE * PAGE


class Reuse(unittest.TestCase):
    def test_the_same_again(self):
        with Server() as server:
            prompt = text(random.Random(1), 60)
            first, second = [server.complete(prompt=prompt, max_tokens=20, seed=1) for _ in range(2)]
            self.assertEqual((cached(first), cached(second)), (0, whole_pages(second)))
            self.assertGreater(cached(second), 2 * PAGE)
            self.assertEqual(first["choices"], second["choices"])
            self.assertEqual(server.metric("prefix_cache_hits_total"), cached(second))
            self.assertEqual(server.metric("prefix_cache_queries_total"),
                             2 * first["usage"]["prompt_tokens"])
            self.assertGreater(server.metric("kv_kept_bytes"), 0)
            # What is written counts too, but for what the last step brought.
            longer = prompt + first["choices"][0]["text"] + text(random.Random(2), 60)
            third = server.complete(prompt=longer, max_tokens=1)
            self.assertGreaterEqual(cached(third), cached(second))
            # With log-probabilities of the prompt all of it is read.
            echo = server.complete(prompt=prompt, max_tokens=1, echo=True, logprobs=0)
            self.assertEqual(cached(echo), 0)

    def test_choices_read_a_prompt_once(self):
        with Server() as server:
            answer = server.complete(prompt=text(random.Random(1), 60), n=4, max_tokens=4)
            self.assertEqual(cached(answer), 0)
            self.assertEqual(server.metric("prefix_cache_hits_total"), 3 * whole_pages(answer))

    def test_streams_say_so(self):
        with Server() as server:
            request = {"prompt": text(random.Random(1), 60), "max_tokens": 4}
            server.complete(**request)
            events = server.stream(**request, stream_options={"include_usage": True})
            self.assertEqual(cached(events[-2]), whole_pages(events[-2]))

    def test_nothing_is_kept_where_nothing_may_be(self):
        with Server("--prefix-memory", 0) as server:
            prompt = text(random.Random(1), 60)
            answers = [server.complete(prompt=prompt, max_tokens=4) for _ in range(2)]
            self.assertEqual([cached(a) for a in answers], [0, 0])
            self.assertEqual(server.metric("kv_bytes"), 0)

    def test_the_oldest_is_forgotten(self):
        with Server("--prefix-memory", 4) as server:
            dice = random.Random(1)
            for _ in range(40):
                server.complete(prompt=text(dice, 100), max_tokens=1)
            kept = server.metric("kv_kept_bytes")
            self.assertTrue(3 << 20 < kept <= 4 << 20, kept)
            self.assertEqual(cached(server.complete(prompt=text(random.Random(1), 100))), 0)


class Apart(unittest.TestCase):
    def ask(self, server, key=None, **fields):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"prompt": text(random.Random(1), 60), "max_tokens": 1, **fields}
        status, _, data = server.request("POST", "/v1/completions", body, headers)
        self.assertEqual(status, 200, data)
        return cached(json.loads(data)) > 0

    def test_salts(self):
        with Server() as server:
            self.assertFalse(self.ask(server))
            self.assertFalse(self.ask(server, cache_salt="one"))
            self.assertTrue(self.ask(server, cache_salt="one"))
            self.assertFalse(self.ask(server, cache_salt="two"))
            self.assertTrue(self.ask(server))

    def test_keys(self):
        with tempfile.NamedTemporaryFile("w") as keys:
            keys.write("alpha\nbeta\n")
            keys.flush()
            with Server("--api-key-file", keys.name) as server:
                self.assertFalse(self.ask(server, "alpha"))
                self.assertTrue(self.ask(server, "beta"))
            with Server("--api-key-file", keys.name, "--prefix-apart") as server:
                self.assertFalse(self.ask(server, "alpha"))
                self.assertFalse(self.ask(server, "beta"))
                self.assertTrue(self.ask(server, "alpha"))


class Exact(unittest.TestCase):
    """Conversations that branch, many at once, some with few pages: each answer as one with a salt of
    its own, whose prompt is read alone."""

    def run_against(self, *options, turns, words=50):
        with Server(*options) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.converse(server, pool, turns, words)
            self.assertGreater(server.metric("prefix_cache_hits_total"), turns * PAGE // 2)

    def converse(self, server, pool, turns, words):
        dice = random.Random(3)
        begun = [text(dice, words) for _ in range(3)]
        asked = []
        for i in range(turns):
            prompt = dice.choice(begun) + " " + text(dice, dice.randrange(1, 40))
            fields = {"prompt": prompt, "max_tokens": dice.randrange(1, 60), "logprobs": 2, "seed": i,
                      "temperature": dice.choice([0, 0.9]), "return_token_ids": True,
                      "speculation": dice.choice(["off", "auto", 3])}
            asked.append((fields, pool.submit(server.complete, **fields)))
            if i % 8 == 7:
                for other, answer in asked[-8:]:
                    whole = other["prompt"] + answer.result()["choices"][0]["text"]
                    if len(whole) < 10 * words:
                        begun[dice.randrange(len(begun))] = whole
        for i, (fields, answer) in enumerate(asked):
            alone = server.complete(**fields, cache_salt=str(i))
            self.assertEqual(cached(alone), 0)
            self.assertEqual(alone["choices"], answer.result()["choices"], fields)

    def test_demo(self):
        self.run_against(turns=16 if SLOW else 64)
        self.run_against("--kv-memory", 9, "--max-sequences", 4, turns=16 if SLOW else 32)

    @unittest.skipUnless(SMOLLM2 and not SLOW, "SmolLM2 is not here, or too slow with sanitizers")
    def test_heads_with_caches(self):
        self.run_against("--model", SMOLLM2[0], "--heads", "weights/smollm2-heads", "--context", 1024,
                         turns=8 if SLOW else 16, words=150)


if __name__ == "__main__":
    require_files()
    unittest.main()
