#!/usr/bin/env python3
"""Times headway-train against the same training step in PyTorch on the CPU, interleaved in one run.

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install numpy torch
    /tmp/torch/bin/python tools/compare_torch.py [--case NAME] [--precision f32|bf16] [--rounds N]
        [--seconds S] [--threads N] [--isa avx2] [--json FILE]

Not part of `make test`: it needs a Python with torch, and a machine that does nothing else. BUILD
names the build folder. The figures are bytes per second, that is tokens of the batch; ratio is
headway / torch, paired by round.

What is timed on both sides is whole steps in a process that has the machine for itself: batch,
forward, heads one after another in the memory-saving order, backward, the gradient's norm, clipping
and AdamW. A round is one process of each, in alternating order.

- headway: `headway-train` with more steps than it will make. It writes a line with the speed since
  the last line to log.jsonl every five seconds or so. The first line, in which memory is touched
  for the first time, is left out; what follows for --seconds counts; then the process is killed,
  so that nothing is saved.
- torch: this file with --worker. Three steps and five seconds or more pass first (compiling falls
  into them), then --seconds count.

PyTorch gets what makes it fast: fused attention, fused AdamW, q, k and v (and w1, w3) as one
matrix, rotation of halves instead of pairs (the same model with rows of wq and wk permuted), the
norm once for all replicated heads, no clipping product where nothing is clipped, huge pages, freed
memory kept by malloc. For bf16, torch.autocast. Before the rounds of a case its VARIANTS are tried
once each, and the fastest is used. With --isa avx2 neither side may use more than AVX2, nor may the
libraries that they call.
"""

import argparse
import itertools
import json
import math
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN = ROOT / os.environ.get("BUILD", "build") / "headway-train"

# Layers are the trunk's.
CASES = {
    "demo": dict(
        covers="the demo model's size with 8 replicated unembeddings, bytes as tokens",
        kind="replicated", heads=8, head_layers=0, layers=8, dim=256, n_heads=4, kv_heads=1,
        hidden=704, vocab=257, context=1024, batch=4),
    "plain": dict(
        covers="an ordinary next-token model of 8 layers: 7 and a head of one",
        kind="parallel", heads=1, head_layers=1, layers=7, dim=512, n_heads=8, kv_heads=8,
        hidden=1376, vocab=32000, context=512, batch=4),
    "four": dict(
        covers="a model of 12 layers that predicts 4 tokens: 8 and 4 parallel heads of one",
        kind="parallel", heads=4, head_layers=1, layers=8, dim=768, n_heads=12, kv_heads=12,
        hidden=2048, vocab=32000, context=512, batch=2),
    "smoke": dict(
        covers="so small that its speed says nothing: whether all works",
        kind="parallel", heads=2, head_layers=1, layers=1, dim=64, n_heads=2, kv_heads=1,
        hidden=96, vocab=300, context=64, batch=2),
}
DEFAULT_CASES = ["demo", "plain", "four"]

# How torch runs: layers and loss compiled by torch.compile or not, and the loss over all rows at
# once or in chunks of rows (F.linear_cross_entropy).
VARIANTS = [dict(compile=c, chunked=k) for c, k in itertools.product((False, True), (False, True))]

RATE, BETAS, DECAY, CLIP, THETA, EPS = 1e-4, (0.9, 0.95), 0.1, 1.0, 10000.0, 1e-5


# What keeps ATen, oneDNN (that headway uses too) and MKL to AVX2.
AVX2_ALONE = dict(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", DNNL_MAX_CPU_ISA="AVX2",
                  MKL_ENABLE_INSTRUCTIONS="AVX2")


def variant_name(v):
    return ("compiled" if v["compile"] else "eager") + (", chunked loss" if v["chunked"] else "")


# ---- the model in PyTorch, in a process of its own ----


