#!/usr/bin/env python3
"""Streams under load, measured: N at a time ask the prompts of tools/chat_prompts.json, one after another, and
every third leaves in the middle of its answers. For each N: requests, tokens a second, time to the first token
and per token, memory at the start, in the middle and at the end, and the processor's time by thread. For a
person, on a machine that does nothing else; not one of make test.

    tests/e2e/load.py --model FILE --heads weights/smollm2-heads --streams 1,16,64,256 --seconds 60
    tests/e2e/load.py --model FILE --streams 16 --rounds 5 --compare "--audit 0.01"

Times to the first token are those of streams that got one before the round ended. --compare starts a second
server with more options. Rounds alternate between the two, the other being stopped meanwhile, and the ratio of
their tokens a second is printed. Ends with 1 at an error or where an audit found a difference. BUILD is the
build folder."""
import argparse
import asyncio
import collections
import contextlib
import os
import random
import re
import signal
import statistics
import sys
import time

import harness

ROOM = ["--max-queue", 4096, "--max-connections", 4096, "--max-per-address", 4096, "--timeout", 600]
TICKS = os.sysconf("SC_CLK_TCK")


class Tally:
    """What the clients of a round saw; times in seconds."""

    def __init__(self):
        self.finished = self.left = 0
        self.first, self.per_token = [], []
        self.errors = collections.Counter()


async def stream(port, body, leaves_after, tally):
    """One request, read to its end or until so many pieces of it have come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        start, first, pieces, tail = time.monotonic(), None, 0, b""
        writer.write(body)
        while data := await reader.read(65536):
            if not tail and not data.startswith(b"HTTP/1.1 200"):
                raise OSError(data.partition(b"\r\n")[0].decode())
            pieces += data.count(b"data: ")
            if pieces and not first:
                first = time.monotonic()
                tally.first.append(first - start)
            if pieces >= leaves_after:
                tally.left += 1
                return
            tail = (tail + data)[-4096:]
            if b"data: [DONE]" in tail:
                break
        else:
            raise OSError(f"ended early, with {tail[-60:]!r}")
        tally.finished += 1
        tokens = int(re.findall(rb'"completion_tokens":(\d+)', tail)[-1])
        if tokens > 1:
            tally.per_token.append((time.monotonic() - first) / (tokens - 1))
    finally:
        writer.transport.abort()


async def client(port, make_body, leaves, tally):
    while True:
        try:
            await stream(port, make_body(), random.randint(2, 40) if leaves else float("inf"), tally)
        except (OSError, IndexError) as error:
            tally.errors[str(error)] += 1
            await asyncio.sleep(0.1)


def threads_of(process):
    """Processor seconds so far, by kind of thread: the first is the loop, those without a name compute."""
    seconds = collections.Counter()
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{thread}/stat", encoding="ascii") as file:
            name, _, fields = file.read().partition("(")[2].rpartition(") ")
        kind = "loop" if int(thread) == process.pid else "decode" if name == "decode" else "team"
        seconds[kind] += sum(map(int, fields.split()[11:13])) / TICKS
    return seconds


async def round_of(server, streams, seconds, make_body):
    """Loads a server for a while. Returns what the clients saw, and figures by name."""
    tally = Tally()
    tokens, cpu, own = server.metric("generation_tokens_total"), threads_of(server.process), time.process_time()
    resident, start = [server.resident()], time.monotonic()
    clients = [asyncio.create_task(client(server.port, make_body, i % 3 == 2, tally)) for i in range(streams)]
    for _ in range(2):
        await asyncio.sleep(seconds / 2)
        resident.append(server.resident())
    lasted = time.monotonic() - start
    spent = {kind: (now - cpu[kind]) / lasted for kind, now in threads_of(server.process).items()}
    spent["client"] = (time.process_time() - own) / lasted
    rate = (server.metric("generation_tokens_total") - tokens) / lasted
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    server.wait_metric("num_requests_running", lambda n: n == 0)
    return tally, {"rate": rate, "resident": resident, "cpu": spent}


def quantiles(values):
    """Median and 99th percentile in ms."""
    if not values:
        return "no figures"
    values = sorted(values)
    return f"{1e3 * statistics.median(values):.1f} / {1e3 * values[int(0.99 * (len(values) - 1) + 0.5)]:.1f} ms"


def show(streams, name, tally, figures):
    print(f"{streams:>4} streams{name}: {tally.finished} requests whole, {tally.left} left, "
          f"{tally.errors.total()} errors; {figures['rate']:.1f} tokens/s; first token "
          f"{quantiles(tally.first)}, per token {quantiles(tally.per_token)}; memory "
          f"{' -> '.join(str(n >> 20) for n in figures['resident'])} MiB; processor "
          + ", ".join(f"{kind} {share:.0%}" for kind, share in sorted(figures["cpu"].items())), flush=True)


def bodies(server, o):
    """A function that gives a random request's bytes: a chat, or a completion where there is no template."""
    prompts, chats = sum(harness.chat_prompts().values(), []), server.has_chat()

    def make():
        prompt = random.choice(prompts)
        fields = {"max_tokens": o.tokens, "temperature": o.temperature, "seed": random.randrange(1 << 40),
                  "stream": True, "stream_options": {"include_usage": True}}
        if chats:
            return harness.post_bytes({**fields, "messages": harness.as_messages(prompt)}, "/v1/chat/completions")
        return harness.post_bytes({**fields, "prompt": prompt})

    return make


