#!/usr/bin/env python3
"""Chooses the prompts that headway-bench decodes from: excerpts of held-out files.

Usage: train/demo_prompts.py CORPUS_FOLDER > prompts.json

Reads held-out-code.bin and held-out-prose.bin (documents ended by NUL). An excerpt begins at a line
and has 384 bytes, so that it ends anywhere, as text does when somebody asks for more. Excerpts of
licences are left out. The choice depends on the files alone."""
import hashlib
import json
import pathlib
import sys

SIZE = 384
PER_KIND = 12
BORING = ("Copyright", "copyright", "License", "LICENSE", "WARRANT")


def excerpt(document):
    """The line-aligned excerpt of a document that its own hash points at, or None."""
    room = len(document) - 2 * SIZE
    if room <= 0:
        return None
    at = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big") % room
    text = document[document.rfind("\n", 0, at) + 1 :][:SIZE]
    if not text.isascii() or any(word in text for word in BORING):
        return None
    return text


def choose(path):
    documents = pathlib.Path(path).read_bytes().decode().split("\0")
    documents.sort(key=lambda d: hashlib.sha256(d.encode()).hexdigest())
    found = [text for text in map(excerpt, documents) if text]
    return found[:PER_KIND]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    prompts = {kind: choose(folder / f"held-out-{kind}.bin") for kind in ("code", "prose")}
    json.dump(prompts, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
