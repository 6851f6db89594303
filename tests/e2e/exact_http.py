#!/usr/bin/env python3
"""Speculation and company change nothing, over HTTP: random requests of every option, plain and as chats,
whole and streamed, free and structured, with beginnings that they share. A server that decodes one text at a
time, plainly and with no prefix cache, says what each answer must be; part of them it gives again with
drafts. A second one is asked many at once, in any way to draft or none, with so little room for keys and
values that texts give way to each other. Texts, tokens, log-probabilities and reasons to end must be the same.

    tests/e2e/exact_http.py --model FILE --heads weights/smollm2-heads --cases 2000

Prints what was covered, and ends with 1 at a difference, or where something was not covered at all.
BUILD is the build folder."""
import argparse
import collections
import concurrent.futures
import json
import random
import sys

import harness
import schemas

WAYS = ["auto", "auto", "auto", 1, 2, 3, 4, 6, 12]
# More than a page of keys and values each, so that prompts that begin with them share it.
SYSTEMS = ["You are a careful engineer. Answer in a few plain sentences, name what you are not sure of, and give "
           "an example where one helps. Code stands in a block of its own, with short names and no comments that "
           "repeat it. Numbers have units. What was asked comes first, what else there is to know comes after it, and "
           "where the question has no answer, say why it has none.",
           "You are a pirate who knows a lot about ships, and about little else."]
BEGINNINGS = ["/* Strings that know their length, so that they may hold any byte, the end of a C string among them. */\n"
              "#include <stdlib.h>\n#include <string.h>\n\nstruct text {\n    char *at;\n    size_t len;\n};\n\n"
              "/* An empty one. Its letters are freed by text_free. */\nstatic struct text text_new(void)\n{\n"
              "    return (struct text){NULL, 0};\n}\n\n",
              "Once upon a time there was a king who had three sons, and the youngest of them was called Simple. The two "
              "elder ones were clever and knew what to say to everybody, but Simple spoke little, and so nobody thought "
              "that he would ever be king. One day the old king fell ill, and he called his sons to him and said: "]
REGEXES = [r"\d{4}-(0[1-9]|1[0-2])-[0-3]\d", r"(yes|no), because .{5,30}\.", r"[A-Z][a-z]{2,12}( [a-z]{1,9}){3,12}\.",
           r"(\w+, ){3}and \w+"]
CHOICES = ["yes", "no", "yes and no", "I do not know", "\u00fcber"]
STRUCTURES = ["response_format", "json_schema", "guided_json", "guided_regex", "guided_choice", "structured_outputs"]
BLOCK = 96 # cases asked alone before they are asked in company
Case = collections.namedtuple("Case", "number fields way streamed")


def structure(rng):
    """A field that says what the answer must look like."""
    schema, regex = rng.choice(schemas.SCHEMAS), rng.choice(REGEXES)
    strict = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return rng.choice([{"response_format": {"type": "json_object"}}, {"response_format": strict},
                       {"json_schema": schema}, {"guided_json": schema}, {"guided_regex": regex},
                       {"guided_choice": CHOICES}, {"structured_outputs": {"json": schema}},
                       {"structured_outputs": {"regex": regex}}, {"structured_outputs": {"choice": CHOICES}}])


