#!/usr/bin/env python3
"""Model files as other programs write them, each with what the model says by its authors' code.

Writes tests/data/files/NAME/. Those in Hugging Face's layout are saved by transformers:

    config.json, generation_config.json, model.safetensors or its shards with their index
    tokenizer.json, ...              in some: bytes, 29 merges, three special tokens
    expected.safetensors             tokens (B, T) I32, positions (S) I32,
                                     logits (B, S, V) F32 of transformers at these, in f32

`mtp-llama` is in Fast-LLM's layout, made of transformers' layers, with logits (N, B, S, V).

Those in the layout of Meta's multi-token release are saved by torch.save:

    params.json, consolidated.pth
    expected.safetensors             tokens (B, T) I32, logits (N, B, T, V) F32 of every head

`views` is for the reader alone: consolidated.pth with the same tensors in expected.safetensors.
Weights are random, stored in bf16 where not said otherwise, and computed with in f32 (Meta's
layout: in f64).

Only needed to make fixtures anew; `make test` reads the committed files:

    python3 -m venv /tmp/files && /tmp/files/bin/pip install torch transformers safetensors numpy
    /tmp/files/bin/python tests/parity/make_files.py [NAME ...]

The committed files were made with torch 2.15.0, transformers 5.24.0 and safetensors 0.8.0.
"""

import json
import pathlib
import shutil
import sys
import types

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import reference

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "files"
VOCAB = 288
# Of a hundred, those that show: all would be most of a fixture.
POSITIONS = [0, 1, 2, 3, 15, 16, 17, 31, 63, 64, 65, 98, 99]
SHAPE = dict(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, intermediate_size=96, max_position_embeddings=256,
             bos_token_id=256, eos_token_id=257, pad_token_id=None)


# ---- Hugging Face's layout ----

