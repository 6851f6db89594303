#!/usr/bin/env python3
"""An independent forward pass of the llama and qwen2 architectures, to judge an engine by.

    reference_gguf.py MODEL.gguf logits SEQUENCES.json OUT.npy
    reference_gguf.py MODEL.gguf greedy PROMPTS.json OUT.json [--count 64]
    reference_gguf.py MODEL.gguf perplexity TOKENS.json OUT.npy [--context 512] [--chunks N]

Weights are dequantised by the gguf package and everything is computed in f32 (--f64: in float64, to
tell f32 noise from an error); activations, keys and values are never rounded to anything shorter.
Needs numpy and gguf; with torch installed its matrix products are used (--numpy: not).

SEQUENCES.json is a list of objects with "ids", or of lists of ids, or an object with such a list
under "sequences" or "prompts". TOKENS.json is a list of ids or an object with one under "ids".

logits: OUT.npy is f32 [total rows, vocabulary], a row for every token of every sequence, in order;
row i of a sequence is what follows its tokens 0..i. Beside it OUT.json with the sequences and the
row at which each begins.

greedy: OUT.json has for each prompt the ids that follow it, always --count of them (generation goes
on past an end token; "end_at" is the index of the first one, or null), for each the second-best id,
the margin (logit of the best less logit of the second) and the best's log-probability. Of equal
logits the lower id wins.

perplexity: as llama-perplexity with -c CONTEXT. The ids are cut into whole chunks of CONTEXT (a
rest is dropped), each is computed by itself from position 0; with tokenizer.ggml.add_bos_token the
first id of each chunk is replaced by BOS on input. Row i predicts id i+1; counted are the rows
CONTEXT/2 .. CONTEXT-2. PPL = exp(mean of -log p). OUT.npy is f32 [chunks, CONTEXT-1], -log p of
every row, those not counted too (so "every position" can be computed from it as well).
"""

import argparse
import json
import os
import sys
import time

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import numpy as np  # noqa: E402
import gguf  # noqa: E402

try:
    import torch
except ImportError:
    torch = None


def product(x, w):
    """x [n, in] times the transpose of w [out, in]."""
    if torch is None or x.dtype != np.float32:
        return x @ w.T
    return torch.nn.functional.linear(torch.from_numpy(np.ascontiguousarray(x)),
                                      torch.from_numpy(w)).numpy()


class Cache:
    """Keys and values of one sequence: per layer [kv heads, room, head size]."""

    def __init__(self, model, room):
        shape = (model.layers, model.kv_heads, room, model.head)
        self.k, self.v = np.zeros(shape, model.dtype), np.zeros(shape, model.dtype)
        self.length = 0


