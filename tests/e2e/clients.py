#!/usr/bin/env python3
"""Other people's clients against a real model, unchanged: the openai and anthropic packages, the command llm and
Pydantic AI; completions, chats, streams, tools, structured answers, Responses and Messages. Then everything once more
with "speculation": {"trace": true} and "proof": true put into each completion and chat on its way, which no client may
stumble over.
For a person, in an environment that has the packages; not one of make test.

    pip install openai anthropic llm 'pydantic-ai-slim[openai]'
    tests/e2e/clients.py --model FILE [--heads FOLDER]

The model must call tools: Qwen2.5-Coder-1.5B-Instruct does, again and again where it may, so a tool is offered once.
BUILD is the build folder."""
import argparse
import contextlib
import http.client
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading

import anthropic
import openai
import pydantic
import pydantic_ai
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import harness

QUESTION = "Name the capital of France in one word."
WEATHER = "What is the weather in Paris today?"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
              "additionalProperties": False}
ABOUT = "The weather of a city."
EXTRA = {"speculation": {"mode": "auto", "trace": True}, "proof": True}
KEY = "any"  # the server asks for none, the packages do


class City(pydantic.BaseModel):
    name: str
    country: str


class Adding(http.server.BaseHTTPRequestHandler):
    """Passes requests on, completions and chats with EXTRA, and answers back as they come."""
    protocol_version = "HTTP/1.0"
    port = None  # of the server behind
    seen = 0  # answers with a trace

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body and self.path.endswith("/completions"):
            body = json.dumps({**json.loads(body), **EXTRA}).encode()
        headers = {name: value for name, value in self.headers.items()
                   if name.lower() not in ("content-length", "host", "connection", "accept-encoding")}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        traced = False
        while piece := answer.read1(65536):
            traced |= b'"trace"' in piece
            self.wfile.write(piece)
        Adding.seen += traced
        connection.close()

    do_GET = do_POST = pass_on

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


@contextlib.contextmanager
def adding(port):
    """A port whose requests reach the server with EXTRA."""
    Adding.port = port
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Adding) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy.server_port
        finally:
            proxy.shutdown()


