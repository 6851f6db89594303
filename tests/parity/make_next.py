#!/usr/bin/env python3
"""Models with a layer behind the trunk's that reads its state and the next token, as others write
them, each with what it says by a forward pass of its own, in f64, from the formulas of vLLM's
mimo_mtp.py and of llama.cpp.

    mimo    MiMo-7B's layout: model.mtp_layers.0, [state; embedding], zeros for the token at position 0
    nextn   the same weights as a GGUF file: blk.N.nextn, [embedding; state], no zeros
    eagle3  EAGLE-3's heads as published, in heads/, beside a llama of four layers, in trunk/: fc of
            three layers' inputs, queries, keys and values of [embedding; state], a wider feed-forward
            layer than the trunk's, 40 of 96 tokens

Writes tests/data/files/NAME/ with expected.safetensors: tokens (1, T) I32, positions (S) I32 and
logits (2, 1, S, V) F32 at these, of the next token and of the one behind it. Only needed to make
them anew: python3 -m venv V && V/bin/pip install numpy gguf safetensors && V/bin/python FILE
"""

import json
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "files"
POSITIONS = [0, 1, 2, 3, 15, 16, 17, 31, 63, 64, 65, 98, 99]
AUX, DRAFTED, DRAFT_F = [1, 2, 3], 40, 64
D, LAYERS, HEADS, KV, K, F, V, T = 32, 2, 2, 1, 16, 48, 96, 100
EPS, THETA = 1e-6, 10000.0


def layer_shapes(inputs=D, biases=True, hidden=F):
    shapes = {"input_layernorm.weight": (D,), "post_attention_layernorm.weight": (D,),
              "self_attn.q_proj.weight": (HEADS * K, D), "self_attn.q_proj.bias": (HEADS * K,),
              "self_attn.k_proj.weight": (KV * K, D), "self_attn.k_proj.bias": (KV * K,),
              "self_attn.v_proj.weight": (KV * K, D), "self_attn.v_proj.bias": (KV * K,),
              "self_attn.o_proj.weight": (D, HEADS * K), "mlp.gate_proj.weight": (hidden, D),
              "mlp.up_proj.weight": (hidden, D), "mlp.down_proj.weight": (D, hidden)}
    for name in ("q_proj", "k_proj", "v_proj"):
        shapes[f"self_attn.{name}.weight"] = (shapes[f"self_attn.{name}.weight"][0], inputs)
    return {n: s for n, s in shapes.items() if biases or "bias" not in n}


def mimo_names():
    shapes = layer_shapes()
    own = {"hidden_layernorm.weight": (D,), "token_layernorm.weight": (D,),
           "final_layernorm.weight": (D,), "input_proj.weight": (D, 2 * D)}
    names = {f"model.layers.{i}.{n}": s for i in range(LAYERS) for n, s in shapes.items()}
    names |= {f"model.mtp_layers.0.{n}": s for n, s in (shapes | own).items()}
    names |= {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,), "lm_head.weight": (V, D)}
    return names


def llama_names(layers):
    names = {f"model.layers.{i}.{n}": s for i in range(layers) for n, s in layer_shapes(biases=False).items()}
    return names | {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,), "lm_head.weight": (V, D)}


def eagle3_names():
    names = {f"midlayer.{n}": s for n, s in layer_shapes(2 * D, False, DRAFT_F).items()}
    return names | {"midlayer.hidden_norm.weight": (D,), "fc.weight": (D, len(AUX) * D),
                    "norm.weight": (D,), "lm_head.weight": (DRAFTED, D)}


