#!/usr/bin/env python3
"""Compares text/ with Hugging Face's tokenizers and with sentencepiece: every difference is an error.

Needs the packages tokenizers, gguf and sentencepiece (pip), the build's
build/tests/parity/tokenize_main, and for smollm2 and qwen2 the models' GGUF files:

    make build/tests/parity/tokenize_main
    python3 tests/parity/compare_tokenizers.py --models ~/.cache/headway-models

Random texts, and real ones from files of this machine. Each vocabulary is read in several ways: from
a tokenizer.json, from a list of what a GGUF file holds, and a model's from its GGUF file.
"""

import argparse
import glob
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TOOL = "build/tests/parity/tokenize_main"
CONTROL, USER, UNUSED = 3, 4, 5

SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The models' own expressions, as their tokenizer.json have them.
EXPRESSIONS = {
    "qwen2": [SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST],
    "qwen35": [SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "llama-bpe": [SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST],
    "tekken": [CASED % ("", "") + r"|\p{N}" + SLASH],
    "gpt-4o": [CASED % (SHORT + "?", SHORT + "?") + r"|\p{N}{1,3}" + SLASH],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    ],
    "gpt-2": [],
}


# ---- texts ----

POOLS = [
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789٠١٢³½Ⅷ①",
    "     \t\n\r\n\u00a0\u2003\u3000\u180e\u200b\u2028\x0b\x0c\x85",
    ".,;:!?'\"()[]{}<>|/\\-_+=*&^%$#@~`",
    "'s't're've'm'll'd'S'T'RE\u017f\u212a\u2019",
    "äöüßéèñçøåÄÖÜ",
    "e\u0301a\u0308\u0323n\u0303\u0300\u0327\u0345\u0f71\u0f72\u05b0\u05c1",
    "中文字符漢字日本語ひらがなカタカナ한국어각ᄀ각",
    "русскийязыкελληνικάعربيעבריתहिन्दीไทย",
    "😀👍🏽👨‍👩‍👧🇩🇪❤️🎉",
    "".join(map(chr, range(0, 32))) + "\x7f\ufeff\ufffd",
    "ǅǈʰˠªº𝐀𝒃ⅷΑαՀհ",
    "aA1 " + "".join(map(chr, [0x897, 0x1C89, 0x1C8A, 0x2427, 0x2FFC, 0xA7DA, 0x105C0, 0x10D40, 0x10D50, 0x10D69, 0x10D6E,
                               0x10D70, 0x11380, 0x113B8, 0x11BF0, 0x11F02, 0x11F43, 0x13460, 0x16130, 0x16D40, 0x1CCF0,
                               0x1CC00, 0x1E4F0, 0x1E4EC, 0x1E5D0, 0x1E5FF, 0x1FAE8, 0x31350, 0x323AF, 0x11DE0, 0x16FF4])),
]
WORDS = "the of and don't I'll it's we've THE He's world function return if for while 1234567 2024-01-01 x = y + 1; \n\n \r\n \t    ".split(" ") + [" ", "  ", "   ", "\n", "\n\n"]


def assigned():
    """All characters but surrogates and private ones."""
    return [
        chr(c)
        for c in range(0x110000)
        if unicodedata.category(chr(c)) not in ("Cs", "Co")
        and (unicodedata.category(chr(c)) != "Cn" or c % 97 == 0)
    ]


