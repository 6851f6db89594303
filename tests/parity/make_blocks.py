#!/usr/bin/env python3
"""Random blocks of every quantised GGUF type and what they mean according to the `gguf` package:
tests/data/gguf/blocks.safetensors, which tests/unit/test_block.c reads.

    TYPE.bytes    (3, bytes of a block)    U8
    TYPE.floats   (3, inputs of a block)   F32   gguf.quants.dequantize of them

All bytes are random but the half-precision scales and minima, which are as large as real ones.

Only needed to make the fixture anew; `make test` reads the committed file:

    python3 -m venv /tmp/blocks && /tmp/blocks/bin/pip install numpy gguf safetensors
    /tmp/blocks/bin/python tests/parity/make_blocks.py

The committed file was made with gguf 0.19.0 and numpy 2.4.6.
"""

import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "gguf" / "blocks.safetensors"

# Offsets of the half-precision numbers in a block: the scale, and the minimum where there is one.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_blocks(rng, name, n):
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in HALVES[name]:
        halves = rng.uniform(0.25, 1, (n, 1)) * rng.choice([-0.01, 0.01], (n, 1))
        blocks[:, at:at + 2] = halves.astype("<f2").view(np.uint8)
    return blocks


def main():
    rng = np.random.default_rng(1)
    tensors = {}
    for name in HALVES:
        blocks = random_blocks(rng, name, 3)
        tensors[name + ".bytes"] = blocks
        tensors[name + ".floats"] = gguf.quants.dequantize(
            blocks, gguf.GGMLQuantizationType[name]).astype(np.float32)
    save_file(tensors, OUT)
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    main()
