#!/usr/bin/env python3
"""Measures with headway-bench, and writes a page about it: speed.json, speed.md and its pictures,
speed.svg and, of a public model with heads, speedup.svg.

    tools/bench_page.py [--quick] [--shapes 110m,1b,7b] [--types q8,q4] [--rows 1,2,4] ...
    tools/bench_page.py --from docs/speed.json

`make bench BENCH_FLAGS="..."` calls it. First come public models, as far as they can be had
(tools/fetch_model.py): passes, questions in their chat answered plainly and with the server's
default, one by one and in batches, and, with --llama, the same by llama.cpp. One for which we have
heads answers with every drafter too. Then the passes of
random weights, one run of headway-bench for each shape and type, and the demo model's table of
speculation. A run that is refused, say for want of memory, is noted on the page. Leave the machine idle: the whole takes many
minutes; --quick shows in seconds what the page looks like. --from makes the page again from figures
that were measured before. BUILD names the build folder.

Owns what is measured and what the page says; the parts of the plot come from train/study_plot.py.
"""
import argparse
import datetime
import itertools
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "train"))

import study_plot as plot
from study import processor, write_json
from study_page import AUTO, Failure, table

FULL = {"public": "smollm2,qwen-1.5b", "shapes": "110m,1b", "types": "q8,q4", "rows": "1,2,3,4,5,6,7,8,12,16",
        "context": "256,2048", "batch": "1,4,16", "prompt": 512, "repeat": 5,
        "modes": "chain:1,chain:3,tree:4,both:4,lookup:4,auto",
        "model": "weights/demo", "limit": 0, "tokens": 128, "threads": 0, "isa": "auto"}
QUICK = {**FULL, "public": "", "shapes": "110m", "types": "q8", "rows": "1,2,4,8", "context": "256",
         "batch": "1", "prompt": 64, "repeat": 2, "limit": 1, "tokens": 32}
LISTS = ("runs", "passes", "prompts", "decode", "llama")
PUBLIC_TOKENS = 64  # decoded per question
LLAMA_PROMPT = 96    # as long as the questions are
WITH_HEADS = "smollm2 with heads"
HEADS = "weights/smollm2-heads"


# ---- measuring ----


def bench(o, name, options, folder):
    """One run of headway-bench: its notes for the page, and its JSON, or None if it was refused."""
    path = folder / "bench.json"
    path.unlink(missing_ok=True)
    options = [*options, "--repeat", o.repeat, "--threads", o.threads, "--isa", o.isa]
    options = [str(word) for word in options]
    print("\nheadway-bench", shlex.join(options), flush=True)
    lines = []
    with tempfile.TemporaryFile("w+") as messages:
        with subprocess.Popen([o.bench, *options, "--json", path], cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=messages) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.strip())
        messages.seek(0)
        said = messages.read().strip()
    print(said, file=sys.stderr, flush=True, end="\n" * bool(said))
    notes = {"name": name, "options": shlex.join(options), "refused": None,
             "skipped": [line for line in lines if line.startswith("skipped:")]}
    # A text that differs makes the exit status 1 as well, but there is a table.
    if path.exists():
        return {**notes, "what": next(line for line in lines if " kernels, " in line)}, \
            json.loads(path.read_text())
    code = process.returncode
    reason = f"it was ended by signal {-code}" if code < 0 else f"it ended with {code}"
    return {**notes, "refused": said.splitlines()[-1] if said else reason}, None


def public_models(o):
    """Names and files of those that can be had."""
    found = {}
    for name in filter(None, o.public.split(",")):
        path = subprocess.run([ROOT / "tools" / "fetch_model.py", name], text=True,
                              stdout=subprocess.PIPE, check=False).stdout.strip()
        if path:
            found[name] = path
    return found


