"""Writes a GGUF file of a model that says what it is told: each token has one successor. Layers are
there and add nothing; a token's embedding is a direction of its own, in which the unembedding of its
successor points. For test_dialects.py; standard library only, with tiny_gguf.py's format."""
from array import array

from tiny_gguf import DIM, SPECIAL, STOP, byte_characters, metadata, vocabulary, write_model

CONTEXT = 100_000  # to be busy for a while


class Script:
    """Tokens of the tiny vocabulary and some more, and what follows what."""

    def __init__(self):
        self.tokens, self.merges = vocabulary()
        self.after = {}
        self.characters = byte_characters()
        self.control = list(range(len(SPECIAL)))

    def cue(self, name):
        """A control token that a template can write."""
        self.tokens.append(name)
        self.control.append(len(self.tokens) - 1)
        return len(self.tokens) - 1

    def byte(self, character):
        return len(SPECIAL) + ord(character)

    def say(self, cue, *pieces, stop=True):
        """Behind the token `cue` the model says the pieces, a token each, and ends or goes round."""
        first = None
        for piece in pieces:
            self.tokens.append("".join(self.characters[b] for b in piece.encode()))
            token = len(self.tokens) - 1
            first = first or token
            self.after[cue], cue = token, token
        self.after[cue] = STOP if stop else first


def matrix(name, sizes, script):
    if len(sizes) == 1:
        return array("f", [1.0] * sizes[0])
    values = array("f", bytes(4 * sizes[0] * sizes[1]))
    for place, (token, successor) in enumerate(script.after.items()):
        assert place < DIM, "too many tokens with a successor"
        if name == "token_embd.weight":
            values[token * DIM + place] = 1.0
        elif name == "output.weight":
            values[successor * DIM + place] = 8.0
    return values


def write(path, script, template):
    entries = metadata(script.tokens, script.merges, template, script.control, CONTEXT)
    write_model(path, entries, len(script.tokens), lambda name, sizes: matrix(name, sizes, script))