def random_texts(n, seed, specials):
    rng = random.Random(seed)
    every = assigned()
    marks = [c for c in every if unicodedata.combining(c)]
    for _ in range(n):
        parts = []
        for _ in range(rng.randrange(0, 9)):
            kind = rng.randrange(10)
            if kind < 5:
                pool = rng.choice(POOLS)
                parts.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 7))))
            elif kind == 5:
                parts.append("".join(rng.choice(every) for _ in range(rng.randrange(1, 6))))
            elif kind == 6:
                parts.append("a" + "".join(rng.choice(marks) for _ in range(rng.randrange(1, 5))))
            elif kind == 7 and specials or len(specials) > 30 and kind == 8:
                special = rng.choice(specials)
                parts.append(special if rng.randrange(4) else special[: rng.randrange(len(special))])
            else:
                parts.append(" ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 5))))
        yield "".join(parts)


def real_texts(megabytes):
    left = int(megabytes * 1e6)
    files = sorted(glob.glob("/usr/share/doc/**/*", recursive=True)) + sorted(
        glob.glob("/usr/share/perl/**/*.p[lm]", recursive=True)
    )
    files += sorted(glob.glob(os.path.dirname(os.__file__) + "/**/*.py", recursive=True))
    files += sorted(glob.glob("/usr/include/**/*.h", recursive=True))
    random.Random(7).shuffle(files)
    for path in files:
        if left <= 0:
            break
        try:
            with open(path, encoding="utf-8", newline="") as f:
                text = f.read()
        except (OSError, UnicodeDecodeError):
            continue
        size = len(text.encode())
        if 100 < size < 300000:
            left -= size
            yield text


# ---- the tool ----


def ours(kind, path, texts, flags):
    data = b"".join(struct.pack("<II", f, len(t)) + t for t, f in zip(texts, flags))
    done = subprocess.run([TOOL, kind, path], input=data, capture_output=True)
    if done.returncode:
        sys.exit(f"{TOOL} {kind} {path}: {done.stderr.decode()}")
    out, at, result = done.stdout, 0, []
    for _ in texts:
        (n,) = struct.unpack_from("<I", out, at)
        result.append(list(struct.unpack_from(f"<{n}i", out, at + 4)))
        at += 4 + 4 * n
    return result, done.stderr.decode().strip().replace("\n", ", ")


def write_list(path, kind, pre, bos, eos, unknown, add_bos, prefix, tokens, merges):
    """tokens: text, GGUF type, score."""

    def text(s):
        b = s.encode()
        return struct.pack("<I", len(b)) + b

    with open(path, "wb") as f:
        f.write(struct.pack("<I", kind) + text(pre))
        f.write(struct.pack("<iiiIIIII", bos, eos, unknown, add_bos, 0, prefix, len(tokens), len(merges)))
        for t, type_, score in tokens:
            f.write(text(t) + struct.pack("<If", type_, score))
        for left, right in merges:
            f.write(text(left) + text(right))


total = 0


def compare(name, kind, path, reference, texts, parse_special=False, add_special=False):
    """reference: texts -> lists of ids."""
    global total
    encoded = [t.encode() for t in texts]
    flags = [(1 if parse_special else 0) | (2 if add_special else 0)] * len(texts)
    start = time.time()
    expected = reference(texts)
    theirs = time.time() - start
    got, note = ours(kind, path, encoded, flags)
    bad = [i for i in range(len(texts)) if got[i] != expected[i]]
    total += len(bad)
    size = sum(map(len, encoded)) / 1e6
    print(
        f"{name:24} {kind:5} special {int(parse_special)}: {len(texts)} texts, {size:.1f} MB, "
        f"{len(bad)} differences ({note}; reference {theirs:.1f} s)",
        flush=True,
    )
    for i in bad[:5]:
        at = next((k for k in range(min(len(got[i]), len(expected[i]))) if got[i][k] != expected[i][k]), -1)
        if len(texts[i]) < 300:
            print("   ", ascii(texts[i]))
        print(f"      token {at}: ours {got[i][max(at,0):][:12]} theirs {expected[i][max(at,0):][:12]}")


def hugging_face(tokenizer, parse_special, add_special=False):
    def encode(texts):
        tokenizer.encode_special_tokens = not parse_special
        result = []
        for i in range(0, len(texts), 1000):
            batch = tokenizer.encode_batch_fast(texts[i : i + 1000], add_special_tokens=add_special)
            result += [e.ids for e in batch]
        return result

    return encode


# ---- vocabularies ----


def byte_level(pre):
    if pre == "smollm":
        steps = [pre_tokenizers.Digits(individual_digits=True)]
    else:
        steps = [pre_tokenizers.Split(Regex(e), "isolated") for e in EXPRESSIONS[pre]]
    regex = pre in ("smollm", "gpt-2")
    return pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)])


