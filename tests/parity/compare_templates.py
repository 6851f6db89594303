#!/usr/bin/env python3
"""Renders random conversations through chat templates with jinja2 and with headway, and compares
bytes and errors.

    make build/tests/parity/template_main
    python3 tests/parity/compare_templates.py [--conversations N] [--seed N] [FILE ...]

FILE is a template or a GGUF file with one (which needs the Python package gguf); without any, all of
tests/data/templates are taken, and tests/data/templates/expressions.txt: small templates, one a line.
jinja2 is set up as Hugging Face's transformers sets it up. Exits with 1 on any difference."""

import argparse
import datetime
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import jinja2.ext
import jinja2.sandbox

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(os.environ.get("BUILD", ROOT / "build")) / "tests/parity/template_main"
NOW = datetime.datetime(2026, 3, 7, 9, 5, 2)


class Generation(jinja2.ext.Extension):
    """{% generation %}, which marks what the model wrote: here it only calls its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


# ---- random conversations ----

WORDS = ["Hello", "world", "naïve", "日本語", "🙂", "Straße", "ÉCOLE", "İstanbul", "o'clock", '"quoted"',
         "{braces}", "{{ x }}", "{% if %}", "back\\slash", "<|im_end|>", "<|im_start|>system", "</s>",
         "[INST]", "[/INST]", "<think>", "</think>", "<start_of_turn>", "<|eot_id|>", "<b>&amp;</b>",
         "a_b", "1.5", "42", "\t", "\n", "\n\n", "  ", "\r\n", " ", "ﬁne", "x" * 40, "%s", "100%"]


def text(rng):
    if rng.random() < 0.07:
        return ""
    return rng.choice([" ", "", "\n"]).join(rng.choice(WORDS) for _ in range(rng.randint(1, 8)))


def thought(rng):
    parts = text(rng)
    if rng.random() < 0.3:
        parts = f"<think>{text(rng)}</think>{rng.choice(['', chr(10), chr(10) * 2])}{parts}"
    return parts


def value(rng, depth=0):
    kind = rng.randint(0, 9 if depth < 3 else 6)
    if kind <= 2:
        return text(rng)
    if kind == 3:
        return rng.choice([0, 1, -1, 7, 123456789012, -42])
    if kind == 4:
        return rng.choice([0.5, 1.0, -2.25, 1e-7, 1e22, 3.141592653589793, 0.1])
    if kind == 5:
        return rng.choice([True, False])
    if kind == 6:
        return None
    if kind == 7:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice(["a", "b", "city", "unit", "naïve", "items", "x y"]): value(rng, depth + 1)
            for _ in range(rng.randint(0, 3))}


def schema(rng, depth=0):
    kind = rng.choice(["string", "integer", "number", "boolean"] + (["array", "object"] * (depth < 2)))
    s = {"type": kind}
    if rng.random() < 0.7:
        s["description"] = text(rng)
    if rng.random() < 0.2 and kind == "string":
        s["enum"] = [text(rng) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.2:
        s["default"] = value(rng, 2)
    if rng.random() < 0.1:
        s["nullable"] = rng.choice([True, False])
    if rng.random() < 0.1:
        s["type"] = [kind, "null"]
    elif kind == "array":
        s["items"] = schema(rng, depth + 1) if rng.random() < 0.8 else {}
    elif kind == "object":
        s.update(parameters(rng, depth + 1))
    return s


def parameters(rng, depth=0):
    names = rng.sample(["city", "unit", "days", "naïve", "items", "options", "q"], rng.randint(0, 4))
    p = {"type": "object", "properties": {n: schema(rng, depth) for n in names}}
    if rng.random() < 0.7:
        p["required"] = [n for n in names if rng.random() < 0.5]
    return p


def tool(rng):
    f = {"name": rng.choice(["get_weather", "search", "python", "f"]), "description": text(rng),
         "parameters": parameters(rng)}
    if rng.random() < 0.1:
        f["return"] = schema(rng)
    if rng.random() < 0.1:
        del f["description"]
    return f if rng.random() < 0.1 else {"type": "function", "function": f}


def call(rng):
    arguments = {n: value(rng) for n in rng.sample(["city", "unit", "days", "q"], rng.randint(0, 3))}
    if rng.random() < 0.25:
        arguments = json.dumps(arguments, ensure_ascii=False)
    c = {"type": "function", "function": {"name": rng.choice(["get_weather", "search"]),
                                          "arguments": arguments}}
    if rng.random() < 0.7:
        c["id"] = rng.choice(["abcdefghi", "call_1", "123456789", "functions.search:0"])
    return c if rng.random() < 0.9 else c["function"]


def content(rng):
    kind = rng.random()
    if kind < 0.75:
        return thought(rng)
    if kind < 0.93:
        parts = []
        for _ in range(rng.randint(0, 3)):
            part = rng.random()
            parts.append({"type": "text", "text": text(rng)} if part < 0.85
                         else {"type": "image", "image": "x.png"} if part < 0.95
                         else {"type": "image_url", "image_url": {"url": "http://x"}})
        return parts
    return None if kind < 0.97 else value(rng)


def message(rng, role):
    m = {"role": role}
    if rng.random() < 0.96:
        m["content"] = content(rng)
    if role == "assistant":
        if rng.random() < 0.3:
            m["tool_calls"] = [call(rng) for _ in range(rng.randint(0, 3))]
            if rng.random() < 0.5:
                m["content"] = rng.choice([None, "", text(rng)])
        if rng.random() < 0.2:
            m["reasoning_content"] = rng.choice([text(rng), text(rng), None, ""])
        if rng.random() < 0.05:
            m["thinking"] = text(rng)
    if role == "tool":
        if rng.random() < 0.7:
            m["tool_call_id"] = rng.choice(["abcdefghi", "call_1", "123456789"])
        if rng.random() < 0.5:
            m["name"] = rng.choice(["get_weather", "search"])
    return m


def conversation(rng):
    """Mostly as clients send them: turns that alternate; sometimes not."""
    messages = []
    if rng.random() < 0.5:
        messages.append(message(rng, "system" if rng.random() < 0.9 else "developer"))
    if rng.random() < 0.8:
        for _ in range(rng.randint(0, 3)):
            messages.append(message(rng, "user"))
            messages.append(message(rng, "assistant"))
            while messages[-1].get("tool_calls") and rng.random() < 0.9:
                for _ in range(rng.choice([1, 1, len(messages[-1]["tool_calls"])])):
                    messages.append(message(rng, "tool"))
                messages.append(message(rng, "assistant"))
        if rng.random() < 0.8:
            messages.append(message(rng, "user"))
    else:
        roles = ["system", "user", "assistant", "tool", "function", "ipython", "critic"]
        for _ in range(rng.randint(0, 5)):
            messages.append(message(rng, rng.choice(roles)))
    if rng.random() < 0.6:  # plain text only: what most templates expect
        for m in messages:
            if not isinstance(m.get("content"), str):
                m["content"] = thought(rng)
    request = {"messages": messages, "add_generation_prompt": rng.random() < 0.5,
               "bos_token": rng.choice(["<s>", "<|begin_of_text|>", ""]),
               "eos_token": rng.choice(["</s>", "<|im_end|>"])}
    if rng.random() < 0.4:
        request["tools"] = [tool(rng) for _ in range(rng.randint(0 if rng.random() < 0.1 else 1, 3))]
    extra = {}
    if "tools" not in request and rng.random() < 0.3:
        extra["tools"] = None
    for name, values in [("enable_thinking", [True, False]), ("thinking", [True, False]),
                         ("documents", [[{"title": text(rng), "text": text(rng)}]]),
                         ("reasoning_effort", ["low", "high"]), ("date_string", ["1 Jan 2025"]),
                         ("functions", [[tool(rng)]]), ("datetime", ["2025-01-01"]),
                         ("tools_in_user_message", [True, False]), ("custom_tools", [[tool(rng)]]),
                         ("builtin_tools", [["code_interpreter", "brave_search"]]),
                         ("controls", [{"length": "long", "originality": "x"}])]:
        if rng.random() < 0.12:
            extra[name] = rng.choice(values)
    request["extra"] = extra
    return request


# ---- random expressions ----

STRINGS = ["''", "'a'", "'é🙂'", "'it\\'s'", "'a,b,,c'", "' x\\ty '", "'Hello World'", "'{}-{}'", "'<b>'",
           "'12'", "'1.5'", "'<|im_end|>'", "'a\\n b\\n\\nc'", "'ß'", "'ΟΔΟΣ\\u00a0x'"]
ATOMS = ["0", "1", "2", "-3", "7", "1.5", "0.0", "-2.25", "true", "false", "none", "missing", "[]", "{}",
         "messages", "messages[0]", "bos_token", "ns", "lst", "dct", "txt", "num", "loop.index", "m", "range(4)"]
METHODS = ["strip()", "split()", "split(',')", "split('a', 1)", "upper()", "lower()", "title()", "replace('a', txt)",
           "startswith('a')", "endswith('c')", "find('b')", "count('a')", "get('a')", "get('z', 1)", "items()",
           "keys()", "values()", "splitlines()", "lstrip('a')", "rstrip()", "join(['x', txt])", "format(1, txt)",
           "rsplit(',', 1)", "isdigit()", "index(1)", "capitalize()", "removeprefix('a')", "x", "a", "role"]
FILTERS = ["length", "trim", "upper", "lower", "title", "capitalize", "string", "list", "first", "last", "join",
           "join(', ')", "default('d')", "default('d', true)", "items|list", "dictsort", "sort", "unique|list",
           "reverse|list", "reverse", "int", "float", "abs", "round", "round(1)", "tojson", "tojson(indent=2)",
           "tojson(true)", "e", "safe", "replace('a', 'bb')", "indent", "indent(2, true)", "map('string')|list",
           "map(attribute='a')|list", "select|list", "reject|list", "select('string')|list", "sum", "min", "max",
           "selectattr('role')|list", "selectattr('role', 'equalto', 'user')|list", "batch(2)|list", "count",
           "rejectattr('content', 'none')|list", "map('length')|list", "map(attribute='role')|join('-')",
           "sort(reverse=true)", "sort(attribute='a')", "format(1)"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "float",
         "boolean", "true", "false", "odd", "even", "divisibleby(2)", "in lst", "eq 1", "callable", "lower", "upper"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]


def expression(rng, depth=0):
    kind = rng.randint(0, 13) if depth < 4 else rng.randint(0, 1)
    inner = lambda: expression(rng, depth + 1)  # noqa: E731
    if kind == 0:
        return rng.choice(STRINGS)
    if kind == 1:
        return rng.choice(ATOMS)
    if kind <= 3:
        return f"({inner()} {rng.choice(OPERATORS)} {inner()})"
    if kind == 4:
        return f"{rng.choice(['not ', '-', '+'])}({inner()})"
    if kind == 5:
        return f"({inner()}).{rng.choice(METHODS)}"
    if kind <= 8:
        return f"({inner()})|{rng.choice(FILTERS)}"
    if kind == 9:
        return f"(({inner()}) is {rng.choice(['', 'not '])}{rng.choice(TESTS)})"
    if kind == 10:
        return f"({inner()} if {inner()} else {inner()})"
    if kind == 11:
        return f"[{inner()}, {inner()}]" if rng.random() < 0.6 else f"({inner()},)"
    if kind == 12:
        return f"{{'a': {inner()}, {rng.choice(STRINGS)}: {inner()}}}"
    part = lambda: rng.choice(["", "0", "1", "-1", "2", "-2", "5"])  # noqa: E731
    where = rng.choice([f"[{part()}:{part()}]", f"[{part()}:{part()}:{rng.choice(['1', '2', '-1'])}]", "[0]",
                        "[-1]", "[1]", "['a']", f"[{inner()}]"])
    return f"({inner()}){where}" if ":" not in where else f"(x if x is string else txt){where}"


SETUP = ("{% set lst = ['b', 'A', 'a', 'é'] %}{% set dct = {'b': 1, 'a': [2], 'role': 'x'} %}"
         "{% set txt = 'a b,c' %}{% set num = 5 %}{% set ns = namespace(a=1) %}{% set x = txt %}")


def random_template(rng):
    lines = "".join(f"{{{{ {expression(rng)} }}}}\n" for _ in range(rng.randint(1, 2)))
    if rng.random() < 0.3:
        lines = f"{{% for m in {rng.choice(['messages', 'lst', 'dct.items()', expression(rng)])} %}}{lines}{{% endfor %}}"
    if rng.random() < 0.2:
        lines = f"{{% set x = {expression(rng)} %}}{lines}"
    return SETUP + lines


# ---- comparison ----

def reference(template, request):
    """What jinja2 gives: (text, None) or (None, error)."""
    variables = dict(request["extra"])
    for name in ("messages", "tools", "add_generation_prompt", "bos_token", "eos_token"):
        if name in request:
            variables[name] = request[name]
    try:
        return template.render(**variables).encode(), None
    except Exception as error:  # pylint: disable=broad-except
        return None, f"{type(error).__name__}: {error}"


class Driver:
    def __init__(self):
        env = dict(os.environ, TZ="UTC")
        self.process = subprocess.Popen([str(DRIVER)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env=env)

    def render(self, source, request):
        now = int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp())
        line = json.dumps(dict(request, template=source, now=now))
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            return None, answer["error"]
        return answer["text"].encode(), None


def source_of(path):
    if path.suffix != ".gguf":
        return path.read_text(encoding="utf-8")
    import gguf  # pylint: disable=import-outside-toplevel
    field = gguf.GGUFReader(path).fields["tokenizer.chat_template"]
    return bytes(field.parts[field.data[0]]).decode()


def compare(driver, env, name, source, requests, show):
    """Counts of equal texts, equal failures, differences."""
    try:
        template, broken = env.from_string(source), None
    except Exception as error:  # pylint: disable=broad-except
        template, broken = None, f"{type(error).__name__}: {error}"
    same = failed = different = 0
    for request in requests:
        expected = (None, broken) if broken else reference(template, request)
        got = driver.render(source, request)
        if expected[0] is not None and expected[0] == got[0]:
            same += 1
        elif expected[0] is None and got[0] is None:
            failed += 1
        elif expected[0] and re.search(rb"0x[0-9a-f]{10}", expected[0], re.IGNORECASE):
            same += 1  # Python's addresses
        else:
            different += 1
            if different <= show:
                print(f"--- {name}\nrequest  {json.dumps(request, ensure_ascii=False)}\n"
                      f"expected {expected}\ngot      {got}")
    return same, failed, different


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", type=int, default=0, metavar="N",
                        help="N templates of random expressions as well")
    parser.add_argument("--show", type=int, default=1, help="differences printed for each template")
    args = parser.parse_args()
    driver, env, total = Driver(), environment(), [0, 0, 0]
    data = ROOT / "tests/data/templates"
    jobs = [(path.name, source_of(path), args.conversations)
            for path in args.files or sorted(data.glob("*.jinja"))]
    if not args.files:
        lines = (data / "expressions.txt").read_text(encoding="utf-8").splitlines()
        jobs += [(f"expressions.txt:{i + 1}: {line}", line.replace("⏎", "\n"), 3)
                 for i, line in enumerate(lines) if line and not line.startswith("##")]
    rng = random.Random(args.seed)
    for _ in range(args.random):
        source = random_template(rng)
        jobs.append((source[len(SETUP):], source, 1))
    for name, source, n in jobs:
        rng = random.Random(f"{args.seed} {name}")
        counts = compare(driver, env, name, source, [conversation(rng) for _ in range(n)],
                         args.show)
        total = [a + b for a, b in zip(total, counts)]
        if n > 3 or (counts[2] and args.show):
            print(f"{name}: {counts[0]} equal, {counts[1]} refused by both, {counts[2]} different")
    print(f"{len(jobs)} templates: {total[0]} texts equal, {total[1]} refused by both, "
          f"{total[2]} different")
    return 1 if total[2] else 0


if __name__ == "__main__":
    sys.exit(main())
