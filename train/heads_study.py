#!/usr/bin/env python3
"""The study of heads on a frozen public model: trains them, measures them, and fills in the page.

Usage: train/heads_study.py [train] [measure] [page] [options]; no stage means all three.

  train    a run of headway-train for each row of ROWS, in --folder; what is finished is skipped
  measure  drafts and speed of each by headway-bench, on the questions of tools/chat_prompts.json, into
           --json. Leave the machine idle
  page     the tables between the markers of docs/heads.md, and docs/heads.svg

Run it from the project's root, with texts that headway-write made: --texts to train on, --held to
evaluate on. A run sees each text once; a row with `part` sees the first part of them, a row with
`passes` sees its texts so often."""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

import study_plot as plot

DEFAULT = "recurrent"
Row = collections.namedtuple("Row", "name about options part passes", defaults=["", 1, 1])
ROWS = [Row(*row) for row in [
    (DEFAULT, "recurrent, soft targets, Muon, draft vocabulary 8,192"),
    ("half", "half of the text", "", 1 / 2),
    ("quarter", "a quarter", "", 1 / 4),
    ("twice", "half of the text, twice", "", 1 / 2, 2),
    ("four", "a quarter, four times", "", 1 / 4, 4),
    ("aux", "recurrent, reads layers 8 and 19 too", "--aux-layers 8,19"),
    ("hard", "hard targets", "--targets hard"),
    ("adamw", "recurrent, AdamW", "--momentum 0"),
    ("adamw-hard", "recurrent, AdamW, hard targets", "--momentum 0 --targets hard"),
    ("random", "no least-squares start", "--fit 0"),
    ("v4096", "draft vocabulary 4,096", "--draft-vocab 4096"),
    ("v16384", "draft vocabulary 16,384", "--draft-vocab 16384"),
    ("all", "every token", "--draft-vocab 0"),
    ("parallel", "parallel", "--kind parallel"),
    ("causal", "causal", "--kind causal"),
    ("linear", "linear", "--kind linear"),
    ("next", "linear, knows the token behind its row", "--kind linear --next-token"),
    ("bigram", "linear, that and the draft before (bigram term)", "--kind linear --next-token --bigram"),
    ("bigram-aux", "linear, both of that, layers 8 and 19", "--kind linear --next-token --bigram --aux-layers 8,19"),
    ("prefix", "linear, all of that, behind a layer of their own", "--kind linear --next-token --bigram --aux-layers 8,19 --prefix-layer"),
    # with --texts that hold more, and --rows
    ("long", "recurrent, layers 8 and 19", "--aux-layers 8,19 --cooldown 0.25"),
    ("long-linear", "linear, all of that, behind a layer",
     "--kind linear --next-token --bigram --aux-layers 8,19 --prefix-layer --cooldown 0.25"),
]]
COMMON = ("--heads 5 --head-weights 1,1,0.8,0.64,0.51 --batch 4 --context 640 --rate 1e-3 --warmup 20 "
          "--momentum 0.95 --targets soft")
MODES = "chain:1,chain:2,chain:4,both:4,auto"
BATCH = 4


def run(command, **options):
    return subprocess.run([str(word) for word in command], check=True, text=True, **options)


def count_texts(path):
    """How many texts a file of headway-write's has, and how many tokens."""
    words = memoryview(path.read_bytes()).cast("I")
    at, texts, tokens = 5, 0, 0
    while at + 4 <= len(words):
        prompt, n = words[at + 1], words[at + 2]
        texts += n > prompt + 2
        tokens += n if n > prompt + 2 else 0
        at += 4 + n
    return texts, tokens


def entries(folder):
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def held_out(folder):
    found = [e for e in entries(folder) if "held_out" in e]
    return (found[-1]["step"], found[-1]["held_out"]) if found else (0, None)


def options_of(extra):
    """COMMON without what `extra` says anew."""
    pairs = {"--kind": "recurrent"}
    for option in re.findall(r"--\S+(?: (?!--)\S+)?", f"{COMMON} {extra}"):
        name, _, value = option.partition(" ")
        pairs[name] = [value] if value else []
    return [word for name, value in pairs.items() for word in (name, *value)]


