#!/usr/bin/env python3
"""Times passes of headway-bench and of llama.cpp on the same files or shapes, in turns in one run.

    tools/compare_llama.py --llama /path/to/llama.cpp/build/bin [--llama ANOTHER/bin ...]
        [--model FILE.gguf ...] [--shape 110m] [--type q8|q4] [--isa NAME] [--rows 1,2,4,8,16]
        [--rounds N] [--json FILE]

Not part of `make test`: it needs a llama.cpp that is already built as shared libraries, in a folder
under its sources, a C++ compiler, a Python with numpy (for tools/random_gguf.py), and a machine
that does nothing else. BUILD names headway's build folder.

A cell is the milliseconds of one pass over k tokens of one sequence, 256 tokens behind it, with
logits for all k: what verifying k - 1 drafts costs. Then the tokens per second of reading a prompt.
With --model both read that file. Of a shape, weights are random: q8 is held against Q8_0 and q4
against Q4_0, embedding and unembedding included, in files that tools/random_gguf.py writes into
--models and leaves there for the next time.

llama.cpp runs in the configurations that may be its best: each --llama (say, one built for AMX and
one without), and in each CONFIGURATIONS. A try of all goes first; those that win a cell there, and
the one it comes with, go on. They and headway run once a round, in an order that turns. Within a
process everything is first done once without the clock, and each of llama.cpp's passes directly
follows one like it; a round's figure is the median of its passes. The ratio, llama.cpp / headway
for ms and headway / llama.cpp for tokens per second, pairs rounds and takes the configuration that
is fastest for that very cell: above 1, headway is faster.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BENCH = HERE.parent / os.environ.get("BUILD", "build") / "headway-bench"
STORED = {"q8": "q8_0", "q4": "q4_0"}

# Weights repacked or as stored; flash attention or matrix products, which are faster for few rows;
# keys and values in f32 or f16. The first is what llama.cpp does when nothing is said.
CONFIGURATIONS = {
    "as it comes": (1, 1, 0), "no flash": (1, 0, 0), "no flash, f32 cache": (1, 0, 1),
    "as stored": (0, 1, 0), "as stored, no flash": (0, 0, 0),
    "as stored, no flash, f32 cache": (0, 0, 1),
}


class Failed(Exception):
    pass


def run(command, environment=None):
    command = [str(c) for c in command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{command[0]}: {done.stderr.strip()[-2000:] or f'exit {done.returncode}'}")
    return done.stdout


# ---- llama.cpp ----


def source_of(folder):
    """The folder above bin that has include/llama.h."""
    for parent in folder.parents:
        if (parent / "include" / "llama.h").exists():
            return parent
    raise Failed(f"no include/llama.h above {folder}: --llama is to name the bin folder of a build")


def compile_probe(folder, out):
    source = source_of(folder)
    run([os.environ.get("CXX", "g++"), "-std=c++17", "-O2", HERE / "compare_llama.cpp", "-o", out,
         "-I", source / "include", "-I", source / "ggml" / "include", "-L", folder,
         "-Wl,--disable-new-dtags,-rpath," + str(folder), "-lllama", "-lggml", "-lggml-base"])


def measure_llama(probe, configuration, model, repeat, timed, o):
    command = [probe, model, o.threads, *configuration, o.context, o.prompt, repeat, timed, *o.rows]
    result = json.loads(run(command, dict(os.environ, OMP_NUM_THREADS=str(o.threads))))
    cells = {p["rows"]: statistics.median(p["ms"]) for p in result["passes"]}
    if o.prompt:
        cells["prompt"] = statistics.median(result["prompt_tokens_per_s"])
    return cells, dict(system=result["system"], buffers=result["buffers"])


# ---- headway ----


def measure_headway(model, shape, kind, repeat, o, folder):
    out = folder / "headway.json"
    what = ["--shape", shape, "--type", kind] if shape else ["--model", model, "--passes"]
    run([BENCH, *what, "--rows", ",".join(map(str, o.rows)), "--context", o.context, "--batch", 1,
         "--prompt", o.prompt, "--threads", o.threads, "--repeat", repeat, "--isa", o.isa,
         "--json", out])
    result = json.loads(out.read_text())
    cells = {p["rows"]: p["ms"] for p in result["passes"]}
    if o.prompt:
        cells["prompt"] = result["prompts"][0]["tokens_per_s"]
    return cells, dict(isa=result["passes"][0]["isa"], machine=result.get("machine"))


# ---- both ----


def spread(values):
    return dict(median=statistics.median(values), min=min(values), max=max(values), rounds=values)


def model_file(shape, kind, o):
    path = o.models / f"random-{shape}-{STORED[kind]}.gguf"
    if not path.exists():
        o.models.mkdir(parents=True, exist_ok=True)
        run([sys.executable, HERE / "random_gguf.py", "--shape", shape, "--type", STORED[kind],
             "--out", path])
    return path


def fastest(key, cells):
    """Of names and their cells, the name whose cell `key` is best."""
    pick = max if key == "prompt" else min
    return pick(cells, key=lambda name: cells[name][key])


def compare(model, shape, kind, probes, o, folder):
    """Of a file, or of a shape (model None)."""
    model = model or model_file(shape, kind, o)
    keys = list(o.rows) + (["prompt"] if o.prompt else [])
    runs = {"headway": lambda repeat, timed: measure_headway(model, shape, kind,
                                                             repeat * timed, o, folder)}
    for (label, probe), (name, c) in itertools.product(probes.items(), CONFIGURATIONS.items()):
        runs[f"{label}, {name}"] = functools.partial(measure_llama, probe, c, model, o=o)
    tried = {name: run(1, 1)[0] for name, run in runs.items() if name != "headway"}
    kept = {fastest(key, tried) for key in keys} | {name for name in tried if "as it comes" in name}
    names = [name for name in runs if name == "headway" or name in kept]
    rounds, about = {name: [] for name in names}, {}
    for i in range(o.rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            cells, about[name] = runs[name](o.repeat, o.timed)
            rounds[name].append(cells)
        print(f"  round {i + 1} of {o.rounds} done", file=sys.stderr, flush=True)
    cells = []
    for key in keys:
        speeds = {name: spread([r[key] for r in rounds[name]]) for name in names}
        best = fastest(key, {n: {key: speeds[n]["median"]} for n in names if n != "headway"})
        pairs = zip(speeds["headway"]["rounds"], speeds[best]["rounds"])
        ratio = spread([h / l if key == "prompt" else l / h for h, l in pairs])
        cells.append(dict(cell=key, unit="tokens/s" if key == "prompt" else "ms", speeds=speeds,
                          best_llama=best, ratio=ratio))
    return dict(model=model.name, shape=shape, type=kind, tried=tried, programs=about, cells=cells)


def print_table(result, o):
    names = list(result["programs"])
    columns = ["headway"] + [f"({i})" for i in range(1, len(names))]
    print(f"\n{result['model']}, {o.threads} threads, context {o.context}, "
          f"medians of {o.rounds} rounds")
    for column, name in zip(columns, names):
        about = result["programs"][name]
        kinds = about["isa"] if name == "headway" else ", ".join(dict.fromkeys(about["buffers"]))
        print(f"  {column if name == 'headway' else column + ' ' + name}: {kinds}")
    print(f"{'':21}" + "".join(f"{c:>10}" for c in columns) + "  best  ratio  min..max")
    for cell in result["cells"]:
        prompt = cell["cell"] == "prompt"
        label = f"prompt of {o.prompt}, tok/s" if prompt else f"{cell['cell']} rows, ms"
        values = "".join(f"{cell['speeds'][name]['median']:10.2f}" for name in names)
        ratio, best = cell["ratio"], columns[names.index(cell["best_llama"])]
        print(f"{label:21}{values}  {best:>4}  {ratio['median']:5.2f}  "
              f"{ratio['min']:.2f}..{ratio['max']:.2f}", flush=True)


def numbers(text):
    return [int(n) for n in text.split(",")]


def main():
    p = argparse.ArgumentParser(description="headway against llama.cpp on random weights")
    p.add_argument("--llama", action="append", type=pathlib.Path,
                   default=[pathlib.Path(os.environ["LLAMA"])] if "LLAMA" in os.environ else [],
                   help="bin folder of a build; repeat it for several; default: $LLAMA")
    p.add_argument("--model", action="append", type=pathlib.Path, default=[],
                   help="a GGUF file; default: shapes")
    p.add_argument("--shape", action="append", choices=["110m", "1b", "7b"],
                   help="default, without --model: 110m and 1b")
    p.add_argument("--type", action="append", choices=list(STORED), help="default: both")
    p.add_argument("--isa", default="auto", help="headway's kernels")
    p.add_argument("--rows", type=numbers, default=[1, 2, 4, 8, 16], help="begins with 1")
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--prompt", type=int, default=512, help="0 = none")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--repeat", type=int, default=2, help="turns through all passes in a process")
    p.add_argument("--timed", type=int, default=2, help="timed passes of a kind in a turn")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--models", type=pathlib.Path,
                   default=pathlib.Path(tempfile.gettempdir()) / "headway-gguf",
                   help="folder of the files of random weights")
    p.add_argument("--json", type=pathlib.Path, help="file for the results")
    o = p.parse_args()
    if not o.llama:
        sys.exit("--llama is missing: name the bin folder of a llama.cpp build")
    if not BENCH.exists():
        sys.exit(f"{BENCH} is missing: run make")
    results = []
    with tempfile.TemporaryDirectory(prefix="headway-llama-") as folder:
        folder = pathlib.Path(folder)
        try:
            probes = {}
            for i, bin_folder in enumerate(o.llama):
                label = "llama.cpp" if len(o.llama) == 1 else f"llama.cpp {bin_folder.parent.name}"
                probes[label] = folder / f"probe{i}"
                compile_probe(bin_folder.resolve(), probes[label])
            shapes = o.shape or ([] if o.model else ["110m", "1b"])
            todo = [(model, None, None) for model in o.model]
            todo += [(None, *pair) for pair in itertools.product(shapes, o.type or STORED)]
            for what in todo:
                results.append(compare(*what, probes, o, folder))
                print_table(results[-1], o)
        except Failed as e:
            sys.exit(str(e))
        finally:
            if o.json and results:
                o.json.write_text(json.dumps(dict(
                    threads=o.threads, context=o.context, prompt=o.prompt, rounds=o.rounds,
                    repeat=o.repeat, timed=o.timed, results=results), indent=1) + "\n")


if __name__ == "__main__":
    main()
