#!/usr/bin/env python3
"""Structured answers from outside: schemas of many kinds, whose answers must parse and be valid;
expressions and choices; the same text with and without speculation, streamed or whole; what cannot
be followed is refused by name and place. With SmolLM2 where it has been fetched, else with the demo
model. SEEDS is how many answers each schema gets (1), BUILD the build folder."""
import concurrent.futures
import decimal
import json
import os
import pathlib
import re
import sys
import unittest

import schemas
from harness import MODEL, SLOW, Server, require_files, text_of

try:
    import jsonschema
except ImportError:
    jsonschema = None

SEEDS = int(os.environ.get("SEEDS", "1"))
MODELS = pathlib.Path(os.environ.get("HEADWAY_MODELS", "~/.cache/headway-models")).expanduser()
SMOLLM2 = [] if SLOW else sorted(MODELS.glob("smollm2*.gguf"))
PROMPTS = ["Invent an example. Answer in JSON.", "Describe your favourite book as JSON data.",
           "Give me some numbers and names."]
PLACE = {"type": "object", "required": ["name", "people"], "additionalProperties": False,
         "properties": {"name": {"type": "string", "maxLength": 40},
                        "people": {"type": "integer", "minimum": 0, "maximum": 99999999}}}


def as_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def in_decimals(text):
    """For jsonschema, to which 0.07 as a binary fraction is no multiple of 0.01."""
    return json.loads(text, parse_float=decimal.Decimal)


class Structured(unittest.TestCase):
    """All share one server."""

    @classmethod
    def setUpClass(cls):
        options = ["--model", SMOLLM2[0], "--heads", "weights/smollm2-heads"] if SMOLLM2 else []
        cls.server = Server(*options, "--max-sequences", 8)
        cls.model = SMOLLM2[0].name if SMOLLM2 else MODEL

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)

    def ask(self, prompt=PROMPTS[0], **fields):
        """The choices, as pairs of text and finish_reason."""
        fields = {"max_tokens": 60, "temperature": 0.8, "seed": 1, **fields}
        if not SMOLLM2:
            choices = self.server.complete(prompt=prompt, **fields)["choices"]
            return [(choice["text"], choice["finish_reason"]) for choice in choices]
        choices = self.server.chat(prompt, **fields)["choices"]
        return [(choice["message"]["content"], choice["finish_reason"]) for choice in choices]

    def refused(self, param, **fields):
        status, _, data = self.server.request("POST", "/v1/completions", {"prompt": "a", **fields})
        self.assertEqual(status, 400, data)
        error = json.loads(data)["error"]
        self.assertEqual(error["param"], param)
        return error["message"]


class Schemas(Structured):
    def answers(self, number, count):
        schema = schemas.SCHEMAS[number]
        found, seed = [], 1000 * number
        while len(found) < count:
            n = min(count - len(found), 4)
            found += self.ask(PROMPTS[number % 3], response_format=as_format(schema), seed=seed, n=n,
                              max_tokens=160, temperature=(1, 0.7, 1.3)[number % 3],
                              speculation=("auto", "auto", "off", 4)[number % 4])
            seed += n
        return number, found

    def test_every_answer_is_valid(self):
        numbers = range(0, len(schemas.SCHEMAS), 10 if SLOW else 1)
        whole = cut = 0
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for number, found in pool.map(lambda i: self.answers(i, SEEDS), numbers):
                schema = schemas.SCHEMAS[number]
                for text, finish in found:
                    if finish == "length": # the beginning of one
                        cut += 1
                        continue
                    with self.subTest(schema=schema, text=text):
                        self.assertEqual(finish, "stop")
                        value = json.loads(text)
                        self.assertTrue(schemas.valid(value, schema))
                        if jsonschema:
                            jsonschema.Draft202012Validator(
                                in_decimals(json.dumps(schema)),
                                format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
                            ).validate(in_decimals(text))
                    whole += 1
        print(f"{self.model}: {len(numbers)} schemas, {whole} answers valid"
              f"{'' if jsonschema else ' (by our own validator: there is no jsonschema)'}, {cut} cut at "
              "their length")
        self.assertGreater(whole, 2 * cut)

    def test_no_constraint_is_needed_to_end(self):
        """An object ends by itself, and nothing stands behind it."""
        for fields in ({"response_format": {"type": "json_object"}}, {"guided_json": PLACE},
                       {"guided_json": json.dumps(PLACE)}, {"json_schema": PLACE},
                       {"structured_outputs": {"json": PLACE}},
                       {"response_format": {"type": "json_object", "schema": PLACE}}):
            for more in ({}, {"ignore_eos": True}, {"min_tokens": 3}):
                text, finish = self.ask(max_tokens=400, **fields, **more)[0]
                if finish == "stop":
                    self.assertIsInstance(json.loads(text), dict)
        self.assertEqual(self.ask(guided_json={"const": {"a": 1}}, min_tokens=50)[0],
                         ('{"a": 1}', "stop"))


