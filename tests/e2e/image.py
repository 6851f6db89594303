#!/usr/bin/env python3
"""What docker/Dockerfile built, run as docker/compose.yaml runs it, without a daemon: as the image's
user, as process 1, on a read-only file system, with no capability and no network but its own. Prints
sizes, and checks that every library is there, nothing can be written, a chat is answered, the health
check says yes, SIGTERM ends it with 0 while it loads and while it serves, and the history holds no
secret. For a person, or a CI, that is root and has buildah; not one of make test.

    buildah bud --format docker -f docker/Dockerfile -t headway .
    image.py [IMAGE]
"""
import json
import re
import signal
import subprocess
import sys
import time

CHAT = {"messages": [{"role": "user", "content": "Say hello in French."}], "temperature": 0, "max_tokens": 16}
SECRET = re.compile(r"password|secret|token=|api.?key|BEGIN [A-Z ]*PRIVATE|://[^/ ]+:[^/ ]+@", re.I)
# A file system that nobody can write, but for /tmp; then the image's user, who can gain nothing.
INSIDE = """set -e
ip link set lo up
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/tmp"
mount -o remount,bind,ro "$0"
user=$1
shift
exec chroot "$0" setpriv --reuid "$user" --regid "$user" --clear-groups --bounding-set -all --no-new-privs -- "$@"
"""


def output(*words):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def check(what, good, said=""):
    print(f"{'ok' if good else 'NOT':>4}  {what} {said}", flush=True)
    if not good:
        sys.exit(f"image.py: failed: {what}")


class Container:
    """Process 1 of namespaces of its own."""
    started = []

    def __init__(self, root, user, words):
        self.root, self.user = root, user
        self.outer = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child=SIGKILL",
                                       "sh", "-c", INSIDE, root, user, *words], stderr=subprocess.PIPE, text=True)
        self.started.append(self.outer)
        self.first = None
        while not self.first and self.outer.poll() is None:
            self.first = subprocess.run(["pgrep", "-P", str(self.outer.pid)], stdout=subprocess.PIPE, text=True,
                                        check=False).stdout.strip()

    def program(self):
        with open(f"/proc/{self.first}/comm", encoding="ascii") as file:
            return file.read().strip()

    def run(self, *words):
        """Beside process 1, as its user: exit status and output."""
        done = subprocess.run(["nsenter", "-t", self.first, "-m", "-n", "-p", "chroot", f"--userspec={self.user}:{self.user}",
                               self.root, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout.strip()

    def ask(self, path, body=None):
        return output("nsenter", "-t", self.first, "-n", "curl", "-s", "-m", "120", f"http://127.0.0.1:8080{path}",
                      *(["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body else []))

    def terminate(self):
        """Exit status after SIGTERM, and what it said."""
        subprocess.run(["kill", "-TERM", self.first], check=True)
        try:
            said = self.outer.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            self.outer.send_signal(signal.SIGKILL)
            return None, "it goes on"
        return self.outer.returncode, said


def wait_health(container, health):
    start = time.monotonic()
    while container.outer.poll() is None and time.monotonic() < start + 120:
        if container.run(*health)[0] == 0:
            return time.monotonic() - start
        time.sleep(0.1)
    return None


def sizes(image, root):
    inspected = json.loads(output("buildah", "inspect", "--type", "image", image))
    listed = json.loads(output("buildah", "images", "--json", image))
    print(f"image: {listed[0]['size']}, program: "
          f"{output('stat', '-c', '%s', root + '/usr/local/bin/headway-server')} bytes")
    print(output("du", "-ahd1", root + "/models").replace(root, ""))
    return inspected["Docker"]


def checks(image, root):
    image = sizes(image, root)
    config = image["config"]
    secrets = [h["created_by"] for h in image["history"] if SECRET.search(h["created_by"])]
    check(f"the history's {len(image['history'])} lines hold no secret", not secrets, secrets or "")
    check("nor does the environment", not any(map(SECRET.search, config["Env"] or [])), config["Env"])
    libraries = output("chroot", root, "ldd", "/usr/local/bin/headway-server")
    check("every library is there", "not found" not in libraries, f"({libraries.count('=>')})")
    words, health = config["Entrypoint"] + (config.get("Cmd") or []), config["Healthcheck"]["Test"]
    check("the user is not root", config["User"] not in ("", "0", "root"), config["User"])

    container = Container(root, config["User"], words)
    seconds = wait_health(container, health[1:])
    check("the health check says yes", seconds is not None, f"after {seconds:.1f} s" if seconds else "")
    check("process 1 is the server", container.program() == "headway-server")
    check("nothing can be written", container.run("touch", "/models/x")[0] and container.run("touch", "/var/tmp/x")[0],
          container.run("touch", "/models/x")[1])
    status = container.run("grep", "-E", "^(Uid|CapEff|CapBnd|NoNewPrivs)", "/proc/1/status")[1]
    check("no capability, nor a way to one", re.findall(r"Cap...:\s+(\S+)", status) == ["0" * 16] * 2, status.split())
    answer = json.loads(container.ask("/v1/chat/completions", CHAT))
    check("a chat is answered", "choices" in answer, [answer["model"], answer["choices"][0]["message"]["content"]]
          if "choices" in answer else answer)
    code, said = container.terminate()
    check("SIGTERM ends it with 0", code == 0, code if code else said.strip().splitlines()[-1:])
    check("and the health check says no where nothing serves", Container(root, config["User"], health[1:]).outer.wait(30))

    container = Container(root, config["User"], words)
    while container.program() != "headway-server":
        time.sleep(0.001)
    time.sleep(0.1)  # process 1 has no handler before main
    code, said = container.terminate()
    check("SIGTERM while it loads ends it with 0", code == 0, said)


def main():
    image = sys.argv[1] if len(sys.argv) > 1 else "headway"
    container = output("buildah", "from", "--pull-never", image)
    try:
        checks(image, output("buildah", "mount", container))
    finally:
        for outer in Container.started:
            outer.kill()  # and with it process 1, if it still runs
        output("buildah", "rm", container)


if __name__ == "__main__":
    main()
