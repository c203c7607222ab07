"""Signals that arrive while work fails."""

from __future__ import annotations

import signal
from types import FrameType

import pytest

from pipeline.errors import ModelError
from pipeline.training.interruptions import noted_interruptions


@pytest.mark.parametrize(("rank", "delivered"), [("0", []), ("1", [signal.SIGTERM])])
def test_of_several_processes_that_fail_alike_those_told_to_end_do_so_at_once(
    rank: str, delivered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    found: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        found.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        with pytest.raises(ModelError), noted_interruptions() as interruptions:
            signal.raise_signal(signal.SIGTERM)
            assert interruptions.stop == signal.SIGTERM
            assert not found, "it is noted, and nothing else happens yet"
            raise ModelError("the same in every process")
        assert found == delivered
        assert signal.getsignal(signal.SIGTERM) is note
    finally:
        signal.signal(signal.SIGTERM, before)