class Texts(Structured):
    def test_expressions(self):
        for expression in (r"\d{4}-(0[1-9]|1[0-2])-[0-3]\d", r"(yes|no), because .{5,30}\.", r"[A-Z][a-z]{2,12}",
                           r"(0x)?[0-9a-f]{8}", r"[\u00e0-\u00ff]{3}", "(\U0001f600|\u4e2d){2}", r"\S{1,5}?"):
            for field in ({"guided_regex": expression}, {"structured_outputs": {"regex": expression}}):
                text, finish = self.ask(**field)[0]
                self.assertEqual(finish, "stop", (expression, text))
                self.assertRegex(text, re.compile(rf"\A(?:{expression})\Z"))

    def test_choices(self):
        words = ["yes", "no", "yes and no", "\u00fcber", "a\nb"]
        got = {text for text, _ in self.ask(guided_choice=words, n=16, temperature=1.5)}
        self.assertLessEqual(got, set(words))
        self.assertGreater(len(got), 1)
        self.assertEqual(self.ask(structured_outputs={"choice": ["only this"]})[0], ("only this", "stop"))

    def test_cut(self):
        text, finish = self.ask(guided_regex="[a-f]{50,}", max_tokens=9)[0]
        self.assertEqual(finish, "length")
        self.assertRegex(text, r"\A[a-f]+\Z")

    @unittest.skipUnless(SMOLLM2, "the demo's vocabulary is small, and SmolLM2 not here")
    def test_what_takes_too_long_ends(self):
        """Nearly every text leads this one to a set of states of its own."""
        status, _, data = self.server.request("POST", "/v1/completions", {
            "prompt": "Once", "max_tokens": 200, "guided_regex": "(.*[a-m].{0,40}){9}"})
        self.assertEqual(status, 500, data)
        self.assertIn("takes too long to follow", json.loads(data)["error"]["message"])

    def test_with_other_fields(self):
        digits = {"guided_regex": r"(\d{2,3} ){2,9}end"}
        for more in ({"min_tokens": 10}, {"top_k": 3, "top_p": 0.8}, {"min_p": 0.1},
                     {"frequency_penalty": 1, "presence_penalty": 1, "repetition_penalty": 1.3},
                     {"logit_bias": {"5": 20, "6": -100}}, {"temperature": 0}):
            text, finish = self.ask(**digits, **more)[0]
            self.assertEqual(finish, "stop")
            self.assertRegex(text, r"\A(\d{2,3} ){2,9}end\Z")
        text, finish = self.ask(**digits, stop=["en"])[0]
        self.assertEqual(finish, "stop")
        self.assertRegex(text, r"\A(\d{2,3} ){2,9}\Z")


class Exact(Structured):
    def test_every_way_gives_the_same_text(self):
        grammars = [{"response_format": as_format(schema)} for schema in schemas.REAL[:4]]
        grammars += [{"guided_regex": "([a-z]{2,7} ){3,12}end"}, {"response_format": {"type": "json_object"}}]
        for number, grammar in enumerate(grammars):
            fields = {"seed": number, "max_tokens": 50, "temperature": number % 3 * 0.6, **grammar}
            want = self.ask(speculation="off", **fields)
            for speculation in (1, 4, 15, "auto"):
                self.assertEqual(self.ask(speculation=speculation, **fields), want, grammar)
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                for got in pool.map(lambda _: self.ask(**fields), range(4)):
                    self.assertEqual(got, want)

    def test_streams(self):
        fields = {"seed": 3, "max_tokens": 60, "response_format": as_format(PLACE)}
        whole = self.server.complete(prompt="A city: ", **fields)["choices"][0]
        for speculation in ("off", "auto", 3):
            events = self.server.stream(prompt="A city: ", speculation=speculation, **fields)
            self.assertEqual(text_of(events), whole["text"])
            self.assertEqual(events[-2]["choices"][0]["finish_reason"], whole["finish_reason"])
        if whole["finish_reason"] == "stop":
            self.assertTrue(schemas.valid(json.loads(whole["text"]), PLACE))


class Refusals(Structured):
    def test_place(self):
        for place, schema in {
                "#/oneOf": {"oneOf": [{}, {"type": "null"}]},
                "#/properties/a~1b/not": {"properties": {"a/b": {"not": {}}}},
                "#/items/anyOf/1/uniqueItems": {"items": {"anyOf": [{}, {"uniqueItems": True}]}},
                "#/$defs/x/multipleOf": {"$ref": "#/$defs/x", "$defs": {"x": {"type": "number", "multipleOf": -3}}},
                "#/$ref": {"$ref": "http://example.com/schema"},
                "#/pattern": {"type": "string", "pattern": r"(a)\1"},
                "#/format": {"type": "string", "format": "iri"},
                "#/minimum": {"type": "number", "minimum": 0.5},
                "#/required": {"type": "object", "properties": {}, "required": ["x"]},
                "#/type": {"type": "float"},
                "#/minItems": {"type": "array", "minItems": 3, "maxItems": 2},
        }.items():
            message = self.refused("json_schema", json_schema=schema)
            self.assertIn(f"at {place}: ", message)

    def test_without_an_end(self):
        self.assertIn("no finite text", self.refused("json_schema", json_schema={
            "type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}))
        self.assertIn("refers to itself", self.refused("json_schema", json_schema={
            "anyOf": [{"$ref": "#"}, {"type": "null"}]}))
        self.assertIn("too large", self.refused("json_schema", json_schema={
            "type": "string", "minLength": 900000}))
        self.assertIn("back-references", self.refused("guided_regex", guided_regex=r"(a)\1"))
        for field in ("grammar", "guided_grammar", "ebnf"):
            self.assertIn("not supported", self.refused(field, **{field: "root ::= x"}))


if __name__ == "__main__":
    require_files()
    if not SMOLLM2:
        print(f"no SmolLM2 in {MODELS}: with the demo model", file=sys.stderr)
    unittest.main()