def finish(tokenizer, pre):
    tokenizer.pre_tokenizer = byte_level(pre)
    tokenizer.decoder = decoders.ByteLevel()
    if pre in ("qwen2", "qwen35"):
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def from_gguf(path, folder):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    get = lambda key, default=None: fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in fields else default
    tokens, types, pre = get("tokens"), get("token_type"), get("pre")
    merges = [tuple(m.split(" ")) for m in get("merges")]
    vocab = {t: i for i, t in enumerate(tokens) if types[i] not in (USER, UNUSED) and (types[i] != CONTROL or pre == "smollm")}
    tokenizer = finish(Tokenizer(models.BPE(vocab, merges, fuse_unk=False)), pre)
    added = [(t, types[i]) for i, t in enumerate(tokens) if types[i] in (CONTROL, USER)]
    tokenizer.add_tokens([AddedToken(t, special=k == CONTROL, normalized=False) for t, k in added])
    assert all(tokenizer.token_to_id(t) == i for i, t in enumerate(tokens) if types[i] != UNUSED)
    tokenizer.save(folder + "/tokenizer.json")
    write_list(folder + "/list", 1, pre, get("bos_token_id", -1), get("eos_token_id", -1), get("unknown_token_id", -1),
               bool(get("add_bos_token", False)), 0, [(t, types[i], 0.0) for i, t in enumerate(tokens)], merges)
    return tokenizer, [t for t, _ in added]


def trained(pre, folder, sample):
    """A small byte-level BPE with that name's expressions."""
    tokenizer = finish(Tokenizer(models.BPE()), pre)
    tokenizer.train_from_iterator(sample, trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>"], show_progress=False))
    return save_trained(tokenizer, pre, folder)


def save_trained(tokenizer, pre, folder):
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = pre in ("llama-bpe", "tekken")
    with open(folder + "/tokenizer.json", "w") as f:
        json.dump(data, f)
    tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
    vocab = sorted(data["model"]["vocab"].items(), key=lambda e: e[1])
    write_list(folder + "/list", 1, pre, 0, 0, -1, False, 0,
               [(t, CONTROL if t == "<|end|>" else 1, 0.0) for t, _ in vocab], [tuple(m) for m in data["model"]["merges"]])
    return tokenizer


def flags_of_added_tokens(folder, sample):
    tokenizer = finish(Tokenizer(models.BPE()), "qwen2")
    tokenizer.train_from_iterator(sample, trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    texts = ["<a>", "<ab>", "<a><", "the", "él", "él!", "  ", "<x y>", "世", "THE"]
    tokenizer.add_tokens([
        AddedToken("<a>", special=True, normalized=False, lstrip=True),
        AddedToken("<ab>", special=True, normalized=False, rstrip=True),
        AddedToken("<a><", special=False, normalized=False),
        AddedToken("the", single_word=True, normalized=False),
        AddedToken("él", single_word=True, normalized=True),
        AddedToken("él!", normalized=True, lstrip=True, rstrip=True),
        AddedToken("  ", normalized=True),
        AddedToken("<x y>", special=True, normalized=True, lstrip=True, rstrip=True),
        AddedToken("世", normalized=False),
        AddedToken("THE", special=True, single_word=True, lstrip=True, rstrip=True),
    ])
    tokenizer.save(folder + "/tokenizer.json")
    return tokenizer, texts


def sentencepiece_model(folder, sample):
    import sentencepiece

    with open(folder + "/sample", "w") as f:
        for text in sample:
            f.write(text.replace("\r", "") + "\n")
    sentencepiece.SentencePieceTrainer.train(
        input=folder + "/sample", model_prefix=folder + "/sp", model_type="bpe", vocab_size=2000, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, split_digits=True,
        allow_whitespace_only_pieces=True, minloglevel=2, max_sentence_length=100000, character_coverage=0.999)
    sp = sentencepiece.SentencePieceProcessor(model_file=folder + "/sp.model")
    tokens = []
    for i in range(sp.get_piece_size()):
        type_ = 2 if sp.is_unknown(i) else CONTROL if sp.is_control(i) else 6 if sp.is_byte(i) else 1
        tokens.append((sp.id_to_piece(i), type_, sp.get_score(i)))
    write_list(folder + "/list", 2, "", sp.bos_id(), sp.eos_id(), sp.unk_id(), True, 1, tokens, [])
    return sp, tokens


def llama_json(tokens, folder, name, change):
    """As Llama 2's tokenizer.json: merges by rank, from the scores."""
    vocab = {t: i for i, (t, _, _) in enumerate(tokens)}
    merges = []
    for t, type_, score in tokens:
        if type_ == 1:
            pairs = [(t[:k], t[k:]) for k in range(1, len(t)) if t[:k] in vocab and t[k:] in vocab]
            merges += [(-score, vocab[l], vocab[r], (l, r)) for l, r in pairs]
    merges = [m[3] for m in sorted(merges)]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
    change(tokenizer)
    path = f"{folder}/{name}.json"
    tokenizer.save(path)
    return tokenizer, path


def legacy(tokenizer):
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def metaspace(scheme, split):
    def change(tokenizer):
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=split)
        tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme=scheme, split=split)

    return change