def worker(job):
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    if job["isa"] == "avx2":
        import torch._inductor.config
        torch._inductor.config.cpp.simdlen = 256
    c, bf16, variant = argparse.Namespace(**job["case"]), job["precision"] == "bf16", job["variant"]
    head_dim = c.dim // c.n_heads
    decayed, gains = [], []

    def matrix(outputs, inputs, deviation=None):
        w = torch.randn(outputs, inputs) * (deviation or inputs ** -0.5)
        decayed.append(w.requires_grad_())
        return w

    def gain():
        gains.append(torch.ones(c.dim, requires_grad=True))
        return gains[-1]

    writes = (2 * (c.layers + c.heads * c.head_layers)) ** -0.5

    def block():
        return [gain(), matrix((c.n_heads + 2 * c.kv_heads) * head_dim, c.dim),
                matrix(c.dim, c.dim, writes * c.dim ** -0.5), gain(),
                matrix(2 * c.hidden, c.dim), matrix(c.dim, c.hidden, writes * c.hidden ** -0.5)]

    embedding = matrix(c.vocab, c.dim, 0.5)
    trunk = [block() for _ in range(c.layers)]
    heads = [[block() for _ in range(c.head_layers)] for _ in range(c.heads)]
    norm = gain()
    replicated = c.kind == "replicated"
    outputs = [matrix(c.vocab, c.dim) for _ in range(c.heads if replicated else 1)]

    frequency = THETA ** (-torch.arange(head_dim // 2) * 2 / head_dim)
    angle = torch.outer(torch.arange(c.context), frequency)
    cos, sin = (x.bfloat16() if bf16 else x for x in (angle.cos(), angle.sin()))

    def layer(x, attention_norm, wqkv, wo, ffn_norm, w13, w2):
        qkv = F.linear(F.rms_norm(x, (c.dim,), attention_norm, EPS), wqkv)
        qkv = qkv.unflatten(-1, (-1, head_dim)).transpose(1, 2)
        turned, v = qkv.split([c.n_heads + c.kv_heads, c.kv_heads], dim=1)
        a, b = turned.chunk(2, dim=-1)
        turned = torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
        q, k = turned.split([c.n_heads, c.kv_heads], dim=1)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                              enable_gqa=c.kv_heads != c.n_heads)
        x = x + F.linear(seen.transpose(1, 2).flatten(-2), wo)
        gate, up = F.linear(F.rms_norm(x, (c.dim,), ffn_norm, EPS), w13).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, w2)

    def whole_loss(y, output, target):
        return F.cross_entropy(F.linear(y.flatten(0, 1), output).float(), target)

    def chunked_loss(y, output, target):
        y = y.flatten(0, 1)
        if bf16:
            y, output = y.bfloat16(), output.bfloat16()
        return F.linear_cross_entropy(y, output, target,
                                      options=torch.nn.LinearCrossEntropyOptions())

    def normed(x, gains):
        return F.rms_norm(x, (c.dim,), gains, EPS)

    loss_of = chunked_loss if variant["chunked"] else whole_loss
    if variant["compile"]:
        layer = torch.compile(layer)
        normed = torch.compile(normed)
        if not variant["chunked"]:
            loss_of = torch.compile(loss_of)

    def cast():
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)

    def backward(y, *gradient):
        with torch.autocast("cpu", enabled=False):
            y.backward(*gradient)

    def head_loss(i, x, target):
        for weights in heads[i]:
            x = layer(x, *weights)
        if not replicated:
            x = normed(x, norm)
        return loss_of(x, outputs[i if replicated else 0], target)

    def gradients(tokens, targets):
        with cast():
            z = F.embedding(tokens, embedding)
            for weights in trunk:
                z = layer(z, *weights)
            if replicated:
                z = normed(z, norm)
            if c.heads == 1:
                loss = head_loss(0, z, targets[0])
                backward(loss)
                return loss.detach()
            leaf = z.detach().requires_grad_()
            for i in range(c.heads):
                loss = head_loss(i, leaf, targets[i])
                backward(loss)
                if i == 0:
                    first = loss.detach()
            backward(z, leaf.grad)
            return first

    text = bytearray(pathlib.Path(job["corpus"]).read_bytes())
    corpus = torch.frombuffer(text, dtype=torch.uint8)
    parameters = decayed + gains
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=DECAY),
                                   dict(params=gains, weight_decay=0.0)],
                                  lr=RATE, betas=BETAS, eps=1e-8, fused=True)

    def step():
        length = c.context + c.heads
        at = torch.randint(len(corpus) - length, (c.batch,)).tolist()
        windows = torch.stack([corpus[i:i + length] for i in at]).long()
        targets = [windows[:, i + 1:i + 1 + c.context].flatten() for i in range(c.heads)]
        loss = gradients(windows[:, :c.context].contiguous(), targets)
        size = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        if size > CLIP:
            torch.nn.utils.clip_grads_with_norm_(parameters, CLIP, size)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def run(seconds, least):
        begin, n = time.perf_counter(), 0
        while n < least or time.perf_counter() - begin < seconds:
            loss = step()
            n += 1
        return n, time.perf_counter() - begin, loss

    run(job["warm"], 3)
    n, seconds, loss = run(job["seconds"], 1)
    print(json.dumps(dict(
        parameters=sum(p.numel() for p in parameters), steps=n, seconds=seconds, loss=loss,
        bytes_per_second=n * c.batch * c.context / seconds, torch=torch.__version__)))


