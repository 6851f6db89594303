#!/usr/bin/env python3
"""Keys, certificates, names and limits that who runs the server sets."""
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import unittest

from harness import MODEL, PROGRAM, Server, parse_events, post_bytes, read_all, require_files, text_of

ENDLESS = {"prompt": "The", "max_tokens": 1 << 20, "ignore_eos": True}


def refused(*options):
    """The sentence with which the program ends at once."""
    done = subprocess.run([PROGRAM, "--model", MODEL, "--port", "0", *options], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 1, done
    return done.stderr


class Keys(unittest.TestCase):
    def status(self, server, key, method="GET", path="/v1/models", body=None):
        return server.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})[0]

    def test_a_key_and_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "keys")
            with open(path, "w", encoding="ascii") as file:
                file.write("# ours\n\n  file-1  \nfile-2\r\n")
            with Server("--api-key", "word", "--api-key-file", path) as server:
                for key, status in (("word", 200), ("file-1", 200), ("file-2", 200), ("# ours", 401), ("wor", 401),
                                    ("words", 401), ("", 401), (None, 401)):
                    self.assertEqual(self.status(server, key), status, key)
                for path_, status in (("/models", 401), ("/props", 401), ("/version", 200), ("/health", 200),
                                      ("/ready", 200), ("/metrics", 200), ("/v1/nothing", 404)):
                    self.assertEqual(self.status(server, None, path=path_), status, path_)
                self.assertEqual(self.status(server, None, "POST", "/tokenize", {"content": "x"}), 401)
                self.assertEqual(self.status(server, "word", "POST", "/tokenize", {"content": "x"}), 200)

    def test_from_the_environment(self):
        with Server(environment={"HEADWAY_API_KEY": "of the environment"}) as server:
            self.assertEqual(self.status(server, None), 401)
            self.assertEqual(self.status(server, "of the environment"), 200)

    def test_read_again_on_sighup(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "keys")

            def write(text):
                with open(path, "w", encoding="ascii") as file:
                    file.write(text)

            write("old\n")
            with Server("--api-key-file", path, "--api-key", "stays") as server:
                write("new\nnewer\n")
                self.assertEqual([self.status(server, k) for k in ("old", "new", "stays")], [200, 401, 200])
                server.process.send_signal(signal.SIGHUP)
                server.wait_log("SIGHUP: 3 API keys")
                self.assertEqual([self.status(server, k) for k in ("old", "new", "newer", "stays")],
                                 [401, 200, 200, 200])
                for bad, why in (("", "no key"), ("x" * 300 + "\n", "more than"), (None, "cannot be read")):
                    if bad is None:
                        os.remove(path)
                    else:
                        write(bad)
                    server.process.send_signal(signal.SIGHUP)
                    server.wait_log("SIGHUP: the API keys stay as they were, because .*" + why)
                    self.assertEqual([self.status(server, k) for k in ("old", "new", "stays")], [401, 200, 200])

    def test_without_keys_sighup_does_nothing(self):
        with Server() as server:
            server.process.send_signal(signal.SIGHUP)
            server.wait_log("no --api-key-file and no --tls-cert")
            self.assertEqual(self.status(server, None), 200)

    def test_what_is_no_key(self):
        self.assertIn("--api-key-file names one", refused("--api-key", PROGRAM))
        self.assertIn("empty", refused("--api-key", ""))
        self.assertIn("more than 255 bytes", refused("--api-key", "x" * 300))
        self.assertIn("cannot be read", refused("--api-key-file", "/nowhere"))


def make_certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, stderr=subprocess.DEVNULL)