# Options of both kinds of requests: the probability of each, and its value, by a source of chance, the cases and
# the most tokens of the answer.
OPTIONS = {
    "top_p": (0.2, lambda rng, cases, most: rng.choice([0.5, 0.9, 0.99])),
    "top_k": (0.2, lambda rng, cases, most: rng.choice([-1, 1, 5, 40])),
    "min_p": (0.15, lambda rng, cases, most: rng.choice([0.02, 0.2])),
    "repetition_penalty": (0.12, lambda rng, cases, most: rng.choice([0.9, 1.1, 1.5])),
    "frequency_penalty": (0.12, lambda rng, cases, most: rng.choice([-0.5, 0.5, 1.5])),
    "presence_penalty": (0.12, lambda rng, cases, most: rng.choice([-0.5, 0.5, 1.5])),
    "logit_bias": (0.12, lambda rng, cases, most: {str(token): rng.choice([-100, -2, 1, 4])
                                                   for token in rng.sample(cases.tokens, 12)}),
    "bad_words": (0.2, lambda rng, cases, most: [cases.piece(rng, 4) for _ in range(4)]),
    "allowed_token_ids": (0.08, lambda rng, cases, most: rng.sample(cases.tokens, len(cases.tokens) * 3 // 4)),
    "stop": (0.15, lambda rng, cases, most: rng.choice(["\n\n", [cases.piece(rng, 8) for _ in range(3)]])),
    "include_stop_str_in_output": (0.1, lambda rng, cases, most: True),
    "stop_token_ids": (0.12, lambda rng, cases, most: rng.sample(cases.tokens, 2)),
    "min_tokens": (0.12, lambda rng, cases, most: rng.randint(1, most)),
    "ignore_eos": (0.15, lambda rng, cases, most: True),
    "n": (0.1, lambda rng, cases, most: 2),
    "best_of": (0.08, lambda rng, cases, most: 3),
    "return_token_ids": (0.9, lambda rng, cases, most: True),
    "cache_salt": (0.1, lambda rng, cases, most: rng.choice(["a", "b"])),
}
TEXT_OPTIONS = {
    "logprobs": (0.9, lambda rng, cases, most: rng.choice([0, 1, 5])),
    "echo": (0.2, lambda rng, cases, most: True),
    "truncate_prompt_tokens": (0.15, lambda rng, cases, most: rng.choice([-1, 3, 30, 70])),
    "add_special_tokens": (0.1, lambda rng, cases, most: False),
    "parse_special": (0.1, lambda rng, cases, most: False),
}


class Cases:
    """Random requests; a number always gives the same one."""

    def __init__(self, seed, server):
        self.seed, self.chats = seed, server.has_chat()
        self.prompts = sum(harness.chat_prompts().values(), [])
        self.tokens = sorted(set(server.post("/tokenize", content=" ".join(self.prompts))["tokens"]))

    def piece(self, rng, most):
        """A few letters as texts have them, so that answers are likely to."""
        prompt = rng.choice(self.prompts)
        start = rng.randrange(len(prompt) - most)
        return prompt[start:start + rng.randint(2, most)]

    def drawn(self, rng, options, most):
        return {name: value(rng, self, most) for name, (part, value) in options.items() if rng.random() < part}

    def text(self, rng):
        """A completion's prompt: text, two of them, or tokens."""
        prompt = rng.choice(self.prompts)
        prompt = rng.choice(["", *BEGINNINGS]) + prompt[:rng.randint(1, len(prompt))]
        prompts = [prompt, [prompt, BEGINNINGS[0]], rng.choices(self.tokens, k=rng.randint(1, 90))]
        return {"prompt": rng.choices(prompts, [8, 1, 1])[0]}

    def chat(self, rng):
        """A chat's messages, some behind a system's or an earlier turn."""
        messages = rng.choice([[], *([{"role": "system", "content": text}] for text in SYSTEMS)])
        if rng.random() < 0.3:
            messages = messages + [{"role": "user", "content": self.prompts[0]},
                                   {"role": "assistant", "content": BEGINNINGS[1]}]
        chosen = {"logprobs": True, "top_logprobs": rng.choice([0, 1, 5])} if rng.random() < 0.9 else {}
        return {"messages": messages + harness.as_messages(rng.choice(self.prompts)), **chosen}

    def make(self, number):
        """A request's fields, the way to draft in which it is asked again, and whether that is streamed."""
        rng = random.Random(self.seed * 1000003 + number)
        most = rng.randint(1, 90)
        fields = {"max_tokens": most, "temperature": rng.choice([0, 0, 0, 0.5, 0.8, 1, 1.4]),
                  "seed": rng.randrange(1 << 40), **self.drawn(rng, OPTIONS, most)}
        if rng.random() < 0.25:
            fields |= structure(rng)
        if self.chats and rng.random() < 0.6:
            fields |= self.chat(rng)
        else:
            fields |= {**self.text(rng), **self.drawn(rng, TEXT_OPTIONS, most)}
            if "echo" in fields:
                fields.pop("truncate_prompt_tokens", None) # what is left of it is not said
        return Case(number, fields, rng.choice(WAYS), rng.random() < 0.4 and "best_of" not in fields)


def joined(events):
    """The texts that events tell of, by index; a whole answer is one event."""
    texts = collections.defaultdict(lambda: {"text": "", "token_ids": [], "logprobs": [], "finish_reason": None})
    for choice in (choice for event in events for choice in event["choices"]):
        text, said = texts[choice["index"]], choice.get("message", choice.get("delta"))
        text["text"] += choice["text"] if said is None else said.get("content") or ""
        text["token_ids"] += choice.get("token_ids") or []
        text["finish_reason"] = choice["finish_reason"] or text["finish_reason"]
        probabilities = choice.get("logprobs") or {}
        if "tokens" in probabilities:
            tokens = len(probabilities["tokens"])
            text["logprobs"] += zip(*(list_ or [None] * tokens for _, list_ in sorted(probabilities.items())))
        else:
            text["logprobs"] += probabilities.get("content") or []
    return [texts[index] for index in sorted(texts)]


def ask(server, fields, way, streamed):
    """The texts, or the sentence that says why there are none, and the usage and figures that came with them."""
    fields = {**fields, "speculation": way, **({"stream_options": {"include_usage": True}} if streamed else {})}
    path = "/v1/chat/completions" if "messages" in fields else "/v1/completions"
    status, _, data = server.request("POST", path, {**fields, "stream": streamed})
    if 400 <= status < 500:
        raise AssertionError(f"{fields} should be allowed, but: {data.decode()}")
    events = harness.parse_events(data.decode()) if streamed and status == 200 else [json.loads(data)]
    events = [event for event in events if event != "[DONE]"]
    if "error" in events[-1]:
        return events[-1]["error"]["message"], None
    return joined(events), events[-1]


class Check:
    """Asks cases, compares, and counts what they covered."""

    def __init__(self, alone, company, clients):
        self.alone, self.company = alone, company
        self.pool = concurrent.futures.ThreadPoolExecutor(clients)
        self.options = collections.Counter()
        self.counts = collections.Counter()
        self.errors = collections.Counter()
        self.different = []

    def count(self, case, where, way, last):
        structured = any(name in case.fields for name in STRUCTURES)
        # Answers of several texts have no figures of drafts.
        figures = last.get("metrics", {}).get("speculative_decoding", {"num_accepted_draft_tokens": 0})
        cached = last["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.counts.update({
            f"{where}, {'plain' if way == 'off' else 'with drafts'}": 1, "streamed": case.streamed,
            "sampled": case.fields["temperature"] > 0, "chats": "messages" in case.fields,
            "structured": structured, "of it drafts accepted": structured * figures["num_accepted_draft_tokens"],
            "tokens": last["usage"]["completion_tokens"], "prompt tokens cached": cached,
            "answers with some": cached > 0})

    def compare(self, case, where, way, expected, answer):
        texts, last = answer
        if last:
            self.count(case, where, way, last)
        else:
            self.errors[texts] += 1
        if texts != expected:
            self.different.append(
                f"case {case.number} {where}, speculation {way}{', streamed' * case.streamed}: {case.fields}\n"
                f"  alone, plain: {expected}\n  {where}: {texts}")

    def block(self, cases):
        """Alone first, then the same in company: while one server works the other rests."""
        expected = []
        for case in cases:
            self.options.update(list(case.fields))
            expected.append(ask(self.alone, case.fields, "off", False)[0])
            if case.number % 4 == 0:
                self.compare(case, "alone", case.way, expected[-1],
                             ask(self.alone, case.fields, case.way, case.streamed))
        # Some decode plainly beside others that draft.
        ways = ["off" if case.number % 6 == 1 else case.way for case in cases]
        answers = self.pool.map(lambda case, way: ask(self.company, case.fields, way, case.streamed), cases, ways)
        for case, way, texts, answer in zip(cases, ways, expected, answers):
            self.compare(case, "in company", way, texts, answer)

    def report(self, chats):
        """Prints what was covered; gives what was not."""
        self.counts["drafts accepted"] = sum(int(server.metric("spec_decode_num_accepted_tokens_total"))
                                             for server in (self.alone, self.company))
        self.counts["preemptions"] = int(self.company.metric("preemptions_total"))
        print(", ".join(f"{n} {what}" for what, n in self.counts.items()))
        print("options:", ", ".join(f"{name} {n}" for name, n in sorted(self.options.items())))
        for sentence, n in self.errors.items():
            print(f"{n} ended with: {sentence}")
        wanted = [*OPTIONS, *TEXT_OPTIONS, *STRUCTURES, *(["messages"] if chats else [])]
        return ([name for name in wanted if not self.options[name]]
                + [what for what, n in self.counts.items() if not n and (chats or what != "chats")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=harness.MODEL)
    parser.add_argument("--heads")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--clients", type=int, default=12, help="of the company")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--kv-memory", type=int, default=24, help="MiB of the company's keys and values")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    harness.MODEL = o.model
    common = ["--context", o.context, *(["--heads", o.heads] if o.heads else [])]
    with harness.Server(*common, "--max-sequences", 1, "--prefix-memory", 0) as alone, \
         harness.Server(*common, "--kv-memory", o.kv_memory) as company:
        cases, check = Cases(o.seed, alone), Check(alone, company, o.clients)
        last = o.first + o.cases
        for start in range(o.first, last, BLOCK):
            check.block([cases.make(number) for number in range(start, min(start + BLOCK, last))])
            if check.different:
                break
        missing = check.report(cases.chats)
    print(f"{len(check.different)} different")
    for sentence in check.different[:5]:
        print(sentence)
    if missing:
        print("not covered:", ", ".join(missing))
    sys.exit(bool(check.different or missing))


if __name__ == "__main__":
    main()
