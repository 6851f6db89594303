"""Writes a GGUF file of a model that chats without knowing anything: random weights, a small byte-level
BPE vocabulary, control tokens and a ChatML template. For test_chat.py; standard library only.

    python3 tests/e2e/tiny_gguf.py FILE

The format is described in tools/random_gguf.py; this file adds arrays (u32 type, u64 length, items)
and truth values (a byte)."""
import random
import struct
import sys
from array import array

DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, CONTEXT = 64, 2, 4, 2, 128, 512
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END, START, STOP = range(3)
WORDS = (" the", " of", " and", " to", " in", " is", " that", " was", " for", " you", " with", " not",
         " this", " have", " from", " one", " what", " capital", " France", "hello", " world", "user",
         "system", "assistant", "tool", "\n\n", "    ", "\u00e9", "\U0001f600", "ing", "tion", "ed")

# Each of the template's branches is taken by a test.
TEMPLATE = """{%- if messages[0].role == 'tool' %}{{ raise_exception('A tool cannot begin.') }}{% endif %}
{%- if tools %}{{ '<|im_start|>system\\nTools:' }}{% for tool in tools %}{{ ' ' ~ (tool | tojson) }}
{%- endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}{{ '\\ncall ' ~ call.function.name }}
{%- for key, value in call.function.arguments.items() %}{{ ' ' ~ key ~ '=' ~ value }}{% endfor %}
{%- endfor %}{{ '<|im_end|>\\n' }}{% endfor %}
{%- if mood is defined %}{{ '(' ~ mood ~ ')' }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
ALIGNMENT = 32


def byte_characters():
    """GPT-2's character for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (b for b in range(256) if b not in plain)
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def vocabulary():
    """Texts of tokens and merges: each word grows from its first byte."""
    characters = byte_characters()
    tokens, merges = SPECIAL + [characters[b] for b in range(256)], []
    for word in WORDS:
        letters = [characters[b] for b in word.encode()]
        for i in range(1, len(letters)):
            left, both = "".join(letters[:i]), "".join(letters[:i + 1])
            if both not in tokens:
                tokens.append(both)
                merges.append(f"{left} {letters[i]}")
    return tokens, merges


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, item):
    if kind == STRING:
        return string(item)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], item)


def entry(key, kind, item, of=None):
    packed = string(key) + struct.pack("<I", kind)
    if kind != ARRAY:
        return packed + value(kind, item)
    return packed + struct.pack("<IQ", of, len(item)) + b"".join(value(of, x) for x in item)


def metadata(tokens, merges, template, control, context=CONTEXT):
    kinds = [3 if i in control else 1 for i in range(len(tokens))]
    entries = [
        entry("general.architecture", STRING, "llama"),
        entry("llama.vocab_size", U32, len(tokens)),
        entry("llama.context_length", U32, context),
        entry("llama.embedding_length", U32, DIM),
        entry("llama.block_count", U32, LAYERS),
        entry("llama.feed_forward_length", U32, HIDDEN),
        entry("llama.attention.head_count", U32, HEADS),
        entry("llama.attention.head_count_kv", U32, KV_HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        entry("llama.rope.dimension_count", U32, DIM // HEADS),
        entry("llama.rope.freq_base", F32, 10000.0),
        entry("tokenizer.ggml.model", STRING, "gpt2"),
        entry("tokenizer.ggml.pre", STRING, "gpt-2"),
        entry("tokenizer.ggml.tokens", ARRAY, tokens, STRING),
        entry("tokenizer.ggml.token_type", ARRAY, kinds, I32),
        entry("tokenizer.ggml.merges", ARRAY, merges, STRING),
        entry("tokenizer.ggml.bos_token_id", U32, START),
        entry("tokenizer.ggml.eos_token_id", U32, STOP),
        entry("tokenizer.ggml.add_bos_token", BOOL, False),
    ]
    if template is not None:
        entries.append(entry("tokenizer.chat_template", STRING, template))
    return entries


def tensors(vocab):
    """Names and sizes, inputs first."""
    kv = DIM // HEADS * KV_HEADS
    yield "token_embd.weight", (DIM, vocab)
    for i in range(LAYERS):
        for name, sizes in (("attn_norm", (DIM,)), ("attn_q", (DIM, DIM)), ("attn_k", (DIM, kv)),
                            ("attn_v", (DIM, kv)), ("attn_output", (DIM, DIM)),
                            ("ffn_norm", (DIM,)), ("ffn_gate", (DIM, HIDDEN)),
                            ("ffn_up", (DIM, HIDDEN)), ("ffn_down", (HIDDEN, DIM))):
            yield f"blk.{i}.{name}.weight", sizes
    yield "output_norm.weight", (DIM,)
    yield "output.weight", (DIM, vocab)


def numbers(sizes, rng):
    if len(sizes) == 1:
        return array("f", [1.0] * sizes[0])
    scale = 2 * sizes[0] ** -0.5
    return array("f", (rng.gauss(0, scale) for _ in range(sizes[0] * sizes[1])))


def write(path, template=TEMPLATE):
    """A file at `path`; `template` None leaves the template out."""
    rng = random.Random(1)
    tokens, merges = vocabulary()
    write_model(path, metadata(tokens, merges, template, range(len(SPECIAL))), len(tokens),
                lambda name, sizes: numbers(sizes, rng))


def write_model(path, entries, vocab, fill):
    """The file of those entries, and of tensors that fill(name, sizes) makes."""
    directory, data, count = b"", b"", 0
    for name, sizes in tensors(vocab):
        directory += string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        directory += struct.pack("<IQ", 0, len(data))
        packed = fill(name, sizes)
        if sys.byteorder == "big":
            packed.byteswap()
        data += packed.tobytes()
        data += bytes(-len(data) % ALIGNMENT)
        count += 1
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(entries)) + b"".join(entries) + directory
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT) + data)


if __name__ == "__main__":
    write(sys.argv[1])
