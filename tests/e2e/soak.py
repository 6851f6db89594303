#!/usr/bin/env python3
"""Many clients at once, for a while: streams that run to their end and streams whose client leaves.
Every text must equal that of a lone request, and at the end nothing may be left running.
    BUILD=build MODEL=weights/demo tests/e2e/soak.py --clients 50 --seconds 60"""
import argparse
import random
import select
import sys
import threading
import time

from harness import Server, parse_events, require_files, text_of

PROMPTS = ("Once upon a time", "int main(void)", "The three of them", "caf\u00e9 \u65e5\u672c")


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.finished = self.cut = self.left = self.characters = 0
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
            for prompt in PROMPTS for seed in range(3)]


def read_until(sock, until, enough):
    """Reads until enough(data), the end, or the time `until`."""
    data = b""
    while not enough(data) and (rest := until - time.monotonic()) > 0:
        if select.select([sock], [], [], rest)[0]:
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
    return data


def without_chunks(data):
    """The body of a chunked response, as far as it has come."""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        n = int(size, 16)
        body += rest[:n]
        data = rest[n + 2:]
    return body


def leave_midway(server, fields, until, tally):
    """Reads the beginning of a stream that would not end soon, then closes."""
    wanted = random.randrange(1, 20)
    with server.open_stream(**{**fields, "max_tokens": 1 << 20, "ignore_eos": True}) as sock:
        data = read_until(sock, until, lambda data: data.count(b"data: ") >= wanted)
    if data and not data.startswith(b"HTTP/1.1 200"):
        tally.error(f"a stream began with {data[:60]!r}")
    tally.add(left=1)


def read_to_the_end(server, fields, expected, until, tally):
    """The whole text; when the time is over, as much of it as has come."""
    with server.open_stream(**fields) as sock:
        data = read_until(sock, until, lambda data: data.endswith(b"\r\n0\r\n\r\n"))
    whole = data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    body = without_chunks(data.partition(b"\r\n\r\n")[2])
    events = body[:body.rfind(b"\n\n") + 2].decode() if b"\n\n" in body else ""
    text = text_of(parse_events(events)) if events else ""
    if text != (expected if whole else expected[:len(text)]):
        tally.error(f"{fields} gave {text!r}, alone {expected!r}")
    if not whole and time.monotonic() < until:
        tally.error(f"{fields} ended early: {data[-100:]!r}")
    tally.add(finished=whole, cut=not whole, characters=len(text))


def client(server, table, until, leaves, tally):
    while time.monotonic() < until and not tally.errors:
        fields, expected = random.choice(table)
        try:
            if leaves:
                leave_midway(server, fields, until, tally)
            else:
                read_to_the_end(server, fields, expected, until, tally)
        except (OSError, AssertionError, ValueError) as error:
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
        server.wait_metric(gauge, lambda n: n == 0)
    time.sleep(1.5)
    print(f"{options.clients} clients, {seconds:.1f} s: {tally.finished} streams finished "
          f"({tally.characters / seconds:.0f} characters/s), {tally.left} left midway, "
          f"{tally.cut} cut when the time was over, {len(tally.errors)} errors; memory "
          f"{resident >> 20} -> {server.resident() >> 20} MiB, descriptors "
          f"{descriptors} -> {server.descriptors()}")
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
    sys.exit(bool(tally.errors) or not tally.characters)


if __name__ == "__main__":
    main()
