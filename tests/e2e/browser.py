"""A Chromium without a window, driven through its DevTools protocol over a pipe. For test_page.py;
standard library only."""
import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

PROGRAM = shutil.which("chromium")


class Browser:
    """One page. What it asks for, and what goes wrong in it, is in `requests` and `errors`."""

    def __init__(self, width=1280, height=800):
        self.profile = tempfile.mkdtemp(prefix="headway-browser-")
        ours, theirs = os.pipe(), os.pipe()
        # The program wants 3 and 4: first away from wherever these may be.
        read, write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (ours[0], theirs[1]))
        self.process = subprocess.Popen(
            [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions",
             "--disable-component-update", f"--user-data-dir={self.profile}",
             f"--window-size={width},{height}", "--remote-debugging-pipe", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(3, 4),
            start_new_session=True, preexec_fn=lambda: (os.dup2(read, 3), os.dup2(write, 4)))
        for fd in (ours[0], theirs[1], read, write):
            os.close(fd)
        self.write, self.read = ours[1], theirs[0]
        self.rest, self.last, self.session = b"", 0, None
        self.requests, self.errors = [], []
        target = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target["targetId"],
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(domain + ".enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.write)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.read)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _receive(self, seconds):
        end = time.monotonic() + seconds
        while b"\0" not in self.rest:
            if not select.select([self.read], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the browser says nothing for {seconds} s")
            data = os.read(self.read, 1 << 16)
            if not data:
                raise EOFError("the browser has ended")
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, message):
        method, values = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(values["exceptionDetails"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(values["entry"]["source"] + ": " + values["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "assert"):
            self.errors.append(json.dumps(values["args"]))

    def send(self, method, seconds=20, **values):
        self.last += 1
        message = {"id": self.last, "method": method, "params": values}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (reply := self._receive(seconds)).get("id") != self.last:
            self._note(reply)
        if "error" in reply:
            raise AssertionError(f"{method}: {reply['error']}")
        return reply["result"]

    def open(self, url):
        self.send("Page.navigate", url=url)

    def value(self, expression):
        """What a JavaScript expression gives; promises are waited for."""
        reply = self.send("Runtime.evaluate", expression=expression, awaitPromise=True,
                          returnByValue=True, userGesture=True)
        if "exceptionDetails" in reply:
            raise AssertionError(f"{expression}: {reply['exceptionDetails']}")
        return reply["result"].get("value")

    def wait(self, expression, seconds=20):
        """Waits until the expression is true, and returns its value."""
        end = time.monotonic() + seconds
        while (value := self.value(expression)) in (None, False, 0, ""):
            if time.monotonic() > end:
                raise AssertionError(f"still not after {seconds} s: {expression}\n{self.errors}")
            time.sleep(0.03)
        return value

    def type(self, selector, text):
        """Replaces what a field holds, as a user's typing would."""
        self.value(f"(e => {{ e.focus(); e.select?.(); }})(document.querySelector({json.dumps(selector)}))")
        if text:
            self.send("Input.insertText", text=text)
        else:
            self.key("Delete", 46)
        self.value("document.activeElement.dispatchEvent(new Event('change', {bubbles: true}))")

    def key(self, key, code, text="", modifiers=0):
        """Presses and releases a key; modifiers: 1 Alt, 2 Control, 8 Shift."""
        named = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers,
                 "code": "Key" + key.upper() if len(key) == 1 else key}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def look(self, width, height, scale=1, dark=False, phone=False):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=phone)
        self.send("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
