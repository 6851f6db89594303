#!/usr/bin/env python3
"""headway-convert from outside: converted folders are served with the texts of the same types made
while loading, converting back and forth keeps codes, and what is wrong is refused with a sentence."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from harness import BUILD, MODEL, PROGRAM, Server, require_files

CONVERT = f"{BUILD}/headway-convert"


def convert(source, target, kind):
    subprocess.run([CONVERT, source, target, "--type", kind], check=True, capture_output=True)
    return target


def texts(*options):
    with Server(*options) as server:
        return [server.complete(prompt=prompt, max_tokens=24, temperature=0, logprobs=2,
                                speculation=k)["choices"][0]
                for prompt in ("static int ", "The function") for k in ("off", "auto")]


class Convert(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="headway-convert-")
        self.folder = pathlib.Path(self.temporary.name)

    def tearDown(self):
        self.temporary.cleanup()

    def test_served_as_made_while_loading(self):
        sizes = []
        for kind in ("f32", "bf16", "q8", "q4"):
            with self.subTest(kind=kind):
                model = convert(MODEL, self.folder / kind, kind)
                sizes.append((model / "model.safetensors").stat().st_size)
                self.assertEqual(texts("--model", model), texts("--type", kind))
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertLess(sizes[3], 0.2 * sizes[0])

    def test_codes_stay(self):
        for kind in ("q8", "q4"):
            with self.subTest(kind=kind):
                once = convert(MODEL, self.folder / "once", kind)
                again = convert(once, self.folder / "again", kind)
                floats = convert(once, self.folder / "floats", "f32")
                back = convert(floats, self.folder / "back", kind)
                wanted = tensors(once)
                self.assertEqual(tensors(again), wanted)
                del wanted["tok_embeddings.weight"]  # bf16 in the one, f32 in the other
                got = tensors(back)
                del got["tok_embeddings.weight"]
                self.assertEqual(got, wanted)

    def refused(self, command, *words):
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 1, command)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def test_options(self):
        out = self.folder / "out"
        self.refused([CONVERT, MODEL, "--type", "q8"], "a model and the folder")
        self.refused([CONVERT, MODEL], "a model and the folder")
        self.refused([CONVERT, MODEL, MODEL, "--type", "q8"], "same folder")
        self.refused([CONVERT, MODEL, out, "--type", "q5"], "--type", "q5")
        self.refused([CONVERT, self.folder / "none", out, "--type", "q8"], "none")
        self.refused([CONVERT, MODEL, self.folder / "a" / "b", "--type", "q8"], "could not be")
        self.assertFalse(out.exists())

    def test_damaged_files(self):
        good = convert(MODEL, self.folder / "good", "q8")
        name = next(n for n in tensors(good) if n.endswith("layers.0.attention.wq.weight"))
        def wide(header):
            header[name]["shape"][1] += 1
        def tall(header):
            header[name]["shape"][0] *= 2
            header[name]["shape"][1] //= 2
        def floats(header):
            header[name + ".scale"]["dtype"] = "BF16"
        def fewer(header):
            shape = header[name + ".scale"]["shape"]
            shape[0], shape[1] = shape[0] * 2, shape[1] // 2
        for change in (wide, tall, floats, fewer, lambda h: h.pop(name), lambda h: h.pop(name + ".scale")):
            shutil.rmtree(self.folder / "bad", ignore_errors=True)
            shutil.copytree(good, self.folder / "bad")
            rewrite(self.folder / "bad" / "model.safetensors", change)
            for command in ([PROGRAM, "--port", "0", "--model", self.folder / "bad"],
                            [CONVERT, self.folder / "bad", self.folder / "out", "--type", "f32"]):
                self.refused(command, "model.safetensors", name)


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def tensors(folder):
    header, data = read(folder / "model.safetensors")
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])])
            for name, t in header.items()}


def rewrite(path, change):
    header, data = read(path)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).resolve().parent.parent.parent)
    require_files()
    if not os.access(CONVERT, os.X_OK):
        sys.exit(f"{CONVERT} is missing: run make")
    unittest.main(verbosity=1)
