#!/usr/bin/env python3
"""Three servers under conversations, watched by a real Prometheus with docker/prometheus.yml and
docker/alerts.yml: promtool finds nothing wrong with them and with /metrics, every target is up, every
expression of docker/grafana.json and of the alerts gives data, and HeadwayDown fires when a replica is
killed and is resolved when it is back. For a person, or a CI that has prometheus (Debian's package);
not one of make test. Exit status 1, with a sentence for each, when something is not so. BUILD is the
build folder.

    watch.py [--clients N] [--seconds N] [--model M --heads H]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from harness import MODEL
from replicas import Clients, Replica, free_port

DOCKER = pathlib.Path(__file__).resolve().parents[2] / "docker"
PATIENCE = 120  # seconds for what takes some scrapes


class Prometheus:
    """On docker/'s files, with the replicas' ports; alerts wait 5 seconds in place of 30."""

    def __init__(self, replicas, folder):
        self.port = free_port()
        config = pathlib.Path(folder) / "prometheus.yml"
        text = (DOCKER / config.name).read_text(encoding="utf-8")
        for i, replica in enumerate(replicas, 1):
            text = text.replace(f"headway-{i}:8080", f"127.0.0.1:{replica.port}")
        config.write_text(text, encoding="utf-8")
        alerts = (DOCKER / "alerts.yml").read_text(encoding="utf-8")
        config.with_name("alerts.yml").write_text(alerts.replace("for: 30s", "for: 5s"), encoding="utf-8")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"])

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def value(self, expression):
        """The series that it gives, each with a value that may be NaN."""
        return self.get("query", query=expression)["result"]

    def up(self):
        try:
            return len(self.value('up{job="headway"} == 1'))
        except OSError:
            return 0

    def firing(self, name):
        return [a["labels"]["instance"] for a in self.get("alerts")["alerts"]
                if a["labels"]["alertname"] == name and a["state"] == "firing"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wait_for(what, condition):
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > PATIENCE:
            sys.exit(f"watch.py: not within {PATIENCE} seconds: {what}")
        time.sleep(0.2)
    print(f"{time.monotonic() - start:5.1f} s  {what}", flush=True)


def promtool(*words, text=None):
    done = subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    print(f"promtool {' '.join(map(str, words[:2]))}: {'clean' if not done.returncode else said}", flush=True)
    return [] if not done.returncode else [f"promtool {words[1]} says: {said}"]


def panels():
    """Titles and expressions of docker/grafana.json, for all instances."""
    board = json.loads((DOCKER / "grafana.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$instance", ".*")


def conditions(prometheus):
    """Names of the alerts, and their expressions without the limit, which give data at any time."""
    for group in prometheus.get("rules", type="alert")["groups"]:
        for rule in group["rules"]:
            for limit in (" == ", " > "):
                left, found, right = rule["query"].rpartition(limit)
                if found:
                    yield rule["name"], left
                    break


def without_data(prometheus):
    faults = []
    for name, expression in [*panels(), *conditions(prometheus)]:
        series = prometheus.value(expression)
        figures = [float(s["value"][1]) for s in series]
        print(f"{len(series):4} series  {name}: {expression}\n{'':13}{' '.join(f'{x:.4g}' for x in figures[:8])}",
              flush=True)
        if not any(x == x for x in figures):
            faults.append(f"{name}: no data from {expression}")
    return faults


def watch(prometheus, replicas, args):
    wait_for("all targets are up", lambda: prometheus.up() == len(replicas))
    loads = [Clients(r.port, args.clients, args.model.endswith(".gguf")) for r in replicas]
    time.sleep(args.seconds)
    faults = without_data(prometheus)
    for series in prometheus.value('count by (instance) ({job="headway", __name__=~"headway_.*"})'):
        print(f"{series['value'][1]:>4} series of {series['metric']['instance']}")
    for load in loads:
        load.stop()
    print(f"{sum(load.answered for load in loads)} answers, {sum(len(load.lost) for load in loads)} lost", flush=True)
    victim = replicas[1]
    name = f"127.0.0.1:{victim.port}"
    victim.process.kill()
    victim.process.wait()
    wait_for("HeadwayDown fires for the one that was killed", lambda: prometheus.firing("HeadwayDown") == [name])
    victim.start()
    wait_for("and is resolved when it is back", lambda: not prometheus.firing("HeadwayDown"))
    return faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=4, help="of each replica")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--heads")
    args = parser.parse_args()
    options = ["--model", args.model, "--threads", "1", *(["--heads", args.heads] if args.heads else [])]
    replicas = [Replica(options) for _ in range(3)]
    faults = [*promtool("check", "config", DOCKER / "prometheus.yml"), *promtool("check", "rules", DOCKER / "alerts.yml")]
    try:
        for replica in replicas:
            replica.wait_ready()
        with urllib.request.urlopen(f"http://127.0.0.1:{replicas[0].port}/metrics", timeout=10) as response:
            faults += promtool("check", "metrics", text=response.read().decode())
        with tempfile.TemporaryDirectory(prefix="headway-watch-") as folder:
            prometheus = Prometheus(replicas, folder)
            try:
                faults += watch(prometheus, replicas, args)
            finally:
                prometheus.stop()
    finally:
        for replica in replicas:
            replica.process.kill()
    if faults:
        sys.exit("\n".join(["watch.py:", *faults]))


if __name__ == "__main__":
    main()
