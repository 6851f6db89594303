#!/usr/bin/env python3
"""What the server says of its speed-up, held to the truth. /v1/speedup and headway-bench decode the same prompts,
those of tools/chat_prompts.json as chats, to as many tokens, greedily, in turns: the speed-up of each kind of
prompts by both, and their quotient. And what plain decoding would have taken, as metrics.decode of ordinary answers
estimates it, beside what it takes. For a person, on a machine that does nothing else; not one of make test.

    tests/e2e/speedup_truth.py --model FILE --heads weights/smollm2-heads --limit 6 --tokens 128 --rounds 5

BUILD is the build folder."""
import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile

import harness

def bench(o):
    """The speed-up of each kind of prompts, by headway-bench."""
    with tempfile.NamedTemporaryFile(suffix=".json") as table:
        subprocess.run([os.path.join(harness.BUILD, "headway-bench"), "--model", o.model,
                        *(["--heads", o.heads] if o.heads else []), "--chat",
                        "--prompts", harness.CHAT_PROMPTS, "--modes", "auto", "--batch", "1", "--limit", str(o.limit),
                        "--tokens", str(o.tokens), "--repeat", "1", "--threads", str(o.threads),
                        "--json", table.name], check=True, stdout=subprocess.DEVNULL)
        rows = json.load(table)["decode"]
    return {row["text"]: row["speedup"] for row in rows if row["drafts"] == "auto"}


def chat(o, prompt):
    return {"messages": harness.as_messages(prompt), "max_tokens": o.tokens, "temperature": 0, "ignore_eos": True}


def measured(server, o, prompts):
    """The speed-up of each kind of prompts by /v1/speedup: all seconds of plain decoding over all with drafts."""
    ratios = {}
    for kind, some in prompts.items():
        answers = [server.post("/v1/speedup", **chat(o, prompt), rounds=1) for prompt in some]
        assert all(answer["identical"] for answer in answers), f"texts of {kind} differ"
        ratios[kind] = (sum(answer["plain"]["seconds"] for answer in answers)
                        / sum(answer["speculative"]["seconds"] for answer in answers))
    return ratios


def estimates(server, o, prompts):
    """Of each prompt how much too long its ordinary answer's estimate of plain decoding is, as a part of the plain
    seconds that follow or precede it."""
    errors = []
    for prompt in (prompt for some in prompts.values() for prompt in some):
        ways = ("auto", "off") if len(errors) % 2 else ("off", "auto")
        decode = {way: server.post("/v1/chat/completions", **chat(o, prompt), speculation=way)["metrics"]["decode"]
                  for way in ways}
        errors.append(decode["auto"]["estimated_plain_seconds"] / decode["off"]["seconds"] - 1)
    return errors


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--heads")
    parser.add_argument("--limit", type=int, default=0, help="prompts of each kind; 0 = all")
    parser.add_argument("--tokens", type=int, default=128, help="decoded per prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    o = parser.parse_args()
    harness.MODEL = o.model
    prompts = {kind: some[:o.limit or None] for kind, some in harness.chat_prompts().items()}
    by_server, by_bench, errors = collections.defaultdict(list), collections.defaultdict(list), []
    heads = ["--heads", o.heads] if o.heads else []
    with harness.Server(*heads, "--threads", o.threads) as server:
        for number in range(o.rounds):
            for kind, ratio in measured(server, o, prompts).items():
                by_server[kind].append(ratio)
            for kind, ratio in bench(o).items():
                by_bench[kind].append(ratio)
            errors += estimates(server, o, prompts)
            print(f"round {number + 1} of {o.rounds}", file=sys.stderr)
    print("medians (least to most over the rounds)")
    for kind in prompts:
        quotients = [a / b for a, b in zip(by_server[kind], by_bench[kind])]
        print(f"{kind:>8}: /v1/speedup {spread(by_server[kind])}, headway-bench {spread(by_bench[kind])}, "
              f"quotient {spread(quotients)}")
    sizes = sorted(map(abs, errors))
    print(f"estimate of plain seconds: off by {statistics.median(sizes):.1%} in the median, "
          f"{sizes[int(0.95 * (len(sizes) - 1) + 0.5)]:.1%} at the 95th percentile of {len(sizes)} answers, "
          f"by {statistics.median(errors):+.1%} with its sign")


if __name__ == "__main__":
    main()
