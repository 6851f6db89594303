#!/usr/bin/env python3
"""Stop strings and alternatives from outside: wherever a stop string lies across the tokens, it ends
the text at the same place, streamed or whole, with speculation or without, and alternatives are the
same too. BUILD is the build folder, MODEL the model's."""
import threading
import unittest

from harness import SLOW, SharedServer, require_files, text_of

PROMPT = "Once upon a time"
TOKENS = 48
KINDS = ({"temperature": 0}, {"temperature": 0.9, "seed": 4})


def joined(events):
    """What the events of one text say together, as the whole answer's choice says it."""
    choices = [choice for event in events[:-1] for choice in event["choices"]]
    choice = {"text": text_of(events), "index": 0,
              "finish_reason": choices[-1]["finish_reason"], "logprobs": None}
    if choices[0]["logprobs"]:
        choice["logprobs"] = {key: [x for c in choices if c["logprobs"] for x in c["logprobs"][key]]
                              for key in choices[0]["logprobs"]}
    return choice


class Texts(SharedServer):
    def four(self, **fields):
        """The choice, which must be the same in all four ways to ask for it; and its tokens."""
        fields = {"prompt": PROMPT, "max_tokens": TOKENS, **fields}
        answers = [self.server.complete(**fields, speculation=k) for k in ("off", "auto")]
        choices = [answer["choices"][0] for answer in answers]
        choices += [joined(self.server.stream(**fields, speculation=k)) for k in ("off", "auto")]
        for way, choice in zip(("auto", "streamed, off", "streamed, auto"), choices[1:]):
            self.assertEqual(choice, choices[0], f"{way}, not as whole, off: {fields}")
        tokens = [answer["usage"]["completion_tokens"] for answer in answers]
        self.assertEqual(tokens[0], tokens[1], fields)
        return choices[0]

    def at_once(self, jobs):
        """Runs the functions a few at a time, so that the sequences share steps."""
        jobs, errors = list(jobs), []

        def run():
            while jobs:
                try:
                    jobs.pop()()
                except IndexError:
                    return
                except Exception as error:  # pylint: disable=broad-except
                    errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def ends_at(self, text, stops, fields):
        """The text must end before the stop string that is complete first."""
        ends = {text.index(stop) + len(stop): text.index(stop) for stop in stops if stop in text}
        choice = self.four(**fields, stop=stops)
        self.assertEqual(choice["text"], text[:ends[min(ends)]] if ends else text, stops)
        self.assertEqual(choice["finish_reason"], "stop" if ends else "length", stops)

    def texts(self):
        for fields in KINDS:
            fields = {**fields, "ignore_eos": True}
            text = self.four(**fields)["text"]
            yield fields, text

    def pieces(self, text, step):
        """Pieces of the text that the model wrote as they are, each with a longer one at the same
        place: a piece with a repaired byte in it would not be found."""
        step *= 3 if SLOW else 1
        for start in range(0, len(text) - 3, step):
            piece = text[start:start + 3 + (start // step) % 4 * 2]
            if len(piece) > 2 and "\ufffd" not in piece:
                yield piece

    def test_at_every_place(self):
        jobs = []
        for fields, text in self.texts():
            for piece in self.pieces(text, 2):
                jobs.append(lambda text=text, piece=piece, fields=fields:
                            self.ends_at(text, [piece], fields))
        self.assertGreater(len(jobs), 10)
        self.at_once(jobs)

    def test_one_that_only_begins(self):
        """What could have become a stop string is shown after all, also at the text's end."""
        jobs = []
        for fields, text in self.texts():
            for piece in self.pieces(text, 7):
                jobs.append(lambda text=text, piece=piece, fields=fields:
                            self.ends_at(text, [piece + "\u0001", piece[:-1] + "\u0001"], fields))
            jobs.append(lambda text=text, fields=fields:
                        self.ends_at(text, [text[-20:] + "\u0001"], fields))
        self.at_once(jobs)

    def test_several(self):
        """The one that is complete first counts, whatever else began before it."""
        jobs = []
        for fields, text in self.texts():
            for piece in self.pieces(text, 9):
                at = text.index(piece)
                stops = [piece, text[max(0, at - 4):at + len(piece) + 3], piece[1:] + "\u0001"]
                jobs.append(lambda text=text, stops=stops, fields=fields:
                            self.ends_at(text, stops, fields))
        self.at_once(jobs)

    def test_over_the_end_of_the_tokens(self):
        """Limits on the number of tokens in the middle of a stop string."""
        jobs = []
        for fields, text in self.texts():
            piece = next(iter(self.pieces(text[12:], 1)))
            first = text.index(piece)
            for tokens in range(max(1, first - 1), first + len(piece) + 2):
                cut = self.server.complete(**fields, prompt=PROMPT, max_tokens=tokens)
                cut = cut["choices"][0]["text"]
                jobs.append(lambda cut=cut, piece=piece, fields=fields, tokens=tokens:
                            self.ends_at(cut, [piece], {**fields, "max_tokens": tokens}))
        self.at_once(jobs)

    def test_alternatives(self):
        jobs = []
        for fields in ({"temperature": 0}, {"temperature": 1, "seed": 2},
                       {"temperature": 0.7, "seed": 9, "top_p": 0.8},
                       {"temperature": 0, "frequency_penalty": 0.5}, {"temperature": 0, "echo": True},
                       {"temperature": 0, "stop": ["e "]}):
            jobs.append(lambda fields=fields: self.alternatives(fields))
        self.at_once(jobs)

    def alternatives(self, fields):
        logprobs = self.four(**fields, logprobs=5)["logprobs"]
        for top in logprobs["top_logprobs"][1:]:
            self.assertIn(len(top), (5, 6))
            self.assertEqual(list(top.values()), sorted(top.values(), reverse=True))


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=1)