class Failed(Exception):
    pass


def environment_of(job):
    return dict(os.environ, **(AVX2_ALONE if job["isa"] == "avx2" else {}))


def torch_speed(job, limit):
    environment = dict(
        environment_of(job), OMP_NUM_THREADS=str(job["threads"]), MKL_NUM_THREADS=str(job["threads"]),
        THP_MEM_ALLOC_ENABLE="1", MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(1 << 40),
        TORCHINDUCTOR_CACHE_DIR=str(pathlib.Path(job["corpus"]).parent / "inductor"))
    try:
        done = subprocess.run([sys.executable, __file__, "--worker", json.dumps(job)],
                              env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"not ready after {limit:.0f} s") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


# ---- headway ----


def headway_speed(job):
    c, out = job["case"], pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path(job["corpus"]).parent))
    options = dict(
        corpus=job["corpus"], out=out, kind=c["kind"], heads=c["heads"],
        head_layers=c["head_layers"] or 1, layers=c["layers"], dim=c["dim"], n_heads=c["n_heads"],
        kv_heads=c["kv_heads"], hidden=c["hidden"], vocab=c["vocab"], context=c["context"],
        batch=c["batch"], precision=job["precision"], threads=job["threads"], rate=RATE,
        isa=job["isa"], beta1=BETAS[0], beta2=BETAS[1], weight_decay=DECAY, clip=CLIP, rope_theta=THETA,
        steps=10 ** 9, warmup=1, save_every=10 ** 9)
    command = [str(TRAIN)] + [text for name, value in options.items()
                              for text in ("--" + name.replace("_", "-"), str(value))]
    with open(out / "stderr", "w") as messages:
        process = subprocess.Popen(command, env=environment_of(job), stdout=subprocess.DEVNULL,
                                   stderr=messages)
    try:
        first, steps, seconds = None, 0, 0.0
        while seconds < job["seconds"]:
            if process.poll() is not None:
                raise Failed((out / "stderr").read_text().strip().splitlines()[-1])
            time.sleep(0.2)
            log = out / "log.jsonl"
            lines = log.read_text().splitlines(keepends=True) if log.exists() else []
            lines = [json.loads(line) for line in lines if line.endswith("\n")]
            if len(lines) < 2:
                continue
            first, steps, seconds = lines[0]["step"], lines[-1]["step"], 0.0
            for before, line in zip(lines, lines[1:]):
                size = (line["step"] - before["step"]) * c["batch"] * c["context"]
                seconds += size / line["bytes_per_second"]
        count = int(re.search(r"(\d+) parameters", (out / "stderr").read_text())[1])
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(out)
    return dict(parameters=count, steps=steps - first, seconds=seconds,
                bytes_per_second=(steps - first) * c["batch"] * c["context"] / seconds)


# ---- both ----


def make_corpus(path):
    """Two million bytes of words; documents end in NUL."""
    draw = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, range(26, 0, -1), k=draw.randint(1, 9)))
             for _ in range(5000)]
    text = []
    while len(text) < 330000:
        text += draw.choices(words, [1 / (i + 1) for i in range(len(words))], k=400)
        text.append("\0")
    path.write_bytes(" ".join(text).encode())


def spread(values):
    return dict(median=statistics.median(values), min=min(values), max=max(values), rounds=values)