class Certificates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        for name in ("one", "two"):
            make_certificate(cls.folder.name, name)
        cls.options = ("--tls-cert", f"{cls.folder.name}/one.crt", "--tls-key", f"{cls.folder.name}/one.key")
        cls.context = ssl.create_default_context(cafile=f"{cls.folder.name}/one.crt")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def connect(self, server, context=None):
        return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context or self.context)

    def raw(self, server, receive_buffer=None):
        return self.context.wrap_socket(server.raw(60, receive_buffer), server_hostname="127.0.0.1")

    def pem(self, name):
        with open(f"{self.folder.name}/{name}.crt", encoding="ascii") as file:
            return file.read()

    def certificate(self, server):
        return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=60)

    def ask(self, connection, method, path, body=None):
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def test_answers_and_streams(self):
        fields = {"prompt": "The", "max_tokens": 300, "temperature": 0, "ignore_eos": True}
        with Server(*self.options) as server:
            connection = self.connect(server)
            for _ in range(2):  # on one connection
                status, data = self.ask(connection, "POST", "/v1/completions", fields)
                self.assertEqual(status, 200)
                wanted = json.loads(data)["choices"][0]["text"]
                status, data = self.ask(connection, "POST", "/v1/completions", {**fields, "stream": True})
                self.assertEqual(text_of(parse_events(data.decode())), wanted)
            status, data = self.ask(connection, "POST", "/v1/completions", {"prompt": "x" * 100000})
            self.assertEqual((status, json.loads(data)["error"]["code"]), (400, "context_length_exceeded"))
            status, data = self.ask(connection, "GET", "/metrics")
            self.assertIn(b"num_requests_running 0", data)
            connection.close()

    def test_many_at_once(self):
        import concurrent.futures
        fields = {"prompt": "The", "max_tokens": 60, "temperature": 1, "stream": True}
        with Server(*self.options) as server, concurrent.futures.ThreadPoolExecutor(16) as pool:
            def one(i):
                connection = self.connect(server)
                status, data = self.ask(connection, "POST", "/v1/completions", {**fields, "seed": i % 4})
                connection.close()
                return status, text_of(parse_events(data.decode()))

            answers = list(pool.map(one, range(32)))
            for i, answer in enumerate(answers):
                self.assertEqual(answer, answers[i % 4])

    def test_read_again_on_sighup(self):
        """Connections that are open keep what they have; a bad file changes nothing."""
        with tempfile.TemporaryDirectory() as folder:
            def put(name, key=None):
                shutil.copy(f"{self.folder.name}/{name}.crt", f"{folder}/crt")
                shutil.copy(f"{self.folder.name}/{key or name}.key", f"{folder}/key")

            def hang_up(server, says):
                server.process.send_signal(signal.SIGHUP)
                server.wait_log(says)

            put("one")
            with Server("--tls-cert", f"{folder}/crt", "--tls-key", f"{folder}/key", "--context", "100000") as server:
                old = self.connect(server)
                self.assertEqual(self.ask(old, "GET", "/health")[0], 200)
                shaking = server.raw(60)  # it has not said hello yet
                busy = self.raw(server)
                busy.sendall(post_bytes({**ENDLESS, "stream": True}))
                self.running(server, 1)
                put("two")
                self.assertEqual(self.certificate(server), self.pem("one"))
                hang_up(server, "SIGHUP: new connections get the certificate")
                self.assertEqual(self.certificate(server), self.pem("two"))
                self.assertEqual(self.ask(old, "GET", "/health")[0], 200)
                self.assertIn(b"HTTP/1.1 200", busy.recv(100))
                shaking = self.context.wrap_socket(shaking, server_hostname="127.0.0.1")
                self.assertTrue(read_all_tls(shaking, b"GET /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
                                .startswith(b"HTTP/1.1 200"))
                busy.close()
                for spoil, why in ((lambda: put("one", "two"), "cannot be used"),
                                   (lambda: os.truncate(f"{folder}/crt", 100), "cannot be used"),
                                   (lambda: os.remove(f"{folder}/key"), "cannot be read")):
                    spoil()
                    for _ in range(5):  # one alone may still be on a stack where the leak checker finds it
                        server.log.clear()
                        hang_up(server, "SIGHUP: the certificate stays as it was, because .*" + why)
                    self.assertEqual(self.certificate(server), self.pem("two"))
                for name in ("one", "two") * 10:
                    put(name)
                    server.log.clear()
                    hang_up(server, "SIGHUP: new connections get the certificate")
                    self.assertEqual(self.certificate(server), self.pem(name))
                old.close()

    def test_refusals_and_clients_that_leave(self):
        with Server(*self.options, "--context", "100000") as server:
            for request, status in ((b"GET /health HTTP/1.1\r\n\r\n", 400), (b"GET /" + b"a" * 50000, 414),
                                    (post_bytes({}).replace(b"Content-Length: ", b"Content-Length: x"), 400)):
                answer = read_all_tls(self.raw(server), request)
                self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)
                self.assertEqual(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["type"], "invalid_request_error")
            for stream in (True, False):
                sock = self.raw(server)
                sock.sendall(post_bytes({**ENDLESS, "stream": stream}))
                self.running(server, 1)
                sock.close()
                self.running(server, 0)

    def running(self, server, wanted):
        for _ in range(1000):
            connection = self.connect(server)
            data = self.ask(connection, "GET", "/metrics")[1]
            connection.close()
            if b"num_requests_running %d\n" % wanted in data:
                return
            time.sleep(0.01)
        self.fail(data)

    def test_a_reader_that_pauses(self):
        fields = {"prompt": "The", "max_tokens": 700, "temperature": 0, "ignore_eos": True, "logprobs": 20}
        with Server(*self.options, "--max-unread", 16384) as server:
            connection = self.connect(server)
            wanted = json.loads(self.ask(connection, "POST", "/v1/completions", fields)[1])["choices"][0]["text"]
            sock = self.raw(server, 4096)
            sock.sendall(post_bytes({**fields, "stream": True}))
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            first = answer.read(100)
            for _ in range(1000):
                pauses = self.ask(connection, "GET", "/metrics")[1]
                if b"stream_pauses_total 0\n" not in pauses:
                    break
                time.sleep(0.01)
            self.assertNotIn(b"stream_pauses_total 0\n", pauses)
            self.assertEqual(text_of(parse_events((first + answer.read()).decode())), wanted)
            connection.close()
            sock.close()

    def test_versions(self):
        with Server(*self.options) as server:
            for version, works in ((ssl.TLSVersion.TLSv1, False), (ssl.TLSVersion.TLSv1_1, False),
                                   (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
                context = ssl.create_default_context(cafile=f"{self.folder.name}/one.crt")
                context.set_ciphers("DEFAULT@SECLEVEL=0")
                context.minimum_version = context.maximum_version = version
                connection = self.connect(server, context)
                try:
                    self.assertEqual(self.ask(connection, "GET", "/health")[0], 200)
                    self.assertTrue(works, version)
                except (ssl.SSLError, ConnectionError):
                    self.assertFalse(works, version)
                connection.close()
            # Who speaks no TLS is not served.
            with server.raw() as sock:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
                self.assertNotIn(b"200", read_all(sock))

    def test_files_that_cannot_be_used(self):
        folder = self.folder.name
        one = f"{folder}/one.crt"
        self.assertIn("belong together", refused("--tls-cert", one))
        self.assertIn("belong together", refused("--tls-key", one))
        self.assertIn("cannot be read", refused("--tls-cert", "/nowhere", "--tls-key", f"{folder}/one.key"))
        self.assertIn("cannot be used", refused("--tls-cert", one, "--tls-key", one))
        self.assertIn("cannot be used", refused("--tls-cert", one, "--tls-key", f"{folder}/two.key"))
        self.assertIn("cannot be used", refused("--tls-cert", "Makefile", "--tls-key", f"{folder}/one.key"))


def read_all_tls(sock, request):
    sock.sendall(request)
    data = b""
    with sock:
        try:
            while piece := sock.recv(65536):
                data += piece
        except (ssl.SSLError, OSError):
            pass
    return data


class Names(unittest.TestCase):
    def test_alias_props_version(self):
        with Server("--alias", "my/model", "--max-sequences", 3) as server:
            self.assertEqual(json.loads(server.get("/v1/models")[1])["data"][0]["id"], "my/model")
            self.assertEqual(server.get("/models"), server.get("/v1/models"))
            self.assertEqual(server.complete(prompt="x", model="my/model", max_tokens=1)["model"], "my/model")
            self.assertEqual(server.request("POST", "/v1/completions", {"prompt": "x", "model": "demo"})[0], 404)
            props = json.loads(server.get("/props")[1])
            self.assertEqual((props["total_slots"], props["model_path"], props["model_alias"], props["chat_template"]),
                             (3, MODEL, "my/model", ""))
            self.assertEqual(props["default_generation_settings"]["n_ctx"], 1024)
            version = json.loads(server.get("/version")[1])["version"]
            self.assertIn(version, subprocess.run([PROGRAM, "--version"], capture_output=True, text=True,
                                                  check=True).stdout)
            for path in ("/v1/nothing", "/v1/", "/v1", "/nothing"):
                status, headers, data = server.request("GET", path)
                self.assertEqual((status, json.loads(data)["error"]["code"]), (404, "unknown_url"))
                self.assertIn("json", headers["Content-Type"])


class Models(unittest.TestCase):
    def test_another_model_than_the_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "settings")
            def settings(*lines):
                with open(path, "w", encoding="ascii") as file:
                    file.write("\n".join(lines))
                return "--config", path
            own = "heads = weights/smollm2-heads"
            with Server(*settings("model = other.gguf", own)) as server:
                self.assertEqual(json.loads(server.get("/v1/models")[1])["data"][0]["id"], os.path.basename(MODEL))
            for lines in ((f"model = {MODEL}", own), (own,)):
                self.assertIn("has prediction heads of its own", refused(*settings(*lines)))
            self.assertIn("has prediction heads of its own",
                          refused(*settings("model = other.gguf"), *own.replace("heads =", "--heads").split()))


class Signals(unittest.TestCase):
    def test_before_it_serves(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "settings")
            os.mkfifo(path)
            for number in (signal.SIGTERM, signal.SIGINT):
                with subprocess.Popen([PROGRAM, "--config", path]) as process:
                    with open(path, "w", encoding="ascii"):  # it reads and waits
                        process.send_signal(number)
                        self.assertEqual(process.wait(30), 0)


class Limits(unittest.TestCase):
    def test_tokens(self):
        with Server("--max-tokens", 7) as server:
            for asked in (3, 7, 8, 100000):
                answer = server.complete(prompt="The", max_tokens=asked, ignore_eos=True)
                self.assertEqual(answer["usage"]["completion_tokens"], min(asked, 7))
                self.assertEqual(answer["choices"][0]["finish_reason"], "length")
            self.assertEqual(server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 50, "min_tokens": 8})[0], 400)

    def test_seconds(self):
        with Server("--max-seconds", 1, "--max-sequences", 1, "--context", "400000") as server:
            start = time.monotonic()
            events = server.stream(**ENDLESS)
            self.assertLess(time.monotonic() - start, 10)
            self.assertEqual((events[-1], events[-2]["choices"][0]["finish_reason"]), ("[DONE]", "length"))
            answer = server.complete(**ENDLESS)
            self.assertEqual(answer["choices"][0]["finish_reason"], "length")
            self.assertEqual(len(answer["choices"][0]["text"]) > 10, answer["usage"]["completion_tokens"] > 10)
            server.complete(prompt="x", max_tokens=2)

    def test_seconds_of_who_only_waits(self):
        with Server("--max-seconds", 1, "--max-sequences", 1, "--context", "400000") as server:
            for _ in range(5):  # unless the first's time ends a second earlier than its own
                plug = server.open_stream(**ENDLESS)
                status, headers, data = server.request("POST", "/v1/completions", ENDLESS)
                plug.close()
                if status == 503:
                    break
            self.assertEqual((status, json.loads(data)["error"]["code"]), (503, "timed_out"))
            self.assertTrue(headers["Retry-After"])


if __name__ == "__main__":
    require_files()
    unittest.main(verbosity=1)
