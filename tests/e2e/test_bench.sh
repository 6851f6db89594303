#!/bin/bash
# headway-bench --shape from outside: passes of random weights are timed and written as the JSON that
# DESIGN.md promises; what it cannot do is refused with a sentence. Then the page of `make bench`:
# it shows the figures that were measured, and can be made again without measuring.
set -u
cd "$(dirname "$0")/../.."
bench=${BUILD:-build}/headway-bench
dir=$(mktemp -d /tmp/headway-bench-XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "test_bench: $*" >&2
    [ -s "$dir/err" ] && sed 's/^/    /' "$dir/err" >&2
    exit 1
}

# refused WORD OPTION...: ends with 1 and one sentence that has WORD in it, before anything is made.
refused() {
    local word=$1
    shift
    "$bench" "$@" >"$dir/out" 2>"$dir/err"
    [ $? = 1 ] || fail "not refused: $*"
    [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" = 1 ] && grep -qe "$word" "$dir/err" ||
        fail "refused without a sentence about $word: $*"
}

refused "shape" --shape 2b
refused "--model" --shape 110m --model weights/demo
refused "--model"
refused "begin with 1" --shape 110m --rows 2,4
refused "rows" --shape 110m --rows 1,,2
refused "rows" --shape 110m --rows ""
refused "rows" --shape 110m --rows 1,two
refused "rows" --shape 110m --rows 1,2,
refused "context" --shape 110m --context 0
refused "batch" --shape 110m --batch 1,4000
refused "batch" --shape 110m --batch 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
refused "type" --shape 110m --type q5

"$bench" --shape 110m --type q4 --rows 1,2 --context 16 --batch 1 --repeat 1 --prompt 16 \
    --json "$dir/json" >"$dir/out" 2>"$dir/err" || fail "no passes"
python3 - "$dir/json" <<'END' || fail "the JSON is not as it should be"
import json, math, sys

table = json.load(open(sys.argv[1]))
assert set(table) == {"machine", "passes", "prompts"}, set(table)

def spread(entry, field):
    middle = entry[field]
    low, high = entry.get(field + "_min", middle), entry.get(field + "_max", middle)
    assert math.isfinite(high) and 0 < low <= middle <= high, (field, entry)

machine = table["machine"]
spread(machine, "bandwidth_gb_s")
assert machine["threads"] >= 1 and machine["isa"] and machine["kv"] == "bf16"
known = machine["peak_gops"] is not None
assert known == (machine["peak_instruction"] is not None) and (not known or machine["peak_gops"] > 0)

assert [p["rows"] for p in table["passes"]] == [1, 2]
for p in table["passes"]:
    assert (p["shape"], p["type"], p["context"], p["batch"]) == ("110m", "q4", 16, 1), p
    assert (p["isa"], p["threads"]) == (machine["isa"], machine["threads"]), p
    assert {"ms_min", "ms_max", "relative_min", "relative_max"} <= set(p)
    for field in "ms", "relative", "bandwidth_fraction":
        spread(p, field)
    assert (p["arithmetic_fraction"] is not None) == known
    # 62 MB of weights and one pair of keys and values per position
    bytes = p["bandwidth_fraction"] * machine["bandwidth_gb_s"] * p["ms"] * 1e6
    assert 62e6 < bytes < 65e6, bytes
assert table["passes"][0]["relative"] == 1
if known:
    one, two = (p["arithmetic_fraction"] * p["ms"] for p in table["passes"])
    assert 1.99 < two / one < 2.01, (one, two)

[prompt] = table["prompts"]
assert (prompt["shape"], prompt["type"], prompt["prompt"]) == ("110m", "q4", 16)
spread(prompt, "tokens_per_s")
END
grep -q "^ *16 " "$dir/out" || fail "no table"
echo "passes are timed"

# page OPTION...: tools/bench_page.py without its output.
page() {
    python3 tools/bench_page.py "$@" >"$dir/out" 2>"$dir/err"
}

# There is no q5: the page says so and has the rest.
page --quick --bench "$bench" --types q8,q5 --rows 1,2 --context 16 --prompt 16 --repeat 1 \
    --tokens 4 --out "$dir/page" || fail "no page"
page --from "$dir/page/speed.json" --out "$dir/again" || fail "--from makes no page"
diff -r "$dir/page" "$dir/again" >"$dir/err" || fail "--from makes another page"
python3 - "$dir/page" "$dir/other.json" 2>"$dir/err" <<'END' || fail "the page is wrong"
import json, pathlib, sys
import xml.etree.ElementTree

folder = pathlib.Path(sys.argv[1])
data = json.loads((folder / "speed.json").read_text())
lines = (folder / "speed.md").read_text().splitlines()

one, two = data["passes"]
assert (one["rows"], two["rows"]) == (1, 2)
assert f"| 110m q8 | 16 | 1 | {one['ms']:.2f} | 1.00 | {two['relative']:.2f} |" in lines, lines
fractions = " | ".join(f"{p['bandwidth_fraction']:.2f}" for p in (one, two))
assert f"| 110m q8 | 16 | 1 | {fractions} |" in lines, lines
refused = [line for line in lines if "not measured" in line]
assert len(refused) == 1 and "110m q5" in refused[0] and "--type" in refused[0], refused

kinds = json.load(open("weights/demo/prompts.json"))
drafts = json.load(open("weights/demo/config.json"))["heads"]["n"]  # 0 to n - 1, and auto
assert len(data["decode"]) == len(kinds) * (drafts + 1)
for c in data["decode"]:
    rows = [line for line in lines if line.startswith(f"| {c['text']} | {c['drafts']} |")]
    assert len(rows) == 1 and f"| {c['speedup']:.2f} |" in rows[0], (c, rows)

# Two panels of passes and one of decoding, all of the same height. Each begins at 0, so that
# heights compare as the figures do.
tree = xml.etree.ElementTree.parse(folder / "speed.svg")
curves = [[tuple(map(float, point.split(","))) for point in e.get("points").split()]
          for e in tree.iter() if e.tag.endswith("}polyline")]
assert [len(c) for c in curves] == [2, 2] + [drafts] * len(kinds), curves
bottom = max(float(e.get("y1")) for e in tree.iter() if e.tag.endswith("}line"))
for curve, field in zip(curves, ("relative", "bandwidth_fraction")):
    (_, y1), (_, y2) = curve
    assert abs((bottom - y2) / (bottom - y1) - two[field] / one[field]) < 0.01, (curve, field)

assert not (folder / "speedup.svg").exists()  # there was no model with heads

two["relative"] = two["relative_max"] = 1.75
pathlib.Path(sys.argv[2]).write_text(json.dumps(data))
END
page --from "$dir/other.json" --out "$dir/again" &&
    grep -q "| 1.00 | 1.75 |" "$dir/again/speed.md" ||
    fail "the page does not follow the figures"
cmp -s "$dir/page/speed.svg" "$dir/again/speed.svg" && fail "the plot does not follow the figures"

python3 - "$dir/page/speed.json" "$dir/heads.json" <<'END'
import json, sys
data = json.load(open(sys.argv[1]))
plain = {**data["decode"][0], "name": "smollm2 with heads"}
modes = {"0": 1, "chain:3": 1.5, "both:4": 2.25, "auto": 1.875}
data["decode"] += [{**plain, "text": text, "batch": batch, "mode": mode, "tokens_per_forward": x,
                    "speedup": x, "speedup_min": x - 0.25, "speedup_max": x + 0.25}
                   for text in ("chat", "code", "edit") for batch in (16, 1) for mode, x in modes.items()]
json.dump(data, open(sys.argv[2], "w"))
END
page --from "$dir/heads.json" --out "$dir/heads" || fail "no page of heads"
grep -q "^| code | 16 | heads and look-up, tree of 4 | 2.25 | .* | 2.25 | 2.00..2.50 |" "$dir/heads/speed.md" ||
    fail "the heads have no table"
cmp -s "$dir/page/speed.svg" "$dir/heads/speed.svg" || fail "heads are drawn among the demo model"
python3 - "$dir/heads/speedup.svg" 2>"$dir/err" <<'END' || fail "the picture of the heads is wrong"
import sys
import xml.etree.ElementTree

tree = xml.etree.ElementTree.parse(sys.argv[1])
curves = [[tuple(map(float, point.split(","))) for point in e.get("points").split()]
          for e in tree.iter() if e.tag.endswith("}polyline")]
assert len(curves) == 3 * 2 * 3, len(curves)  # kinds of text, rows of panels, drafters
for (x1, y1), (x2, y2) in curves:
    assert x1 < x2 and y1 == y2, curves  # batches in order, though they came the other way round
bottom = max(float(e.get("y1")) for e in tree.iter() if e.tag.endswith("}line"))
heights = [bottom - c[0][1] for c in curves[-3:]]  # of the last panel, which begins at 0
assert abs(heights[1] / heights[0] - 1.5) < 0.01 and abs(heights[2] / heights[0] - 1.25) < 0.01, heights
END
page --from "$dir/json" --out "$dir/none" && fail "a page of figures that are not for it"
[ "$(wc -l <"$dir/err")" = 1 ] && [ ! -e "$dir/none" ] || fail "not refused with one sentence"
echo "the page is made"

# ---- in sentences ----

"$bench" --model weights/demo --doctor --tokens 24 --repeat 1 --modes 2,7,lookup:4,auto --batch 1 \
    --json "$dir/doctor.json" >"$dir/out" 2>"$dir/err" || fail "--doctor left with $?"
python3 - "$dir/doctor.json" "$dir/out" <<'END' || fail "the sentences do not say what was measured"
import json, re, sys
cells = {c["mode"]: c for c in json.load(open(sys.argv[1]))["decode"]}
said = [line for line in open(sys.argv[2]) if line.startswith("- ")]
fixed = max((c["speedup"], mode) for mode, c in cells.items() if mode != "auto")

def same(sentence, *wanted):
    """The sentence has these figures. The file keeps six digits of each, so that the last one said
    may be rounded the other way."""
    for figure, value in zip(re.findall(r"\d+\.?\d*", sentence), wanted, strict=True):
        assert abs(float(figure) - value) <= 0.51 * 10 ** -len(figure.partition(".")[2]), (sentence, wanted)

plain, auto = cells["0"], cells["auto"]
same(said[0], plain["tokens_per_s"], auto["tokens_per_s"], auto["speedup"], auto["tokens_per_forward"])
if fixed[1] == "0":
    assert "plain decoding is the fastest" in said[1], (said, fixed)
else:
    way, said_speedup = said[1].split(" is the fastest, ")
    assert way == f"- Of the fixed ways {fixed[1]}", (said, fixed)
    same(said_speedup, fixed[0])
same(said[2], *cells["7"]["acceptance"])
END
echo "the doctor speaks"