def llama_cells(o, path, prompt, tokens, batch):
    """Tokens per second of llama.cpp's llama-batched-bench by batch size, prompts read and texts
    decoded: the better of flash attention on and off."""
    best = {}
    context = max(map(int, batch.split(","))) * (prompt + tokens)
    for flash in ("on", "off"):
        words = [o.llama / "llama-batched-bench", "-m", path, "-t", o.threads or os.cpu_count(),
                 "-c", context, "-npp", prompt, "-ntg", tokens, "-npl", batch, "-fa", flash,
                 "--output-format", "jsonl"]
        words = [str(word) for word in words]
        print("\n" + shlex.join(words), flush=True)
        lines = subprocess.run(words, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, check=True).stdout.splitlines()
        for row in (json.loads(line) for line in lines if line.startswith("{")):
            print(row, flush=True)
            prompts, texts = best.get(row["pl"], (0, 0))
            best[row["pl"]] = max(prompts, row["speed_pp"]), max(texts, row["speed_tg"])
    return best


def llama_bench(o, name, path):
    decode = llama_cells(o, path, LLAMA_PROMPT, PUBLIC_TOKENS, o.batch)
    prompt = llama_cells(o, path, o.prompt, 1, "1")[1][0] if o.prompt else None
    return [{"model": name, "batch": batch, "decode": texts, "prompt": prompt}
            for batch, (_, texts) in decode.items()]


def measure(o):
    begin = time.monotonic()
    data = {"date": str(datetime.date.today()), "processor": processor(), "cores": os.cpu_count(),
            "repeat": o.repeat, "flags": flags(o), **{name: [] for name in LISTS}}
    public = public_models(o)
    runs = {}
    for name, path in public.items():
        runs[name] = ["--model", path, "--passes", "--rows", o.rows, "--context", o.context,
                      "--batch", o.batch, "--prompt", o.prompt]
        runs[f"{name}, decoding"] = [
            "--model", path, "--chat", "--prompts", "tools/chat_prompts.json", "--modes", "auto",
            "--batch", o.batch, "--limit", o.limit or 16, "--tokens", PUBLIC_TOKENS]
    if "smollm2" in public and o.modes:
        runs[WITH_HEADS] = [
            "--model", public["smollm2"], "--heads", HEADS, "--chat", "--prompts",
            "tools/chat_prompts.json", "--modes", o.modes, "--batch", o.batch,
            "--limit", o.limit or 16, "--tokens", o.tokens]
    runs |= {f"{shape} {kind}": ["--shape", shape, "--type", kind, "--rows", o.rows, "--context",
                                o.context, "--batch", o.batch, "--prompt", o.prompt]
            for shape in o.shapes.split(",") for kind in o.types.split(",") if shape}
    if o.model:
        runs[o.model] = ["--model", o.model, "--limit", o.limit, "--tokens", o.tokens]
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder:
        for name, options in runs.items():
            notes, result = bench(o, name, options, pathlib.Path(folder))
            data["runs"].append({**notes, "machine": (result or {}).get("machine")})
            for part in ("passes", "prompts", "decode"):
                found = (result or {}).get(part, [])
                for cell in found:
                    cell["name"] = name.removesuffix(", decoding")
                data[part] += found
    if o.llama:
        for name, path in public.items():
            data["llama"] += llama_bench(o, name, path)
    if not data["passes"] and not data["decode"]:
        raise Failure("nothing could be measured, so no page was written")
    return {**data, "minutes": round(max(6, time.monotonic() - begin) / 60, 1)}


# ---- the tables ----


def series(passes):
    """The passes by shape and type, and within them by context and batch, as they were measured."""
    found = {}
    for p in passes:
        cells = found.setdefault(p["name"], {})
        cells.setdefault((p["context"], p["batch"]), {})[p["rows"]] = p
    return found


def pass_table(passes, field, digits, milliseconds=False):
    rows_measured = sorted({p["rows"] for p in passes})
    head = ["model", "context", "batch", *["one row, ms"] * milliseconds,
            *(f"{k} row{'s' * (k > 1)}" for k in rows_measured)]
    rows = []
    for name, cells in series(passes).items():
        for (context, batch), by_rows in cells.items():
            figures = [by_rows.get(k, {}).get(field) for k in rows_measured]
            ms = [f"{by_rows[1]['ms']:.2f}"] if milliseconds else []
            rows.append([name, str(context), str(batch), *ms,
                         *("–" if f is None else f"{f:.{digits}f}" for f in figures)])
    return table(head, rows)


