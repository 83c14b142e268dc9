"""Headless Chromium on a page from disk, driven through its debugging pipe: no driver and no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--disable-extensions", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip


def chromium() -> str:
    """The path of Chromium; skips the test if it is not installed."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path")
    return found


class Tab:
    """One browser tab: it can be driven, and it records what the page logs and requests."""

    def __init__(self, to: int, back: int):
        self.to, self.back, self.buffer, self.number, self.session = to, back, b"", 0, ""
        self.log: list[str] = []
        self.requests: list[str] = []

    def send(self, method: str, **parameters: Any) -> Any:
        """Send a command of Chromium's debugging protocol and return the answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        number, until = self.number, time.monotonic() + 90
        while time.monotonic() < until:
            answer = self._next(until)
            if answer is not None and answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
        raise TimeoutError(method)

    def _next(self, until: float) -> dict[str, Any] | None:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.back], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            part = os.read(self.back, 1 << 20)
            if not part:
                raise EOFError("the browser ended")
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        self._noted(found)
        return found

    def _noted(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                self.log.append(" ".join(str(a.get("value", a.get("description"))) for a in about["args"]))
            case "Runtime.exceptionThrown":
                details = about["exceptionDetails"]
                self.log.append(details.get("exception", {}).get("description") or details["text"])
            case "Log.entryAdded":
                self.log.append(about["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        details = found.get("exceptionDetails")
        assert details is None, details.get("exception", {}).get("description", details)
        return found["result"].get("value")

    def until(self, condition: str, seconds: float = 60) -> None:
        """Wait for a condition of the page to hold."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(f"!!({condition})"):
                return
            time.sleep(0.05)
        raise AssertionError(f"never: {condition}; the page said {self.log}")

    def open(self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open an address in a window of that size."""
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url="about:blank")  # so that a page opened twice is loaded twice
        self.send("Page.navigate", url=address)
        self.until("location.protocol !== 'about:' && document.readyState === 'complete'")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event, "Pressed", "Moved" or "Released", of the left button."""
        buttons = {"button": "left", "clickCount": 1} if kind != "Moved" else {}
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **{**buttons, **more})

    def click(self, x: float, y: float) -> None:
        """A click."""
        for kind in ("Moved", "Pressed", "Released"):
            self.mouse(kind, x, y)

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        """A touch event, "Start", "Move" or "End", with the fingers that are then on the screen."""
        self.send("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=[{"x": x, "y": y} for x, y in places])

    def key(self, name: str) -> None:
        """A key pressed and released."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """(left, top, width, height) of an element in the window, after scrolling it into view."""
        found = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height]; })()"
        )
        return tuple(found)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a screenshot as PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """A tab of a browser whose profile and downloads lie in ``folder``."""
    command = [chromium(), *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    theirs, ours = os.pipe(), os.pipe()  # the browser reads from descriptor 3 and writes to 4

    def place() -> None:
        reading, writing = os.dup(theirs[0]), os.dup(ours[1])
        os.dup2(reading, 3)
        os.dup2(writing, 4)

    process = subprocess.Popen(
        command, preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs[0])
    os.close(ours[1])
    try:
        found = Tab(theirs[1], ours[0])
        target = found.send("Target.createTarget", url="about:blank")["targetId"]
        found.session = found.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            found.send(f"{domain}.enable")
        found.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        yield found
    finally:
        with suppress(OSError):
            os.killpg(process.pid, 9)
        process.wait(30)
        for descriptor in (theirs[1], ours[0]):
            os.close(descriptor)
