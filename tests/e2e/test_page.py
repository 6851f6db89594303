#!/usr/bin/env python3
"""The page: how its files are served, and, where a Chromium is installed, what people see of it: on
the demo, and on a model that says what it is told (scripted_gguf.py). BUILD is the build folder."""
import json
import os
import re
import tempfile
import unittest

import browser
import scripted_gguf
from harness import SLOW, Server, SharedServer, require_files, text_of

FOLDER = "server/web"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
PROMPT = "import os\nimport sys\n\ndef main():\n    "
DRAFTS = 4  # a chain of them is the same each time, unlike what "auto" finds best at the moment
MARKDOWN = ["# Title\n\nSome **bold**, ", "*slanted* and `code`", " with <img src=x onerror=alert(1)>.\n\n",
            "1. one\n2. two\n   - inner\n\n", "- other\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n",
            "[good](https://example.org/) [bad](javascript:alert(1))\n\n", "```c\nint x;\n```\n"]
SHAPE = [["H3", "Title"],
         ["P", "Some bold, slanted and code with <img src=x onerror=alert(1)>."],
         ["OL", "onetwoinner"], ["UL", "other"], ["DIV", "ab12"], ["P", "good bad"], ["FIGURE", "ccopyint x;"]]
TEMPLATE = ("{%- for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{%- if messages[-1].content == 'more' %}{{ '<|round|>' }}"
            "{%- else %}{{ '<|marks|>' }}{% endif %}")


def write_model(path):
    script = scripted_gguf.Script()
    script.say(script.cue("<|marks|>"), *MARKDOWN)
    script.say(script.cue("<|round|>"), "one ", "two ", "three ", stop=False)
    scripted_gguf.write(path, script, TEMPLATE)


class Files(SharedServer):
    def files(self):
        for name in sorted(os.listdir(FOLDER)):
            with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
                yield name, "/" if name == "page.html" else "/" + name, file.read()

    def test_as_they_are(self):
        for name, path, text in self.files():
            status, headers, data = self.server.request("GET", path)
            self.assertEqual((status, data.decode()), (200, text), name)
            self.assertEqual(headers["Content-Type"], TYPES[name.split(".")[1]] + "; charset=utf-8")
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            policy = headers["Content-Security-Policy"]
            for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'",
                         "connect-src 'self'", "frame-ancestors 'none'"):
                self.assertIn(part, policy)
            self.assertNotIn("unsafe", policy)

    def test_kept_by_browsers(self):
        tags = set()
        for name, path, _ in self.files():
            _, headers, _ = self.server.request("GET", path)
            self.assertEqual(headers["Cache-Control"], "no-cache")
            tags.add(tag := headers["ETag"])
            for known in (tag, f'"x", W/{tag}'):
                status, headers, data = self.server.request("GET", path, headers={"If-None-Match": known})
                self.assertEqual((status, data, headers["ETag"]), (304, b"", tag), name)
            status, _, _ = self.server.request("GET", path, headers={"If-None-Match": '"old"'})
            self.assertEqual(status, 200)
        self.assertEqual(len(tags), len(os.listdir(FOLDER)))

    def test_nothing_from_elsewhere(self):
        for name, _, text in self.files():
            text = text.replace("http://www.w3.org/2000/svg", "")
            self.assertIsNone(re.search(r"https?://|[\"'(]//\w", text), name)
            self.assertIsNone(re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|"
                                        r"\beval\(|new Function|DOMParser", text), name)
            self.assertIsNone(re.search(r"<style|<script>|\sstyle=|\son\w+=\"", text), name)

    def test_methods(self):
        self.assertEqual(self.server.request("HEAD", "/page.css")[0], 200)
        self.assertEqual(self.server.request("POST", "/page.js", {})[0], 405)
        for path in ("/page.html", "/page", "/web/page.js", "/page.js/"):
            self.assertEqual(self.server.request("GET", path)[0], 404)


