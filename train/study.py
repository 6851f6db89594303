#!/usr/bin/env python3
"""The study of head architectures: trains the models, measures them, and fills in the page.

Usage: train/study.py [train] [measure] [page] [options]; no stage means all three.

  train    8 variants with 3 seeds each, some at a time; what is finished is skipped, what was
           stopped is resumed. About an hour and a half on two cores.
  measure  held-out bits, decoding speed and training speed into --json. Leave the machine idle.
           What a stopped measurement had is kept in FOLDER/measure.json.
  page     the tables between the markers of docs/architectures.md, and docs/architectures.svg.

Run it from the project's root. Owns what is trained and measured and how; study_page.py makes the
tables and study_plot.py the picture."""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import study_page
from study_page import Failure

# Compute-matched models have 8 transformer layers in trunk and heads together.
VARIANTS = {
    "baseline": "--kind parallel --heads 1 --total-layers 8",
    "parallel": "--kind parallel --heads 4 --total-layers 8",
    "parallel-added": "--kind parallel --heads 4 --layers 7",
    "parallel-two-layers": "--kind parallel --heads 4 --head-layers 2 --layers 4",
    "causal": "--kind causal --heads 4 --total-layers 8",
    "anticausal": "--kind anticausal --heads 4 --total-layers 8",
    "linear": "--kind linear --heads 4 --total-layers 8",
    "replicated": "--kind replicated --heads 4 --total-layers 8",
}
SHAPE = "--dim 128 --n-heads 2 --kv-heads 1 --hidden 352 --context 256 --batch 8 --rate 4e-3"
EVALUATION = "--batch 8 --eval-windows 1024"
BYTES_PER_STEP = 8 * 256
PROMPTS = pathlib.Path("weights/demo/prompts.json")
PROMPT_BYTES = 120  # with 128 decoded ones they fit into a context of 256
TOKENS = 128
FIGURES = ("tokens_per_forward", "speedup", "relative_pass_time", "tokens_per_s")


def run(command):
    """Runs a program to its end; its stdout and stderr."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise Failure(f"{' '.join(command)} failed ({done.returncode}): its messages are above")
    return done.stdout, done.stderr


def write_json(path, value):
    """Whole or not at all, however the program ends. Lists of numbers stay on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()),
                          json.dumps(value, indent=1)) + "\n")
    new.replace(path)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def prepare(o):
    """Makes the programs, copies them to where no later build changes them, makes the corpus."""
    if not o.programs:
        run(["make", "build/headway-train", "build/headway-bench"])
    for name in ("headway-train", "headway-bench"):
        shutil.copy2(pathlib.Path(o.programs or "build") / name, o.copies / name)
    if not (o.corpus / "held-out.bin").exists():
        run([sys.executable, "train/corpus.py", "--out", o.corpus])


# ---- train ----


def read_log(folder):
    """The entries of a log; a killed run may have left half a line, and the resumed one repeats
    steps."""
    entries = []
    path = folder / "log.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            pass
    return entries


def last_scores(folder):
    """Step and scores of the last evaluation, or (0, None)."""
    found = [e for e in read_log(folder) if "held_out" in e]
    return (found[-1]["step"], found[-1]["held_out"]) if found else (0, None)


def finished(folder, steps):
    return last_scores(folder)[0] == steps and (folder / "model.safetensors").exists()


def train_command(o, variant, seed, folder, threads):
    return [o.copies / "headway-train", "--corpus", o.corpus / "train.bin", "--out", folder,
            *VARIANTS[variant].split(), *SHAPE.split(), "--seed", seed, "--steps", o.steps,
            "--warmup", o.steps // 20, "--threads", threads]


def start_training(o, variant, seed):
    folder = o.folder / f"{variant}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    command = ["nice", *train_command(o, variant, seed, folder, 1),
               "--held-out", o.corpus / "held-out.bin", "--eval-windows", 1024,
               "--eval-every", 1000, "--save-every", 500]
    if (folder / "checkpoint.safetensors").exists():
        command.append("--resume")
    print(f"{folder}: {'resumed' if '--resume' in command else 'started'}", flush=True)
    # Messages stay in the folder: a pipe that nobody reads would stop the program.
    with open(folder / "out.txt", "a") as out, open(folder / "err.txt", "w") as err:
        return subprocess.Popen([str(word) for word in command], stdout=out, stderr=err)


def train(o):
    waiting = [m for m in o.models if not finished(o.folder / f"{m[0]}-{m[1]}", o.steps)]
    print(f"train: {len(o.models) - len(waiting)} of {len(o.models)} models are finished")
    running = {}
    try:
        while waiting or running:
            while waiting and len(running) < o.workers:
                variant, seed = waiting.pop(0)
                running[variant, seed] = start_training(o, variant, seed)
            time.sleep(0.5)
            for (variant, seed), process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[variant, seed]
                folder = o.folder / f"{variant}-{seed}"
                if process.returncode or not finished(folder, o.steps):
                    sys.stderr.write((folder / "err.txt").read_text())
                    raise Failure(f"training {folder} ended early ({process.returncode}): its "
                                  "messages are above")
                print(f"{folder}: finished", flush=True)
    finally:
        for process in running.values():  # they save when told to stop
            process.terminate()
        for process in running.values():
            process.wait()