def decode_table(cells):
    head = ["text", "drafts", "tokens per forward", "time per forward", "speed-up",
            "minimum..maximum", "tokens/s", "acceptance of draft 1, 2, ...", "same text"]
    return table(head, [[
        c["text"], str(c["drafts"]),
        f"{c['tokens_per_forward']:.2f}", f"{c['relative_pass_time']:.2f}", f"{c['speedup']:.2f}",
        f"{c['speedup_min']:.2f}..{c['speedup_max']:.2f}", f"{c['tokens_per_s']:.0f}",
        " ".join(f"{rate:.2f}" for rate in c["acceptance"]) or "–",
        "yes" if c["identical"] else "**NO**"] for c in cells])


def public_table(data, names):
    """Of each public model and batch: what it decodes, here and by llama.cpp."""
    rows = []
    for name in names:
        cells = [c for c in data["decode"] if c["name"] == name]
        for batch in sorted({c["batch"] for c in cells}):
            for words in dict.fromkeys(c["text"] for c in cells):
                plain, auto = (next(c for c in cells if (c["batch"], c["text"], c["mode"])
                                    == (batch, words, mode)) for mode in ("0", AUTO))
                other = next((c["decode"] for c in data["llama"]
                              if (c["model"], c["batch"]) == (name, batch)), None)
                rows.append([
                    name, str(batch), words, f"{plain['tokens_per_s']:.0f}",
                    f"{auto['tokens_per_s']:.0f}", f"{auto['tokens_per_forward']:.2f}",
                    f"{auto['speedup']:.2f}",
                    f"{auto['speedup_min']:.2f}..{auto['speedup_max']:.2f}",
                    *([f"{other:.0f}", f"{plain['tokens_per_s'] / other:.2f}"] if other
                      else ["–", "–"]),
                    "yes" if auto["identical"] else "**NO**"])
    return table(["model", "batch", "questions", "plain, tokens/s", "auto, tokens/s",
                  "tokens per forward", "speed-up", "minimum..maximum", "llama.cpp, tokens/s",
                  "plain over it", "same text"], rows)


def heads_table(cells):
    head = ["questions", "batch", "drafter", "tokens per forward", "time per forward", "speed-up",
            "minimum..maximum", "tokens/s", "same text"]
    return table(head, [[
        c["text"], str(c["batch"]), drafter(c["mode"]), f"{c['tokens_per_forward']:.2f}",
        f"{c['relative_pass_time']:.2f}", f"{c['speedup']:.2f}",
        f"{c['speedup_min']:.2f}..{c['speedup_max']:.2f}", f"{c['tokens_per_s']:.0f}",
        "yes" if c["identical"] else "**NO**"] for c in cells])


def prompt_sentences(data, names):
    parts = []
    for name in names:
        own = next((p for p in data["prompts"] if p["name"] == name), None)
        other = next((c["prompt"] for c in data["llama"] if c["model"] == name), None)
        if own and other:
            parts.append(f"{name}, {own['prompt']} tokens: {own['tokens_per_s']:.0f} against "
                         f"{other:.0f} tokens/s, "
                         f"{own['tokens_per_s'] / other:.2f} times")
    return ("Prompts, here and by llama.cpp: " + "; ".join(parts) + "."
            if parts else "")


# ---- the page ----

INTRODUCTION = """# Speed

A draft is verified as a further row of the pass that makes the next token. So speculation pays
where a pass over several rows costs little more than a pass over one. This page says what it costs
on one machine, how fast public models and the demo model decode, and how near a pass comes to what
memory and processor give."""

PUBLIC = """## Public models

The files of `tools/fetch_model.py`, as they are, without heads: drafts come from look-up in the text
so far, where the server's default, *auto*, finds that they pay. Questions in the model's chat
(tools/chat_prompts.json: chat, code, and texts to edit) are answered greedily, 64 tokens each, one at
a time and in batches. Tokens per second are those of all texts of a batch together. llama.cpp, where
there is a column, decodes as many texts of 64 tokens behind prompts of 96 (llama-batched-bench), the
better of flash attention on and off, in the same hour, not in turns."""