# ---- everything ----


def folder_of(root, name):
    path = os.path.join(root, name)
    os.makedirs(path, exist_ok=True)
    return path


def all_ways(name, folder, tokenizer, texts, model=None):
    ways = [("json", folder + "/tokenizer.json"), ("list", folder + "/list")]
    for special in (False, True):
        for kind, path in ways + ([("model", model)] if model else []):
            compare(name, kind, path, hugging_face(tokenizer, special), texts, special)


def run_models(options, root, real):
    for pattern in ("smollm2*.gguf", "qwen2.5*0.5b*.gguf"):
        for path in glob.glob(os.path.join(options.models, pattern)):
            name = os.path.basename(path)[:12]
            folder = folder_of(root, name)
            tokenizer, specials = from_gguf(path, folder)
            all_ways(name, folder, tokenizer, list(random_texts(options.texts, options.seed, specials)), path)
            compare(name + " real", "json", folder + "/tokenizer.json", hugging_face(tokenizer, False), real)
            compare(name + " real", "list", folder + "/list", hugging_face(tokenizer, False), real)


def run_trained(options, root, real, sample):
    texts = list(random_texts(options.texts // 4, options.seed + 1, ["<|end|>"]))
    for pre in EXPRESSIONS:
        folder = folder_of(root, pre)
        tokenizer = trained(pre, folder, sample)
        all_ways(pre, folder, tokenizer, texts)
        compare(pre + " real", "json", folder + "/tokenizer.json", hugging_face(tokenizer, False), real[: len(real) // 10])
    folder = folder_of(root, "flags")
    tokenizer, specials = flags_of_added_tokens(folder, sample)
    texts = list(random_texts(options.texts // 4, options.seed + 2, specials * 3 + ["e\u0301l!", "e\u0301l", " ", "x"]))
    for special in (False, True):
        compare("added tokens", "json", folder + "/tokenizer.json", hugging_face(tokenizer, special), texts, special)


def run_sentencepiece(options, root, real, sample):
    folder = folder_of(root, "sentencepiece")
    sp, tokens = sentencepiece_model(folder, sample)
    texts = [t for t in random_texts(options.texts // 4, options.seed + 3, ["<s>", "</s>", "<0x0A>"]) if "\0" not in t]
    compare("sentencepiece", "list", folder + "/list", lambda ts: [sp.encode(t) for t in ts], texts)
    compare("sentencepiece real", "list", folder + "/list", lambda ts: [sp.encode(t) for t in ts], [t for t in real[: len(real) // 5] if "\0" not in t])
    for name, change in (("legacy", legacy), ("first", metaspace("first", False)), ("always split", metaspace("always", True)), ("never", metaspace("never", False))):
        tokenizer, path = llama_json(tokens, folder, name.replace(" ", ""), change)
        for special in (False, True):
            compare("llama " + name, "json", path, hugging_face(tokenizer, special), texts, special)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=os.path.expanduser("~/.cache/headway-models"))
    parser.add_argument("--texts", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=float, default=10, help="megabytes of real text")
    parser.add_argument("--only", choices=["models", "trained", "sentencepiece"])
    options = parser.parse_args()
    real = list(real_texts(options.real))
    sample = real[:: max(1, len(real) // 60)]
    with tempfile.TemporaryDirectory() as root:
        if options.only in (None, "models"):
            run_models(options, root, real)
        if options.only in (None, "trained"):
            run_trained(options, root, real, sample)
        if options.only in (None, "sentencepiece"):
            run_sentencepiece(options, root, real, sample)
    print(f"{total} differences")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
