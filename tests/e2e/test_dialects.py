#!/usr/bin/env python3
"""What clients speak beside plain chats: tool calls, Anthropic's Messages and OpenAI's Responses. On a
model that says what it is told (scripted_gguf.py), and by the official clients where they are
installed. BUILD is the build folder."""
import json
import os
import pathlib
import signal
import tempfile
import unittest

import schemas
import scripted_gguf
import tiny_gguf
from harness import Server, post_bytes, read_all, require_files

try:
    import anthropic
except ImportError:
    anthropic = None
try:
    import openai
except ImportError:
    openai = None

NAME = "scripted.gguf"
TEMPLATE = r"""{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Calls stand in <tool_call></tool_call>.<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}{{ '\n<tool_call>\n{"name": "' ~ call.function.name }}
{{- '", "arguments": ' ~ (call.function.arguments | tojson) ~ '}\n</tool_call>' }}
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
CUES{% endif %}"""

SAY = {  # the user's word: what the model says to it, a token each
    "plain": ["Hel", "lo, ", "\u00e9t\u00e9", "."],
    "call": ["Let me", " see.\n", "<tool", "_call>\n{\"na", "me\": \"add\", ",
             "\"arguments\": {\"a\": 1,", " \"b\": 2.50}", "}\n</tool_call", ">"],
    "two": ["<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1}}</tool_call>\n",
            "<tool_call>{\"name\":\"now\"}</tool_call>"],
    "fence": ["```json\n", "{\"name\": \"add\",\n \"arguments\": {}}", "\n```"],
    "broken": ["<tool_call>\n{\"name\": \"add\"", "\n</tool_call>", " no"],
}
ROUND = ["one ", "two ", "three "]
ADD = {"name": "add", "description": "Adds.", "parameters": {
    "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}}
NOW = {"name": "now", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": tool} for tool in (ADD, NOW)]
FLAT = [{"type": "function", **tool} for tool in (ADD, NOW)]
SCHEMA = [{"name": tool["name"], "input_schema": tool["parameters"]} for tool in (ADD, NOW)]


def write_model(path):
    script, cues = scripted_gguf.Script(), ""
    for word, pieces in SAY.items():
        script.say(script.cue(f"<|{word}|>"), *pieces)
        cues += f"{{% if messages[-1].content == '{word}' %}}{{{{ '<|{word}|>' }}}}{{% endif %}}"
    script.say(script.cue("<|round|>"), *ROUND, stop=False)
    cues += "{% if messages[-1].content == 'round' %}{{ '<|round|>' }}{% endif %}"
    # An answer that was begun: with a call of some tool, of a tool, or with text that ends with o.
    script.say(script.byte('"'), "now\", \"arguments\": {}}", "\n</tool_call>")
    script.say(script.byte(":"), " {\"a\": 7}}", "\n</tool_call>")
    script.say(script.byte("!"), " And", " more.")
    scripted_gguf.write(path, script, TEMPLATE.replace("CUES", cues))


class Scripted(unittest.TestCase):
    """Tests that leave the server as it was share one."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="headway-dialects-")
        model = os.path.join(cls.folder.name, NAME)
        write_model(model)
        cls.server = Server("--model", model)
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        cls.folder.cleanup()
        assert code == 0, "".join(cls.server.log)

    def refused(self, path, status, *words, **fields):
        got, _, data = self.server.request("POST", path, fields)
        self.assertEqual(got, status, data)
        error = json.loads(data)
        for word in words:
            self.assertIn(word, error["error"]["message"])
        return error

    def events(self, path, server=None, **fields):
        """The objects of a stream whose events have names."""
        status, headers, data = (server or self.server).request("POST", path, {**fields, "stream": True})
        self.assertEqual(status, 200, data)
        self.assertTrue(headers["Content-Type"].startswith("text/event-stream"))
        events = []
        for part in data.decode().split("\n\n")[:-1]:
            name, body = part.split("\n")
            events.append(json.loads(body.removeprefix("data: ")))
            self.assertEqual(name, "event: " + events[-1]["type"])
        return events


def joined(events):
    """A chat stream's one message, as clients put it together."""
    message = {"content": "", "calls": []}
    for event in events[:-1]:
        for choice in event["choices"]:
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            for call in delta.get("tool_calls", []):
                if call["index"] == len(message["calls"]):
                    assert call["id"] and call["type"] == "function", call
                    assert call["function"]["arguments"] == "", call
                    message["calls"].append([call["function"]["name"], ""])
                else:
                    message["calls"][call["index"]][1] += call["function"]["arguments"]
            message["finish"] = choice["finish_reason"] or message.get("finish")
    return message


class Tools(Scripted):
    WANTED = {
        "plain": ("Hello, \u00e9t\u00e9.", [], "stop"),
        "call": ("Let me see.", [["add", "{\"a\": 1, \"b\": 2.50}"]], "tool_calls"),
        "two": ("", [["add", "{\"a\":1}"], ["now", "{}"]], "tool_calls"),
        "fence": ("", [["add", "{}"]], "tool_calls"),
        "broken": ("<tool_call>\n{\"name\": \"add\"\n</tool_call> no", [], "stop"),
    }

    def test_whole_and_streamed(self):
        for word, (content, calls, finish) in self.WANTED.items():
            for speculation in ("off", "auto"):
                with self.subTest(word=word, speculation=speculation):
                    fields = {"tools": TOOLS, "temperature": 0, "speculation": speculation}
                    choice = self.server.chat(word, **fields)["choices"][0]
                    message = choice["message"]
                    self.assertEqual(message["content"] or "", content)
                    self.assertEqual(message["content"] is None, not content)
                    self.assertEqual([[c["function"]["name"], c["function"]["arguments"]]
                                      for c in message.get("tool_calls", [])], calls)
                    self.assertEqual("tool_calls" in message, bool(calls))
                    self.assertEqual(choice["finish_reason"], finish)
                    for call in message.get("tool_calls", []):
                        self.assertRegex(call["id"], "^call_[a-z0-9]{16}$")
                        self.assertEqual(call["type"], "function")
                    got = joined(self.server.chat_stream(word, **fields))
                    self.assertEqual(got, {"content": content, "calls": calls, "finish": finish})

    def test_only_where_they_are_declared(self):
        for fields in ({}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}):
            choice = self.server.chat("call", temperature=0, **fields)["choices"][0]
            self.assertEqual(choice["message"]["content"], "".join(SAY["call"]))
            self.assertNotIn("tool_calls", choice["message"])
            self.assertEqual(choice["finish_reason"], "stop")

    def test_one_call(self):
        fields = {"tools": TOOLS, "temperature": 0, "parallel_tool_calls": False}
        self.assertEqual(len(self.server.chat("two", **fields)["choices"][0]["message"]
                             ["tool_calls"]), 1)
        self.assertEqual(len(joined(self.server.chat_stream("two", **fields))["calls"]), 1)

    def test_a_call_that_is_cut_is_text(self):
        choice = self.server.chat("call", tools=TOOLS, temperature=0, max_tokens=5)["choices"][0]
        self.assertEqual(choice["message"]["content"], "".join(SAY["call"][:5]))
        self.assertEqual(choice["finish_reason"], "length")

    def test_choice(self):
        for choice, calls in (("required", [["now", "{}"]]),
                              ({"type": "function", "function": {"name": "add"}},
                               [["add", "{\"a\": 7}"]])):
            fields = {"tools": TOOLS, "tool_choice": choice, "temperature": 0}
            self.assertEqual(joined(self.server.chat_stream("plain", **fields)),
                             {"content": "", "calls": calls, "finish": "tool_calls"})
            prompt = self.server.post("/apply-template", messages=[{"role": "user",
                                                                    "content": "plain"}], **fields)
            self.assertIn("<|plain|><tool_call>\n{\"name\": \"", prompt["prompt"])
        for choice in ("some", {"type": "function", "function": {"name": "sub"}}, {"type": "x"}):
            self.refused("/v1/chat/completions", 400, "tool_choice", tools=TOOLS,
                         tool_choice=choice, messages=[{"role": "user", "content": "x"}])

    def test_many_choices_and_logprobs(self):
        answer = self.server.chat("call", tools=TOOLS, temperature=0, n=3, logprobs=True)
        for choice in answer["choices"]:
            self.assertEqual(len(choice["message"]["tool_calls"]), 1)
            self.assertEqual("".join(t["token"] for t in choice["logprobs"]["content"]
                                     if t["token"] != "<|im_end|>"), "".join(SAY["call"]))
        events = self.server.chat_stream("call", tools=TOOLS, temperature=0, logprobs=True)
        self.assertEqual(len([t for e in events[:-1] for c in e["choices"]
                              for t in (c["logprobs"] or {"content": []})["content"]]),
                         len(SAY["call"]) + 1)

    def test_answers_of_tools_go_back(self):
        call = self.server.chat("call", tools=TOOLS, temperature=0)["choices"][0]["message"]
        prompt = self.server.post("/apply-template", tools=TOOLS, messages=[
            {"role": "user", "content": "call"}, call,
            {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "3.5"}])
        self.assertIn("Let me see.\n<tool_call>\n{\"name\": \"add\", \"arguments\": "
                      "{\"a\": 1, \"b\": 2.5}}\n</tool_call>", prompt["prompt"])


# What a model that knows nothing can be held to in the few tokens of its context.
BOOK = {"name": "book", "strict": True, "parameters": schemas.strict({
    "city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1, "maximum": 30},
    "class": {"enum": ["first", "second"]},
    "with": schemas.array({"type": "string", "pattern": "^[A-Z][a-z]{2,5}$"}, maxItems=2)}, ["with"])}
STOP = {"name": "stop \"all\"", "parameters": {"type": "object", "properties": {
    "now": {"type": "boolean"}}}}
PING = {"name": "ping"}
HELD = {tool["name"]: tool for tool in (BOOK, STOP, PING)}
UNKNOWN = {"type": "object", "properties": {"a": {"not": {"type": "null"}}}, "required": ["a"]}


class Forced(unittest.TestCase):
    """A model of random weights, which writes no call of itself, must call, in each format."""
    FORMATS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="headway-forced-")
        cls.servers = []
        for name in cls.FORMATS:
            model = os.path.join(cls.folder.name, f"{len(cls.servers)}.gguf")
            # Few tools in few words: the context is short.
            template = tiny_gguf.TEMPLATE.replace("(tool | tojson)", "tool.function.name")
            tiny_gguf.write(model, template + "{# " + name + " #}")
            cls.servers.append(Server("--model", model))

    @classmethod
    def tearDownClass(cls):
        codes = [server.stop() for server in cls.servers]
        cls.folder.cleanup()
        assert codes == [0] * len(codes), "".join("".join(s.log) for s in cls.servers)

    def check(self, calls, names, most):
        self.assertTrue(1 <= len(calls) <= most, calls)
        for name, arguments in calls:
            self.assertIn(name, names)
            value = json.loads(arguments) if isinstance(arguments, str) else arguments
            schema = HELD[name].get("parameters", schemas.strict({}))
            self.assertTrue(schemas.valid(value, schema), value)

    def chat(self, server, stream, **fields):
        """The calls, and why the answer ended."""
        if stream:
            message = joined(server.chat_stream("hello", **fields))
            self.assertEqual(message["content"], "")
            return message["calls"], message["finish"]
        choice = server.chat("hello", **fields)["choices"][0]
        self.assertIsNone(choice["message"]["content"])
        return [(c["function"]["name"], c["function"]["arguments"])
                for c in choice["message"]["tool_calls"]], choice["finish_reason"]

    def test_chats(self):
        tools = [{"type": "function", "function": tool} for tool in HELD.values()]
        called = set()
        for server in self.servers:
            for seed in range(6):
                fields = {"tools": tools, "tool_choice": "required", "seed": seed, "max_tokens": 400,
                          "parallel_tool_calls": seed % 3 == 0, "temperature": 0.9}
                most = 99 if seed % 3 == 0 and server != self.servers[2] else 1
                whole = self.chat(server, False, speculation="off", **fields)
                self.check(whole[0], HELD, most)
                called |= {name for name, _ in whole[0]}
                self.assertEqual(whole[1], "tool_calls")
                for speculation in ("auto", 3):
                    calls, finish = self.chat(server, True, speculation=speculation, **fields)
                    self.assertEqual(([tuple(call) for call in calls], finish), whole)
            for name in HELD:
                fields = {"tools": tools, "seed": 5,
                          "tool_choice": {"type": "function", "function": {"name": name}}}
                for stream in (False, True):
                    self.check(self.chat(server, stream, **fields)[0], [name], 1)  # exactly one
        self.assertEqual(called, set(HELD))

    def test_several(self):
        tools = [{"type": "function", "function": PING}]
        for server, several in zip(self.servers, (True, True, False)):
            for parallel in (True, False):
                fields = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": parallel}
                counts = [len(self.chat(server, False, seed=seed, max_tokens=400, **fields)[0])
                          for seed in range(6)]
                self.assertEqual(max(counts) > 1, several and parallel, counts)

    def test_responses(self):
        for server in self.servers:
            tools = [{"type": "function", **tool} for tool in HELD.values()]
            for choice, names in (("required", HELD), ({"type": "function", "name": "book"}, ["book"])):
                fields = {"input": "hello", "tools": tools, "tool_choice": choice, "seed": 7}
                answer = server.post("/v1/responses", **fields)
                self.check([(i["name"], i["arguments"]) for i in answer["output"]], names,
                           99 if choice == "required" else 1)
                events = Scripted.events(self, "/v1/responses", server=server, **fields)
                self.assertEqual([(i["name"], i["arguments"]) for i in events[-1]["response"]["output"]],
                                 [(i["name"], i["arguments"]) for i in answer["output"]])

    def test_messages(self):
        for server in self.servers:
            tools = [{"name": tool["name"], "input_schema": tool.get("parameters", schemas.strict({}))}
                     for tool in HELD.values()]
            for choice, names in (({"type": "any"}, HELD), ({"type": "tool", "name": "book"}, ["book"])):
                fields = {"messages": user("hello"), "tools": tools, "seed": 3, "max_tokens": 400,
                          "tool_choice": {**choice, "disable_parallel_tool_use": True}}
                answer = server.post("/v1/messages", **fields)
                self.assertEqual(answer["stop_reason"], "tool_use")
                self.check([(b["name"], b["input"]) for b in answer["content"]], names, 1)
                events = Scripted.events(self, "/v1/messages", server=server, **fields)
                self.assertEqual(blocks_of(events), [without_id(b) for b in answer["content"]])

    def test_what_cannot_be_followed(self):
        server = self.servers[0]
        for schema, word in ((UNKNOWN, "#/properties/a/not"), ({"type": "string"}, "'type'"), ({}, "'type'")):
            function = {"name": "f", "strict": True, "parameters": schema}
            status, _, data = server.request("POST", "/v1/chat/completions", {
                "messages": user("x"), "tool_choice": "required",
                "tools": [{"type": "function", "function": function}]})
            error = json.loads(data)["error"]
            self.assertEqual((status, error["param"]), (400, "tools"))
            self.assertIn(word, error["message"])
            # One that is not strict may be given any object.
            ends = []
            for seed in range(8):
                choice = server.chat("hello", tool_choice="required", seed=seed, max_tokens=400, tools=[
                    {"type": "function", "function": {**function, "strict": False}}])["choices"][0]
                ends.append(choice["finish_reason"])
                for call in choice["message"].get("tool_calls", []):
                    self.assertIsInstance(json.loads(call["function"]["arguments"]), dict)
            self.assertIn("tool_calls", ends)
            self.assertLessEqual(set(ends), {"tool_calls", "length"})
        for path, tool in (("/v1/responses", {"type": "function", "name": "f", "parameters": UNKNOWN}),
                           ("/v1/messages", {"name": "f", "input_schema": UNKNOWN})):
            status, _, data = server.request("POST", path, {
                "tools": [{**tool, "strict": True}],
                **({"input": "x", "tool_choice": "required"} if path == "/v1/responses" else
                   {"messages": user("x"), "max_tokens": 9, "tool_choice": {"type": "any"}})})
            self.assertEqual(status, 400)
            self.assertIn("#/properties/a/not", json.loads(data)["error"]["message"])


def user(content):
    return [{"role": "user", "content": content}]


class Messages(Scripted):
    PATH = "/v1/messages"

    def ask(self, content, **fields):
        fields = {"max_tokens": 50, "temperature": 0, "model": NAME, **fields}
        return self.server.post(self.PATH, messages=as_list(content), **fields)

    def test_whole(self):
        answer = self.ask("plain", system="Be brief.", top_k=3, metadata={"user_id": "u"})
        self.assertRegex(answer.pop("id"), "^msg_[0-9a-f]{16}$")
        self.assertIn("num_spec_steps", answer.pop("metrics")["speculative_decoding"])
        usage = answer.pop("usage")
        self.assertEqual(usage["output_tokens"], len(SAY["plain"]) + 1)
        self.assertEqual(usage["cache_creation_input_tokens"], 0)
        self.assertEqual(answer, {
            "type": "message", "role": "assistant", "model": NAME, "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": "Hello, \u00e9t\u00e9."}]})

    def test_why_it_ended(self):
        answer = self.ask("round", max_tokens=4)
        self.assertEqual((answer["stop_reason"], answer["content"][0]["text"]),
                         ("max_tokens", "one two three one "))
        answer = self.ask("round", stop_sequences=["four", "three", "two three one"])
        self.assertEqual((answer["stop_reason"], answer["stop_sequence"]),
                         ("stop_sequence", "three"))
        self.assertEqual(answer["content"][0]["text"], "one two ")
        answer = self.ask("call", tools=SCHEMA)
        self.assertEqual(answer["stop_reason"], "tool_use")
        block = answer["content"][1]
        self.assertTrue(block.pop("id"))
        self.assertEqual(answer["content"], [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "name": "add", "input": {"a": 1, "b": 2.5}}])

    def test_streams(self):
        fields = {"max_tokens": 50, "temperature": 0}
        for word, kinds in (("plain", ["text"]), ("call", ["text", "tool_use"]),
                            ("two", ["tool_use", "tool_use"]), ("broken", ["text"])):
            with self.subTest(word):
                whole = self.ask(word, tools=SCHEMA)
                events = self.events(self.PATH, messages=user(word), tools=SCHEMA, **fields)
                self.assertEqual([e["type"] for e in (events[0], *events[-2:])],
                                 ["message_start", "message_delta", "message_stop"])
                start, end = events[0]["message"], events[-2]
                self.assertEqual((start["content"], start["stop_reason"]), ([], None))
                self.assertEqual(read_of(start["usage"]), read_of(whole["usage"]))
                self.assertEqual({**start["usage"], "output_tokens": 0},
                                 {**end["usage"], "output_tokens": 0})
                self.assertEqual(end["usage"]["output_tokens"], whole["usage"]["output_tokens"])
                self.assertEqual(end["delta"], {"stop_reason": whole["stop_reason"],
                                                "stop_sequence": None})
                self.assertIn("speculative_decoding", end["metrics"])
                self.assertEqual(blocks_of(events), [without_id(b) for b in whole["content"]])
                self.assertEqual([b["type"] for b in whole["content"]], kinds)

    def test_conversations(self):
        prompt = self.rendered([
            {"role": "user", "content": [{"type": "text", "text": "a",
                                          "cache_control": {"type": "ephemeral"}},
                                         {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}},
                {"type": "text", "text": "c"}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [
                    {"type": "text", "text": "d"}]},
                {"type": "tool_result", "tool_use_id": "2"},
                {"type": "text", "text": "plain"}]}], system=[{"type": "text", "text": "s"}])
        chat = self.server.post("/tokenize", content=(
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n"
            "<|im_start|>assistant\nc\n<tool_call>\n{\"name\": \"add\", \"arguments\": "
            "{\"a\": 1}}\n</tool_call><|im_end|>\n<|im_start|>tool\nd<|im_end|>\n"
            "<|im_start|>tool\n<|im_end|>\n<|im_start|>user\nplain<|im_end|>\n"
            "<|im_start|>assistant\n<|plain|>"))
        self.assertEqual(prompt, len(chat["tokens"]))

    def rendered(self, messages, **fields):
        """Tokens of a prompt."""
        return self.server.post(self.PATH + "/count_tokens", messages=messages, model=NAME,
                                **fields)["input_tokens"]

    def test_count(self):
        for fields in ({}, {"tools": SCHEMA}, {"system": "s"},
                       {"tools": SCHEMA, "tool_choice": {"type": "tool", "name": "add"}}):
            self.assertEqual(self.rendered(user("plain"), **fields),
                             read_of(self.ask("plain", **fields)["usage"]))
        self.refused(self.PATH + "/count_tokens", 400, "messages", model=NAME)

    def test_begun(self):
        answer = self.ask([*user("plain"), {"role": "assistant", "content": "Yes!"}])
        self.assertEqual(answer["content"][0]["text"], " And more.")

    def test_choice(self):
        for choice, wanted in (({"type": "auto"}, ["add", "now"]), ({"type": "none"}, None),
                               ({"type": "any"}, ["now"]),
                               ({"type": "tool", "name": "add"}, ["add"]),
                               ({"type": "auto", "disable_parallel_tool_use": True}, ["add"])):
            answer = self.ask("two", tools=SCHEMA, tool_choice=choice)
            names = [b["name"] for b in answer["content"] if b["type"] == "tool_use"]
            self.assertEqual(names or None, wanted, choice)

    def test_refusals(self):
        text = {"max_tokens": 5, "messages": user("x")}
        for words, fields in (
                (["max_tokens"], {"messages": user("x")}),
                (["messages"], {"max_tokens": 5}),
                (["messages[0].content[0].type", "image"],
                 {"max_tokens": 5, "messages": user([{"type": "image", "source": {}}])}),
                (["messages[0].role"], {"max_tokens": 5,
                                        "messages": [{"role": "system", "content": "x"}]}),
                (["messages[0].content[0].tool_use_id"],
                 {"max_tokens": 5, "messages": user([{"type": "tool_result"}])}),
                (["thinking"], {**text, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
                (["tools[0].type", "web_search"], {**text, "tools": [
                    {"type": "web_search_20250305", "name": "web_search"}]}),
                (["tool_choice"], {**text, "tool_choice": {"type": "maybe"}}),
                (["stop_sequences"], {**text, "stop_sequences": [1]}),
                (["stop_sequences"], {**text, "stop_sequences": [""]}),
                (["stop_sequence", "did you mean 'stop_sequences'"],
                 {**text, "stop_sequence": ["x"]}),
                (["response_format", "xml"], {**text, "output_config": {"format": {
                    "type": "xml"}}}),
                (["mcp_servers"], {**text, "mcp_servers": [{}]}),
                (["temperature"], {**text, "temperature": 9})):
            with self.subTest(words):
                error = self.refused(self.PATH, 400, *words, **fields)
                self.assertEqual((error["type"], error["error"]["type"]),
                                 ("error", "invalid_request_error"))
                self.assertRegex(error["request_id"], "^req-")
        error = self.refused(self.PATH, 404, "other", **text, model="other")
        self.assertEqual(error["error"]["type"], "not_found_error")
        status, headers, data = self.server.request("GET", self.PATH)
        self.assertEqual((status, headers["Allow"]), (405, "POST, OPTIONS"))
        self.assertEqual(json.loads(data)["type"], "error")
        status, headers, _ = self.server.request("POST", self.PATH, text, {
            "anthropic-version": "2023-06-01", "x-api-key": "any"})
        self.assertEqual((status, headers["request-id"]), (200, headers["x-request-id"]))

    def test_keys(self):
        keys = os.path.join(self.folder.name, "keys")
        pathlib.Path(keys).write_text("secret\n", encoding="ascii")
        body = {"max_tokens": 5, "messages": user("plain")}
        with Server("--model", os.path.join(self.folder.name, NAME), "--api-key-file", keys) as server:
            for headers, wanted in (({}, 401), ({"x-api-key": "secret"}, 200),
                                    ({"x-api-key": "secre"}, 401),
                                    ({"Authorization": "Bearer secret"}, 200)):
                status, _, data = server.request("POST", self.PATH, body, headers)
                self.assertEqual(status, wanted, data)
                if wanted == 401:
                    self.assertEqual(json.loads(data)["error"]["type"], "authentication_error")


def read_of(usage):
    """Tokens of a prompt; those in the cache are counted apart."""
    return usage["input_tokens"] + usage["cache_read_input_tokens"]


def as_list(content):
    return user(content) if isinstance(content, str) else content


def without_id(block):
    return {key: value for key, value in block.items() if key != "id"}


def blocks_of(events):
    """The content blocks of a Messages stream, as clients put them together."""
    blocks, open_block = [], None
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert open_block is None and event["index"] == len(blocks), event
            open_block = without_id(event["content_block"])
            text = ""
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks), event
            text += event["delta"].get("text", "") + event["delta"].get("partial_json", "")
        else:
            assert event == {"type": "content_block_stop", "index": len(blocks)}, event
            key = "text" if open_block["type"] == "text" else "input"
            blocks.append({**open_block, key: json.loads(text) if key == "input" else text})
            open_block = None
    assert open_block is None
    return blocks


class Responses(Scripted):
    PATH = "/v1/responses"

    def ask(self, content, **fields):
        return self.server.post(self.PATH, **{"input": content, "temperature": 0, "model": NAME,
                                              **fields})

    def test_whole(self):
        answer = self.ask("plain", instructions="Be brief.", metadata={"a": "b"}, store=True,
                          truncation="disabled", reasoning={"effort": "low"}, include=[])
        self.assertRegex(answer["id"], "^resp_[0-9a-f]{16}$")
        self.assertEqual((answer["object"], answer["status"], answer["error"],
                          answer["incomplete_details"], answer["store"], answer["metadata"],
                          answer["instructions"], answer["temperature"], answer["tools"]),
                         ("response", "completed", None, None, False, {"a": "b"}, "Be brief.", 0,
                          []))
        item = answer["output"][0]
        self.assertRegex(item.pop("id"), "^msg_")
        self.assertEqual(answer["output"], [
            {"type": "message", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "Hello, \u00e9t\u00e9.", "annotations": [],
                 "logprobs": []}]}])
        usage = answer["usage"]
        self.assertEqual(usage["output_tokens"], len(SAY["plain"]) + 1)
        self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])
        self.assertEqual(usage["output_tokens_details"], {"reasoning_tokens": 0})
        self.assertLess(usage["input_tokens_details"]["cached_tokens"], usage["input_tokens"])
        self.assertIn("speculative_decoding", answer["metrics"])

    def test_incomplete(self):
        answer = self.ask("round", max_output_tokens=2)
        self.assertEqual((answer["status"], answer["incomplete_details"],
                          answer["output"][0]["status"], answer["max_output_tokens"]),
                         ("incomplete", {"reason": "max_output_tokens"}, "incomplete", 2))

    def test_calls(self):
        answer = self.ask("call", tools=FLAT)
        self.assertEqual([item["type"] for item in answer["output"]],
                         ["message", "function_call"])
        call = answer["output"][1]
        self.assertRegex(call["id"], "^fc_")
        self.assertRegex(call["call_id"], "^call_")
        self.assertEqual((call["name"], call["arguments"], call["status"]),
                         ("add", "{\"a\": 1, \"b\": 2.50}", "completed"))
        self.assertEqual(answer["tools"], FLAT)
        # What came goes back with the tool's answer.
        again = self.ask([*user("call"), *answer["output"], {
            "type": "function_call_output", "call_id": call["call_id"], "output": "3.5"},
            {"role": "user", "content": [{"type": "input_text", "text": "plain"}]}], tools=FLAT)
        self.assertEqual(again["output"][0]["content"][0]["text"], "Hello, \u00e9t\u00e9.")
        for choice, names in (("none", []), ("required", ["now"]),
                              ({"type": "function", "name": "add"}, ["add"])):
            answer = self.ask("call", tools=FLAT, tool_choice=choice)
            self.assertEqual([i["name"] for i in answer["output"] if i["type"] == "function_call"],
                             names)

    def test_streams(self):
        for word in ("plain", "call", "two", "round"):
            with self.subTest(word):
                # Long enough to come in several events.
                fields = {"tools": FLAT, "max_output_tokens": 2000}
                whole = self.ask(word, **fields)
                events = self.events(self.PATH, input=word, temperature=0, **fields)
                self.assertEqual([e["sequence_number"] for e in events], [*range(len(events))])
                self.assertEqual([e["type"] for e in events[:2]],
                                 ["response.created", "response.in_progress"])
                self.assertEqual(events[-1]["type"], "response." + whole["status"])
                self.assertEqual(events[0]["response"]["status"], "in_progress")
                last = events[-1]["response"]
                self.assertEqual(self.items_of(events), last["output"])
                for response in (whole, last):
                    response["output"] = [{**item, "id": "", "call_id": ""}
                                          for item in response["output"]]
                    del response["usage"]["input_tokens_details"]
                for key in ("output", "usage", "status", "tools", "incomplete_details"):
                    self.assertEqual(last[key], whole[key])

    def items_of(self, events):
        """The items of a stream, as clients put them together."""
        items, text = [], ""
        for event in events[2:-1]:
            self.assertEqual(event["output_index"], len(items))
            kind = event["type"].removeprefix("response.")
            if kind == "output_item.added":
                self.assertEqual(event["item"]["status"], "in_progress")
                text = ""
            elif kind.endswith(".delta"):
                text += event["delta"]
            elif kind in ("output_text.done", "function_call_arguments.done"):
                self.assertEqual(event.get("text", event.get("arguments")), text)
            elif kind == "content_part.done":
                self.assertEqual(event["part"]["text"], text)
            elif kind == "output_item.done":
                items.append(event["item"])
        return items

    def test_obfuscation(self):
        events = self.events(self.PATH, input="plain", stream_options={
            "include_obfuscation": True})
        self.assertTrue(all("obfuscation" in event for event in events))

    def test_refusals(self):
        for words, fields in (
                (["input"], {}),
                (["input"], {"input": []}),
                (["previous_response_id"], {"input": "x", "previous_response_id": "resp_1"}),
                (["conversation"], {"input": "x", "conversation": "conv_1"}),
                (["background"], {"input": "x", "background": True}),
                (["truncation"], {"input": "x", "truncation": "auto"}),
                (["response_format", "xml"], {"input": "x", "text": {"format": {"type": "xml"}}}),
                (["tools[0].type", "web_search"], {"input": "x", "tools": [
                    {"type": "web_search"}]}),
                (["input[0].type", "reasoning"], {"input": [{"type": "reasoning"}]}),
                (["input[0].content[0].type", "input_image"],
                 {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
                (["input[0].call_id"], {"input": [{"type": "function_call_output"}]}),
                (["max_output_tokens"], {"input": "x", "max_output_tokens": 0}),
                (["max_tokens", "max_output_tokens"], {"input": "x", "max_tokens": 5}),
                (["max_output_token", "did you mean 'max_output_tokens'"],
                 {"input": "x", "max_output_token": 5}),
                (["include"], {"input": "x", "include": ["message.output_text.logprobs"]})):
            with self.subTest(words):
                error = self.refused(self.PATH, 400, *words, **fields)
                self.assertEqual(set(error["error"]), {"message", "type", "param", "code"})
        self.assertEqual(self.server.request("GET", self.PATH)[0], 405)


class Together(Scripted):
    ENDLESS = (("/v1/messages", {"max_tokens": 1 << 20, "messages": user("round")}),
               ("/v1/responses", {"input": "round"}))

    def test_a_server_that_ends_says_so(self):
        with Server("--model", os.path.join(self.folder.name, NAME), "--drain-seconds",
                    0) as server:
            socks = []
            for path, fields in self.ENDLESS:
                socks.append(server.raw(60))
                socks[-1].sendall(post_bytes({**fields, "stream": True}, path))
                socks.append(server.raw(60))
                socks[-1].sendall(post_bytes(fields, path))
            server.wait_metric("num_requests_running", lambda n: n == len(socks))
            server.process.send_signal(signal.SIGTERM)
            stream, whole, stream2, whole2 = (read_all(sock).decode() for sock in socks)
        self.assertIn('event: error\ndata: {"type":"error","error":{"type":"overloaded_error"',
                      stream[-400:])
        self.assertIn('event: response.failed\ndata: {"type":"response.failed"', stream2)
        self.assertIn('"status":"failed","error":{"code":"shutting_down"', stream2[-900:])
        self.assertTrue(whole.startswith("HTTP/1.1 503") and whole2.startswith("HTTP/1.1 503"))
        self.assertIn('{"type":"error","error":{"type":"overloaded_error"', whole)
        self.assertIn('{"error":{"message"', whole2)

    def test_a_client_that_leaves_frees_its_sequence(self):
        for path, fields in self.ENDLESS:
            before = self.server.metric("requests_total")
            connection = self.server.connect()
            connection.request("POST", path, json.dumps({
                **fields, "stream": True}),
                {"Content-Type": "application/json"})
            connection.getresponse().read(100)
            connection.close()
            self.server.wait_metric("num_requests_running", lambda n: n == 0)
            self.assertEqual(self.server.metric("requests_total"), before + 1)


@unittest.skipIf(openai is None, "the openai package is not installed")
class OpenAI(Scripted):
    def setUp(self):
        self.client = openai.OpenAI(base_url=self.url + "/v1", api_key="none")

    def test_chat_tools(self):
        with self.client.chat.completions.stream(
                model=NAME, messages=user("call"), tools=TOOLS, temperature=0) as stream:
            for _ in stream:
                pass
            choice = stream.get_final_completion().choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertEqual(choice.message.tool_calls[0].function.name, "add")
        self.assertEqual(json.loads(choice.message.tool_calls[0].function.arguments),
                         {"a": 1, "b": 2.5})

    def test_responses(self):
        answer = self.client.responses.create(model=NAME, input="plain", temperature=0)
        self.assertEqual(answer.output_text, "Hello, \u00e9t\u00e9.")
        with self.client.responses.stream(model=NAME, input="call", tools=FLAT,
                                          temperature=0) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        self.assertIn("response.function_call_arguments.delta", kinds)
        self.assertEqual([item.type for item in final.output], ["message", "function_call"])
        with self.assertRaises(openai.BadRequestError):
            self.client.responses.create(model=NAME, input="x", previous_response_id="resp_1")


@unittest.skipIf(anthropic is None, "the anthropic package is not installed")
class Anthropic(Scripted):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=self.url, api_key="none")
        # Its newest versions have no argument for it.
        self.fields = {"model": NAME, "max_tokens": 50, "extra_body": {"temperature": 0}}

    def test_messages(self):
        answer = self.client.messages.create(messages=user("plain"), **self.fields)
        self.assertEqual(answer.content[0].text, "Hello, \u00e9t\u00e9.")
        self.assertTrue(answer._request_id)
        with self.client.messages.stream(messages=user("plain"), **self.fields) as stream:
            self.assertEqual("".join(stream.text_stream), "Hello, \u00e9t\u00e9.")
        count = self.client.messages.count_tokens(model=NAME, messages=user("plain"))
        self.assertEqual(count.input_tokens,
                         answer.usage.input_tokens + answer.usage.cache_read_input_tokens)
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(messages=user("x"), model="other", max_tokens=5)

    def test_tools(self):
        with self.client.messages.stream(messages=user("call"), tools=SCHEMA,
                                         **self.fields) as stream:
            final = stream.get_final_message()
        self.assertEqual(final.stop_reason, "tool_use")
        self.assertEqual(final.content[1].input, {"a": 1, "b": 2.5})
        again = self.client.messages.create(messages=[
            *user("call"), {"role": "assistant", "content": final.content},
            {"role": "user", "content": [{"type": "tool_result", "content": "3.5",
                                          "tool_use_id": final.content[1].id},
                                         {"type": "text", "text": "plain"}]}],
            tools=SCHEMA, **self.fields)
        self.assertEqual(again.content[0].text, "Hello, \u00e9t\u00e9.")


if __name__ == "__main__":
    require_files()
    unittest.main()
