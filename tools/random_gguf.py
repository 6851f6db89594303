#!/usr/bin/env python3
"""Writes a GGUF file of random weights: a Llama model of a given shape, for tools/compare_llama.py.

    python3 tools/random_gguf.py --shape 110m|1b|7b --type q8_0|q4_0 --out FILE        (needs numpy)

The file is what a reader needs and no more: the shape, no vocabulary ("no_vocab": token numbers
only), the tensors. Matrices, embedding and unembedding included, are of the given type, gains f32.
Weights are uniform with the deviation 1 / sqrt(inputs), so that activations keep their size.

Format: GGUF 3 as described in docs/gguf.md of github.com/ggml-org/ggml. All numbers little-endian:

    "GGUF", u32 3, u64 tensors, u64 metadata entries
    an entry:   string key, u32 type, value
    a tensor:   string name, u32 n, u64 sizes[n] (inputs first), u32 type, u64 offset in the data
    the data, which like each tensor begins at a multiple of 32
    a string:   u64 length, bytes

Blocks of 32 weights along the inputs, f16 scale first: Q8_0 has 32 signed bytes, q * scale; Q4_0
has 16 bytes, (q - 8) * scale, weight i in the low and weight i + 16 in the high half of byte i.
"""

import argparse
import pathlib
import struct

import numpy as np

# As tools/bench_shape.c: width, layers, heads, key/value heads, hidden; vocabulary 32000.
SHAPES = {"110m": (768, 12, 12, 12, 2048), "1b": (2048, 22, 32, 4, 5632),
          "7b": (4096, 32, 32, 32, 11008)}
VOCAB, CONTEXT = 32000, 2048

# Metadata types.
U32, F32, STRING = 4, 6, 8
# Name: tensor type, general.file_type, bytes of a block's weights, deviation of q in -127..127 and
# -7..7.
TYPES = {"q8_0": (8, 7, 32, 73.3), "q4_0": (2, 2, 16, 4.32)}
TENSOR_F32 = 0
BLOCK = 32
ALIGNMENT = 32


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def metadata(shape, file_type):
    dim, layers, heads, kv_heads, hidden = shape
    entries = [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "random weights"),
        ("general.quantization_version", U32, 2),
        ("general.file_type", U32, file_type),
        ("llama.vocab_size", U32, VOCAB),
        ("llama.context_length", U32, CONTEXT),
        ("llama.embedding_length", U32, dim),
        ("llama.block_count", U32, layers),
        ("llama.feed_forward_length", U32, hidden),
        ("llama.attention.head_count", U32, heads),
        ("llama.attention.head_count_kv", U32, kv_heads),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.rope.dimension_count", U32, dim // heads),
        ("llama.rope.freq_base", F32, 10000.0),
        ("tokenizer.ggml.model", STRING, "no_vocab"),
    ]
    packed = b""
    for key, kind, value in entries:
        packed += string(key) + struct.pack("<I", kind)
        if kind == STRING:
            packed += string(value)
        else:
            packed += struct.pack("<I" if kind == U32 else "<f", value)
    return len(entries), packed


def tensors(shape):
    """Names and sizes, inputs first."""
    dim, layers, heads, kv_heads, hidden = shape
    kv = dim // heads * kv_heads
    yield "token_embd.weight", (dim, VOCAB)
    for i in range(layers):
        yield f"blk.{i}.attn_norm.weight", (dim,)
        yield f"blk.{i}.attn_q.weight", (dim, dim)
        yield f"blk.{i}.attn_k.weight", (dim, kv)
        yield f"blk.{i}.attn_v.weight", (dim, kv)
        yield f"blk.{i}.attn_output.weight", (dim, dim)
        yield f"blk.{i}.ffn_norm.weight", (dim,)
        yield f"blk.{i}.ffn_gate.weight", (dim, hidden)
        yield f"blk.{i}.ffn_up.weight", (dim, hidden)
        yield f"blk.{i}.ffn_down.weight", (hidden, dim)
    yield "output_norm.weight", (dim,)
    yield "output.weight", (dim, VOCAB)


def size_of(sizes, block_bytes):
    return 4 * sizes[0] if len(sizes) == 1 else sizes[0] * sizes[1] // BLOCK * (2 + block_bytes)


def data_of(sizes, block_bytes, deviation, rng):
    if len(sizes) == 1:
        return np.ones(sizes[0], "<f4").tobytes()
    blocks = np.empty(sizes[0] * sizes[1] // BLOCK, [("scale", "<f2"), ("q", "u1", block_bytes)])
    blocks["scale"] = sizes[0] ** -0.5 / deviation
    if block_bytes == BLOCK:
        blocks["q"] = rng.integers(-127, 128, blocks["q"].shape, np.int8).view(np.uint8)
    else:
        low, high = rng.integers(1, 16, (2, *blocks["q"].shape), np.uint8)
        blocks["q"] = high << 4 | low
    return blocks.tobytes()


def write(path, shape, type_name):
    tensor_type, file_type, block_bytes, deviation = TYPES[type_name]
    rng = np.random.default_rng(1)
    n_entries, entries = metadata(shape, file_type)
    listed, offset = list(tensors(shape)), 0
    directory = b""
    for name, sizes in listed:
        directory += string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        directory += struct.pack("<IQ", TENSOR_F32 if len(sizes) == 1 else tensor_type, offset)
        offset += -(-size_of(sizes, block_bytes) // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), n_entries) + entries + directory
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for _, sizes in listed:
            data = data_of(sizes, block_bytes, deviation, rng)
            file.write(data + bytes(-len(data) % ALIGNMENT))
    part.rename(path)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description="a GGUF file of random weights")
    p.add_argument("--shape", choices=list(SHAPES), required=True)
    p.add_argument("--type", choices=list(TYPES), required=True)
    p.add_argument("--out", type=pathlib.Path, required=True)
    options = p.parse_args()
    write(options.out, SHAPES[options.shape], options.type)
