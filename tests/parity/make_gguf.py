#!/usr/bin/env python3
"""Small GGUF models, written by the `gguf` package, and what transformers says that they say.

Writes to tests/data/gguf/, for tests/parity/test_gguf.c:

    NAME.gguf            random weights, in the types and the order of rows of real files
    NAME.safetensors     tokens (T)            I32
                         logits (T, V)         F32   in double precision, all weights as floats
                         stored (T, V)         F32   the same, with the inputs of each product
                                                     rounded to 8 bits as the server does where the
                                                     weights are quantised

Only needed to make fixtures anew; `make test` reads the committed files:

    python3 -m venv /tmp/gguf && /tmp/gguf/bin/pip install torch transformers gguf safetensors numpy
    /tmp/gguf/bin/python tests/parity/make_gguf.py [NAME ...]

With --seeds instead of names: still smaller files for the fuzzer, tests/fuzz/fuzz_gguf.seeds/.

The committed files were made with torch 2.15.0, transformers 5.24.0, gguf 0.19.0.
"""

import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "gguf"
VOCAB = 48
LENGTH = 90

# Types by the end of a tensor's name, where there is one; others are F32. `covers` says what each
# model is there for.
MODELS = {
    "llama": dict(
        covers="numbers of all three sizes, factors of a tensor for the rotation",
        arch="llama", dim=32, layers=2, heads=2, kv_heads=1, head_dim=16, hidden=48, tied=False,
        freqs=True, types=dict(token_embd="F16", output="BF16", attn_q="F16", attn_k="BF16",
                               attn_v="F32", attn_output="BF16", ffn_gate="F16", ffn_up="BF16",
                               ffn_down="F16")),
    "llama-scaled": dict(
        covers="linear scaling of the rotation, heads that are not dim / heads, tied, Q4_1",
        arch="llama", dim=32, layers=1, heads=4, kv_heads=1, head_dim=32, hidden=64, tied=True,
        scaling=4.0, types=dict(token_embd="Q8_0", attn_q="Q4_1", attn_k="Q4_1", attn_v="Q4_1",
                                attn_output="Q4_1", ffn_gate="Q4_1", ffn_up="Q4_1",
                                ffn_down="Q4_1")),
    "llama-k": dict(
        covers="blocks of 256, other types for queries, keys and values, gate and up",
        arch="llama", dim=256, layers=1, heads=4, kv_heads=2, head_dim=16, hidden=256, tied=True,
        types=dict(token_embd="Q6_K", attn_q="Q2_K", attn_k="Q4_K", attn_v="Q6_K",
                   attn_output="Q5_0", ffn_gate="Q3_K", ffn_up="Q5_K", ffn_down="Q4_K")),
    "qwen2": dict(
        covers="biases, halves, every type with a block of 32",
        arch="qwen2", dim=64, layers=2, heads=4, kv_heads=2, head_dim=16, hidden=96, tied=False,
        types=dict(token_embd="Q4_1", output="Q8_0", attn_q="Q5_0", attn_k="Q8_0", attn_v="Q5_1",
                   attn_output="Q4_0", ffn_gate="Q4_1", ffn_up="Q4_0", ffn_down="Q5_1")),
    "qwen3": dict(
        covers="norms of queries and keys, heads that are not dim / heads, blocks of 256 in halves",
        arch="qwen3", dim=256, layers=1, heads=2, kv_heads=1, head_dim=48, hidden=64, tied=False,
        types=dict(token_embd="Q4_K", output="Q6_K", attn_q="Q4_K", attn_k="Q6_K", attn_v="Q4_K",
                   attn_output="Q8_0", ffn_gate="Q4_K", ffn_up="Q6_K", ffn_down="Q5_0")),
}

SEEDS = {
    "llama": dict(arch="llama", dim=16, layers=1, heads=1, kv_heads=1, head_dim=16, hidden=16,
                  tied=True, freqs=True, types=dict(token_embd="F16", attn_q="BF16")),
    "qwen2": dict(arch="qwen2", dim=32, layers=1, heads=2, kv_heads=1, head_dim=16, hidden=32,
                  tied=False, scaling=2.0,
                  types=dict(token_embd="Q4_0", output="Q8_0", attn_q="Q5_0", attn_k="Q5_1",
                             attn_v="Q4_1", attn_output="Q4_0", ffn_gate="Q4_0", ffn_up="Q4_0",
                             ffn_down="Q4_0")),
    "qwen3": dict(arch="qwen3", dim=256, layers=1, heads=1, kv_heads=1, head_dim=16, hidden=16,
                  tied=True,
                  types=dict(token_embd="Q2_K", attn_q="Q3_K", attn_k="Q4_K", attn_v="Q6_K",
                             ffn_gate="Q5_K", ffn_up="Q2_K", attn_output="F16",
                             ffn_down="F16")),
}