def draw(names, seed):
    """Name to weight, large enough that every part shows; all are bf16 numbers."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in names.items():
        x = rng.standard_normal(shape)
        if "norm" in name:
            x = 1 + 0.3 * x
        elif len(shape) == 1:
            x = 0.5 * x
        else:
            x = 1.2 / shape[1] ** 0.5 * x
        weights[name] = bf16_floats(bf16_bits(x))
    return weights


def bf16_bits(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bf16_floats(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


# ---- the forward pass ----


def rms(x, gain):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * gain


def rotate(x):
    """(T, heads, K), in halves."""
    angle = np.arange(len(x))[:, None] * THETA ** (-np.arange(0, K, 2) / K)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :K // 2], x[..., K // 2:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def layer(w, prefix, x, h=None):
    """h: what queries, keys and values read, where that is not x normalised."""
    def of(name):
        return w[f"{prefix}.{name}"].astype(np.float64)

    def project(name, heads):
        bias = of(f"self_attn.{name}.bias") if f"{prefix}.self_attn.{name}.bias" in w else 0
        return (h @ of(f"self_attn.{name}.weight").T + bias).reshape(len(x), heads, K)

    h = rms(x, of("input_layernorm.weight")) if h is None else h
    q, k, v = rotate(project("q_proj", HEADS)), rotate(project("k_proj", KV)), project("v_proj", KV)
    out = np.zeros((len(x), HEADS, K))
    for head in range(HEADS):
        score = q[:, head] @ k[:, head * KV // HEADS].T / K ** 0.5
        score[np.triu_indices(len(x), 1)] = -np.inf
        p = np.exp(score - score.max(-1, keepdims=True))
        out[:, head] = p / p.sum(-1, keepdims=True) @ v[:, head * KV // HEADS]
    x = x + out.reshape(len(x), -1) @ of("self_attn.o_proj.weight").T
    h = rms(x, of("post_attention_layernorm.weight"))
    gate = h @ of("mlp.gate_proj.weight").T
    return x + (gate / (1 + np.exp(-gate)) * (h @ of("mlp.up_proj.weight").T)) @ of("mlp.down_proj.weight").T


def logits(w, tokens, first_zero):
    def of(name):
        return w[name].astype(np.float64)

    x = of("model.embed_tokens.weight")[tokens]
    for i in range(LAYERS):
        x = layer(w, f"model.layers.{i}", x)
    behind = np.append(tokens[1:], 0)
    e = of("model.embed_tokens.weight")[behind]
    if first_zero:
        e[0] = 0
    own = "model.mtp_layers.0"
    joined = np.concatenate([rms(x, of(f"{own}.hidden_layernorm.weight")),
                             rms(e, of(f"{own}.token_layernorm.weight"))], -1)
    y = layer(w, own, joined @ of(f"{own}.input_proj.weight").T)
    return np.stack([rms(x, of("model.norm.weight")) @ of("lm_head.weight").T,
                     rms(y, of(f"{own}.final_layernorm.weight")) @ of("lm_head.weight").T])


def eagle3_logits(w, own, tokens):
    """vLLM's llama_eagle3.py; what is beyond the draft vocabulary is 0."""
    def of(name, weights=own):
        return weights[name].astype(np.float64)

    embed = of("model.embed_tokens.weight", w)
    x, aux = embed[tokens], []
    for i in range(4):
        aux += [x] if i in AUX else []
        x = layer(w, f"model.layers.{i}", x)
    state = np.concatenate(aux, -1) @ of("fc.weight").T
    e = embed[np.append(tokens[1:], 0)]
    joined = np.concatenate([rms(e, of("midlayer.input_layernorm.weight")),
                             rms(state, of("midlayer.hidden_norm.weight"))], -1)
    drafts = rms(layer(own, "midlayer", state, joined), of("norm.weight")) @ of("lm_head.weight").T
    return np.stack([rms(x, of("model.norm.weight", w)) @ of("lm_head.weight", w).T,
                     np.pad(drafts, ((0, 0), (0, V - DRAFTED)))])


# ---- the files ----


def expect(folder, of_tokens):
    tokens = np.random.default_rng(9).integers(0, V, T)
    out = of_tokens(tokens)[:, None, POSITIONS]
    save_file({"tokens": tokens.astype(np.int32)[None], "positions": np.array(POSITIONS, np.int32),
               "logits": np.ascontiguousarray(out, np.float32)}, folder / "expected.safetensors")


