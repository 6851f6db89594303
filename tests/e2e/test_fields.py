#!/usr/bin/env python3
"""Fields that end or narrow a text: they do what they say, and speculation changes nothing about it. The
demo's tokens are bytes."""
import unittest

from harness import SharedServer, require_files, text_of

PROMPT = "Once upon a time"
WAYS = ("off", "auto", 1, 7)


class Fields(SharedServer):
    def same(self, **fields):
        """A completion that is the same in all ways, streamed too."""
        fields = {"prompt": PROMPT, "max_tokens": 120, "return_token_ids": True, "logprobs": 1, **fields}
        choices = [self.server.complete(**fields, speculation=way)["choices"][0] for way in WAYS]
        for other in choices[1:]:
            self.assertEqual(other, choices[0])
        events = self.server.stream(**fields)
        self.assertEqual(text_of(events), choices[0]["text"])
        self.assertEqual([x for e in events[:-1] for x in e["choices"][0]["logprobs"]["text_offset"]],
                         choices[0]["logprobs"]["text_offset"])
        return choices[0]

    def both(self):
        return ({"temperature": 0}, {"temperature": 1, "seed": 5})

    def test_stop_tokens(self):
        for how in self.both():
            full = self.same(**how)
            stop = next(t for t in full["token_ids"][20:60] if t not in full["token_ids"][:20])
            at = full["token_ids"].index(stop)
            for more in ({}, {"ignore_eos": True}):
                cut = self.same(**how, **more, stop_token_ids=[stop])
                self.assertEqual((cut["finish_reason"], cut["token_ids"]), ("stop", full["token_ids"][:at + 1]))
                self.assertEqual(cut["text"], full["text"][:at])
            late = self.same(**how, stop_token_ids=[stop], min_tokens=at + 5)
            self.assertNotIn(stop, late["token_ids"][:at + 5])
            self.assertEqual(late["token_ids"][:at], full["token_ids"][:at])

    def test_allowed_tokens(self):
        letters = [ord(c) for c in "etaoin "]
        for how in self.both():
            answer = self.same(**how, allowed_token_ids=letters)
            self.assertEqual(len(answer["token_ids"]), 120)
            self.assertLessEqual(set(answer["token_ids"]), set(letters))
        only = self.same(temperature=0, allowed_token_ids=[65], max_tokens=9)
        self.assertEqual(only["text"], "A" * 9)

    def test_bad_words(self):
        for how in self.both():
            full = self.same(**how)["text"]
            words = [full[10:13], full[30:32], full[50]]
            answer = self.same(**how, bad_words=words)
            for word in words:
                self.assertNotIn(word, answer["text"])
            at = min(map(full.index, words))
            self.assertEqual(answer["text"][:at], full[:at])  # until then nothing is changed
            self.assertNotEqual(answer["text"], full)
            both = self.same(**how, bad_words=words, frequency_penalty=0.5, logit_bias={"101": 2},
                             allowed_token_ids=list(range(32, 127)))
            for word in words:
                self.assertNotIn(word, both["text"])

    def test_a_stop_string_that_is_shown(self):
        for how in self.both():
            full = self.same(**how)
            stop = full["text"][25:29]
            at = full["text"].index(stop)
            shown = self.same(**how, stop=stop, include_stop_str_in_output=True)
            self.assertEqual((shown["text"], shown["finish_reason"]), (full["text"][:at + 4], "stop"))
            self.assertEqual(len(shown["logprobs"]["tokens"]), at + 4)
            hidden = self.same(**how, stop=stop)
            self.assertEqual((hidden["text"], len(hidden["logprobs"]["tokens"])), (full["text"][:at], at))

    def test_prompts_are_cut(self):
        whole = self.server.complete(prompt="time", add_special_tokens=False, temperature=0)
        cut = self.server.complete(prompt=PROMPT, truncate_prompt_tokens=4, temperature=0)
        self.assertEqual(cut["choices"], whole["choices"])
        self.assertEqual(cut["usage"]["prompt_tokens"], 4)
        long = self.server.complete(prompt="x" * 5000, truncate_prompt_tokens=-1, max_tokens=1)
        self.assertEqual(long["usage"]["prompt_tokens"], 1023)


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=1)
