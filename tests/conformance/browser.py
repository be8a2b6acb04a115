"""A headless Chromium that shows a page as a reader sees it, controlled over two pipes with the DevTools protocol (JSON objects, each followed
by a zero byte), without any package.

Invariant: every wait is bounded, and the browser and its profile are gone at the end of the `with` block.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness import Json


NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60


def find() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """with Browser(path) as browser: browser.open("file:///…", width=390); browser.evaluate("document.title")."""

    def __init__(self, path: str) -> None:
        self.profile = tempfile.mkdtemp(prefix="browser-")
        ours, theirs = os.pipe(), os.pipe()
        # the descriptors of the protocol are 3 (to the browser) and 4 (from it)
        shell = 'exec "$0" "$@" 3<&%d 4>&%d' % (ours[0], theirs[1])
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-background-networking", "--remote-debugging-pipe", "--user-data-dir=" + self.profile]
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", shell, path, *options, "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            env={**os.environ, "TMPDIR": self.profile},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self.to, self.come = ours[1], theirs[0]
        self.data, self.number, self.session = b"", 0, None
        self.events: list[Json] = []

    def __enter__(self) -> Browser:
        try:
            targets = self.send("Target.getTargets")["targetInfos"]
            page = next(target["targetId"] for target in targets if target["type"] == "page")
            self.session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(domain + ".enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *rest: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.to)
        os.close(self.come)
        shutil.rmtree(self.profile, ignore_errors=True)

    def message(self, end: float) -> Json:
        """The next message; TimeoutError if none arrives in time."""
        while b"\0" not in self.data:
            if not select.select([self.come], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.come, 1 << 20)
            if not data:
                raise OSError("the browser has ended")
            self.data += data
        text, _, self.data = self.data.partition(b"\0")
        return json.loads(text)

    def send(self, method: str, **parameters: Json) -> Json:
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            found = self.message(end)
            if found.get("id") == self.number:
                if "error" in found:
                    raise OSError("%s: %s" % (method, found["error"]["message"]))
                return found["result"]
            self.events.append(found)

    def wait_for(self, method: str) -> Json:
        end = time.monotonic() + SECONDS
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message(end))

    def open(self, address: str, width: int, height: int = 900, dark: bool = False) -> None:
        """Loads a page in a window of this width; a narrow window represents a phone."""
        self.events.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.send("Page.navigate", url=address)
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Json:
        """The value of a JavaScript expression (plain data)."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise OSError("%s: %s" % (expression[:80], found["exceptionDetails"].get("exception", {}).get("description")))
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """Messages on the console of the page, and requests other than for the page itself: [text]."""
        found = []
        for event in self.events:
            method, about = event.get("method"), event.get("params", {})
            if method == "Log.entryAdded":
                found.append(about["entry"]["text"])
            elif method == "Runtime.exceptionThrown":
                found.append(about["exceptionDetails"]["text"])
            elif method == "Network.requestWillBeSent" and about.get("type") != "Document":
                found.append("asks for " + about["request"]["url"][:200])
        return found
