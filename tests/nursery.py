"""``tasnet`` again and again, each time in a process of its own: by a fork, which spares the seconds that importing takes."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS, wait_until

IN_THE_NURSERY = pytest.mark.xdist_group("nursery")
"""For tests that use it: they run in one process, so that what it imports is imported once."""

PROGRAM = """
import atexit, json, os, resource, sys, threading
from joblib.externals.loky.backend import context
import pipeline.separation, pipeline.stages.run, pipeline.training.loop
from pipeline.cli import app
from pipeline.mixtures import rendering
# What trainings, scores and reports import when they need it.
import torch._dynamo, tensorboard.compat.proto.event_pb2, tensorboard.summary.writer.record_writer
import mir_eval.separation, pyloudnorm, scipy.optimize, scipy.signal, scipy.ndimage
import pipeline.reports.report_figures, matplotlib.figure, matplotlib.backends.backend_pdf, matplotlib.backends.backend_svg
context.set_start_method("fork")
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["environment"])
        for number in (1, 2):
            os.dup2(os.open(order["outputs"][number - 1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["max_file_bytes"], resource.RLIM_INFINITY))
        sys.argv = ["tasnet", *order["arguments"]]
        try:
            exec(order["prelude"])
            app.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        # Taking the interpreter down would copy every page that the fork shares, which takes seconds.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print("started", pid, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """Runs ``tasnet``, one command after the other; everything is imported already when it starts."""

    def __init__(self) -> None:
        self._running = 0
        self._folder = tempfile.TemporaryDirectory(prefix="nursery-")
        self._outputs = [Path(self._folder.name) / name for name in ("stdout.txt", "stderr.txt")]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout

    def start(self, *arguments: object, cwd: Path, max_file_bytes: int = 2**40, prelude: str = "") -> int:
        """Begin a command that may write no file larger than so many bytes; returns the id of its process and of its group.

        The prelude is Python that its process runs first.
        """
        if self._running:  # the test that started it was ended before it
            with suppress(ProcessLookupError):
                os.killpg(self._running, signal.SIGKILL)
            self.ended()
        order = {
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd),
            "environment": dict(os.environ),
            "outputs": list(map(str, self._outputs)),
            "max_file_bytes": max_file_bytes,
            "prelude": prelude,
        }
        self._commands.write(json.dumps(order).encode() + b"\n")
        self._running = self._answer("started")
        return self._running

    def ended(self) -> int:
        """Wait for the end of the command; returns its exit code, minus the signal that killed it."""
        code = self._answer("ended")
        self._running = 0
        return code

    def has_ended(self) -> bool:
        """Whether the answer is there already."""
        return self._answers_waiting(0.0)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command and its workers."""
        os.killpg(self._running, number)

    def run(self, *arguments: object, cwd: Path, prelude: str = "") -> subprocess.CompletedProcess[str]:
        """Start a command and wait for its end."""
        self.start(*arguments, cwd=cwd, prelude=prelude)
        return subprocess.CompletedProcess(list(arguments), self.ended(), self.stdout, self.stderr)

    @property
    def stdout(self) -> str:
        """What the last command has printed."""
        return self._outputs[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What the last command has written there."""
        return self._outputs[1].read_text(encoding="utf-8")

    def _answer(self, kind: str) -> int:
        wait_until(self._answers_waiting, seen=lambda: self._outputs[1].exists() and self.stderr, running=self._process)
        words = self._answers.readline().decode().split()
        assert words[:1] == [kind], f"{words} instead of {kind}"
        return int(words[1])

    def _answers_waiting(self, seconds: float = 0.1) -> bool:
        return bool(select.select([self._answers], [], [], seconds)[0])

    def close(self) -> None:
        self._commands.close()
        try:
            self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._answers.close()
            self._folder.cleanup()


@cache
def nursery() -> Nursery:
    """The one of this process, which ends with it."""
    started = Nursery()
    atexit.register(started.close)
    return started