SPEEDUP = """## SmolLM2 with heads

The same file with the heads of [weights/smollm2-heads](../weights/smollm2-heads/README.md), which were
trained on the model's own text. Who drafts is told apart: the heads, as a chain or as a tree of their
best candidates, look-up in the text so far, both in one tree, and *auto*, the server's default, which
chooses at every step."""

PASSES = """## Passes over several rows

A pass goes through the trunk and the next-token head and makes the logits of all its rows: what the
server does to verify. The weights are those of public models, or random, as many as the list above
says. *Context* is the number of positions that each sequence has behind it, *batch* the number of
sequences in a pass, and rows are counted per sequence."""

RELATIVE = """**Time of a pass, relative to the pass with one row per sequence** of the same
repetition. 1 means that drafts are verified for nothing, and k, for k rows, that nothing is
gained."""

BANDWIDTH = """**Part of the memory's bandwidth**: the bytes of weights, keys and values, as if each
were read once, over what the memory gives in the time of the pass. It can be above 1 where caches
hold some of them."""

ARITHMETIC = """**Part of the processor's arithmetic**: the multiplications and additions of the
pass, over what the processor's fastest instruction for these weights gives in its time."""

DECODING = """## Decoding with the demo model

Held-out code and prose are decoded greedily, one sequence at a time, with every number of drafts
and with *auto*, the server's default, which chooses it at every step. Plain decoding (no drafts)
and speculative decoding take turns in one process, and every text is compared with the plain one.
*Time per forward* includes drafting and is relative to a plain forward; tokens per forward over it
is the *speed-up*. *Acceptance* of a draft counts the steps in which those before it were
accepted."""

REPEAT = """makes the programs, measures, and writes this page, the plot and
[speed.json](speed.json), which has all figures with their extremes. It took {minutes:g} minutes
here. Leave the machine idle meanwhile. `python3 tools/bench_page.py --from docs/speed.json` makes
the page without measuring, and `--help` lists the options."""


def is_demo(cell):
    """Whether a cell is of the model whose every number of drafts was tried."""
    return cell["name"] not in ("smollm2", "qwen-0.5b", "qwen-1.5b", WITH_HEADS)


def heads_cells(data):
    return [c for c in data["decode"] if c["name"] == WITH_HEADS]


def drafter(mode):
    """A mode of headway-bench in words."""
    if mode in ("0", AUTO):
        return "nobody" if mode == "0" else AUTO
    kind, _, n = mode.rpartition(":")
    return {"tree": f"heads, tree of {n}", "both": f"heads and look-up, tree of {n}",
            "lookup": f"look-up, {n}"}.get(kind, f"heads, chain of {n}")


def run_note(run, prompts):
    """What a run was of, what the machine gave, and what is missing."""
    if run["refused"]:
        return f"- {run['name']} was not measured: {run['refused']}."
    parts, m = [f"{run['name']}: {run['what'].split(': ')[-1]}"], run["machine"]
    if m:
        parts.append(f"memory gives {m['bandwidth_gb_s']:.1f} GB/s "
                     f"({m['bandwidth_gb_s_min']:.1f}..{m['bandwidth_gb_s_max']:.1f})")
        if m["peak_gops"]:
            parts.append(f"the processor {m['peak_gops']:.0f} Gop/s ({m['peak_instruction']})")
        parts += [f"a prompt of {p['prompt']} tokens is read at {p['tokens_per_s']:.0f} tokens/s "
                  f"({p['tokens_per_s_min']:.0f}..{p['tokens_per_s_max']:.0f})"
                  for p in prompts if run["name"] == p["name"]]
    return "\n".join([f"- {'; '.join(parts)}.", *(f"  - {note}" for note in run["skipped"])])