# The `gguf` package does not write these: where their halves stand, with values that give weights
# of about 0.06 and, where there are minima, of mean 0.
BLOCKS = {"Q2_K": {80: 5e-3, 82: 7.5e-3}, "Q3_K": {108: 1.4e-3}, "Q4_K": {0: 2e-4, 2: 1.5e-3},
          "Q5_K": {0: 1e-4, 2: 1.5e-3}, "Q6_K": {208: 4.5e-5}}


# ---- writing ----

def random_blocks(rng, name, rows, inputs):
    per_block, size = gguf.GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, (rows * inputs // per_block, size), dtype=np.uint8)
    for at, half in BLOCKS[name].items():
        halves = half * rng.uniform(0.5, 1, (len(blocks), 1))
        blocks[:, at:at + 2] = halves.astype("<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


def add_matrix(writer, rng, name, kind, rows, inputs):
    if kind in BLOCKS:
        data = random_blocks(rng, kind, rows, inputs)
    else:
        data = gguf.quants.quantize(rng.normal(0, 0.06, (rows, inputs)).astype(np.float32),
                                    Type[kind])
    writer.add_tensor(name + ".weight", data, raw_dtype=Type[kind])


def add_vector(writer, rng, name, n, mean, deviation):
    writer.add_tensor(name, rng.normal(mean, deviation, n).astype(np.float32))


def add_layer(writer, rng, m, layer):
    queries, kv = m["heads"] * m["head_dim"], m["kv_heads"] * m["head_dim"]
    at = f"blk.{layer}."
    for part, rows, inputs in [("attn_q", queries, m["dim"]), ("attn_k", kv, m["dim"]),
                               ("attn_v", kv, m["dim"]), ("attn_output", m["dim"], queries),
                               ("ffn_gate", m["hidden"], m["dim"]),
                               ("ffn_up", m["hidden"], m["dim"]),
                               ("ffn_down", m["dim"], m["hidden"])]:
        add_matrix(writer, rng, at + part, m["types"].get(part, "F32"), rows, inputs)
    add_vector(writer, rng, at + "attn_norm.weight", m["dim"], 1, 0.2)
    add_vector(writer, rng, at + "ffn_norm.weight", m["dim"], 1, 0.2)
    if m["arch"] == "qwen2":
        add_vector(writer, rng, at + "attn_q.bias", queries, 0, 0.5)
        add_vector(writer, rng, at + "attn_k.bias", kv, 0, 0.5)
        add_vector(writer, rng, at + "attn_v.bias", kv, 0, 0.5)
    if m["arch"] == "qwen3":
        add_vector(writer, rng, at + "attn_q_norm.weight", m["head_dim"], 1, 0.4)
        add_vector(writer, rng, at + "attn_k_norm.weight", m["head_dim"], 1, 0.4)


def add_tokens(writer):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([chr(ord("a") + i) for i in range(26)]
                          + ["ab", "cd", "Ġ", "Ġa"] + [f"<{i}>" for i in range(VOCAB - 30)])
    writer.add_token_types([gguf.TokenType.NORMAL] * 30 + [gguf.TokenType.CONTROL] * (VOCAB - 30))
    writer.add_token_merges(["a b", "c d", "Ġ a"])
    writer.add_bos_token_id(VOCAB - 2)
    writer.add_eos_token_id(VOCAB - 1)
    writer.add_chat_template("{{ messages[0].content }}")


def write_model(path, m, rng):
    writer = gguf.GGUFWriter(path, m["arch"])
    writer.add_context_length(256)
    writer.add_embedding_length(m["dim"])
    writer.add_block_count(m["layers"])
    writer.add_feed_forward_length(m["hidden"])
    writer.add_head_count(m["heads"])
    writer.add_head_count_kv(m["kv_heads"])
    writer.add_key_length(m["head_dim"])
    writer.add_value_length(m["head_dim"])
    writer.add_rope_dimension_count(m["head_dim"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    if "scaling" in m:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(m["scaling"])
    add_tokens(writer)
    add_matrix(writer, rng, "token_embd", m["types"]["token_embd"], VOCAB, m["dim"])
    for layer in range(m["layers"]):
        add_layer(writer, rng, m, layer)
    add_vector(writer, rng, "output_norm.weight", m["dim"], 1, 0.2)
    if not m["tied"]:
        add_matrix(writer, rng, "output", m["types"]["output"], VOCAB, m["dim"])
    if m.get("freqs"):
        add_vector(writer, rng, "rope_freqs.weight", m["head_dim"] // 2, 3, 0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- the reference, from the file alone ----

HF_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
            "ffn_norm": "post_attention_layernorm", "attn_q_norm": "self_attn.q_norm",
            "attn_k_norm": "self_attn.k_norm", "token_embd": "model.embed_tokens",
            "output_norm": "model.norm", "output": "lm_head"}


def hf_name(name):
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}.{parts[3]}"
    return f"{HF_NAMES[parts[0]]}.{parts[1]}"


def in_halves(w, head_dim):
    """Rows of adjacent pairs to the order of transformers."""
    return w.reshape(-1, head_dim // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def read_model(path, m):
    """The weights, and the type of every module that has a quantised one."""
    weights, kinds = {}, {}
    for t in gguf.GGUFReader(path).tensors:
        w = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
        w = w.reshape(tuple(int(n) for n in reversed(t.shape)))
        if t.name == "rope_freqs.weight":
            weights["freqs"] = w
            continue
        if m["arch"] == "llama" and (".attn_q." in t.name or ".attn_k." in t.name):
            w = in_halves(w, m["head_dim"])
        weights[hf_name(t.name)] = w
        if t.name.endswith(".weight"):  # not by the type of a bias
            kinds[hf_name(t.name).rpartition(".")[0]] = t.tensor_type
    return weights, kinds


def make_hf(m, weights):
    shape = dict(vocab_size=VOCAB, hidden_size=m["dim"], num_hidden_layers=m["layers"],
                 num_attention_heads=m["heads"], num_key_value_heads=m["kv_heads"],
                 head_dim=m["head_dim"], intermediate_size=m["hidden"],
                 max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=m["tied"])
    rope = dict(rope_type="default", rope_theta=10000.0)
    if "scaling" in m:
        rope = dict(rope_type="linear", rope_theta=10000.0, factor=m["scaling"])
    name = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[m["arch"]]
    config = getattr(transformers, name + "Config")(**shape, rope_parameters=rope,
                                                    attn_implementation="eager")
    model = getattr(transformers, name + "ForCausalLM")(config).double().eval()
    given = {k: torch.from_numpy(v) for k, v in weights.items() if k != "freqs"}
    missing, unexpected = model.load_state_dict(given, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    if m["tied"]:
        model.tie_weights()
    if "freqs" in weights:
        model.model.rotary_emb.inv_freq /= torch.from_numpy(weights["freqs"])
    return model


def rounded(x, group):
    """As the server does it, in single precision: codes up to 127 for each group."""
    x = x.float()
    groups = x.reshape(*x.shape[:-1], -1, group)
    most = groups.abs().amax(-1, keepdim=True)
    codes = torch.round(groups * (127 / most))
    return (codes.double() * (most / 127).double()).reshape(x.shape)


def round_inputs(model, kinds, tied):
    for name, module in model.named_modules():
        kind = kinds.get("model.embed_tokens" if tied and name == "lm_head" else name)
        if not isinstance(module, torch.nn.Linear) or kind in (Type.F32, Type.F16, Type.BF16):
            continue
        group = 256 if kind.name.endswith("_K") else 32
        module.register_forward_pre_hook(
            lambda _, inputs, group=group: (rounded(inputs[0], group),))


def write_seeds():
    folder = DATA.parent.parent / "fuzz" / "fuzz_gguf.seeds"
    folder.mkdir(exist_ok=True)
    for i, (name, m) in enumerate(SEEDS.items()):
        write_model(folder / name, m, np.random.default_rng(100 + i))
        print(folder / name, (folder / name).stat().st_size)


def main():
    if sys.argv[1:] == ["--seeds"]:
        return write_seeds()
    for name in sys.argv[1:] or MODELS:
        m, path = MODELS[name], DATA / f"{name}.gguf"
        rng = np.random.default_rng(list(MODELS).index(name) + 1)
        write_model(path, m, rng)
        weights, kinds = read_model(path, m)
        tokens = rng.integers(0, VOCAB, LENGTH)
        model = make_hf(m, weights)
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
            round_inputs(model, kinds, m["tied"])
            stored = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
        expected = dict(tokens=tokens.astype(np.int32), logits=logits.astype(np.float32),
                        stored=stored.astype(np.float32))
        save_file(expected, DATA / f"{name}.safetensors")
        difference = np.abs(stored - logits).max() / np.abs(logits).max()
        print(f"{name}: {path.stat().st_size} bytes, largest logit {np.abs(logits).max():.2f}, "
              f"8-bit inputs {difference:.1e}")


if __name__ == "__main__":
    main()