@unittest.skipUnless(browser.PROGRAM and not SLOW, "no chromium on the PATH, or a build with sanitizers")
class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="headway-page-")
        cls.model = os.path.join(cls.folder.name, "scripted.gguf")
        write_model(cls.model)
        cls.demo, cls.browser = Server("--audit", "1"), browser.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.__exit__()
        cls.folder.cleanup()
        assert cls.demo.stop() == 0, "".join(cls.demo.log)

    def setUp(self):
        self.browser.open("about:blank")  # so that the page before asks for nothing any more
        self.browser.wait("location.href === 'about:blank'")
        self.browser.requests.clear()
        self.browser.errors.clear()
        self.browser.look(1280, 800)

    def open(self, server, ready):
        self.url = f"http://127.0.0.1:{server.port}/"
        self.browser.open(self.url)
        self.browser.wait(f"location.href === '{self.url}' && document.readyState === 'complete'")
        self.browser.value("localStorage.clear()")
        self.browser.wait(ready)

    def tearDown(self):
        self.browser.value("0")  # so that all that it has said is read
        for url in self.browser.requests:
            self.assertTrue(url.startswith((self.url, "data:")), url)
        self.assertEqual(self.browser.errors, [])

    def set(self, **settings):
        for name, value in settings.items():
            self.browser.value(f"document.getElementById('set-{name}').value = {json.dumps(value)}")

    def click(self, text, inside="body"):
        found = f"[...document.querySelectorAll('{inside} button')].find(b => b.textContent === '{text}')"
        self.browser.wait(found + " !== undefined")
        self.browser.value(found + ".click()")

    def text(self, selector):
        return self.browser.value(f"document.querySelector('{selector}').innerText")

    def open_demo(self):
        self.open(self.demo, "document.querySelector('#model').textContent.includes('drafts') || "
                             "document.querySelector('#model').textContent.includes('draft')")
        self.set(temperature=0, max_tokens=120, speculation=str(DRAFTS))

    def test_completion(self):
        self.open_demo()
        wanted = self.demo.stream(prompt=PROMPT, temperature=0, max_tokens=120,
                                  speculation={"mode": DRAFTS, "trace": True})[:-1]
        trace = [t for event in wanted for c in event["choices"] for t in c["trace"]]
        self.browser.value("document.querySelector('#set-logprobs').checked = true")
        self.browser.type("#prompt", PROMPT)
        self.browser.key("Enter", 13, modifiers=2)
        self.browser.wait("document.querySelector('.foot button')")
        self.assertEqual(self.browser.value("document.querySelector('.body').textContent"),
                         PROMPT + text_of(wanted))
        for word in ("120 tokens", "tokens/s", "tokens per forward", "accepted", "to the first", "plain"):
            self.assertIn(word, self.text(".figures").replace("\n", ""))

        self.browser.key("c", 67, modifiers=1)
        shown = self.browser.value("[...document.querySelectorAll('.token')].map(t => "
                                   "[t.textContent, t.className])")
        self.assertEqual([t for t, _ in shown], [t["token"] for t in trace])
        passes = 0
        for (_, name), token in zip(shown, trace):
            head = re.match(r"head (\d)", token["drafter"] or "")
            self.assertIn("head-" + head[1] if head else "look-up" if token["drafter"] else "own",
                          name.split())
            passes += "begin" in name.split()
        self.assertEqual(passes, len({t["pass"] for t in trace}))
        self.assertEqual(self.browser.value("[...document.querySelectorAll('.legend b')]"
                                            ".reduce((sum, b) => sum + +b.textContent, 0)"), len(trace))
        self.browser.value("document.querySelectorAll('.token')[30].focus()")
        self.browser.key("ArrowRight", 39)
        tip = self.text("#tip")
        # The rows may be also of an audit that has a part in the pass.
        self.assertRegex(tip, rf"\npass {trace[31]['pass']} over \d+ rows?\n")
        self.assertIn("log-probability", tip)

        self.click("measure")
        self.browser.wait("document.querySelector('.measured.good, .measured.error')")
        self.assertRegex(self.text(".measured"), r"^\d+\.\d\d × measured \(.*identical: checked$")

    def test_race_and_metrics(self):
        self.open_demo()
        self.browser.value("document.querySelector('#tab-chat').focus()")
        self.browser.key("ArrowRight", 39)
        self.assertEqual(self.browser.value("document.activeElement.id"), "tab-race")
        self.browser.type("#race-prompt", PROMPT)
        self.browser.key("Enter", 13, modifiers=2)
        self.browser.wait("document.querySelector('#verdict').textContent")
        self.assertRegex(self.text("#verdict"), r"\d\.\d\d × as fast · identical texts: checked")
        lanes = self.browser.value("[...document.querySelectorAll('.lane .text')].map(l => "
                                   "l.querySelector('.raw, .tokens').textContent)")
        self.assertEqual(lanes[0], lanes[1])
        self.assertEqual(len(lanes[0]), 200)

        self.browser.key("End", 35)  # not in a tab: nothing happens
        self.browser.value("document.querySelector('#tab-metrics').click()")
        self.browser.wait("document.querySelectorAll('.plot path').length > 5 && "
                          "document.querySelector('.bars meter')")
        self.browser.wait("/Decoded again plainly: \\d+ answers?, all identical/.test("
                          "document.querySelector('#plots-note').textContent)")

    def test_small_screens(self):
        self.open_demo()
        self.browser.look(360, 640, phone=True)
        for tab in ("chat", "race", "metrics"):
            self.browser.value(f"document.querySelector('#tab-{tab}').click()")
            wide = self.browser.value("[...document.querySelectorAll('body *')].filter(e => "
                                      "e.getBoundingClientRect().right > 361 && !e.closest('svg'))"
                                      ".map(e => e.tagName + '#' + e.id)")
            self.assertEqual(wide, [])
        self.assertEqual(self.browser.value("document.documentElement.scrollWidth"), 360)

    def test_chat(self):
        with Server("--model", self.model) as server:
            self.open(server, "document.querySelector('#mode-chat').checked")
            self.browser.type("#prompt", "marks")
            self.browser.key("Enter", 13, "\r")
            self.browser.wait("document.querySelector('.foot button')")
            shape = self.browser.value("[...document.querySelector('.body').children].map(e => "
                                       "[e.tagName, e.textContent])")
            self.assertEqual([[tag, re.sub(r"\n", "", text)] for tag, text in shape], SHAPE)
            self.assertEqual(self.browser.value(
                "['strong', 'em', 'p code', 'ol > li > ul > li', 'td.right', 'pre code', 'img', "
                "'a[href^=\"https:\"]', 'a'].map(s => document.querySelectorAll('.body ' + s).length)"),
                [1, 1, 1, 1, 1, 1, 0, 1, 1])
            self.assertIn("Title", self.text("#status"))

            self.browser.value("window.before = true")
            self.browser.send("Page.reload")
            self.browser.wait("!window.before && document.querySelector('.body figure')")

            # An earlier message is edited to one whose answer has no end, which is stopped.
            self.browser.type("#prompt", "")
            self.browser.key("ArrowUp", 38)
            self.browser.type(".question textarea", "more")
            self.browser.key("Enter", 13, "\r")
            self.browser.wait("document.querySelector('.body').textContent.includes('three one')")
            self.browser.key("Escape", 27)
            self.browser.wait("document.querySelector('.figures').textContent.includes('stopped')")
            server.wait_metric("num_requests_running", lambda n: n == 0)
            self.assertEqual(self.browser.value("document.querySelectorAll('.turn').length"), 1)
            self.browser.key("n", 78, modifiers=1)
            self.assertEqual(self.browser.value("document.querySelectorAll('.turn').length"), 0)

    def test_what_goes_wrong(self):
        with Server("--model", self.model, "--api-key", "right") as server:
            self.open(server, "document.querySelector('#settings').open")
            self.assertIn("key is missing", self.text("#key-note"))
            for key in ("wrong", "right"):
                self.browser.type("#key", key)
                self.browser.wait("document.querySelector('#model').textContent."
                                  f"includes('{'asks' if key == 'wrong' else 'scripted'}')")
            self.click("Close", "#settings")
            self.browser.value(
                "real = fetch, fetch = async () => new Response('{\"error\": {\"message\": \"It is full.\"}}', "
                "{status: 429, headers: {'Retry-After': '7'}}), 0")
            self.browser.type("#prompt", "marks")
            self.browser.key("Enter", 13, "\r")
            self.browser.wait("document.querySelector('[role=alert] button')")
            self.assertIn("It is full. Try again in 7 s.", self.text(".alert"))
            self.browser.value("fetch = real, 0")
            self.click("Retry", ".alert")
            self.browser.wait("document.querySelector('.body figure')")
        # The server is gone.
        self.click("regenerate")
        self.browser.wait("document.querySelector('.alert')")
        self.assertIn("cannot be reached", self.text(".alert"))
        self.browser.errors[:] = [e for e in self.browser.errors if not e.startswith("network:")]


if __name__ == "__main__":
    require_files()
    unittest.main()