def page(data):
    repeat = data["repeat"]
    how = (f"Figures are medians over {repeat} repetitions, bars in the plot go from the smallest "
           "to the largest." if repeat > 1 else "One repetition only.")
    parts = [INTRODUCTION,
             f"Measured {data['date']} on {data['processor']}, {data['cores']} cores:",
             "\n".join(run_note(run, data["prompts"]) for run in data["runs"]),
             how, "![Speed of passes and of decoding](speed.svg)"]
    demo = [c for c in data["decode"] if c["batch"] == 1 and is_demo(c)]
    heads = heads_cells(data)
    names = list(dict.fromkeys(c["name"] for c in data["decode"]
                               if not is_demo(c) and c["name"] != WITH_HEADS))
    if names:
        parts += [PUBLIC, public_table(data, names), prompt_sentences(data, names)]
    if heads:
        parts += [SPEEDUP, "![Tokens per forward and speed-up by drafter](speedup.svg)",
                  heads_table(heads)]
    if data["passes"]:
        parts += [PASSES, RELATIVE, pass_table(data["passes"], "relative", 2, milliseconds=True),
                  BANDWIDTH, pass_table(data["passes"], "bandwidth_fraction", 2)]
        if any(p["arithmetic_fraction"] is not None for p in data["passes"]):
            parts += [ARITHMETIC, pass_table(data["passes"], "arithmetic_fraction", 3)]
    if demo:
        parts += [DECODING, decode_table(demo)]
    command = "make bench"
    if data["flags"]:
        command += f' BENCH_FLAGS="{shlex.join(data["flags"])}"'
    parts += ["## How to repeat it", f"```sh\n{command}\n```",
              REPEAT.format(minutes=data["minutes"])]
    return "\n\n".join(filter(None, parts)) + "\n"


# ---- the plot ----

HEIGHT, TOP, PANEL_WIDTH, PANEL_HEIGHT = 520, 140, 280, 310
LEFT, DISTANCE = 70, 365  # of the first panel, and from one to the next
ROW_DISTANCE = 420


def curve(p, points, look, joined=True):
    """Points are (x, median, smallest, largest)."""
    places = " ".join(f"{p.x(x):.1f},{p.y(y):.1f}" for x, y, _, _ in points)
    if joined:
        p.out.append(f'<polyline points="{places}" fill="none" stroke="{look[0]}" '
                     'stroke-width="1.6" stroke-opacity="0.75"/>')
    for x, y, low, high in points:
        p.out += [plot.line(p.x(x), p.y(low), p.x(x), p.y(high), look[0], 1.4),
                  plot.mark(p.x(x), p.y(y), look, 4)]


def panel(place, title, xs, highest, label_x, label_y, top=TOP):
    """A panel whose y begins at 0, so that heights compare as the quantities do."""
    p = plot.Panel(LEFT + DISTANCE * place, top, PANEL_WIDTH, PANEL_HEIGHT, title)
    p.range_x(*plot.padded(xs, 0.04))
    p.range_y(0, 1.08 * max(1, highest))
    p.ticks_y()
    p.frame()
    p.level(1)
    p.label_x(label_x)
    p.label_y(label_y)
    return p


def row_ticks(p, rows):
    """The numbers that have room: 7 and 8 stand too near each other if there are many rows."""
    last = -1e9
    for k in rows:
        if p.x(k) - last >= 15:
            p.tick_x(k, str(k))
            last = p.x(k)


def draw_passes(place, title, chosen, field, label_y, extremes):
    xs = sorted({k for _, by_rows, _ in chosen for k in by_rows})
    highest = max(c[extremes[1]] for _, by_rows, _ in chosen for c in by_rows.values())
    p = panel(place, title, xs, highest, "rows of a pass, k", label_y)
    row_ticks(p, xs)
    for _, by_rows, look in chosen:
        curve(p, [(k, c[field], *(c[name] for name in extremes))
                  for k, c in sorted(by_rows.items())], look)
    return p


def draw_time(place, chosen):
    p = draw_passes(place, "Time of a pass over k rows", chosen, "relative",
                    "relative to the pass over one row", ("relative_min", "relative_max"))
    end = min(p.high_x, p.high_y)
    p.out.append(plot.line(p.x(1), p.y(1), p.x(end), p.y(end), plot.FAINT, 1.2,
                           'stroke-dasharray="2 3"'))
    return p.out


def draw_bandwidth(place, chosen):
    field = "bandwidth_fraction"
    return draw_passes(place, "Part of the memory's bandwidth", chosen, field,
                       "part of the bandwidth that a pass uses", (field, field)).out


