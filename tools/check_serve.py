#!/usr/bin/env python3
"""Check `everheap serve`: its answers, what it refuses, its metrics with promtool, its page in Chromium.

    tools/check_serve.py BUILD [SCREENSHOT.png]

What is not installed, or was not built, is skipped, and said to be. Closes as a test binary does."""
import html
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

import checking

DOCUMENT = {"users": [{"name": "Ann", "friend": {"$ref": "/users/1"}}, {"name": "<b>Bob</b>"}],
            "many": list(range(450)), "a/b~c": {"": None}, "bytes": {"$base64": "AAEC"}, "text": "é" * 500}


class Check(checking.Checker):
    def __init__(self, build, scratch):
        super().__init__()
        self.command, self.heap = build / "everheap", scratch / "-odd name.heap"
        self.scratch = scratch

    def change(self, action, *words, text=None):
        subprocess.run([self.command, "json", action, "--", self.heap.name, *words], cwd=self.scratch, check=True,
                       input=text, text=True, stdout=subprocess.DEVNULL)

    def begin(self):
        """The server; None if it cannot be."""
        server = subprocess.Popen([self.command, "serve", "--", self.heap.name], cwd=self.scratch, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.url = server.stdout.readline().strip()
        if self.url:
            return server
        why = server.stderr.read()
        if "libmicrohttpd" in why:
            self.skip(why.strip())
        else:
            self.count(False, f"no URL: {why}")
        return None

    def get(self, what, method="GET", **values):
        """(status, text) of what is answered."""
        url = self.url + what + ("?" + urllib.parse.urlencode(values) if values else "")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ask(self, what, **values):
        status, text = self.get(what, **values)
        self.count(status == 200, f"{what} {values}: status {status}: {text}")
        return json.loads(text)

    # ---- answers ----

    def answers(self):
        info = self.ask("info")
        self.count(info["path"] == self.heap.name and info["live_blocks"] > 0, info)
        cells = self.ask("map")["cell_live_bytes"]
        self.count(abs(sum(cells) - info["live_bytes"]) < 1 << 17, f"the map shows {sum(cells)} live bytes")
        self.count([r["name"] for r in self.ask("roots")["roots"]] == ["json"], "the roots")
        self.count("content" in self.ask("root", text="json"), "a root's content")
        self.count(self.ask("check")["is_clean"], "the check")

        top = self.ask("tree", path="")
        shown = {i["key"]: (i["type"], i["count"]) for i in top["items"]}
        self.count(shown == {"users": ("array", 2), "many": ("array", 450), "a/b~c": ("object", 1),
                             "bytes": ("bytes", 3), "text": ("string", 1000)}, shown)
        first, rest = self.ask("tree", path="/many"), self.ask("tree", path="/many", skip=400)
        self.count(len(first["items"]) == 200 and [i["text"] for i in rest["items"]] ==
                   [str(n) for n in range(400, 450)], "a long array in parts")
        self.count(self.ask("tree", path="/users/0")["items"][1]["type"] == "ref", "a reference is itself")
        self.count(self.ask("tree", path="/a~1b~0c")["items"][0]["key"] == "", "a key with escapes")
        found = self.ask("search", text="bOB")
        self.count(found["total"] == 1 and found["hits"][0]["path"] == "/users/1/name", found)

    def refusals(self):
        for path in ("/nothing", "x"):
            status, text = self.get("tree", path=path)
            self.count(status in (404, 409) and "error" in json.loads(text), f"tree {path}: {status} {text}")
        status, text = self.get("root", text="--help")
        self.count(status == 409 and "error" in json.loads(text), f"a root named --help: {status} {text}")
        self.count(self.get("../info")[0] != 200 and self.get("nonsense")[0] == 404, "what is not there")
        for method in ("POST", "PUT", "DELETE", "HEAD"):
            self.count(self.get("info", method)[0] == 405, f"{method} is answered")
        url, token = self.url, self.url.split("/")[3]
        wrong = ("0" if token[0] != "0" else "1") + token[1:]
        for other in ("", "x/", token[:-1] + "/", wrong + "/", token.upper() + "/"):
            self.url = url.replace(token + "/", other)
            self.count(other == url or self.get("info")[0] == 403, f"the token '{other}' is good, too")
        self.url = url
        address = re.match(r"http://([\d.]+):(\d+)/", url)
        self.count(address[1] == "127.0.0.1", url)
        others = [a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
        for other in {a for a in others if not a.startswith("127.")}:
            with socket.socket() as one:
                one.settimeout(2)
                self.count(one.connect_ex((other, int(address[2]))) != 0, f"{other} is served, too")

    def life(self):
        """A writer's commits are seen; a heap that is damaged does not end the server."""
        before = self.ask("info")["commit_sequence"]
        self.change("put", "/new", '"here"')
        self.count(self.ask("info")["commit_sequence"] > before, "a commit is not seen")
        self.count(self.ask("search", text="here")["total"] == 1, "a new string is not found")
        kept = self.heap.read_bytes()
        self.heap.write_bytes(b"\0" * 100000)
        self.count(self.get("info")[0] == 409 and self.get("tree", path="")[0] == 409, "no heap is shown")
        self.heap.write_bytes(kept)
        self.count(self.ask("tree", path="")["type"] == "object", "it is not shown again")

    def metrics(self):
        status, text = self.get("metrics")
        self.count(status == 200 and text.endswith("# EOF\n") and "everheap_live_blocks" in text, text)
        if not self.has("promtool"):
            return
        # The one part of promtool that reads OpenMetrics makes a database of it, for which it wants times.
        timed = re.sub(r"(?m)^([^#\n].*)$", r"\1 1700000000", text)
        (self.scratch / "metrics").write_text(timed)
        for what, right in ((timed, True), (timed.replace("# EOF", ""), False), (timed.replace('"}', '}', 1), False)):
            (self.scratch / "metrics").write_text(what)
            done = subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "metrics", "blocks"],
                                  cwd=self.scratch, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.count((done.returncode == 0) == right, f"promtool: {done.stdout}\n{what if right else ''}")

    # ---- the page ----

    def page(self, screenshot):
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        status, text = self.get("")
        self.count(status == 200 and "//" not in re.sub(r"(?m)//[ -].*$|http://www\.w3\.org", "", text),
                   "the page needs something from elsewhere")
        if not browser:
            self.skip("chromium: not installed")
            return
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   f"--user-data-dir={self.scratch}/browser", "--window-size=1000,1180",
                   "--virtual-time-budget=4000"]
        is_over = threading.Event()
        writer = threading.Thread(target=self.write, args=(is_over,))
        writer.start()
        try:
            dom = subprocess.run([*command, "--dump-dom", self.url], text=True, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, timeout=120).stdout
            if screenshot:
                subprocess.run([*command, f"--screenshot={screenshot}", self.url], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=120, check=True)
        finally:
            is_over.set()
            writer.join()
        self.count('role="status">live<' in dom, f"the page is not live:\n{dom[-3000:]}")
        self.count(html.escape(self.heap.name) in dom and dom.count("<rect") > 100, "the map")
        self.count(dom.count("<polyline") == 4, "the charts")
        for part in ('<span class="key">users</span>', "[450]", "3 bytes"):
            self.count(part in dom, f"the tree lacks {part}")
        self.count("<b>Bob" not in dom, "what a string says became a part of the page")

    def write(self, is_over):
        """Commit while the page is shown."""
        for number in range(1000000):
            if is_over.is_set():
                return
            self.change("put", f"/log/{number}", f'"entry {number}"')


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    screenshot = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    os.environ.pop("http_proxy", None)
    os.environ["no_proxy"] = "*"
    with tempfile.TemporaryDirectory(dir=build, ignore_cleanup_errors=True) as scratch:
        check = Check(build, pathlib.Path(scratch))
        check.change("load", text=json.dumps(DOCUMENT))
        server = check.begin()
        if server:
            try:
                check.answers()
                check.refusals()
                check.metrics()
                check.page(screenshot)
                check.life()
            finally:
                server.send_signal(signal.SIGTERM)
                check.count(server.wait(30) == 0, "it does not end when it is asked to")
    return check.close()


if __name__ == "__main__":
    sys.exit(main())
