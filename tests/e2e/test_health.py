#!/usr/bin/env python3
"""What watches a server must be able to trust: /health says so when the decode thread hangs, and
takes it back; the gauge of the cache follows what runs. BUILD is the build folder, MODEL the
model's."""
import ctypes
import errno
import json
import os
import threading
import time
import unittest

from harness import Server, require_files, text_of

PROMPT = "Once upon a time"
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # waitpid: threads too


class Stopped:
    """A context in which one thread of a child process does not run. The others do: a signal would
    stop them all, so it is done as a debugger does. Enter and leave it on the same thread."""

    def __init__(self, pid, name):
        self.tid = next(int(tid) for tid in os.listdir(f"/proc/{pid}/task")
                        if self.comm(pid, tid) == name)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                                     ctypes.c_void_p]
        self.libc.ptrace.restype = ctypes.c_long

    @staticmethod
    def comm(pid, tid):
        with open(f"/proc/{pid}/task/{tid}/comm", encoding="ascii") as file:
            return file.read().strip()

    def trace(self, request):
        if self.libc.ptrace(request, self.tid, None, None):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def __enter__(self):
        self.trace(PTRACE_SEIZE)
        self.trace(PTRACE_INTERRUPT)
        os.waitpid(self.tid, WALL)
        return self

    def __exit__(self, *_):
        self.trace(PTRACE_DETACH)


def health(server, timeout=10):
    """Status and body, or None if it does not answer."""
    connection = server.connect(timeout)
    try:
        status, _, data = server.request("GET", "/health", connection=connection)
        return status, json.loads(data)
    except TimeoutError:
        return None
    finally:
        connection.close()


def wait_health(server, wanted, seconds=30):
    start = time.monotonic()
    while (found := health(server)) is None or found[0] != wanted:
        if time.monotonic() - start > seconds:
            raise AssertionError(f"/health is still {found} after {seconds} s, not {wanted}")
        time.sleep(0.1)
    return found[1]


class Health(unittest.TestCase):
    def stopped(self, server):
        """The decode thread stopped, but not where it holds the mailbox's lock: that takes a few
        microseconds of a step, and then nothing is answered at all."""
        for _ in range(10):
            stopped = Stopped(server.process.pid, "decode")
            try:
                stopped.__enter__()
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOSYS):
                    self.skipTest(f"a thread of a child may not be stopped here: {error}")
                raise
            if health(server, 5):
                return stopped
            stopped.__exit__()
        raise AssertionError("/health does not answer while the decode thread is stopped")

    def hang(self, server):
        """Stops it until /health says so, and lets it go on."""
        stopped = self.stopped(server)
        try:
            body = wait_health(server, 503)
            self.assertEqual(body["status"], "stalled")
            self.assertGreater(body["heartbeat_age"], 2)
            self.assertGreater(server.metric("heartbeat_age_seconds"), 2)
            # What needs no decoding goes on.
            self.assertEqual(server.get("/v1/models")[0], 200)
        finally:
            stopped.__exit__()
        body = wait_health(server, 200)
        self.assertEqual(body["status"], "ok")
        self.assertLessEqual(body["heartbeat_age"], 2)

    def test_hang_of_an_idle_server(self):
        with Server("--stall", 2) as server:
            self.assertEqual(wait_health(server, 200)["status"], "ok")
            self.hang(server)
            self.hang(server)
            server.complete(prompt=PROMPT, max_tokens=3)

    def test_hang_in_the_middle_of_an_answer(self):
        fields = {"prompt": PROMPT, "max_tokens": 600, "temperature": 0, "ignore_eos": True}
        with Server("--stall", 2) as server:
            wanted = server.complete(**fields)["choices"][0]["text"]
            texts = []
            reader = threading.Thread(target=lambda: texts.append(text_of(server.stream(**fields))))
            reader.start()
            server.wait_metric("num_requests_running", lambda n: n == 1)
            self.hang(server)
            reader.join()
            self.assertEqual(texts, [wanted])

    def test_work_is_no_hang(self):
        """Four endless texts, and a prompt of many passes: it beats all the time."""
        with Server("--stall", 2) as server:
            plug = server.open_stream(prompt=PROMPT, max_tokens=1 << 20, ignore_eos=True, n=4)
            server.wait_metric("num_requests_running", lambda n: n > 0)
            server.complete(prompt="x" * 900, max_tokens=1)
            until = time.monotonic() + 3
            while time.monotonic() < until:
                self.assertEqual(health(server)[0], 200)
                time.sleep(0.05)
            plug.close()


class Cache(unittest.TestCase):
    def usage_until_done(self, server, thread):
        found = []
        while thread.is_alive():
            found.append(server.metric("kv_cache_usage_perc"))
            time.sleep(0.01)
        return found

    def test_gauge_follows_what_runs(self):
        texts, tokens = 3, 500
        with Server("--max-sequences", 4) as server:
            context = json.loads(server.get("/v1/models")[1])["data"][0]["max_model_len"]
            self.assertEqual(server.metric("kv_cache_usage_perc"), 0)
            # Without drafts, of which one text may get more than another and end before it; equal
            # texts would share their pages.
            thread = threading.Thread(target=lambda: server.complete(
                prompt=PROMPT, max_tokens=tokens, ignore_eos=True, temperature=1, n=texts,
                speculation="off"))
            thread.start()
            found = self.usage_until_done(server, thread)
            thread.join()
            peak = max(found)
            rising = found[:found.index(peak) + 1]
            self.assertEqual(rising, sorted(rising))
            self.assertGreater(len(set(rising)), 3, found)
            # The cache has room for four contexts; three texts fill it so far, in whole pages.
            page = 64
            most = texts * (len(PROMPT) + 1 + tokens + page)
            self.assertLess(peak, most / (4 * context))
            self.assertGreater(peak, 0.5 * texts * tokens / (4 * context))
            server.wait_metric("kv_cache_usage_perc", lambda used: used == 0)

    def test_gauge_falls_when_the_client_leaves(self):
        with Server() as server:
            plug = server.open_stream(prompt=PROMPT, max_tokens=1 << 20, ignore_eos=True, n=4)
            server.wait_metric("kv_cache_usage_perc", lambda used: used > 0.01)
            plug.close()
            server.wait_metric("kv_cache_usage_perc", lambda used: used == 0)

    def test_gauge_after_answers_of_every_end(self):
        with Server() as server:
            server.complete(prompt=PROMPT, max_tokens=0, echo=True)
            server.complete(prompt=PROMPT, max_tokens=40, stop=["e"])
            server.stream(prompt=PROMPT, max_tokens=40)
            server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": -1})
            server.wait_metric("kv_cache_usage_perc", lambda used: used == 0, 10)


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=1)