def draw_decoding(place, cells, texts):
    auto = max(c["drafts"] for c in cells if c["drafts"] != AUTO) + 1
    p = panel(place, "Decoding, demo model", range(auto + 1), max(c["speedup_max"] for c in cells),
              "drafts per step", "speed-up over plain decoding")
    for k in range(auto + 1):
        p.tick_x(k, "auto" if k == auto else str(k))
    for words, look in texts:
        points = [(auto if c["drafts"] == AUTO else c["drafts"], c["speedup"], c["speedup_min"],
                   c["speedup_max"]) for c in cells if c["text"] == words]
        curve(p, [point for point in points if point[0] < auto], look)
        curve(p, [point for point in points if point[0] == auto], look, joined=False)
    return p.out


def legend(left, top, entries):
    out = []
    for words, look in entries:
        out += [plot.mark(left + 6, top - 4, look), plot.text(left + 18, top, words)]
        left += 34 + 8 * len(words)
    return out


def draw(data):
    """Passes at the smallest context and batch size, a curve per model, and the demo model."""
    panels, body = 0, []
    if data["passes"]:
        smallest = min((p["context"], p["batch"]) for p in data["passes"])
        looks = itertools.cycle(plot.LOOKS)
        chosen = [(name, cells[smallest], next(looks))
                  for name, cells in series(data["passes"]).items() if smallest in cells]
        context, batch = smallest
        sequences = "one sequence" if batch == 1 else f"{batch} sequences"
        body += [*legend(LEFT, 64, [(name, look) for name, _, look in chosen]),
                 plot.text(LEFT, 88, f"Passes: {sequences}, context {context}. Dotted: k passes "
                           "over one row. Bars: smallest to largest.", 12, colour=plot.FAINT),
                 *draw_time(0, chosen), *draw_bandwidth(1, chosen)]
        panels = 2
    demo = [c for c in data["decode"] if c["batch"] == 1 and is_demo(c)]
    if demo:
        kinds = dict.fromkeys(c["text"] for c in demo)
        texts = list(zip(kinds, reversed(plot.LOOKS)))
        body += [*legend(LEFT + DISTANCE * panels, 64, texts),
                 *draw_decoding(panels, demo, texts)]
        panels += 1
    return picture("Speed", panels, HEIGHT, body)


def picture(title, columns, height, body):
    width = LEFT + DISTANCE * (columns - 1) + PANEL_WIDTH + 40
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="DejaVu Sans, Helvetica, sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        plot.text(LEFT, 34, title, 18, extra='font-weight="600"'),
        *body, "</svg>"]) + "\n"


# What speedup.svg has of a cell, row by row: label, figure, its smallest and its largest.
DRAFTED = (("tokens per forward", *["tokens_per_forward"] * 3),
           ("speed-up over plain decoding", "speedup", "speedup_min", "speedup_max"))


def draw_drafters(cells, kind, place, row, looks):
    """One panel: of one kind of text, a curve per drafter over the batches, beside each other."""
    label, field, low, high = DRAFTED[row]
    batches = sorted({c["batch"] for c in cells})
    p = panel(place, kind, (-0.3, len(batches) - 0.7), max(c[high] for c in cells),
              "texts in a batch", label, TOP + ROW_DISTANCE * row)
    for i, batch in enumerate(batches):
        p.tick_x(i, str(batch), grid=False)
    for i, (mode, look) in enumerate(looks.items()):
        aside = 0.05 * (i - (len(looks) - 1) / 2)
        curve(p, [(batches.index(c["batch"]) + aside, c[field], c[low], c[high])
                  for c in cells if (c["mode"], c["text"]) == (mode, kind)], look)
    return p.out


