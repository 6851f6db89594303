#!/usr/bin/env python3
"""Many clients at once, for a while: streams that run to their end and streams whose client leaves.
Every text must equal that of a lone request, and at the end nothing may be left running.
    BUILD=build MODEL=weights/demo tests/e2e/soak.py --clients 50 --seconds 60"""
import argparse
import random
import sys
import threading
import time

from harness import Server, require_files, text_of

PROMPTS = ("Once upon a time", "int main(void)", "The three of them", "caf\u00e9 \u65e5\u672c")


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.finished = self.left = self.characters = 0
        self.errors = []

    def add(self, **counts):
        with self.lock:
            for name, n in counts.items():
                setattr(self, name, getattr(self, name) + n)

    def error(self, sentence):
        with self.lock:
            self.errors.append(sentence)


def requests(tokens):
    """The different requests of the run: greedy and seeded, short and long."""
    return [{"prompt": prompt, "seed": seed, "temperature": seed % 2 * 0.8,
             "max_tokens": tokens // (1 + seed % 3), "speculation": ("auto", "off", 1)[seed % 3]}
            for prompt in PROMPTS for seed in range(4)]


def leave_midway(server, fields, tally):
    """Reads the beginning of a stream that would not end soon, then closes."""
    with server.open_stream(**{**fields, "max_tokens": 1 << 20, "ignore_eos": True}) as plug:
        data = plug.recv(20)
        if not data.startswith(b"HTTP/1.1 200"):
            tally.error(f"a stream began with {data!r}")
        wanted = random.randrange(1, 20)
        while data.count(b"data: ") < wanted and (piece := plug.recv(4096)):
            data += piece
    tally.add(left=1)


def read_to_the_end(server, fields, expected, tally):
    text = text_of(server.stream(**fields))
    if text != expected:
        tally.error(f"{fields} gave {text!r}, alone {expected!r}")
    tally.add(finished=1, characters=len(text))


def client(server, table, until, leaves, tally):
    while time.monotonic() < until and not tally.errors:
        fields, expected = random.choice(table)
        try:
            if leaves:
                leave_midway(server, fields, tally)
            else:
                read_to_the_end(server, fields, expected, tally)
        except (OSError, AssertionError) as error:
            tally.error(f"{fields}: {error!r}")


def soak(server, options):
    table = [(fields, server.complete(**fields)["choices"][0]["text"])
             for fields in requests(options.tokens)]
    resident, descriptors = server.resident(), server.descriptors()
    tally, start = Tally(), time.monotonic()
    threads = [threading.Thread(target=client, args=(server, table, start + options.seconds,
                                                     i % 3 == 2, tally))
               for i in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    for gauge in ("num_requests_running", "num_requests_waiting"):
        server.wait_metric(gauge, lambda n: n == 0, 30)
    time.sleep(1.5)
    print(f"{options.clients} clients, {seconds:.1f} s: {tally.finished} streams finished "
          f"({tally.characters / seconds:.0f} characters/s), {tally.left} left midway, "
          f"{len(tally.errors)} errors; memory {resident >> 20} -> {server.resident() >> 20} MiB, "
          f"descriptors {descriptors} -> {server.descriptors()}")
    if server.descriptors() > descriptors + 2:
        tally.error("descriptors have leaked")
    return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=100, help="of a stream read to its end")
    options = parser.parse_args()
    require_files()
    with Server("--max-queue", 1000, "--timeout", 120) as server:
        tally = soak(server, options)
    for sentence in tally.errors[:5]:
        print(sentence, file=sys.stderr)
    sys.exit(bool(tally.errors) or not tally.finished)


if __name__ == "__main__":
    main()