def steps_of(o, row):
    return -(-int(o.n_texts * row.part * row.passes) // BATCH)


def first_part(o, row):
    """The texts of a row: a file of the first ones where it has a part of them."""
    if row.part == 1:
        return o.texts
    path, words = o.folder / row.name / "texts", memoryview(o.texts.read_bytes()).cast("I")
    at = 5
    for _ in range(int(o.n_texts * row.part)):
        while words[at + 2] <= words[at + 1] + 2:  # was dropped
            at += 4 + words[at + 2]
        at += 4 + words[at + 2]
    path.write_bytes(words[:at])
    return path


def train(o):
    for row in ROWS:
        folder, steps = o.folder / row.name, steps_of(o, row)
        if row.name not in o.rows or held_out(folder)[0] == steps:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{row.name}: {steps} steps", flush=True)
        resume = ["--resume"] if (folder / "checkpoint.safetensors").exists() else []
        with open(folder / "err.txt", "a") as err:
            run([o.build / "headway-train", "--trunk", o.trunk, "--corpus", first_part(o, row),
                 "--held-out", o.held, "--out", folder, "--steps", steps, "--eval-every", 10 ** 8,
                 *options_of(row.options), *resume],
                stdout=subprocess.DEVNULL, stderr=err)


def measure(o):
    figures = json.loads(o.json.read_text()) if o.json.exists() else {}
    rows = figures.setdefault("rows", {})
    for row in ROWS:
        name, folder = row.name, o.folder / row.name
        step, scores = held_out(folder)
        if name not in o.rows or step != steps_of(o, row):
            continue
        rates = sorted(e["tokens_per_second"] for e in entries(folder) if "tokens_per_second" in e)
        figure = rows[name] = {"held_out": scores, "tokens": round(o.n_tokens * row.part * row.passes),
                               "train_tokens_per_s": rates[len(rates) // 2] if rates else None}
        o.json.write_text(json.dumps(figures, indent=1) + "\n")
        if not o.limit:
            continue
        packed, out = folder / "q4", folder / "bench.json"
        run([o.build / "headway-convert", folder, packed, "--type", "q4"], stdout=subprocess.DEVNULL)
        run([o.build / "headway-bench", "--model", o.trunk, "--heads", packed, "--chat", "--prompts",
             "tools/chat_prompts.json", "--modes", MODES, "--batch", 1, "--limit", o.limit, "--tokens", 128,
             "--repeat", 3, "--json", out], stdout=subprocess.DEVNULL)
        figure["decode"] = [{k: cell[k] for k in ("text", "mode", "tokens_per_forward", "speedup", "relative_pass_time",
                                                  "acceptance", "identical")}
                            for cell in json.loads(out.read_text())["decode"] if cell["text"] in ("chat", "code")]
        o.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{name}: measured", flush=True)


# ---- the page ----


def cell(row, text, mode):
    return next((c for c in row.get("decode", []) if c["text"] == text and c["mode"] == mode), None)


def tables(figures):
    rows, names = figures["rows"], {row.name: row.about for row in ROWS}
    out = ["| heads | tokens seen | draft 1 | 2 | 3 | 4 | tokens per forward | trained at, tokens/s |",
           "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name, about in names.items():
        if name not in rows:
            continue
        row = rows[name]
        heads = " | ".join(f"{100 * h['accepted']:.1f} %" for h in row["held_out"])
        rate = row["train_tokens_per_s"]
        out.append(f"| {about} | {row['tokens']:,} | {heads} | {row['held_out'][-1]['tokens_per_forward']:.3f} | "
                   f"{f'{rate:,.0f}' if rate else ''} |")
    if not any(row.get("decode") for row in rows.values()):
        return "\n".join(out)
    out += ["", "| heads | text | chain of 1 | chain of 2 | chain of 4 | tree of 4 with look-up | auto |",
            "|---|---|--:|--:|--:|--:|--:|"]
    for name, about in names.items():
        for text in ("chat", "code") if name in rows and rows[name].get("decode") else ():
            found = [cell(rows[name], text, mode) for mode in MODES.split(",")]
            out.append(f"| {about} | {text} | " + " | ".join(
                f"{c['speedup']:.2f} ({c['tokens_per_forward']:.2f})" for c in found) + " |")
    return "\n".join(out)


def finished(p, points, x_words, y_words):
    """The panel with its axes' names and a labelled mark for each (x, y, name)."""
    p.frame()
    p.label_x(x_words)
    p.label_y(y_words)
    labels = []
    for i, (x, y, name) in enumerate(points):
        look = plot.LOOKS[i % len(plot.LOOKS)]
        p.out.append(plot.mark(p.x(x), p.y(y), look))
        labels.append((p.x(x), p.y(y), name, look[0], []))
    plot.place_labels(p, labels)
    return p.out


def slope_panel(rows):
    p = plot.Panel(80, 90, 440, 370, "A  Text and acceptance")
    points = [(row["tokens"], row["held_out"][-1]["tokens_per_forward"], name) for name, row in rows.items()]
    p.range_x(min(x for x, _, _ in points) / 1.3, max(x for x, _, _ in points) * 1.3)
    low, high = p.low_x, p.high_x
    p.range_y(*plot.padded([y for _, y, _ in points], 0.1))
    p.x = lambda value: p.left + plot.math.log(value / low) / plot.math.log(high / low) * p.width
    p.ticks_y()
    for tick in (1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 2e7):
        if low <= tick <= high:
            p.tick_x(tick, f"{tick / 1e6:g} M")
    return finished(p, points, "tokens trained on", "tokens per forward, four drafts, held-out text")


def speed_panel(rows):
    p = plot.Panel(640, 90, 440, 370, "B  What the drafts cost and bring, chat, chain of 4")
    points = [(c["relative_pass_time"], c["tokens_per_forward"], name) for name, row in rows.items()
              for c in [cell(row, "chat", "chain:4")] if c]
    if not points:
        return []
    p.range_x(*plot.padded([x for x, _, _ in points], 0.15))
    p.range_y(*plot.padded([y for _, y, _ in points], 0.1))
    p.ticks_x()
    p.ticks_y()
    return finished(p, points, "time of a step, plain decoding's = 1", "tokens per forward")


def page(o):
    figures = json.loads(o.json.read_text())
    doc = pathlib.Path("docs/heads.md")
    text, n = re.subn(r"(<!-- study -->\n).*(<!-- end of study -->)",
                      lambda found: found[1] + "\n" + tables(figures) + "\n\n" + found[2],
                      doc.read_text(), flags=re.S)
    if n != 1:
        sys.exit(f"{doc} has no '<!-- study -->' and '<!-- end of study -->' for the tables to stand between")
    doc.write_text(text)
    body = [plot.text(80, 40, "Heads for SmolLM2-135M-Instruct", 18, extra='font-weight="600"'),
            *slope_panel(figures["rows"]), *(speed := speed_panel(figures["rows"]))]
    width = 1120 if speed else 580  # nothing was decoded: --limit 0
    pathlib.Path("docs/heads.svg").write_text("\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 540" width="{width}" height="540" '
        'font-family="DejaVu Sans, Helvetica, sans-serif">',
        f'<rect width="{width}" height="540" fill="white"/>', *body, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="train, measure, page; none: all")
    parser.add_argument("--trunk", type=pathlib.Path, help="the model")
    parser.add_argument("--texts", type=pathlib.Path, help="file to train on")
    parser.add_argument("--held", type=pathlib.Path, help="file to evaluate on")
    parser.add_argument("--folder", type=pathlib.Path, default="heads-study", help="of the runs")
    parser.add_argument("--json", type=pathlib.Path, default="docs/heads.json", help="the figures")
    parser.add_argument("--build", type=pathlib.Path, default="build", help="folder of the programs")
    parser.add_argument("--limit", type=int, default=6, help="questions of each kind; 0: no decoding")
    parser.add_argument("--rows", default=",".join(name for name, *_ in ROWS), help="names, with commas")
    o = parser.parse_args()
    o.rows = o.rows.split(",")
    if o.texts:
        o.n_texts, o.n_tokens = count_texts(o.texts)
    for stage in o.stages or ["train", "measure", "page"]:
        {"train": train, "measure": measure, "page": page}[stage](o)


if __name__ == "__main__":
    main()