# `covers` says what each is there for; `eos` goes into generation_config.json.
HF = {
    "llama": dict(
        covers="in shards, an unembedding of its own, llama3 scaling of the rotation",
        kind="Llama", shard="40KB", eos=[257, 258], tokenizer=True,
        rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0,
                             low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=64)),
    "llama-tied": dict(
        covers="one file in f32, tied, linear scaling of the rotation, three query heads per key",
        kind="Llama", dtype=torch.float32, tie_word_embeddings=True, hidden_size=48,
        num_attention_heads=3, num_key_value_heads=1, intermediate_size=48, rms_norm_eps=1e-5,
        rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=4.0)),
    "mistral": dict(
        covers="in f16, heads larger than width / heads, no sliding window",
        kind="Mistral", dtype=torch.float16, head_dim=32, num_attention_heads=3,
        hidden_size=48, intermediate_size=64, num_key_value_heads=1, sliding_window=None, rms_norm_eps=1e-5,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    "qwen2": dict(
        covers="biases on q, k and v, tied, in shards, three layers",
        kind="Qwen2", shard="50KB", num_hidden_layers=3, tie_word_embeddings=True,
        intermediate_size=64, eos=[257, 256], rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    "qwen3": dict(
        covers="norms on q and k, heads larger than width / heads, an unembedding of its own",
        kind="Qwen3", head_dim=32, hidden_size=32, num_attention_heads=2, num_key_value_heads=1,
        tokenizer=True, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
}


def draw_hf(model, seed):
    """Large enough that every part shows in the logits: attention far from even, gains far from 1,
    biases far from 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith("norm.weight") or "layernorm" in name:
                p.copy_(1 + 0.3 * noise)
            elif p.ndim == 1:
                p.copy_(0.5 * noise)
            else:
                p.copy_(1.2 / p.shape[1] ** 0.5 * noise)


def make_tokenizer():
    """Bytes 0..255 in the order of their stand-ins, specials 256..258, merges 259..287."""
    merges = ["t h", "h e", "i n", "e r", "a n", "r e", "o n", "a t", "e n", "n d", "t i", "e s",
              "o r", "t e", "o f", "e d", "i s", "i t", "a l", "a r", "s t", "t o", "n t", "n g",
              "th e", "an d", "in g", "Ġ the", "Ġ and"]
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    specials = ["<|begin|>", "<|end|>", "<|turn|>"]
    vocab |= {s: 256 + i for i, s in enumerate(specials)}
    vocab |= {m.replace(" ", ""): 259 + i for i, m in enumerate(merges)}
    assert sorted(vocab.values()) == list(range(VOCAB))
    t = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in specials])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=t, bos_token="<|begin|>", eos_token="<|end|>",
        chat_template="{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<|end|>"
                      "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}")


def make_hf(name):
    options = dict(HF[name])
    covers, kind = options.pop("covers"), options.pop("kind")
    shard, eos = options.pop("shard", "5GB"), options.pop("eos", None)
    tokenizer = options.pop("tokenizer", False)
    dtype = options.pop("dtype", torch.bfloat16)
    config = getattr(transformers, kind + "Config")(**{**SHAPE, **options})
    model = getattr(transformers, kind + "ForCausalLM")(config)
    draw_hf(model, seed=sum(name.encode()))
    model = model.to(dtype)
    if eos:
        model.generation_config.eos_token_id = eos
    folder = fresh(name)
    model.save_pretrained(folder, max_shard_size=shard)
    if tokenizer:
        make_tokenizer().save_pretrained(folder)

    model = getattr(transformers, kind + "ForCausalLM").from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.from_numpy(np.random.default_rng(7).integers(0, VOCAB, (1, 100)))
    tokens[0, :5] = torch.tensor([256, 3, 3, VOCAB - 1, 0])
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
    positions = torch.tensor(POSITIONS)
    save_file({"tokens": tokens.int(), "positions": positions.int(),
               "logits": logits[:, positions].contiguous()}, folder / "expected.safetensors")
    report(name, covers)


# ---- Fast-LLM's layout: a trunk, parallel heads of a layer and a norm each ----


def make_mtp():
    layers, heads, vocab = 2, 3, 96  # the last of `layers` is head 1
    options = {**SHAPE, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
               "intermediate_size": 48, "vocab_size": vocab, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.LlamaConfig(**{**options, "num_hidden_layers": layers + heads - 1},
                                      attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config).eval()
    draw_hf(model, seed=99)
    generator = torch.Generator().manual_seed(100)
    norms = 1 + 0.3 * torch.randn(heads, config.hidden_size, generator=generator)
    for p in model.parameters():  # not the module: its frequencies of rotation are no weights
        p.data = p.data.bfloat16().float()
    norms = norms.bfloat16().float()

    def name_of(name):
        for i in range(heads - 1):
            name = name.replace(f"model.layers.{layers + i}.", f"model.mtp_heads.{i}.")
        return name

    weights = {name_of(n): w for n, w in model.state_dict().items() if n != "model.norm.weight"}
    weights |= {f"model.mtp_norms.{i}.weight": norms[i].clone() for i in range(heads)}
    folder = fresh("mtp-llama")
    save_file({n: w.bfloat16() for n, w in weights.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    options["num_hidden_layers"] = layers
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["MTPLlamaForCausalLM"], "model_type": "mtp_llama", **options,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
        "head_dim": 16, "prediction_heads": heads, "torch_dtype": "bfloat16"}, indent=2) + "\n")

    tokens = torch.from_numpy(np.random.default_rng(8).integers(0, vocab, (1, 100)))
    positions = torch.tensor(POSITIONS)
    with torch.no_grad():
        out = mtp_logits(model, norms, layers, heads, tokens)
        # With two layers and the first norm it is an ordinary model: head 1 must agree.
        model.model.layers = model.model.layers[:layers]
        model.model.norm.weight.copy_(norms[0])
        torch.testing.assert_close(model(input_ids=tokens, use_cache=False).logits, out[0])
    save_file({"tokens": tokens.int(), "positions": positions.int(),
               "logits": out[:, :, positions].contiguous()}, folder / "expected.safetensors")
    report("mtp-llama", "three parallel heads, each with a norm of its own, on a trunk of one layer")


def mtp_logits(model, norms, layers, heads, tokens):
    t = tokens.shape[1]
    places = torch.arange(t)[None]
    mask = torch.full((1, 1, t, t), float("-inf")).triu(1)
    h = model.model.embed_tokens(tokens)
    turns = model.model.rotary_emb(h, places)

    def run(layer, x):
        out = layer(x, attention_mask=mask, position_ids=places, position_embeddings=turns)
        return out[0] if isinstance(out, tuple) else out

    for layer in model.model.layers[:layers - 1]:
        h = run(layer, h)
    out = []
    for i in range(heads):
        model.model.norm.weight.copy_(norms[i])
        out.append(model.lm_head(model.model.norm(run(model.model.layers[layers - 1 + i], h))))
    return torch.stack(out)


# ---- the layout of Meta's multi-token release ----

META = {
    "meta": dict(
        covers="four heads in bf16, hidden size by multiple_of alone",
        dtype=torch.bfloat16, dim=32, n_layers=5, n=4, n_heads=2, n_kv_heads=None, multiple_of=32,
        ffn_dim_multiplier=None, vocab=VOCAB, vocab_size=-1, theta=10000.0, norm_eps=1e-5),
    "meta-single": dict(
        covers="one head (a plain model) in f16, grouped heads, a multiplier",
        dtype=torch.float16, dim=32, n_layers=2, n=1, n_heads=2, n_kv_heads=1, multiple_of=16,
        ffn_dim_multiplier=0.7, vocab=VOCAB, vocab_size=VOCAB, theta=500000.0, norm_eps=1e-6),
    "meta-f32": dict(
        covers="two heads in f32 and no trunk",
        dtype=torch.float32, dim=32, n_layers=2, n=2, n_heads=2, n_kv_heads=1, multiple_of=16,
        ffn_dim_multiplier=None, vocab=70, vocab_size=70, theta=10000.0, norm_eps=1e-5),
}


def meta_hidden(dim, multiple_of, multiplier):
    """The rule in the release's model code."""
    hidden = int(2 * 4 * dim / 3)
    if multiplier is not None:
        hidden = int(multiplier * hidden)
    return multiple_of * ((hidden + multiple_of - 1) // multiple_of)


def meta_name(c, name):
    """Our name of a tensor as the release has it: head 1 is the last of its `layers`."""
    if not name.startswith("heads."):
        return name
    _, head, _, _, rest = name.split(".", 4)
    return f"layers.{c.n_layers}.{rest}" if head == "0" else f"extra_heads.{int(head) - 1}.{rest}"


def make_meta(name):
    o = types.SimpleNamespace(**META[name])
    c = reference.Config(dict(
        kind="parallel", dim=o.dim, n_layers=o.n_layers - o.n, n_heads=o.n_heads,
        n_kv_heads=o.n_kv_heads or o.n_heads, vocab=o.vocab, n=o.n, layers=1, tied=False,
        hidden=meta_hidden(o.dim, o.multiple_of, o.ffn_dim_multiplier),
        norm_eps=float(np.float32(o.norm_eps)), theta=o.theta))
    rng = np.random.default_rng(list(name.encode()))
    weights = {n: w.to(o.dtype) for n, w in reference.draw(c, rng).items()}

    folder = fresh(name)
    torch.save({meta_name(c, n): w for n, w in weights.items()}, folder / "consolidated.pth")
    params = dict(dim=o.dim, n_layers=o.n_layers, n_heads=o.n_heads, vocab_size=o.vocab_size,
                  multiple_of=o.multiple_of, norm_eps=o.norm_eps, rope_theta=o.theta)
    if o.n_kv_heads:
        params["n_kv_heads"] = o.n_kv_heads
    if o.ffn_dim_multiplier:
        params["ffn_dim_multiplier"] = o.ffn_dim_multiplier
    if o.n > 1:
        params["n_future_tokens"] = o.n
    (folder / "params.json").write_text(json.dumps(params))

    tokens = torch.from_numpy(rng.integers(0, o.vocab, (1, 9)))
    with torch.no_grad():
        out = reference.logits(c, {n: w.double() for n, w in weights.items()}, tokens)
    save_file({"tokens": tokens.int(), "logits": out.float().contiguous()},
              folder / "expected.safetensors")
    report(name, o.covers)


# ---- for the reader of torch.save's files ----


def make_views():
    folder = fresh("views")
    torch.manual_seed(0)
    both = torch.arange(24, dtype=torch.float32)
    tensors = {
        "f32": torch.tensor([[1.5, -2.0, 3.25], [0.0, 1e-20, -1e20]]),
        "bf16": torch.linspace(-3, 3, 7).bfloat16(),
        "f16": torch.linspace(-1, 1, 6).half().view(1, 2, 3),
        "i32": torch.tensor([-1, 2 ** 31 - 1], dtype=torch.int32),
        "i64": torch.tensor([-1, 2 ** 40]),
        "u8": torch.arange(256, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "first.half": both[:12].view(3, 4),
        "second.half": both[12:].view(4, 3),
        "tied.a": both,
        "parameter": torch.nn.Parameter(torch.full((2, 2), 0.5)),
    }
    tensors["tied.b"] = tensors["tied.a"]
    state = torch.nn.Linear(3, 2).state_dict()  # an OrderedDict with _metadata
    state.update(tensors)
    state.update({"step": 7, "rate": 0.5, "note": "not a tensor", "nothing": None, "yes": True})
    torch.save(state, folder / "consolidated.pth")
    plain = {n: (t.detach().clone().view(torch.uint8) if t.dtype == torch.bool else
                 t.detach().clone()) for n, t in state.items() if isinstance(t, torch.Tensor)}
    save_file(plain, folder / "expected.safetensors")
    report("views", "every type, shared storage, a parameter, values that are not tensors")


# ---- folders ----


def fresh(name):
    folder = DATA / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def report(name, covers):
    files = sorted((DATA / name).iterdir())
    for file in files:
        file.chmod(0o644)
        if file.suffix == ".safetensors":
            load_file(file)
    print(f"{name}: {covers}; {len(files)} files, {sum(f.stat().st_size for f in files)} bytes")


if __name__ == "__main__":
    for fixture in sys.argv[1:] or [*HF, "mtp-llama", *META, "views"]:
        if fixture in HF:
            make_hf(fixture)
        elif fixture in META:
            make_meta(fixture)
        else:
            {"mtp-llama": make_mtp, "views": make_views}[fixture]()