# ---- measure ----


def evaluate(o, folder, text):
    """Scores of every head on one held-out file."""
    out, _ = run([o.copies / "headway-train", "--evaluate", "--out", folder, "--held-out",
                  o.corpus / f"held-out-{text}.bin", "--threads", o.threads, *EVALUATION.split()])
    rows = re.findall(r"^ *(\d+) +([\d.]+) +([\d.]+) %$", out, re.M)
    if not rows:
        raise Failure(f"{out}headway-train --evaluate on {folder} printed no scores")
    return [{"head": int(head), "bits_per_byte": float(bits), "top1": round(float(top1) / 100, 3)}
            for head, bits, top1 in rows]


def describe(o, variant, seed):
    """What is known of a model before it is timed."""
    folder = o.folder / f"{variant}-{seed}"
    config = json.loads((folder / "config.json").read_text())
    with open(folder / "model.safetensors", "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    parameters = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for n in tensor["shape"]:
                size *= n
            parameters += size
    return {"variant": variant, "seed": seed, "parameters": parameters,
            "trunk_layers": config["n_layers"], "heads": config["heads"],
            "held_out": {"mixed": last_scores(folder)[1],
                         "code": evaluate(o, folder, "code"),
                         "prose": evaluate(o, folder, "prose")},
            "decoding": []}


def write_prompts(o):
    """The ends of the demo model's prompts: the context of these models is shorter."""
    prompts = json.loads(PROMPTS.read_text())
    path = o.copies / "prompts.json"
    path.write_text(json.dumps({
        kind: [text.encode()[-PROMPT_BYTES:].decode(errors="ignore") for text in texts]
        for kind, texts in prompts.items()}))
    return path


def bench(o, prompts, name):
    """headway-bench's table for one model, and the kernels it used."""
    path = o.copies / "bench.json"
    out, _ = run([o.copies / "headway-bench", "--model", o.folder / name, "--prompts", prompts,
                  "--json", path, "--repeat", 1, "--tokens", TOKENS, "--threads", o.threads])
    rows = json.loads(path.read_text())["decode"]
    different = [f"{r['text']}, {r['drafts']} drafts" for r in rows if not r["identical"]]
    if different:
        raise Failure(f"{name}: speculative and plain text differ ({'; '.join(different)})")
    return rows, re.search(r"(\w+) kernels", out)[1]


def add_round(model, rows):
    """Joins a round to the earlier ones: a list of the rounds' values for every figure. Acceptance
    is the first round's: with a fixed number of drafts it is the same in all."""
    if not model["decoding"]:
        model["decoding"] = [{"text": row["text"], "drafts": row["drafts"],
                              "acceptance": row["acceptance"], **{f: [] for f in FIGURES}}
                             for row in rows]
    for cell, row in zip(model["decoding"], rows):
        for figure in FIGURES:
            cell[figure].append(row[figure])


def rounds_of(model):
    return len(model["decoding"][0]["speedup"]) if model["decoding"] else 0


def training_speed(o, variant):
    """Bytes per second of a short training, and the type of its products. The program's clock
    begins after start-up and stands still while it saves; a line is of the steps since the last."""
    with tempfile.TemporaryDirectory(dir=o.copies) as folder:
        _, messages = run([*train_command(o, variant, 1, folder, o.threads),
                           "--stop-after", o.speed_steps])
        step, seconds = 0, 0.0
        for entry in read_log(pathlib.Path(folder)):
            seconds += (entry["step"] - step) * BYTES_PER_STEP / entry["bytes_per_second"]
            step = entry["step"]
    return round(step * BYTES_PER_STEP / seconds), re.search(r"(\w+) products", messages)[1]


def rotated(variants, turn):
    """No variant is always the first of its round, when the machine may be cooler."""
    return variants[turn % len(variants):] + variants[:turn % len(variants)]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def conditions(o):
    """All that the figures depend on: a measurement goes on only where these are the same."""
    names = [f"{variant}-{seed}" for variant, seed in o.models]
    texts = [o.corpus / f"held-out-{text}.bin" for text in ("code", "prose")] + [PROMPTS]
    return {
        "options": {"variants": {v: VARIANTS[v] for v in o.variants}, "shape": SHAPE,
                    "steps": o.steps, "seeds": o.seeds, "evaluation": EVALUATION,
                    "prompt_bytes": PROMPT_BYTES, "tokens": TOKENS, "rounds": o.rounds,
                    "speed_steps": o.speed_steps, "speed_rounds": o.speed_rounds,
                    "threads": o.threads},
        "models": {name: sha256(o.folder / name / "model.safetensors") for name in names},
        "programs": {p: sha256(o.copies / p) for p in ("headway-train", "headway-bench")},
        "texts": {path.name: sha256(path) for path in texts},
    }


def measure(o):
    for variant, seed in o.models:
        if not finished(o.folder / f"{variant}-{seed}", o.steps):
            raise Failure(f"{o.folder}/{variant}-{seed} is not trained to the end: run the stage "
                          "train first, or choose others with --variants and --seeds")
    kept, now = o.folder / "measure.json", conditions(o)
    state = json.loads(kept.read_text()) if kept.exists() and not o.fresh else {}
    if state.get("conditions") != now:
        state = {"conditions": now, "result": {
            "date": str(datetime.date.today()), "processor": processor(),
            "cores": os.cpu_count(), "options": now["options"], "models": {},
            "training_speed": []}}
    else:
        print(f"measure: going on from {kept}; --fresh measures all again")
    result, prompts, begin = state["result"], write_prompts(o), time.monotonic()

    def done(what):
        write_json(kept, state)
        print(f"measure: {what}, {time.monotonic() - begin:.0f} s", flush=True)

    for variant, seed in o.models:
        name = f"{variant}-{seed}"
        if name not in result["models"]:
            result["models"][name] = describe(o, variant, seed)
            done(f"{name} evaluated")
    for turn in range(o.rounds):
        for seed in o.seeds:
            for variant in rotated(o.variants, turn):
                model = result["models"][f"{variant}-{seed}"]
                if rounds_of(model) == turn:
                    rows, result["kernels"] = bench(o, prompts, f"{variant}-{seed}")
                    add_round(model, rows)
        done(f"decoding, round {turn + 1} of {o.rounds}")
    for turn in range(len(result["training_speed"]), o.speed_rounds):
        speeds = {}
        for variant in rotated(o.variants, turn):
            speeds[variant], result["products"] = training_speed(o, variant)
        result["training_speed"].append(speeds)
        done(f"training speed, round {turn + 1} of {o.speed_rounds}")
    write_json(o.json, result)
    print(f"measure: {o.json} written")


# ---- options ----


def parse(arguments):
    p = argparse.ArgumentParser(usage=__doc__.split("Usage: ")[1].split(";")[0],
                                description=__doc__, add_help=True,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    path = pathlib.Path
    p.add_argument("stages", nargs="*", metavar="train|measure|page")
    p.add_argument("--folder", type=path, default=path("build/study"), help="of the models")
    p.add_argument("--corpus", type=path, default=path("build/corpus"), help="folder of texts")
    p.add_argument("--programs", help="folder of ready programs; without it they are made")
    p.add_argument("--variants", default=",".join(VARIANTS), help="some of them: baseline,causal")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--steps", type=int, default=2000, help="of each training")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at a time")
    p.add_argument("--threads", type=int, default=2, help="of what is measured")
    p.add_argument("--rounds", type=int, default=5, help="decoding runs of each model")
    p.add_argument("--speed-steps", type=int, default=40, help="of a run for training speed")
    p.add_argument("--speed-rounds", type=int, default=5, help="such runs of each variant")
    p.add_argument("--fresh", action="store_true", help="measure again what is measured")
    p.add_argument("--json", type=path, default=path("docs/architectures.json"))
    p.add_argument("--page", type=path, default=path("docs/architectures.md"))
    p.add_argument("--plot", type=path, default=path("docs/architectures.svg"))
    o = p.parse_args(arguments)
    o.variants, o.seeds = o.variants.split(","), [int(s) for s in o.seeds.split(",")]
    for variant in o.variants:
        if variant not in VARIANTS:
            p.error(f"there is no variant '{variant}': choose from {', '.join(VARIANTS)}")
    if "baseline" not in o.variants:
        p.error("--variants needs the baseline, which the others are compared with")
    for stage in o.stages:
        if stage not in ("train", "measure", "page"):
            p.error(f"there is no stage '{stage}': choose train, measure or page")
    for name in ("steps", "workers", "threads", "rounds", "speed_steps", "speed_rounds"):
        if getattr(o, name) < 1:
            p.error(f"--{name.replace('_', '-')} must be at least 1")
    o.stages = o.stages or ["train", "measure", "page"]
    o.models = [(variant, seed) for seed in o.seeds for variant in o.variants]
    return o


def main():
    o = parse(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="headway-study-") as copies:
        o.copies = pathlib.Path(copies)
        if "train" in o.stages or "measure" in o.stages:
            prepare(o)
        if "train" in o.stages:
            train(o)
        if "measure" in o.stages:
            measure(o)
        if "page" in o.stages:
            study_page.write(o.json, o.page, o.plot)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except Failure as e:
        sys.exit(f"study.py: {e}")
    except OSError as e:
        sys.exit(f"study.py: {e.filename}: {e.strerror}")
    except KeyboardInterrupt:
        sys.exit("study.py: stopped; run it again to go on")
