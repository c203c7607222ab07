"""The live page in Chromium: what a person does there, and what is on the screen and in the files that it saves."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.browser import Browser
from tests.waiting import wait_until

MICROPHONE = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",  # which allows the microphone
)


class LivePage:
    """One live page; every method waits until the page has done it."""

    def __init__(self, browser: Browser, address: str, downloads: Path, *, before: str = "", **look: Any) -> None:
        """Open it; ``before`` is JavaScript that runs before the page's own."""
        self.browser, self.downloads = browser, downloads
        script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=before)["identifier"]
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        browser.open(address, **look)
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
        wait_until(lambda: not self.is_hidden("page"), seen=lambda: browser.complaints)

    def text(self, name: str) -> str:
        """What an element says, by its id."""
        return str(self.browser.evaluate(f"document.getElementById({name!r}).textContent"))

    def is_hidden(self, name: str) -> bool:
        """Whether an element is not shown."""
        return bool(self.browser.evaluate(f"document.getElementById({name!r}).hidden"))

    def click(self, name: str) -> None:
        """Press a button, by its id."""
        self.browser.evaluate(f"document.getElementById({name!r}).click()")

    def press(self, key: str) -> None:
        """Press a key, where the focus is."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=key, **(text if kind == "keyDown" else {}))

    def choose(self, path: Path, pace: str = "fast") -> None:
        """Choose a file."""
        self.browser.evaluate(f"document.getElementById('pace').value = {pace!r}")
        root = self.browser.call("DOM.getDocument")["root"]["nodeId"]
        found = self.browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=found)

    def wait_for(self, words: str, name: str = "status") -> str:
        """Wait until an element says so; returns all that it says."""
        wait_until(
            lambda: words in self.text(name), seen=lambda: [*map(self.text, ("status", "problem")), self.browser.complaints]
        )
        return self.text(name)

    def saved(self, track: int) -> tuple[str, NDArray[np.float32]]:
        """Save a track, 0 for the mixture: the file's name, and its samples ``[time]``."""
        self.downloads.mkdir(exist_ok=True)
        before = set(self.downloads.iterdir())
        self.browser.evaluate(f"document.querySelectorAll('.save')[{track}].click()")
        wait_until(lambda: [path.suffix for path in set(self.downloads.iterdir()) - before] == [".wav"])  # no part of a file
        (path,) = set(self.downloads.iterdir()) - before
        samples, sample_rate = soundfile.read(path, dtype="float32")
        assert (sample_rate, soundfile.info(path).subtype) == (8000, "FLOAT")
        path.unlink()
        return path.name, samples

    def voices(self) -> NDArray[np.float32]:
        """Both saved voices, ``[source, time]``."""
        return np.stack([self.saved(track)[1] for track in (1, 2)])

    def run(self, module: str, expression: str) -> Any:
        """The value of an expression with the names of one of the page's modules."""
        names = self.browser.evaluate(f"import('./{module}').then((found) => Object.keys(found).join(', '))")
        return json.loads(
            self.browser.evaluate(f"import('./{module}').then(({{ {names} }}) => JSON.stringify({expression}))")  # finite only
        )


def deviation(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest, relative to the peak."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@contextmanager
def static(folder: Path) -> Iterator[str]:
    """The address of a folder's files, as any web server gives them."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