def measure(servers, names, o):
    """All rounds. Returns the number of errors."""
    errors, make_body = 0, bodies(servers[0], o)
    for streams in map(int, o.streams.split(",")):
        rates = [[] for _ in servers]
        for number in range(o.rounds):
            # The one that went first goes second in the next round.
            for server, name, rate in list(zip(servers, names, rates))[::-1 if number % 2 else 1]:
                for other in servers:
                    other.process.send_signal(signal.SIGCONT if other is server else signal.SIGSTOP)
                tally, figures = asyncio.run(round_of(server, streams, o.seconds, make_body))
                show(streams, name, tally, figures)
                rate.append(figures["rate"])
                errors += tally.errors.total()
                for sentence, n in tally.errors.items():
                    print(f"  {n} times {sentence}")
        if len(servers) == 2:
            ratios = [b / a for a, b in zip(*rates)]
            print(f"{streams:>4} streams: {statistics.median(ratios):.3f} times the tokens a second with {o.compare} "
                  f"({min(ratios):.3f} to {max(ratios):.3f} over {o.rounds} rounds)")
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=harness.MODEL)
    parser.add_argument("--heads")
    parser.add_argument("--options", default="", help='of the server, as in "--max-sequences 64"')
    parser.add_argument("--compare", help="more options, of a second server")
    parser.add_argument("--streams", default="1,16,64,256", help="at a time")
    parser.add_argument("--seconds", type=float, default=60, help="of a round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128, help="of an answer at most")
    parser.add_argument("--temperature", type=float, default=0.7)
    o = parser.parse_args()
    harness.MODEL = o.model
    common = [*ROOM, *(["--heads", o.heads] if o.heads else []), *o.options.split()]
    kinds = [("", [])] if o.compare is None else [(" without", []), (" with", o.compare.split())]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(harness.Server(*common, *more)) for _, more in kinds]
        try:
            failed = measure(servers, [name for name, _ in kinds], o)
        finally:
            for server in servers:
                server.process.send_signal(signal.SIGCONT)
        for (name, _), server in zip(kinds, servers):
            counters = {what: int(server.metric(what)) for what in (
                "requests_failed_total", "client_disconnects_total", "preemptions_total", "exactness_audits_total",
                "exactness_audits_waiting", "exactness_audits_skipped_total", "exactness_mismatches_total")}
            print(f"at the end{name}: " + ", ".join(f"{what} {n}" for what, n in counters.items()))
            failed += counters["exactness_mismatches_total"]
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