def fastest_variant(job, seconds, compile_seconds):
    best, tried = None, []
    for variant in VARIANTS:
        name = variant_name(variant)
        limit = compile_seconds if variant["compile"] else 600
        try:
            result = torch_speed(dict(job, variant=variant, seconds=seconds), limit)
        except Failed as e:
            print(f"    torch {name}: skipped, {e}", flush=True)
            tried.append(dict(variant=name, error=str(e)))
            continue
        speed = result["bytes_per_second"]
        print(f"    torch {name}: {speed:.0f} bytes/s", flush=True)
        tried.append(dict(variant=name, bytes_per_second=speed))
        if not best or speed > best[0]:
            best = speed, variant
    if not best:
        raise Failed("no way of running torch worked")
    return best[1], tried


def compare(name, precision, o, corpus):
    job = dict(case=CASES[name], precision=precision, threads=o.threads, isa=o.isa,
               seconds=o.seconds, warm=5, corpus=str(corpus))
    variant, tried = fastest_variant(job, o.trial_seconds, o.compile_seconds)
    job["variant"] = variant
    headway, torch = [], []
    for i in range(o.rounds):
        both = [(headway, lambda: headway_speed(job)),
                (torch, lambda: torch_speed(job, 600 + 2 * o.seconds))]
        for results, measure in both if i % 2 == 0 else reversed(both):
            results.append(measure())
        if headway[-1]["parameters"] != torch[-1]["parameters"]:
            raise Failed(f"headway has {headway[-1]['parameters']} parameters, torch "
                         f"{torch[-1]['parameters']}: not the same model")
        print(f"    round {i + 1}: headway {headway[-1]['bytes_per_second']:.0f}, torch "
              f"{torch[-1]['bytes_per_second']:.0f} bytes/s", flush=True)
    a, b = ([r["bytes_per_second"] for r in results] for results in (headway, torch))
    return dict(case=name, shape=CASES[name], precision=precision,
                parameters=headway[0]["parameters"], torch_version=torch[0]["torch"],
                torch_variant=variant_name(variant), torch_variants=tried, headway=spread(a),
                torch=spread(b), ratio=spread([x / y for x, y in zip(a, b)]))


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def main():
    p = argparse.ArgumentParser(description="headway-train against PyTorch on the CPU")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    p.add_argument("--case", action="append", choices=list(CASES), help="default: all but smoke")
    p.add_argument("--precision", action="append", choices=["f32", "bf16"], help="default: both")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=20, help="measured in each process")
    p.add_argument("--trial-seconds", type=float, default=8, help="for each way of running torch")
    p.add_argument("--compile-seconds", type=float, default=180,
                   help="a try of torch.compile that takes longer is given up")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--isa", choices=["auto", "avx2"], default="auto")
    p.add_argument("--json", type=pathlib.Path, help="file for the results")
    o = p.parse_args()
    if o.worker:
        worker(json.loads(o.worker))
        return 0
    if not TRAIN.exists():
        sys.exit(f"{TRAIN} is missing: run make")
    results, failed = [], 0
    with tempfile.TemporaryDirectory(prefix="headway-torch-") as folder:
        corpus = pathlib.Path(folder) / "corpus"
        make_corpus(corpus)
        for name in o.case or DEFAULT_CASES:
            for precision in o.precision or ["f32", "bf16"]:
                print(f"{name}, {precision}: {CASES[name]['covers']}", flush=True)
                try:
                    results.append(compare(name, precision, o, corpus))
                except Failed as e:
                    print(f"    failed: {e}", flush=True)
                    failed += 1
    print("\ncase   precision    headway      torch  headway / torch  min..max    torch ran")
    for r in results:
        print(f"{r['case']:6} {r['precision']:9} {r['headway']['median']:10.0f} "
              f"{r['torch']['median']:10.0f}  {r['ratio']['median']:15.2f}  "
              f"{r['ratio']['min']:.2f}..{r['ratio']['max']:.2f}  {r['torch_variant']}")
    if o.json:
        o.json.write_text(json.dumps(dict(
            processor=processor(), isa=o.isa, threads=o.threads, rounds=o.rounds, seconds=o.seconds,
            results=results), indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