def draw_heads(cells):
    """Tokens per forward above, speed-up below, a column per kind of text."""
    cells = sorted((c for c in cells if c["mode"] != "0"), key=lambda c: c["batch"])
    looks = dict(zip(dict.fromkeys(c["mode"] for c in cells), itertools.cycle(plot.LOOKS[1:])))
    kinds = list(dict.fromkeys(c["text"] for c in cells))
    body = [*legend(LEFT, 64, [(drafter(mode), look) for mode, look in looks.items()]),
            plot.text(LEFT, 88, "Dashed: plain decoding. Bars: smallest to largest speed-up.", 12,
                      colour=plot.FAINT)]
    for place, kind in enumerate(kinds):
        for row in range(len(DRAFTED)):
            body += draw_drafters(cells, kind, place, row, looks)
    return picture("SmolLM2-135M-Instruct: what drafts bring, by drafter, questions and batch",
                   len(kinds), HEIGHT + ROW_DISTANCE, body)


# ---- options ----


def flags(o):
    """The options that were not left out."""
    defaults = QUICK if o.quick else FULL
    changed = [[f"--{name}", str(getattr(o, name))] for name in FULL
               if getattr(o, name) != defaults[name]]
    return ["--quick"] * o.quick + [word for pair in changed for word in pair]


def parse(arguments):
    p = argparse.ArgumentParser(usage="tools/bench_page.py [options]", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="few passes of 110m in q8, few prompts")
    p.add_argument("--from", dest="source", type=pathlib.Path, metavar="FILE",
                   help="a speed.json: make its page without measuring")
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "docs", help="folder of the page")
    p.add_argument("--bench", type=pathlib.Path,
                   help="the program; default: headway-bench in the build folder")
    p.add_argument("--public", help="of smollm2, qwen-0.5b, qwen-1.5b; empty: none")
    p.add_argument("--llama", type=pathlib.Path, metavar="FOLDER",
                   help="of llama.cpp's programs, to measure on the same files")
    p.add_argument("--shapes", help="of 110m, 1b and 7b; empty: no passes")
    p.add_argument("--types", help="of the weights: f32, bf16, q8, q4")
    p.add_argument("--modes", help="of SmolLM2 with heads, as headway-bench; empty: none")
    for name in ("rows", "context", "batch"):
        p.add_argument(f"--{name}", help="as headway-bench")
    p.add_argument("--prompt", type=int, help="tokens of the prompt that is read; 0: none")
    p.add_argument("--repeat", type=int, help="repetitions of everything")
    p.add_argument("--model", help="folder, seen from the project's root; empty: none")
    p.add_argument("--limit", type=int, help="prompts of each kind that it decodes; 0: all")
    p.add_argument("--tokens", type=int, help="that it decodes per prompt")
    p.add_argument("--threads", type=int, help="0: all")
    p.add_argument("--isa", help="kernels, as headway-bench")
    p.set_defaults(**(QUICK if p.parse_args(arguments).quick else FULL))
    o = p.parse_args(arguments)
    if o.repeat < 1:
        p.error("--repeat must be at least 1")
    built = ROOT / os.environ.get("BUILD", "build") / "headway-bench"
    o.bench = (o.bench or built).resolve()
    return o


def read(path):
    try:
        data = json.loads(path.read_text())
    except ValueError as e:
        raise Failure(f"{path} is not JSON: {e}") from e
    if not isinstance(data, dict) or not {*LISTS, "date", "flags", "minutes"} <= set(data):
        raise Failure(f"{path} was not written by this program")
    return data


def main():
    o = parse(sys.argv[1:])
    out = o.out / "speed.json"
    write_json(out, read(o.source) if o.source else measure(o))
    data = read(out)  # so that --from gives the very same page
    (o.out / "speed.svg").write_text(draw(data))
    if heads := heads_cells(data):
        (o.out / "speedup.svg").write_text(draw_heads(heads))
    (o.out / "speed.md").write_text(page(data))
    print(f"\n{o.out / 'speed.md'} written")
    different = [f"{c['text']}, {c['drafts']} drafts" for c in data["decode"]
                 if not c["identical"]]
    if different:
        raise Failure(f"speculative and plain text differ: {'; '.join(different)}")


if __name__ == "__main__":
    try:
        main()
    except Failure as e:
        sys.exit(f"bench_page.py: {e}")
    except OSError as e:
        sys.exit(f"bench_page.py: {e.filename}: {e.strerror}")
    except KeyboardInterrupt:
        sys.exit("bench_page.py: stopped; nothing was written")
