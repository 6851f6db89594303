#!/usr/bin/env python3
"""Models of every kind of heads from headway-train through headway-server, and model folders that
must be refused: with a sentence that names the field or tensor, an exit code, and nothing served."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from harness import BUILD, PROGRAM, Server, require_files

KINDS = ["parallel", "causal", "anticausal", "linear", "replicated"]
LAYERS = KINDS[:3]


def train(folder, kind, *options):
    out = folder / "-".join([kind, *options]).replace("--", "")
    subprocess.run(
        [f"{BUILD}/headway-train", "--corpus", folder / "corpus", "--out", out, "--kind", kind,
         "--dim", "32", "--hidden", "32", "--context", "64", "--batch", "1", "--steps", "2",
         "--warmup", "1", "--threads", "1", *options],
        check=True, capture_output=True)
    return out


class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="headway-models-")
        cls.folder = pathlib.Path(cls.temporary.name)
        sources = sorted(pathlib.Path("heads").glob("*.c"))
        (cls.folder / "corpus").write_bytes(b"\0".join(f.read_bytes() for f in sources))

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_every_kind_is_served(self):
        for kind in KINDS:
            for options in (["--heads", "1"], ["--heads", "32", "--layers", "1"],
                            ["--heads", "3", "--head-layers", "2"]):
                with self.subTest(kind=kind, options=options):
                    self.serve(train(self.folder, kind, *options), int(options[1]))

    def serve(self, model, heads):
        with Server("--model", model) as server:
            texts = {server.complete(prompt="static int", max_tokens=24, temperature=0,
                                     speculation=k)["choices"][0]["text"]
                     for k in ("off", "auto", heads - 1)}
            self.assertEqual(len(texts), 1, texts)
            status, _, data = server.request("POST", "/v1/completions",
                                             {"prompt": "x", "speculation": 32})
            self.assertEqual(status, 400)
            self.assertEqual(json.loads(data)["error"]["param"], "speculation")

    def test_compute_matched(self):
        for kind in KINDS:
            model = train(self.folder, kind, "--heads", "4", "--total-layers", "6")
            config = json.loads((model / "config.json").read_text())
            self.assertEqual(config["n_layers"], 2 if kind in LAYERS else 6)
            self.assertEqual(config["heads"], {"kind": kind, "n": 4,
                                               "layers": 1 if kind in LAYERS else 0})

    # ---- refusals ----

    def refused(self, model, *words):
        """Neither program takes the model; the sentence holds all words."""
        for command in ([PROGRAM, "--port", "0"],
                        [f"{BUILD}/headway-bench", "--prompts", "weights/demo/prompts.json"]):
            result = subprocess.run([*command, "--model", model], capture_output=True, text=True,
                                    timeout=60)
            self.assertEqual(result.returncode, 1, command)
            self.assertEqual(result.stdout, "")
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            for word in words:
                self.assertIn(word, result.stderr)

    def copy(self, model):
        shutil.copytree(model, self.folder / "copy", dirs_exist_ok=True)
        return self.folder / "copy"

    def test_config(self):
        for kind in KINDS:
            model = self.copy(train(self.folder, kind, "--heads", "2"))
            path = model / "config.json"
            good = json.loads(path.read_text())
            layers = good["heads"]["layers"]
            for heads, words in (
                    ({"kind": "sideways"}, ["heads.kind", "'sideways'", "anticausal"]),
                    ({"kind": ""}, ["heads.kind", "''"]),
                    ({"kind": 7}, ["heads.kind", "7", "string"]),
                    ({"n": 0}, ["heads.n", "0", "between 1 and 32"]),
                    ({"n": 1000}, ["heads.n", "1000", "between 1 and 32"]),
                    ({"n": -1}, ["heads.n", "-1"]),
                    ({"n": 2.5}, ["heads.n", "2.5", "whole number"]),
                    ({"layers": 1000}, ["heads.layers", "1000"]),
                    ({"layers": 0 if layers else 1}, ["heads.layers", kind]),
            ):
                with self.subTest(kind=kind, heads=heads):
                    path.write_text(json.dumps(good | {"heads": good["heads"] | heads}))
                    self.refused(model, str(path), *words)
            path.write_text(json.dumps({k: v for k, v in good.items() if k != "heads"}))
            self.refused(model, str(path), "heads")

    def test_tensors(self):
        tensor = {"linear": "heads.1.linear.weight", "replicated": "heads.1.output.weight"}
        for kind in KINDS:
            source = train(self.folder, kind, "--heads", "2")
            for name in (tensor.get(kind, "heads.1.layers.0.attention.wq.weight"),
                         tensor.get(kind, "heads.1.layers.0.ffn_norm.weight"), "norm.weight"):
                for change in (lambda h, n: h.pop(n), wider, lambda h, n: h[n].update(dtype="I8")):
                    with self.subTest(kind=kind, tensor=name):
                        model = self.copy(source)
                        rewrite(model / "model.safetensors", name, change)
                        self.refused(model, "model.safetensors", name)

    def test_heads_of_another_kind(self):
        model = self.copy(train(self.folder, "linear", "--heads", "2"))
        path = model / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"heads": {"kind": "causal", "n": 2, "layers": 1}}))
        self.refused(model, "model.safetensors", "heads.0.layers.0")

    def test_one_head_too_many(self):
        model = self.copy(train(self.folder, "causal", "--heads", "2"))
        path = model / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"heads": {"kind": "causal", "n": 3, "layers": 1}}))
        self.refused(model, "model.safetensors", "heads.2.layers.0")

    def test_trainer_options(self):
        for options, words in (
                (["--kind", "sideways"], ["--kind", "'sideways'", "replicated"]),
                (["--heads", "0"], ["--heads", "0"]),
                (["--heads", "1000"], ["--heads", "1000"]),
                (["--heads", "4", "--total-layers", "3"], ["--total-layers 3", "trunk"]),
                (["--head-weights", "1,x"], ["--head-weights", "'x'"]),
                (["--head-weights", "1,"], ["--head-weights"]),
                (["--head-weights", "-1"], ["--head-weights", "'-1'"]),
                (["--heads", "2", "--head-weights", "1,1,1"], ["--head-weights", "2 heads"]),
        ):
            with self.subTest(options=options):
                result = subprocess.run(
                    [f"{BUILD}/headway-train", "--corpus", self.folder / "corpus", "--context",
                     "64", "--dim", "32", "--out", self.folder / "none", *options],
                    capture_output=True, text=True, timeout=60)
                self.assertEqual(result.returncode, 1)
                self.assertFalse((self.folder / "none").exists())
                for word in words:
                    self.assertIn(word, result.stderr)


def wider(header, name):
    header[name]["shape"][0] += 1


def rewrite(path, name, change):
    """Changes one tensor's entry in the header, leaves all data where they are."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    change(header, name)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).resolve().parent.parent.parent)
    require_files()
    if not os.access(f"{BUILD}/headway-train", os.X_OK):
        sys.exit(f"{BUILD}/headway-train is missing: run make")
    unittest.main(verbosity=1)
