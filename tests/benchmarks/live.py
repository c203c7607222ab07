"""A microphone in Chromium, live through a model: how often the sound stops for want of samples, and how late it is.

    python -m tests.benchmarks.live MODEL [--minutes 1] [--chunk-ms 20] [--runtime onnxruntime-web-VERSION.tgz] [--screenshots D]

The microphone hears two made-up voices. With ``--runtime`` the model runs in the browser, without a server.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from tests.browser import Browser
from tests.separation.live.pages import MICROPHONE, LivePage, static
from tests.voices import voice
from tests.waiting import process, wait_until

FIGURES = ("latency", "chunk-figure", "delay", "delay-parts", "factor", "underruns")
LOOKS = ((1200, False), (1200, True), (390, False), (390, True))


@contextmanager
def live(model: Path) -> Iterator[str]:
    """The address of ``tasnet live``."""
    command = [sys.executable, "-m", "pipeline", "live", model, "--port", "0"]
    with process(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


@contextmanager
def exported(model: Path, runtime: Path, folder: Path) -> Iterator[str]:
    """The address of the exported page."""
    from pipeline.separation.export import export_model

    list(export_model(model, folder, to="web", runtime=runtime))
    with static(folder) as address:
        yield address


def screenshot(page: LivePage, path: Path) -> None:
    """Of what is on the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(page.browser.call("Page.captureScreenshot")["data"]))


def record(page: LivePage, seconds: float, chunk_ms: int) -> dict[str, str]:
    """What the page says after a recording."""
    page.browser.evaluate(f"document.getElementById('chunk').value = '{chunk_ms}'")
    page.click("microphone")
    wait_until(lambda: float(page.text("time").split()[0]) >= seconds, seconds=4 * seconds + 60)
    figures = {name: page.text(name) for name in FIGURES}
    page.click("microphone")
    page.wait_for("s separated")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--chunk-ms", type=int, default=20, choices=(10, 20, 50, 100, 250))
    parser.add_argument("--runtime", type=Path)
    parser.add_argument("--screenshots", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = 0.5 * (voice(0, 0, seconds=30, sample_rate=48000) + voice(4, 1, seconds=30, sample_rate=48000))
        soundfile.write(folder / "said.wav", said, 48000)
        browser = Browser(folder / "profile", *MICROPHONE, f"--use-file-for-fake-audio-capture={folder / 'said.wav'}")
        serving = exported(given.model, given.runtime, folder / "page") if given.runtime else live(given.model)
        with serving as address:
            try:
                figures = record(LivePage(browser, address, folder / "saved"), 60 * given.minutes, given.chunk_ms)
                for width, dark in LOOKS if given.screenshots else ():
                    page = LivePage(browser, address, folder / "saved", width=width, dark=dark)
                    record(page, 4, given.chunk_ms)
                    screenshot(page, given.screenshots / f"{width}-{'dark' if dark else 'light'}.png")
            finally:
                browser.close()
    for what, value in figures.items():
        print(f"{what:14} {value}")


if __name__ == "__main__":
    main()