def write_bf16(path, w):
    """Whole numbers as they are, others in bf16, which safetensors' numpy has not."""
    head, parts, at = {}, [], 0
    for name, x in w.items():
        whole = {"int64": "I64", "bool": "BOOL"}.get(str(x.dtype))
        parts.append((x if whole else bf16_bits(x)).tobytes())
        head[name] = {"dtype": whole or "BF16", "shape": x.shape, "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def write_mimo(folder, w):
    write_bf16(folder / "model.safetensors", w)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["MiMoForCausalLM"], "model_type": "mimo", "vocab_size": V, "hidden_size": D,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV,
        "intermediate_size": F, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "rms_norm_eps": EPS, "rope_theta": THETA, "rope_scaling": None,
        "attention_bias": True, "tie_word_embeddings": False, "head_dim": K,
        "num_nextn_predict_layers": 1, "use_sliding_window": False}, indent=2) + "\n")
    expect(folder, lambda tokens: logits(w, tokens, first_zero=True))


def write_eagle3(folder, w):
    own = draw(eagle3_names(), 13)
    ids = np.sort(np.random.default_rng(14).choice(V, DRAFTED, replace=False))
    shape = {"vocab_size": V, "hidden_size": D, "num_attention_heads": HEADS, "num_key_value_heads": KV,
             "intermediate_size": F, "max_position_embeddings": 256, "rms_norm_eps": EPS,
             "rope_theta": THETA, "head_dim": K, "hidden_act": "silu"}
    for name, weights, config in (
            ("trunk", w, {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **shape,
                          "num_hidden_layers": 4, "bos_token_id": 1, "eos_token_id": 2,
                          "tie_word_embeddings": False}),
            ("heads", own | {"d2t": ids - np.arange(DRAFTED), "t2d": np.isin(np.arange(V), ids)},
             {"architectures": ["LlamaForCausalLMEagle3"], **shape, "num_hidden_layers": 1,
              "intermediate_size": DRAFT_F, "draft_vocab_size": DRAFTED,
              "eagle_config": {"eagle_aux_hidden_state_layer_ids": AUX}})):
        (folder / name).mkdir(exist_ok=True)
        write_bf16(folder / name / "model.safetensors", weights)
        (folder / name / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    expect(folder, lambda tokens: eagle3_logits(w, own, tokens))


GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
              "post_attention_layernorm": "ffn_norm", "hidden_layernorm": "nextn.hnorm",
              "token_layernorm": "nextn.enorm", "final_layernorm": "nextn.shared_head_norm",
              "input_proj": "nextn.eh_proj", "model.embed_tokens": "token_embd",
              "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    stem, _, kind = name.rpartition(".")
    if stem in GGUF_NAMES:
        return f"{GGUF_NAMES[stem]}.{kind}"
    _, group, number, rest = stem.split(".", 3)
    return f"blk.{int(number) + (LAYERS if group == 'mtp_layers' else 0)}.{GGUF_NAMES[rest]}.{kind}"


def write_nextn(folder, w):
    writer = gguf.GGUFWriter(folder / "model.gguf", "qwen2")
    writer.add_context_length(256)
    writer.add_embedding_length(D)
    writer.add_block_count(LAYERS + 1)
    writer.add_feed_forward_length(F)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_freq_base(THETA)
    writer.add_uint32("qwen2.nextn_predict_layers", 1)
    for name, x in w.items():
        if name.endswith("input_proj.weight"):
            x = np.concatenate([x[:, D:], x[:, :D]], 1)
        kind = gguf.GGMLQuantizationType.F32 if x.ndim == 1 else gguf.GGMLQuantizationType.BF16
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(x, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expect(folder, lambda tokens: logits(w, tokens, first_zero=False))


if __name__ == "__main__":
    drawn, llama = draw(mimo_names(), 11), draw(llama_names(4), 12)
    for target, write, w in (("mimo", write_mimo, drawn), ("nextn", write_nextn, drawn),
                             ("eagle3", write_eagle3, llama)):
        (DATA / target).mkdir(parents=True, exist_ok=True)
        write(DATA / target, w)
        print(target, sum(f.stat().st_size for f in (DATA / target).rglob("*.*")), "bytes")