def same(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {got!r} instead of {wanted!r}")


def openai_client(url, model):
    client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0)
    assert model in [listed.id for listed in client.models.list()]
    text = {"model": model, "prompt": "def add(a, b):\n", "max_tokens": 24, "temperature": 0}
    whole = client.completions.create(**text, logprobs=2)
    assert len(whole.choices[0].logprobs.tokens) == whole.usage.completion_tokens
    same("a streamed completion", "".join(chunk.choices[0].text for chunk in client.completions.create(
        **text, stream=True)), whole.choices[0].text)
    same("choices", len(client.completions.create(**{**text, "temperature": 1}, n=3, seed=1).choices), 3)

    chat = {"model": model, "messages": harness.as_messages(QUESTION), "max_tokens": 24, "temperature": 0}
    said = client.chat.completions.create(**chat).choices[0].message.content
    assert "Paris" in said, said
    with client.chat.completions.stream(**chat, stream_options={"include_usage": True}) as stream:
        pieces = "".join(event.delta for event in stream if event.type == "content.delta")
        same("a streamed chat", (pieces, stream.get_final_completion().choices[0].message.content), (said, said))
    try:
        client.chat.completions.create(**chat, extra_body={"temprature": 1})
        raise AssertionError("a misspelt field is accepted")
    except openai.BadRequestError as error:
        assert "temperature" in str(error), error

    chat.update(messages=harness.as_messages(WEATHER), max_tokens=64)
    tools = [{"type": "function", "function": {"name": "weather", "description": ABOUT, "parameters": PARAMETERS}}]
    message = client.chat.completions.create(**chat, tools=tools).choices[0].message
    same("the call", json.loads(message.tool_calls[0].function.arguments), {"city": "Paris"})
    with client.chat.completions.stream(**chat, tools=tools) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0].function
    same("the streamed call", streamed.arguments, message.tool_calls[0].function.arguments)
    chat["messages"] += [message.model_dump(exclude_none=True), {
        "role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "17 degrees, rain"}]
    said = client.chat.completions.create(**chat, tools=tools, tool_choice="none").choices[0].message.content
    assert "17" in said, said

    chat["messages"] = harness.as_messages("Which city is the capital of Japan?")
    parsed = client.chat.completions.parse(**chat, response_format=City).choices[0].message.parsed
    same("the parsed answer", parsed.name, "Tokyo")

    ask = {"model": model, "input": QUESTION, "max_output_tokens": 24, "temperature": 0}
    said = client.responses.create(**ask).output_text
    with client.responses.stream(**ask) as stream:
        pieces = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        same("a streamed response", (pieces, stream.get_final_response().output_text), (said, said))
    call = client.responses.create(**{**ask, "input": WEATHER, "max_output_tokens": 64}, tools=[
        {"type": "function", "name": "weather", "description": ABOUT, "parameters": PARAMETERS, "strict": True}])
    same("a response's call", [json.loads(item.arguments) for item in call.output if item.type == "function_call"],
         [{"city": "Paris"}])
    parsed = client.responses.parse(**{**ask, "input": "Which city is the capital of Japan?",
                                       "max_output_tokens": 64}, text_format=City).output_parsed
    same("the parsed response", parsed.name, "Tokyo")


def anthropic_client(url, model):
    client = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0)
    # Its newest versions have no argument for the temperature.
    ask = {"model": model, "max_tokens": 64, "messages": harness.as_messages(QUESTION),
           "extra_body": {"temperature": 0}}
    whole = client.messages.create(**ask)
    assert "Paris" in whole.content[0].text, whole
    with client.messages.stream(**ask) as stream:
        same("a streamed message", "".join(stream.text_stream), whole.content[0].text)
    tools = [{"name": "weather", "description": ABOUT, "input_schema": PARAMETERS}]
    ask["messages"] = harness.as_messages(WEATHER)
    with client.messages.stream(**ask, tools=tools) as stream:
        final = stream.get_final_message()
    call = final.content[-1]
    same("the call", (final.stop_reason, call.name, call.input), ("tool_use", "weather", {"city": "Paris"}))
    ask["messages"] += [{"role": "assistant", "content": final.content}, {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": call.id, "content": "17 degrees, rain"}]}]
    said = client.messages.create(**ask, tools=tools, tool_choice={"type": "none"}).content[0].text
    assert "17" in said, said
    assert client.messages.count_tokens(model=model, messages=harness.as_messages(QUESTION)).input_tokens > 10


def llm_command(url, model):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "extra-openai-models.yaml"), "w", encoding="utf-8") as file:
            for name, more in (("chat", "supports_tools: true\n  supports_schema: true"), ("text", "completion: true"),
                               ("responses", "responses: true")):
                file.write(f"- model_id: {name}\n  model_name: {model}\n  api_base: {url}/v1\n  {more}\n")

        def run(*words):
            return subprocess.run([os.path.join(os.path.dirname(sys.executable), "llm"), *words],
                                  env={**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": KEY},
                                  capture_output=True, text=True, timeout=300, check=False)

        def llm(*words):
            done = run(*words)
            same(f"llm {' '.join(words)}: {done.stderr}: its status", done.returncode, 0)
            return done.stdout.strip()

        settings = ("-o", "temperature", "0", "-o", "max_tokens", "24")
        said = llm("-m", "chat", QUESTION, *settings)
        assert "Paris" in said, said
        same("llm without a stream", llm("-m", "chat", QUESTION, *settings, "--no-stream"), said)
        assert llm("-c", "And of Japan?", *settings).count("Tokyo"), "llm -c goes on with the conversation"
        assert llm("-m", "text", "def add(a, b):\n", *settings)
        assert "Paris" in llm("-m", "responses", QUESTION, "-o", "temperature", "0")
        tool = "def weather(city: str) -> str:\n    'The weather of a city.'\n    return '17 degrees, rain'\n"
        done = run("-m", "chat", "--functions", tool, "--td", "--chain-limit", "2", WEATHER, "-o", "temperature", "0")
        assert "weather({'city': 'Paris'})" in done.stderr and "17 degrees" in done.stderr, done
        parsed = json.loads(llm("-m", "chat", "--schema", "name, country", "Which city is the capital of Japan?",
                                "-o", "temperature", "0"))
        same("llm's schema", parsed["name"], "Tokyo")


def pydantic_agent(url, model):
    calls = []

    def weather(city: str) -> str:
        """The weather of a city."""
        calls.append(city)
        return "17 degrees, rain"

    async def until_called(_, definition):
        return None if calls else definition

    served = OpenAIChatModel(model, provider=OpenAIProvider(base_url=url + "/v1", api_key=KEY))
    settings = {"temperature": 0, "max_tokens": 64}
    agent = pydantic_ai.Agent(served, tools=[pydantic_ai.Tool(weather, prepare=until_called)],
                              model_settings=settings)
    said = agent.run_sync(WEATHER).output
    assert calls == ["Paris"] and "17" in said, (calls, said)
    city = pydantic_ai.Agent(served, output_type=pydantic_ai.NativeOutput(City), model_settings=settings)
    same("the agent's structured answer", city.run_sync("Which city is the capital of Japan?").output.name, "Tokyo")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--heads")
    o = parser.parse_args()
    harness.MODEL = o.model
    with harness.Server(*(["--heads", o.heads] if o.heads else [])) as server, adding(server.port) as proxy:
        model = json.loads(server.get("/v1/models")[1])["data"][0]["id"]
        for how, port in (("as they are", server.port), ("with trace and proof", proxy)):
            for check in (openai_client, anthropic_client, llm_command, pydantic_agent):
                check(f"http://127.0.0.1:{port}", model)
                print(f"{check.__name__}, {how}: passed", flush=True)
        print(f"{Adding.seen} answers carried a trace")
        assert Adding.seen >= 15, "the fields are not put in"


if __name__ == "__main__":
    main()
