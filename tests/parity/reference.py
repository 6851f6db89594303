#!/usr/bin/env python3
"""An independent model to measure ours against: model/model.h in PyTorch, float64, on the CPU.

Writes the fixtures that test_parity.c reads, tests/data/parity/NAME/:

    config.json, model.safetensors   a small model of random weights
    expected.safetensors             tokens (B, context + N)   I32, the trainer's windows
                                     logits (N, B, context, V) of every head at every position
                                     loss (N)                  mean over rows, in nats
                                     grad.NAME                 of the sum of the losses, every tensor

Some are only served, not trained, so that they may be large: theirs are

                                     positions (S)             I32
                                     tokens                    as above
                                     logits (N, B, S, V)       of every head at these positions

Only needed to make fixtures anew; `make test` reads the committed files:

    python3 -m venv /tmp/parity && /tmp/parity/bin/pip install numpy torch
    /tmp/parity/bin/python tests/parity/reference.py [NAME ...]

The committed files were made with torch 2.15.0 and numpy 2.4.6.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from torch.nn import functional as F

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "parity"

# What each fixture is there for stands in `covers`; `bf16` stores its weights in bf16. Sizes are odd
# where they may be, and stay small, because each tensor is committed twice: itself and its gradient.
FIXTURES = {
    "gqa": dict(
        covers="two query heads per key/value head, an unembedding of its own, three sequences",
        kind="parallel", dim=64, n_layers=1, n_heads=4, n_kv_heads=2, hidden=32, vocab=70,
        context=24, n=2, layers=1, tied=False, bf16=False, sequences=3, norm_eps=1e-5, theta=10000),
    "tied": dict(
        covers="the unembedding is the embedding, three heads, weights in bf16",
        kind="parallel", dim=32, n_layers=2, n_heads=2, n_kv_heads=2, hidden=48, vocab=50,
        context=19, n=3, layers=1, tied=True, bf16=True, sequences=2, norm_eps=1e-3, theta=500),
    "deep": dict(
        covers="heads of two layers straight on the embedding: no trunk layers",
        kind="parallel", dim=32, n_layers=0, n_heads=2, n_kv_heads=1, hidden=32, vocab=40,
        context=33, n=2, layers=2, tied=False, bf16=False, sequences=2, norm_eps=1e-5, theta=10000),
    "long": dict(
        covers="an ordinary next-token model (N = 1), longer than the chunks and strips of attention"
               " and than the rows of logits held at once",
        kind="parallel", dim=32, n_layers=2, n_heads=1, n_kv_heads=1, hidden=48, vocab=33,
        context=145, n=1, layers=1, tied=False, bf16=False, sequences=2, norm_eps=1e-5,
        theta=10000),
    "causal": dict(
        covers="causal heads of two layers, three of them, straight on the embedding",
        kind="causal", dim=32, n_layers=0, n_heads=2, n_kv_heads=1, hidden=32, vocab=41,
        context=21, n=3, layers=2, tied=False, bf16=False, sequences=3, norm_eps=1e-5, theta=10000),
    "anticausal": dict(
        covers="anticausal heads of two layers, three of them, tied",
        kind="anticausal", dim=32, n_layers=1, n_heads=2, n_kv_heads=2, hidden=48, vocab=43,
        context=26, n=3, layers=2, tied=True, bf16=False, sequences=2, norm_eps=1e-5, theta=10000),
    "linear": dict(
        covers="linear heads, five of them, weights in bf16",
        kind="linear", dim=48, n_layers=2, n_heads=3, n_kv_heads=1, hidden=32, vocab=45,
        context=23, n=5, layers=0, tied=False, bf16=True, sequences=2, norm_eps=1e-5, theta=10000),
    "replicated": dict(
        covers="replicated unembeddings, six of them, more than 256 rows",
        kind="replicated", dim=32, n_layers=1, n_heads=2, n_kv_heads=1, hidden=32, vocab=47,
        context=90, n=6, layers=0, tied=False, bf16=False, sequences=3, norm_eps=1e-5, theta=10000),
    "far": dict(
        covers="1,300 positions, with layers in the heads; three query heads on one key/value head",
        kind="parallel", dim=48, n_layers=1, n_heads=3, n_kv_heads=1, hidden=32, vocab=40,
        context=1300, n=2, layers=1, tied=False, bf16=True, sequences=1, norm_eps=1e-5,
        theta=10000, served=True),
    "far-linear": dict(
        covers="1,100 positions, heads without a cache; heads of 48, each query its own keys",
        kind="linear", dim=96, n_layers=1, n_heads=2, n_kv_heads=2, hidden=32, vocab=37,
        context=1100, n=3, layers=0, tied=False, bf16=True, sequences=1, norm_eps=1e-5,
        theta=10000, served=True),
    "size80": dict(
        covers="heads of 80, two on the same keys",
        kind="replicated", dim=160, n_layers=1, n_heads=2, n_kv_heads=1, hidden=32, vocab=31,
        context=150, n=2, layers=0, tied=False, bf16=True, sequences=2, norm_eps=1e-5,
        theta=10000, served=True),
    "size128": dict(
        covers="a head of 128, in heads that each read the one before",
        kind="causal", dim=128, n_layers=0, n_heads=1, n_kv_heads=1, hidden=32, vocab=29,
        context=150, n=2, layers=1, tied=True, bf16=True, sequences=2, norm_eps=1e-5,
        theta=10000, served=True),
    "groups": dict(
        covers="six query heads on two key/value heads of 16, in heads that each read the one after",
        kind="anticausal", dim=96, n_layers=1, n_heads=6, n_kv_heads=2, hidden=32, vocab=31,
        context=280, n=2, layers=1, tied=True, bf16=True, sequences=2, norm_eps=1e-5,
        theta=10000, served=True),
}


# ---- the model ----


def rmsnorm(x, gain, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


def rope(x, theta):
    """Turns pair i of x (B, T, heads, K) at position t by t theta^(-2i/K): complex multiplication."""
    pairs = x.shape[-1] // 2
    positions = torch.arange(x.shape[1], dtype=x.dtype)
    angle = torch.outer(positions, theta ** (-torch.arange(pairs, dtype=x.dtype) / pairs))
    turn = torch.polar(torch.ones_like(angle), angle)[:, None, :]
    z = torch.view_as_complex(x.unflatten(-1, (pairs, 2)).contiguous())
    return torch.view_as_real(z * turn).flatten(-2)


def attention(c, w, prefix, x):
    q, k, v = (F.linear(x, w[f"{prefix}.attention.{name}.weight"]).unflatten(-1, (-1, c.head_dim))
               for name in ("wq", "wk", "wv"))
    q, k = rope(q, c.theta), rope(k, c.theta)
    k, v = (t.repeat_interleave(c.n_heads // c.n_kv_heads, dim=2) for t in (k, v))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(out.transpose(1, 2).flatten(-2), w[f"{prefix}.attention.wo.weight"])


def layer(c, w, prefix, x):
    x = x + attention(c, w, prefix, rmsnorm(x, w[f"{prefix}.attention_norm.weight"], c.norm_eps))
    y = rmsnorm(x, w[f"{prefix}.ffn_norm.weight"], c.norm_eps)
    w1, w2, w3 = (w[f"{prefix}.feed_forward.w{i}.weight"] for i in (1, 2, 3))
    return x + F.linear(F.silu(F.linear(y, w1)) * F.linear(y, w3), w2)


def trunk(c, w, tokens):
    x = F.embedding(tokens, w["tok_embeddings.weight"])
    for i in range(c.n_layers):
        x = layer(c, w, f"layers.{i}", x)
    return x


def unembed(c, w, head, h):
    name = (f"heads.{head}.output.weight" if c.kind == "replicated" else
            "tok_embeddings.weight" if c.tied else "output.weight")
    return F.linear(rmsnorm(h, w["norm.weight"], c.norm_eps), w[name])


def head(c, w, i, x):
    for j in range(c.layers):
        x = layer(c, w, f"heads.{i}.layers.{j}", x)
    return x


def parallel(c, w, z):
    """Every head has layers of its own on z."""
    return [head(c, w, i, z) for i in range(c.n)]


def causal(c, w, z):
    """Every head reads the one before."""
    out = [z]
    for i in range(c.n):
        out.append(head(c, w, i, out[-1]))
    return out[1:]


def anticausal(c, w, z):
    """Every head reads the one after."""
    out = [z]
    for i in reversed(range(c.n)):
        out.append(head(c, w, i, out[-1]))
    return out[:0:-1]


def linear(c, w, z):
    """One matrix on z."""
    return [F.linear(z, w[f"heads.{i}.linear.weight"]) for i in range(c.n)]


def replicated(c, w, z):
    """Nothing: heads differ in their unembeddings."""
    return [z] * c.n


# A kind is a function from z to the hidden rows of heads 0, 1, ...; what it needs of its own goes
# into shapes() and, if its unembedding is another, into unembed().
KINDS = {f.__name__: f for f in (parallel, causal, anticausal, linear, replicated)}


def logits(c, w, tokens):
    z = trunk(c, w, tokens)
    return torch.stack([unembed(c, w, i, h) for i, h in enumerate(KINDS[c.kind](c, w, z))])


def losses(c, w, windows):
    """Head i at position t predicts token t + i + 1 of the window."""
    out = logits(c, w, windows[:, :c.context])
    targets = torch.stack([windows[:, i + 1:i + 1 + c.context] for i in range(c.n)])
    rows = F.cross_entropy(out.flatten(0, 2), targets.flatten(), reduction="none")
    return out, rows.view(c.n, -1).mean(-1)


# ---- random weights ----


def shapes(c):
    """Names and shapes of all tensors."""
    kv = c.n_kv_heads * c.head_dim
    block = {
        "attention_norm": (c.dim,), "attention.wq": (c.dim, c.dim), "attention.wk": (kv, c.dim),
        "attention.wv": (kv, c.dim), "attention.wo": (c.dim, c.dim), "ffn_norm": (c.dim,),
        "feed_forward.w1": (c.hidden, c.dim), "feed_forward.w3": (c.hidden, c.dim),
        "feed_forward.w2": (c.dim, c.hidden),
    }
    prefixes = [f"layers.{i}" for i in range(c.n_layers)]
    prefixes += [f"heads.{i}.layers.{j}" for i in range(c.n) for j in range(c.layers)]
    all_shapes = {"tok_embeddings.weight": (c.vocab, c.dim), "norm.weight": (c.dim,)}
    all_shapes |= {f"{p}.{name}.weight": shape for p in prefixes for name, shape in block.items()}
    if c.kind == "linear":
        all_shapes |= {f"heads.{i}.linear.weight": (c.dim, c.dim) for i in range(c.n)}
    if c.kind == "replicated":
        all_shapes |= {f"heads.{i}.output.weight": (c.vocab, c.dim) for i in range(c.n)}
    elif not c.tied:
        all_shapes["output.weight"] = (c.vocab, c.dim)
    return all_shapes


def draw(c, rng):
    """Large enough that attention is far from even and losses far from log V; gains far from 1."""
    weights = {}
    for name, shape in shapes(c).items():
        if len(shape) == 1:
            weights[name] = 1 + 0.3 * rng.standard_normal(shape)
        else:
            weights[name] = 1.2 / np.sqrt(shape[1]) * rng.standard_normal(shape)
    return {name: torch.from_numpy(w).float() for name, w in weights.items()}


# ---- files ----


def write_safetensors(path, tensors):
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int32: "I32"}
    header, blobs, at = {}, [], 0
    for name, t in tensors.items():
        blob = t.contiguous().view(torch.uint8).numpy().tobytes()
        header[name] = {"dtype": names[t.dtype], "shape": list(t.shape),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def write_config(path, c):
    path.write_text(json.dumps({
        "format": "headway", "version": 1, "dim": c.dim, "n_layers": c.n_layers,
        "n_heads": c.n_heads, "n_kv_heads": c.n_kv_heads, "hidden": c.hidden, "vocab": c.vocab,
        "context": c.context, "norm_eps": c.norm_eps, "rope_theta": c.theta, "tied": c.tied,
        "heads": {"kind": c.kind, "n": c.n, "layers": c.layers}, "bos": -1, "eos": -1,
    }, indent=2) + "\n")


class Config:
    def __init__(self, fields):
        self.__dict__.update(fields)
        self.head_dim = self.dim // self.n_heads


def make(name):
    c = Config(FIXTURES[name])
    rng = np.random.default_rng(list(name.encode()))
    weights = draw(c, rng)
    if c.bf16:
        weights = {n: w.bfloat16() for n, w in weights.items()}
    windows = torch.from_numpy(rng.integers(0, c.vocab, (c.sequences, c.context + c.n)))

    folder = DATA / name
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.json", c)
    write_safetensors(folder / "model.safetensors", weights)

    # The C code reads epsilon and theta as floats.
    c.norm_eps, c.theta = float(np.float32(c.norm_eps)), float(np.float32(c.theta))
    if hasattr(c, "served"):
        make_served(c, weights, windows, folder)
        return
    w = {n: t.double().requires_grad_() for n, t in weights.items()}
    out, loss = losses(c, w, windows)
    loss.sum().backward()
    expected = {"tokens": windows.int(), "logits": out.detach().float(),
                "loss": loss.detach().float()}
    expected |= {f"grad.{n}": t.grad.float() for n, t in w.items()}
    write_safetensors(folder / "expected.safetensors", expected)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: {c.covers}; losses {[round(x, 3) for x in loss.tolist()]}, {size} bytes")


def interesting(context):
    """The first, the last, and those about where a chunk, a page or a mistake might end."""
    near = {p + d for p in (64, 128, 200, 256, 512, 1024) for d in (-2, -1, 0, 1)}
    return sorted(p for p in near | {0, 1, 2, 31, context // 2, context - 2, context - 1}
                  if p < context)


def make_served(c, weights, windows, folder):
    positions = torch.tensor(interesting(c.context), dtype=torch.int32)
    with torch.no_grad():
        out = logits(c, {n: t.double() for n, t in weights.items()}, windows[:, :c.context])
    write_safetensors(folder / "expected.safetensors", {
        "positions": positions, "tokens": windows.int(),
        "logits": out[:, :, positions.long()].float()})
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder.name}: {c.covers}; {len(positions)} positions, {size} bytes")


if __name__ == "__main__":
    for fixture in sys.argv[1:] or FIXTURES:
        make(fixture)