class Model:
    def __init__(self, path, dtype=np.float32):
        self.dtype = dtype
        reader = gguf.GGUFReader(path)
        self.fields = {k: f.contents() for k, f in reader.fields.items()
                       if not k.startswith("tokenizer.ggml.") or len(f.data) == 1}
        self.tensors = {t.name: t for t in reader.tensors}
        arch = self.arch = self.fields["general.architecture"]
        if arch not in ("llama", "qwen2"):
            sys.exit(f"{arch}: not an architecture that this reference knows")
        for name in self.fields:
            if "rope.scal" in name or "expert" in name or "sliding" in name:
                sys.exit(f"{name}: not computed here")
        if "rope_freqs.weight" in self.tensors:
            sys.exit("rope_freqs.weight: not computed here")

        def field(name, default=None):
            return self.fields.get(f"{arch}.{name}", default)

        self.layers, self.width = field("block_count"), field("embedding_length")
        self.heads = field("attention.head_count")
        self.kv_heads = field("attention.head_count_kv", self.heads)
        self.head = field("attention.key_length", self.width // self.heads)
        self.eps = dtype(field("attention.layer_norm_rms_epsilon"))
        self.base = field("rope.freq_base", 10000.0)
        if field("rope.dimension_count", self.head) != self.head:
            sys.exit("rotation of a part of the head: not computed here")
        self.bos = self.fields.get("tokenizer.ggml.bos_token_id")
        self.add_bos = bool(self.fields.get("tokenizer.ggml.add_bos_token", False))
        self.w = {name: self.get(name) for name in self.tensors
                  if name not in ("token_embd.weight", "output.weight")}
        self.output = self.get("output.weight" if "output.weight" in self.tensors
                               else "token_embd.weight")
        self.vocabulary = self.output.shape[0]
        unknown = [n for n in self.w if n != "output_norm.weight" and n.split(".")[2] not in (
            "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate",
            "ffn_up", "ffn_down")]
        if unknown:
            sys.exit(f"{unknown}: not computed here")

    def get(self, name):
        t = self.tensors[name]
        out = gguf.quants.dequantize(t.data, t.tensor_type)
        return np.ascontiguousarray(out, dtype=self.dtype)

    def embed(self, ids):
        t = self.tensors["token_embd.weight"]
        rows = np.ascontiguousarray(t.data[np.asarray(ids)])
        return gguf.quants.dequantize(rows, t.tensor_type).astype(self.dtype)

    def norm(self, x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True, dtype=self.dtype) +
                           self.eps) * weight

    def linear(self, x, name):
        y = product(x, self.w[name + ".weight"])
        if name + ".bias" in self.w:
            y = y + self.w[name + ".bias"]
        return y

    def rotate(self, x, positions):
        """x [n, heads, head size]; angles in float64."""
        half = self.head // 2
        angle = np.outer(positions, float(self.base) ** (-np.arange(half) * 2.0 / self.head))
        cos = np.cos(angle).astype(self.dtype)[:, None, :]
        sin = np.sin(angle).astype(self.dtype)[:, None, :]
        out = np.empty_like(x)
        if self.arch == "llama":  # adjacent pairs: its q and k are stored permuted
            a, b = slice(0, None, 2), slice(1, None, 2)
        else:
            a, b = slice(0, half), slice(half, None)
        out[..., a] = x[..., a] * cos - x[..., b] * sin
        out[..., b] = x[..., a] * sin + x[..., b] * cos
        return out

    def attend(self, q, k, v, past):
        """q [n, heads, head size], k and v [kv heads, past + n, head size], causal."""
        n, group = q.shape[0], self.heads // self.kv_heads
        q = q.transpose(1, 0, 2).reshape(self.kv_heads, group * n, self.head)
        s = q @ k.transpose(0, 2, 1) * self.dtype(self.head ** -0.5)
        if n > 1:
            hidden = np.arange(past + n)[None, :] > past + np.arange(n)[:, None]
            s.reshape(self.kv_heads, group, n, past + n)[:, :, hidden] = -np.inf
        s -= s.max(axis=-1, keepdims=True)
        np.exp(s, out=s)
        s /= s.sum(axis=-1, keepdims=True)
        o = (s @ v).reshape(self.heads, n, self.head)
        return o.transpose(1, 0, 2).reshape(n, self.heads * self.head)

    def forward(self, batch):
        """Of [(cache, ids)], the rows after the final norm, in order; caches grow. No padding."""
        spans, at = [], 0
        for cache, ids in batch:
            spans.append((cache, slice(at, at + len(ids)), len(ids)))
            at += len(ids)
        positions = np.concatenate([c.length + np.arange(n) for c, _, n in spans])
        x = self.embed([i for _, ids in batch for i in ids])
        for layer in range(self.layers):
            p = f"blk.{layer}."
            y = self.norm(x, self.w[p + "attn_norm.weight"])
            q = self.linear(y, p + "attn_q").reshape(at, self.heads, self.head)
            k = self.linear(y, p + "attn_k").reshape(at, self.kv_heads, self.head)
            v = self.linear(y, p + "attn_v").reshape(at, self.kv_heads, self.head)
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            o = np.empty((at, self.heads * self.head), self.dtype)
            for cache, rows, n in spans:
                end = cache.length + n
                cache.k[layer][:, end - n:end] = k[rows].transpose(1, 0, 2)
                cache.v[layer][:, end - n:end] = v[rows].transpose(1, 0, 2)
                o[rows] = self.attend(q[rows], cache.k[layer][:, :end], cache.v[layer][:, :end],
                                      cache.length)
            x = x + self.linear(o, p + "attn_output")
            y = self.norm(x, self.w[p + "ffn_norm.weight"])
            gate, up = self.linear(y, p + "ffn_gate"), self.linear(y, p + "ffn_up")
            with np.errstate(over="ignore"):
                gate = gate / (1 + np.exp(-gate)) * up
            x = x + self.linear(gate, p + "ffn_down")
        for cache, _, n in spans:
            cache.length += n
        return self.norm(x, self.w["output_norm.weight"])

    def logits(self, rows):
        return product(rows, self.output)

    def sequence_logits(self, ids):
        return self.logits(self.forward([(Cache(self, len(ids)), ids)]))


def log_sum(logits):
    """log of the sum of exponentials of each row, in float64."""
    out = np.empty(len(logits))
    for at in range(0, len(logits), 4):  # few at a time: they stay in the cache
        part = logits[at:at + 4].astype(np.float64)
        top = part.max(axis=-1, keepdims=True)
        part -= top
        np.exp(part, out=part)
        out[at:at + 4] = np.log(part.sum(axis=-1)) + top[:, 0]
    return out


def read_sequences(path):
    data = json.load(open(path))
    if isinstance(data, dict):
        data = data.get("sequences") or data["prompts"]
    return [d if isinstance(d, dict) else {"ids": d} for d in data]


def run_logits(model, o):
    sequences = read_sequences(o.input)
    total = sum(len(s["ids"]) for s in sequences)
    out = np.lib.format.open_memmap(o.output, "w+", np.float32, (total, model.vocabulary))
    at, index = 0, []
    for s in sequences:
        n = len(s["ids"])
        out[at:at + n] = model.sequence_logits(s["ids"])
        index.append(dict(s, first_row=at))
        at += n
        print(f"{at} of {total} rows", file=sys.stderr)
    out.flush()
    json.dump(dict(rows=total, vocabulary=model.vocabulary, sequences=index),
              open(os.path.splitext(o.output)[0] + ".json", "w"))


