#!/usr/bin/env python3
"""Holds an engine's results against those of reference_gguf.py.

    compare_reference.py logits REFERENCE.npy RESULT   RESULT: .npy or raw f32 [rows, vocabulary]
    compare_reference.py nll REFERENCE.npy RESULT      RESULT: .npy or raw f32 [chunks, context - 1]
    compare_reference.py greedy REFERENCE.json RESULT  RESULT: raw int32 [prompts, count], each going on
                                                       by itself past any end id; or a JSON list of lists
                                                       (shorter ones are compared as far as they go)
    compare_reference.py forced REFERENCE.json RESULT  RESULT: raw f32 logits of all rows of MODEL.forced.ids
                                                       (large), or raw int32: the best id of each row

logits: per row the difference (each row's mean difference removed: softmax does not see it) as RMS over
the RMS of the reference's deviation from its mean, the Kullback-Leibler divergence of reference from
result in nats, and whether the best id is the same. Apart: the first row of each sequence, whose
activations are so large in some models (Qwen2.5-Coder-1.5B) that eight bits do not hold them. --each:
a line per sequence."""
import argparse, json, os, sys
import numpy as np


def load(path, like):
    a = np.load(path, mmap_mode="r") if path.endswith(".npy") else np.memmap(path, np.float32, "r")
    if a.size != np.prod(like):
        sys.exit(f"{path}: {a.size} values instead of {' x '.join(map(str, like))}")
    return a.reshape(like)


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def logits(o):
    ref = np.load(o.reference, mmap_mode="r")
    got = load(o.result, ref.shape)
    error, kl, same, margin, most = [], [], [], [], []
    for at in range(0, len(ref), 64):
        r, g = ref[at:at + 64].astype(np.float64), got[at:at + 64].astype(np.float64)
        d = g - r
        d -= d.mean(axis=-1, keepdims=True)
        error += list(np.sqrt((d ** 2).mean(axis=-1)) / r.std(axis=-1))
        most += list(np.abs(g - r).max(axis=-1))
        lr, lg = log_softmax(r), log_softmax(g)
        kl += list((np.exp(lr) * (lr - lg)).sum(axis=-1))
        same += list(r.argmax(-1) == g.argmax(-1))
        two = np.partition(r, -2, axis=-1)[:, -2:]
        margin += list(two[:, 1] - two[:, 0])
    error, kl, same, margin, most = map(np.array, (error, kl, same, margin, most))

    def line(name, s):
        wrong = margin[s][~same[s]]
        print(f"{name:12} rows {error[s].size:5}  relative error {error[s].mean():.3e} (worst {error[s].max():.3e})"
              f"  |difference| <= {most[s].max():.4f}  KL {kl[s].mean():.3e} (worst {kl[s].max():.3e})"
              f"  best id the same {same[s].mean():.2%}"
              + (f", largest margin of others {wrong.max():.3f}" if wrong.size else ""))
    index = os.path.splitext(o.reference)[0] + ".json"
    later = np.ones(len(ref), bool)
    if os.path.exists(index):
        for s in json.load(open(index))["sequences"]:
            later[s["first_row"]] = False
            if o.each:
                line(s.get("name", "?"), slice(s["first_row"], s["first_row"] + len(s["ids"])))
        line("first rows", ~later)
        line("later rows", later)
    line("all", slice(None))


def nll(o):
    ref = np.load(o.reference).astype(np.float64)
    got = load(o.result, (np.load(o.result).shape[0] if o.result.endswith(".npy") else
                          os.path.getsize(o.result) // 4 // ref.shape[1], ref.shape[1])).astype(np.float64)
    have = np.isfinite(ref[:len(got), 0])  # chunks that the reference has
    ref, got = ref[:len(got)][have], got[have]
    print(f"{len(ref)} chunks")
    half = (ref.shape[1] + 1) // 2
    for name, cut in (("second halves", np.s_[:, half:]), ("every position", np.s_[:, :])):
        a, b = ref[cut], got[cut]
        d = b - a
        print(f"{name:15} {a.size:6} tokens  reference ppl {np.exp(a.mean()):.5f}  result {np.exp(b.mean()):.5f} "
              f"({np.expm1(d.mean()):+.3%} +- {d.std() / d.size ** .5:.3%})  RMS difference per token {np.sqrt((d ** 2).mean()):.2e}"
              f"  largest {np.abs(d).max():.3f}")


def greedy(o):
    ref = json.load(open(o.reference))["prompts"]
    if o.result.endswith(".json"):
        got = json.load(open(o.result))
    else:
        got = np.fromfile(o.result, np.int32).reshape(len(ref), -1).tolist()
    full = stopped = tokens = 0
    at_margin = []
    for r, g in zip(ref, got):
        n = min(len(g), len(r["generated"]))
        first = next((i for i in range(n) if g[i] != r["generated"][i]), None)
        full += first is None
        stopped += first is None or (r["end_at"] is not None and first > r["end_at"])
        tokens += n if first is None else first
        if first is not None:
            at_margin.append((r["margin"][first], g[first] == r["second"][first], r["name"], first))
    print(f"{full} of {len(got)} the same to the end ({stopped} up to the first end id), {tokens / len(got):.1f} ids the same on average")
    at_margin.sort(reverse=True)
    m = [a[0] for a in at_margin]
    if m:
        print(f"margins in the reference where they part: median {np.median(m):.3f}, largest {m[0]:.3f}; "
              f"the reference's second was taken {sum(a[1] for a in at_margin)} of {len(m)} times")
    for a in at_margin[:5]:
        print(f"  {a[2]}: at {a[3]}, margin {a[0]:.3f}{'' if a[1] else ', not the second'}")


def forced(o):
    ref = json.load(open(o.reference))["prompts"]
    rows = sum(len(p["ids"]) + len(p["generated"]) - 1 for p in ref)
    size = os.path.getsize(o.result) // 4
    best = (np.fromfile(o.result, np.int32) if size == rows else
            np.memmap(o.result, np.float32, "r").reshape(rows, -1).argmax(-1))
    want, have, margin, at = [], [], [], 0
    for p in ref:
        n, k = len(p["ids"]), len(p["generated"])
        have += best[at + n - 1:at + n - 1 + k].tolist()
        want, margin = want + p["generated"], margin + p["margin"]
        at += n + k - 1
    same, margin = np.array(want) == np.array(have), np.array(margin)
    print(f"best id the same at {same.sum()} of {same.size} places ({same.mean():.2%}); by margin of the reference:")
    for low, high in ((0, .01), (.01, .03), (.03, .1), (.1, .3), (.3, 1), (1, 3), (3, 1e9)):
        s = (margin >= low) & (margin < high)
        if s.any():
            print(f"  {low:5.2f} .. {high:<5g} {s.sum():5} places, {(~same[s]).sum():4} differ ({(~same[s]).mean():.2%})")
    print(f"  largest margin of one that differs: {margin[~same].max() if (~same).any() else 0:.3f}")


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
p.add_argument("what", choices=["logits", "nll", "greedy", "forced"])
p.add_argument("reference")
p.add_argument("result")
p.add_argument("--each", action="store_true")
o = p.parse_args()
globals()[o.what](o)
