#!/usr/bin/env python3
"""The answers of headway-server and of llama.cpp's llama-server from the same file: tokens per second from the request
to its last byte, as whoever asks sees it. llama-server runs once plainly and once in each way to draft that needs
no other model (ngram kinds, as they come and with shorter matches); the ratio is to its plain answers and to its best
way for the kind of prompts. One question at a time, each asked once of every server (some of them remember
answers), greedily, in an order that turns. Not one of make test: it needs a built llama.cpp and an idle machine.

    tests/e2e/compare_llama_server.py --llama /path/to/llama.cpp/build/bin --model FILE.gguf \\
        [--heads weights/smollm2-heads] [--limit 8] [--tokens 128] [--rounds 3]

A round starts all servers anew. BUILD is the build folder."""
import argparse
import collections
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

import harness

PLAIN, OURS = "llama.cpp plain", "headway"
# Ways to draft and their options: as they come, and with matches of 3 tokens and drafts of as many as its passes of
# a few rows on a processor may pay for.
WAYS = {
    PLAIN: "",
    "ngram-simple": "--spec-type ngram-simple",
    "ngram-simple 3/4": "--spec-type ngram-simple --spec-ngram-simple-size-n 3 --spec-ngram-simple-size-m 4",
    "ngram-map-k": "--spec-type ngram-map-k",
    "ngram-map-k 3/4": "--spec-type ngram-map-k --spec-ngram-map-k-size-n 3 --spec-ngram-map-k-size-m 4",
    "ngram-map-k4v 3/4": "--spec-type ngram-map-k4v --spec-ngram-map-k4v-size-n 3 --spec-ngram-map-k4v-size-m 4",
    "ngram-mod": "--spec-type ngram-mod",
    "ngram-cache": "--spec-type ngram-cache",
}


class LlamaServer(harness.Server):
    """A llama-server; everything but its start is as with headway-server."""

    def __init__(self, program, model, threads, options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = []
        self.process = subprocess.Popen(
            [program, "-m", model, "-t", str(threads), "-c", "4096", "-np", "1", "--no-webui", "--port", str(self.port),
             *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.request("GET", "/health")[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit(f"{program} {' '.join(options)} ended with {self.process.returncode}")
            time.sleep(0.1)
        sys.exit(f"{program} {' '.join(options)} is not ready after a minute")


def seconds_for(server, prompt, tokens):
    start = time.monotonic()
    answer = server.chat(prompt, max_tokens=tokens, temperature=0, ignore_eos=True)
    seconds = time.monotonic() - start
    made = answer["usage"]["completion_tokens"]
    assert made == tokens, f"{made} tokens instead of {tokens}"
    return seconds


def start_all(o):
    llama = str(o.llama / "llama-server")
    servers = {way: LlamaServer(llama, o.model, o.threads, options.split()) for way, options in WAYS.items()}
    harness.MODEL = o.model
    servers[OURS] = harness.Server(*(["--heads", o.heads] if o.heads else []), "--threads", o.threads)
    return servers


def one_round(o, prompts):
    """Seconds for all prompts of each kind, by server."""
    servers, seconds = start_all(o), collections.defaultdict(collections.Counter)
    try:
        for server in servers.values():
            seconds_for(server, "Say something about the sea.", 32)
        names, turn = list(servers), 0
        for kind, some in prompts.items():
            for prompt in some:
                for name in names[turn:] + names[:turn]:
                    seconds[kind][name] += seconds_for(servers[name], prompt, o.tokens)
                turn = (turn + 1) % len(names)
    finally:
        for server in servers.values():
            server.stop()
    return seconds


def spread(values):
    return f"{statistics.median(values):6.2f} ({min(values):.2f}..{max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, type=pathlib.Path, help="bin folder of a build")
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--heads", help="folder of heads for it")
    parser.add_argument("--limit", type=int, default=8, help="prompts of each kind; 0 = all")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    o = parser.parse_args()
    prompts = {kind: some[:o.limit or None] for kind, some in harness.chat_prompts().items()}
    rounds = [one_round(o, prompts) for _ in range(o.rounds)]
    print(f"{pathlib.Path(o.model).name}, {o.threads} threads, {o.tokens} tokens an answer, "
          f"medians of {o.rounds} rounds")
    for kind, some in prompts.items():
        made = len(some) * o.tokens
        speed = {name: [made / r[kind][name] for r in rounds] for name in [*WAYS, OURS]}
        best = max(WAYS, key=lambda name: statistics.median(speed[name]))
        print(f"\n{kind}: tokens/s, and headway's as a multiple")
        for name, values in speed.items():
            ratios = [ours / value for ours, value in zip(speed[OURS], values)]
            mark = "  its best" if name == best else ""
            print(f"  {name:20} {statistics.median(values):8.1f}  {spread(ratios)}{mark}")


if __name__ == "__main__":
    main()
