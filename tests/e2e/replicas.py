#!/usr/bin/env python3
"""Three servers behind HAProxy with docker/haproxy.cfg, under conversations of several turns: prompt
tokens found in the prefix caches with the conversation's replica and with any, what is lost when a
replica is killed with -9 and when all are replaced one after another, and how long it takes until all
is as before. For a person, or a CI that has haproxy; not one of make test. BUILD is the build folder.

    replicas.py [--clients N] [--seconds N] [--model M --heads H]
"""
import argparse
import http.client
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time

from harness import BUILD, MODEL

WORDS = "the a value of int if return list name is not for while x count text file line".split()


def free_port():
    import socket
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Replica:
    def __init__(self, options):
        self.port = free_port()
        self.options = options
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "headway-server"), "--host", "127.0.0.1", "--port", str(self.port),
             *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def metric(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return float(re.search(rf"^headway_{name} (\S+)$", text, re.M)[1])

    def ready(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def wait_ready(self):
        while not self.ready():
            time.sleep(0.02)


class Balancer:
    def __init__(self, replicas, affinity):
        self.port = free_port()
        here = os.path.dirname(os.path.abspath(__file__))
        with open(os.path.join(here, "../../docker/haproxy.cfg"), encoding="utf-8") as file:
            text = file.read()
        text = text.replace("bind :8000", f"bind 127.0.0.1:{self.port}")
        for i, replica in enumerate(replicas, 1):
            text = text.replace(f"headway-{i}:8080", f"127.0.0.1:{replica.port}")
        text = text.replace("/tmp/headway-haproxy.sock", tempfile.mktemp(prefix="headway-haproxy-"))
        if not affinity:
            text = text.replace("balance hash var(txn.conversation)", "balance roundrobin")
            text = text.replace("hash-type consistent", "").replace("hash-balance-factor 150", "")
        self.config = tempfile.NamedTemporaryFile("w", suffix=".cfg")
        self.config.write(text)
        self.config.flush()
        self.process = subprocess.Popen(["haproxy", "-db", "-f", self.config.name],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Clients:
    """Each goes on with its conversation, turn after turn, a new one after some."""

    def __init__(self, port, n, chat):
        self.port, self.chat = port, chat
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.answered, self.lost, self.times = 0, [], []
        self.threads = [threading.Thread(target=self.talk, args=(i,)) for i in range(n)]
        for thread in self.threads:
            thread.start()

    def ask(self, dice, history):
        fields = {"max_tokens": 24, "temperature": 0.7, "seed": dice.randrange(1 << 30)}
        said = " ".join(dice.choice(WORDS) for _ in range(40))
        if self.chat:
            history.append({"role": "user", "content": said})
            path, body = "/v1/chat/completions", {"messages": history, **fields}
        else:
            history.append(said)
            path, body = "/v1/completions", {"prompt": "\n".join(history), **fields}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if response.status != 200:
            raise OSError(f"{response.status} {data[:80]!r}")
        choice = json.loads(data)["choices"][0]
        history.append(choice["message"] if self.chat else choice["text"])

    def talk(self, number):
        dice, history = random.Random(number), []
        while not self.stopped.is_set():
            start = time.monotonic()
            try:
                self.ask(dice, history)
                with self.lock:
                    self.answered += 1
                    self.times.append((start, time.monotonic() - start))
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.lost.append((time.monotonic(), repr(error)))
                history.clear()
            if len(history) >= 2 * (6 if self.chat else 3):
                history.clear()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def hits(replicas):
    return [sum(r.metric(f"prefix_cache_{name}_total") for r in replicas) for name in ("hits", "queries")]


def affinity(replicas, chat, clients, seconds, with_it):
    balancer = Balancer(replicas, with_it)
    time.sleep(2)
    before = hits(replicas)
    load = Clients(balancer.port, clients, chat)
    time.sleep(seconds)
    load.stop()
    balancer.stop()
    found, asked = [b - a for a, b in zip(before, hits(replicas))]
    print(f"{'conversations stay' if with_it else 'round robin':>20}: {found / asked:.2f} of {asked:.0f} prompt "
          f"tokens were there, {load.answered} answers, {len(load.lost)} lost", flush=True)


def disturb(replicas, chat, clients, seconds):
    balancer = Balancer(replicas, True)
    time.sleep(2)
    load = Clients(balancer.port, clients, chat)
    time.sleep(seconds / 2)
    victim = replicas[1]
    running = victim.metric("num_requests_running")
    killed = time.monotonic()
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()
    victim.start()
    victim.wait_ready()
    back = time.monotonic() - killed
    forwards = victim.metric("forwards_total")
    while victim.metric("forwards_total") < forwards + 2:
        time.sleep(0.05)
    print(f"kill -9: {running:.0f} requests ran on it, {len(load.lost)} lost {sorted({e for _, e in load.lost})}; "
          f"ready again after {back:.1f} s, served after {time.monotonic() - killed:.1f} s", flush=True)
    time.sleep(seconds / 2)
    lost, answered, start = len(load.lost), load.answered, time.monotonic()
    for replica in replicas:
        replica.process.send_signal(signal.SIGTERM)
        replica.process.wait(60)
        replica.start()
        replica.wait_ready()
        time.sleep(2)
    print(f"all three replaced in {time.monotonic() - start:.1f} s: {load.answered - answered} answers, "
          f"{len(load.lost) - lost} lost {[e for _, e in load.lost[lost:]]}", flush=True)
    load.stop()
    balancer.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--heads")
    args = parser.parse_args()
    options = ["--model", args.model, "--threads", "1", *(["--heads", args.heads] if args.heads else [])]
    replicas = [Replica(options) for _ in range(3)]
    try:
        for replica in replicas:
            replica.wait_ready()
        chat = args.model.endswith(".gguf")
        affinity(replicas, chat, args.clients, args.seconds, False)
        affinity(replicas, chat, args.clients, args.seconds, True)
        disturb(replicas, chat, args.clients, args.seconds)
    finally:
        for replica in replicas:
            replica.process.kill()


if __name__ == "__main__":
    main()
