#!/usr/bin/env python3
"""Speculation over HTTP changes nothing: random requests to one server, several at a time, each once
with speculation off and once in some other way, chat and plain, greedy and sampled, whole and streamed.
Texts, tokens and log-probabilities must be the same. For models with heads:

    tests/e2e/exact_http.py --model FILE --heads weights/smollm2-heads --cases 1000

Prompts are those of tools/chat_prompts.json. Prints how much was drafted, and ends with 1 at a
difference."""
import argparse
import json
import random
import sys
import threading

import harness

WAYS = ["auto", "auto", 1, 2, 3, 4, 6, 12]


def case(rng, prompts):
    """The fields of a request, and in which other way it is asked again."""
    fields = {"max_tokens": rng.randint(1, 90), "logprobs": True, "top_logprobs": rng.choice([0, 0, 3]),
              "return_token_ids": True}
    if rng.random() < 0.5:
        fields["temperature"] = 0
    else:
        fields |= {"temperature": rng.choice([0.5, 0.8, 1, 1.4]), "seed": rng.randrange(1 << 40)}
        fields |= rng.choice([{}, {"top_p": 0.9}, {"top_k": 20}, {"min_p": 0.05}])
    fields |= rng.choice([{}, {}, {}, {"repetition_penalty": 1.2}, {"frequency_penalty": 0.5},
                          {"stop": ["\n\n"]}, {"ignore_eos": True}])
    prompt = rng.choice(prompts)
    if rng.random() < 0.7:
        return "chat", {**fields, "messages": [{"role": "user", "content": prompt}]}, rng.choice(WAYS)
    logprobs = {"logprobs": fields.pop("top_logprobs")}
    return "text", {**fields, **logprobs, "prompt": prompt[:rng.randint(1, len(prompt))]}, rng.choice(WAYS)


def answer(server, kind, fields, streamed):
    path = "/v1/chat/completions" if kind == "chat" else "/v1/completions"
    if not streamed:
        whole = server.post(path, **fields)
        choice = whole["choices"][0]
        text = choice["message"]["content"] if kind == "chat" else choice["text"]
        ids, logprobs = choice["token_ids"], choice["logprobs"]
        return text, ids, flat(kind, [logprobs]), choice["finish_reason"]
    events = [e for e in server.stream(path, **fields) if e != "[DONE]" and e["choices"]]
    choices = [e["choices"][0] for e in events]
    text = "".join((c["delta"].get("content") or "") if kind == "chat" else c["text"] for c in choices)
    ids = [i for c in choices for i in c.get("token_ids") or []]
    logprobs = flat(kind, [c.get("logprobs") for c in choices])
    return text, ids, logprobs, choices[-1]["finish_reason"]


def flat(kind, parts):
    name = "content" if kind == "chat" else "token_logprobs"
    return [x for part in parts if part for x in part[name] or []]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--heads")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    harness.MODEL = o.model
    prompts = [p for some in json.load(open("tools/chat_prompts.json", encoding="utf-8")).values() for p in some]
    numbers, lock = iter(range(o.cases)), threading.Lock()
    counts = {"cases": 0, "streamed": 0, "sampled": 0, "chat": 0, "tokens": 0}
    different = []

    def client(server):
        while True:
            with lock:
                number = next(numbers, None)
            if number is None or different:
                return
            rng = random.Random(o.seed * 1000003 + number)
            kind, fields, way = case(rng, prompts)
            plain = answer(server, kind, {**fields, "speculation": "off"}, False)
            streamed = rng.random() < 0.4
            other = answer(server, kind, {**fields, "speculation": way}, streamed)
            with lock:
                counts["cases"] += 1
                counts["streamed"] += streamed
                counts["sampled"] += fields["temperature"] > 0
                counts["chat"] += kind == "chat"
                counts["tokens"] += len(plain[1])
                if plain != other:
                    different.append((number, fields, way, plain, other))

    heads = ["--heads", o.heads] if o.heads else []
    with harness.Server(*heads) as server:
        threads = [threading.Thread(target=client, args=(server,)) for _ in range(o.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts["drafts verified"] = int(server.metric("spec_decode_num_draft_tokens_total"))
        counts["drafts accepted"] = int(server.metric("spec_decode_num_accepted_tokens_total"))
    print(", ".join(f"{n} {what}" for what, n in counts.items()), f"- {len(different)} different")
    for number, fields, way, plain, other in different:
        print(f"case {number}, {way}: {fields}\n  off: {plain}\n  not: {other}")
    if different or counts["cases"] != o.cases:
        sys.exit(1)


if __name__ == "__main__":
    main()