def run_greedy(model, o):
    prompts = read_sequences(o.input)
    ends = {model.fields.get(f"tokenizer.ggml.{n}_token_id") for n in ("eos", "eot")}
    ends |= set(o.end)
    caches = [Cache(model, len(p["ids"]) + o.count) for p in prompts]
    last = np.empty((len(prompts), model.width), model.dtype)
    for at in range(0, len(prompts), 16):
        part = range(at, min(at + 16, len(prompts)))
        rows = model.forward([(caches[i], prompts[i]["ids"]) for i in part])
        ends_at = np.cumsum([len(prompts[i]["ids"]) for i in part])
        last[at:at + len(part)] = rows[ends_at - 1]
    result = [dict(p, generated=[], second=[], margin=[], logprob=[]) for p in prompts]
    for step in range(o.count):
        logits = model.logits(last)
        best = logits.argmax(axis=-1)
        every, rows = log_sum(logits), np.arange(len(prompts))
        top = logits[rows, best]
        logits[rows, best] = -np.inf
        second = logits.argmax(axis=-1)
        for i, r in enumerate(result):
            r["generated"].append(int(best[i]))
            r["second"].append(int(second[i]))
            r["margin"].append(round(float(top[i] - logits[i, second[i]]), 6))
            r["logprob"].append(round(float(top[i] - every[i]), 6))
        if step + 1 < o.count:
            last = model.forward([(caches[i], [int(best[i])]) for i in rows])
        print(f"token {step + 1} of {o.count}", file=sys.stderr)
    for r in result:
        hits = [i for i, t in enumerate(r["generated"]) if t in ends]
        r["end_at"] = hits[0] if hits else None
    json.dump(dict(model=os.path.basename(o.model), count=o.count, end_ids=sorted(e for e in ends if e is not None),
                   prompts=result), open(o.output, "w"), ensure_ascii=False, indent=0)


def run_perplexity(model, o):
    data = json.load(open(o.input))
    ids = data["ids"] if isinstance(data, dict) else data
    context, chosen = o.context, range(len(ids) // o.context)[o.begin::o.every]
    if o.chunks:
        chosen = chosen[:o.chunks]
    chunks = len(chosen)
    nll = np.empty((chunks, context - 1), np.float32)
    wide = max(1, o.rows // context)
    begin = time.time()
    for at in range(0, chunks, wide):
        part = range(at, min(at + wide, chunks))
        cut = [ids[c * context:(c + 1) * context] for c in chosen[part.start:part.stop]]
        given = [[model.bos] + c[1:] if model.add_bos else c for c in cut]
        rows = model.forward([(Cache(model, context), g) for g in given])
        for i, c in enumerate(part):
            logits = model.logits(rows[i * context:(i + 1) * context - 1])
            nll[c] = log_sum(logits) - logits[np.arange(context - 1), cut[i][1:]]
        done = nll[:part[-1] + 1]
        np.save(o.output, done)  # what there is so far
        print(f"chunk {part[-1] + 1} of {chunks}: ppl {np.exp(done[:, context // 2:].mean(dtype=np.float64)):.4f}"
              f", every position {np.exp(done.mean(dtype=np.float64)):.4f}, {time.time() - begin:.0f} s",
              file=sys.stderr, flush=True)
    counted = nll[:, context // 2:].astype(np.float64)
    print(json.dumps(dict(model=os.path.basename(o.model), context=context, chunks=chunks,
                          counted=counted.size, mean_nll=counted.mean(), ppl=np.exp(counted.mean()),
                          ppl_every_position=np.exp(nll.mean(dtype=np.float64)))))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("model")
    p.add_argument("mode", choices=["logits", "greedy", "perplexity"])
    p.add_argument("input")
    p.add_argument("output")
    p.add_argument("--count", type=int, default=64, help="greedy: tokens per prompt")
    p.add_argument("--end", type=int, action="append", default=[], help="greedy: another end id")
    p.add_argument("--context", type=int, default=512, help="perplexity: tokens of a chunk")
    p.add_argument("--chunks", type=int, help="perplexity: at most so many")
    p.add_argument("--begin", type=int, default=0, help="perplexity: the first chunk computed")
    p.add_argument("--every", type=int, default=1, help="perplexity: and every so manieth from there")
    p.add_argument("--rows", type=int, default=2048, help="perplexity: rows of one pass")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--f64", action="store_true")
    p.add_argument("--numpy", action="store_true")
    o = p.parse_args()
    global torch
    if o.numpy:
        torch = None
    if torch is not None:
        torch.set_num_threads(o.threads)
    begin = time.time()
    model = Model(o.model, np.float64 if o.f64 else np.float32)
    print(f"loaded in {time.time() - begin:.1f} s", file=sys.stderr)
    {"logits": run_logits, "greedy": run_greedy, "perplexity": run_perplexity}[o.mode](model, o)


if __name__ == "__main__":
    main()
