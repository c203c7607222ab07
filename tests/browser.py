"""A browser for tests: Chromium, headless, driven over its debugging pipe."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE_SECONDS

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)


def find_chromium() -> str:
    """The path of Chromium or Chrome; without one the test is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium is installed: the page is not driven")


class Browser:
    """One page; ``evaluate`` runs JavaScript in it and waits for promises. Messages and dialogs are kept in ``complaints``.

    Args:
        profile: an empty folder for the browser's own files.
        flags: more options of the command line.
    """

    def __init__(self, profile: Path, *flags: str) -> None:
        (child_reads, self._write), (self._read, child_writes) = os.pipe(), os.pipe()
        command = [find_chromium(), *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        script = f'exec "$@" 3<&{child_reads} 4>&{child_writes} 2>/dev/null'
        self._process = subprocess.Popen(["bash", "-c", script, "browser", *command], pass_fds=(child_reads, child_writes))
        os.close(child_reads)
        os.close(child_writes)
        self._rest = b""
        self._count = 0
        self._session = ""
        self.complaints: list[str] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            self.call(f"{domain}.enable")

    def open(self, page: Path | str, *, width: int = 1280, dark: bool = False) -> None:
        """Show a file or an address in a window of this width."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.resolve().as_uri() if isinstance(page, Path) else page)
        self.evaluate("new Promise((go) => document.readyState === 'complete' ? go() : addEventListener('load', () => go()))")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the browser and wait for its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := self._next(deadline)).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer["error"]
        return dict(answer["result"])

    def _next(self, deadline: float) -> dict[str, Any]:
        """The next message; fails at the deadline, however much the browser has said by then."""
        while b"\0" not in self._rest:
            seconds = max(0, deadline - time.monotonic())
            assert select.select([self._read], [], [], seconds)[0], f"the browser does not answer; seen: {self._rest[-500:]!r}"
            part = os.read(self._read, 1 << 16)
            assert part, "the browser has gone"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            self.complaints.append(json.dumps(event["params"])[:500])

    def close(self) -> None:
        """End the browser."""
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=30)
