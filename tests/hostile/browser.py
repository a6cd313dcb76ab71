"""A headless Chromium, driven through its debugging pipe: pages, mouse and keyboard, and what they did."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def program() -> str:
    """The path of a Chromium; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


class Browser:
    """One page. `events` has every message that the browser sent without being asked."""

    def __init__(self, asks: int, answers: int):
        self._asks, self._answers = asks, os.fdopen(answers, "rb", buffering=0)
        self._rest = b""
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._asks, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = self._answers.read(1 << 16)
            assert block, "the browser has ended"
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, url: str) -> None:
        """Show a page and wait until it is loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=url)
        until = time.monotonic() + 60
        while (
            self.value("document.readyState") != "complete" or self.value("location.href") == "about:blank"
        ):
            assert time.monotonic() < until, "the page does not load"
            time.sleep(0.1)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        return self.ask("Runtime.evaluate", **asked)["result"].get("value")

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll an element into view and return its middle."""
        box = self.value(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView();"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        return box[0], box[1]

    def move(self, x: float, y: float, click: bool = False) -> None:
        """Move the mouse to a place, and click there."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def requests(self) -> list[str]:
        """The addresses that the page asked for, without those that its policy kept from going out."""
        self.value("1")  # what is on its way has been told then
        kept = {
            e["params"]["requestId"]
            for e in self.events
            if e["method"] == "Network.loadingFailed" and e["params"].get("blockedReason") == "csp"
        }
        sent = [e["params"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [s["request"]["url"] for s in sent if s["requestId"] not in kept]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def dialogs(self) -> list[dict[str, Any]]:
        """The dialogs that a script opened."""
        return [e for e in self.events if e["method"] == "Page.javascriptDialogOpening"]

    def errors(self) -> list[str]:
        """What scripts raised."""
        return [str(e["params"]) for e in self.events if e["method"] == "Runtime.exceptionThrown"]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium without network profile, ended afterwards."""
    path = program()
    its_asks, asks = os.pipe()
    answers, its_answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [path, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        words += [f"--user-data-dir={profile}", "--no-first-run", "--disable-dev-shm-usage"]
        command = f"exec {' '.join(words)} 3<&{its_asks} 4>&{its_answers}"
        process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(its_asks, its_answers), stderr=subprocess.DEVNULL
        )
        os.close(its_asks)
        os.close(its_answers)
        try:
            yield Browser(asks, answers)
        finally:
            process.terminate()
            process.wait()
            os.close(asks)


def page_of(path: Path) -> str:
    """The address of a file."""
    return path.resolve().as_uri()
