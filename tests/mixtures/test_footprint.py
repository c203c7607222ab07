"""The footprint counts what rendering would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.audio.files import write_audio
from pipeline.errors import WorkError
from pipeline.mixtures.footprint import BYTES_PER_SAMPLE, WAV_HEADER_BYTES, footprint, require_room
from pipeline.recipe.schema import Mix


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    manifest = pd.DataFrame({"utterance_id": ["a", "b"], "num_samples": [16001, 44100], "sample_rate": [16000, 22050]})
    plan = pd.DataFrame({"split": "test", "mixture_id": "a_b", "source": ["s1", "s2"], "utterance_id": ["a", "b"]})
    plan["start_seconds"] = 0.0
    return plan, manifest


def test_counts_files_bytes_and_seconds() -> None:
    plan, manifest = tables()
    # 16001 samples at 16 kHz become ceil(8000.5) = 8001 at 8 kHz; 44100 at 22.05 kHz become 16000.
    shortest = footprint(plan, manifest, Mix(mode="min"))
    assert (shortest.num_mixtures, shortest.num_files, shortest.num_bytes) == (1, 3, 3 * (44 + 2 * 8001))
    assert shortest.seconds == 8001 / 8000
    longest = footprint(plan, manifest, Mix(mode="max"))
    assert (longest.num_bytes, longest.seconds) == (3 * (44 + 2 * 16000), 2.0)


@pytest.mark.parametrize("encoding", ["pcm16", "float32"])
def test_a_files_size_is_the_headers_and_the_samples(tmp_path: Path, encoding: Any) -> None:
    write_audio(tmp_path / "x.wav", np.zeros(1000), 8000, encoding)
    assert (tmp_path / "x.wav").stat().st_size == WAV_HEADER_BYTES[encoding] + 1000 * BYTES_PER_SAMPLE[encoding]


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "yet", 1)
    with pytest.raises(WorkError, match="GB free; make room"):
        require_room(tmp_path, 10**18)


def test_every_variant_type_and_noise_is_counted() -> None:
    plan, manifest = tables()
    plan.loc[2] = ["test", "a_b", "noise", "b", -0.5]
    mix = Mix(types=["mix_clean", "mix_both"], also=[{"sample_rate": 16000, "mode": "max"}])
    found = footprint(plan, manifest, mix)
    # Per variant: two sources, noise, two types.
    assert (found.num_mixtures, found.num_files) == (1, 10)
    assert found.num_bytes == 5 * (44 + 2 * 8001) + 5 * (44 + 2 * 32000)
