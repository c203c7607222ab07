"""Verification: every kind of damage is found and named, and repaired by making only what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.audio.files import quantise, quantise_down, read_audio, write_audio
from pipeline.errors import DatasetError
from pipeline.mixtures.plans.drawn import draw_plan
from pipeline.mixtures.renderers.base import Array
from pipeline.mixtures.rendering import render
from pipeline.mixtures.verification import repair, sum_excess, verify
from tests.mixtures.small_corpus import Corpus, digests, inputs_of, plan_settings

Dataset = tuple[Path, Callable[[], object]]
"""Its folder, and the call that makes it."""


@pytest.fixture
def dataset(corpus: Corpus, tmp_path: Path) -> Dataset:
    """A small dataset and the call that makes it."""
    root, manifest = corpus
    plan = draw_plan(manifest, plan_settings(4), seed=0)

    def generate() -> object:
        return render(plan, manifest, inputs_of("random", root), tmp_path / "set", num_workers=1)

    generate()
    return tmp_path / "set", generate


def _rewrite(path: Path, change: Callable[[Array], Array]) -> None:
    samples, sample_rate = read_audio(path)
    write_audio(path, change(samples), sample_rate)


def _one_step(samples: Array) -> Array:
    samples[10] += 1 / 2**15
    return samples


DAMAGES = {
    "no such file": lambda path: path.unlink(),
    "damaged or not an audio file": lambda path: path.write_bytes(b"RIFF"),
    "cut short|instead of|damaged": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "samples instead of": lambda path: _rewrite(path, lambda samples: samples[:-1]),
    "has other samples": lambda path: _rewrite(path, _one_step),
    "has a peak of": lambda path: _rewrite(path, lambda samples: samples / 2),
    "sampled at 16000 Hz instead of 8000": lambda path: write_audio(path, read_audio(path)[0], 16000),
}


def test_an_undamaged_dataset_has_no_findings(dataset: Dataset) -> None:
    folder, _ = dataset
    assert verify(folder, num_workers=1) == []
    assert verify(folder, num_workers=2) == []


@pytest.mark.parametrize("problem", DAMAGES)
def test_damage_is_found_and_repaired(dataset: Dataset, problem: str) -> None:
    folder, generate = dataset
    whole = digests(folder)
    victim = sorted(folder.rglob("s2/*.wav"))[3]
    untouched = sorted(folder.rglob("s1/*.wav"))[0]
    time_before = untouched.stat().st_mtime_ns
    DAMAGES[problem](victim)
    findings = verify(folder, num_workers=1)
    assert [finding.path for finding in findings] == [victim.relative_to(folder).as_posix()]
    assert findings[0].mixture_id == victim.stem
    assert re.search(problem, findings[0].problem)
    repair(folder, findings, generate)
    assert digests(folder) == whole
    assert untouched.stat().st_mtime_ns == time_before


def test_an_unfinished_generation_is_named_and_finished(dataset: Dataset) -> None:
    folder, generate = dataset
    whole = digests(folder)
    (folder / "mixtures.csv").unlink()
    (folder / "2speakers" / ".half.wav.123.tmp").write_bytes(b"RIFF")
    findings = verify(folder, num_workers=1)
    assert [finding.problem.split(":")[0] for finding in findings] == ["is missing", "is left over from a killed run"]
    assert repair(folder, findings, generate) == []
    assert digests(folder) == whole


@pytest.mark.parametrize("damaged", [False, True])
def test_what_the_dataset_did_not_make_is_named_and_never_removed(dataset: Dataset, damaged: bool) -> None:
    folder, generate = dataset
    whole = digests(folder)
    some = next(folder.rglob("mix/*.wav"))
    foreign = [some.parent / "mine.wav", folder / "notes" / "MINE.WAV", folder / "notes" / "song.flac", some.parent / ".mine.tmp"]
    (folder / "notes").mkdir()
    for path in foreign:
        path.write_bytes(b"somebody's work")
    times = {path: path.stat().st_mtime_ns for path in foreign}
    if damaged:
        some.unlink()
    findings = verify(folder, num_workers=1)
    named = {finding.path for finding in findings if finding.is_foreign}
    assert named == {path.relative_to(folder).as_posix() for path in foreign[:3]}
    assert len(findings) == 3 + damaged
    left = repair(folder, findings, generate)
    assert {finding.path for finding in left} == named
    assert {path: path.stat().st_mtime_ns for path in foreign} == times
    assert {path: digest for path, digest in digests(folder).items() if folder / path not in foreign} == whole


@pytest.mark.parametrize("where", ["file", "absolute file", "table"])
def test_a_journal_that_names_files_outside_of_the_dataset_is_refused(dataset: Dataset, tmp_path: Path, where: str) -> None:
    folder, _ = dataset
    outside = tmp_path / "x.wav"
    write_audio(outside, np.zeros(100), 8000)
    before = digests(tmp_path)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    record = json.loads(lines[1])
    if where == "table":
        record["rows"]["../x.csv"] = {"mixture_id": "x"}
    else:
        record["files"][0]["path"] = "2speakers/../../x.wav" if where == "file" else str(outside)
    (folder / "journal.jsonl").write_text(lines[0] + json.dumps(record) + "\n" + "".join(lines[2:]))
    with pytest.raises(DatasetError, match=r"journal\.jsonl: names .*x\.(wav|csv), which is outside of the dataset"):
        verify(folder, num_workers=1)
    changed = {path for path, digest in digests(tmp_path).items() if before.get(path) != digest}
    assert changed == {"set/journal.jsonl"}


def test_tables_that_are_gone_or_changed_are_named_and_written_again(dataset: Dataset) -> None:
    folder, generate = dataset
    whole = digests(folder)
    (folder / "files.csv").unlink()
    mixtures = folder / "mixtures.csv"
    mixtures.write_text(mixtures.read_text().replace("valid", "train"))
    findings = verify(folder, num_workers=1)
    assert [str(finding) for finding in findings] == ["files.csv: no such file", "mixtures.csv: is not as it was written"]
    repair(folder, findings, generate)
    assert digests(folder) == whole


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"journal\.jsonl"):
        verify(tmp_path)


def test_damage_that_cannot_be_repaired_is_said(dataset: Dataset) -> None:
    folder, _ = dataset
    next(folder.rglob("mix/*.wav")).unlink()
    with pytest.raises(DatasetError, match="left after the repair"):
        repair(folder, verify(folder, num_workers=1), lambda: None)


@given(st.sampled_from([quantise, quantise_down]), st.integers(2, 6), st.data())
def test_rounding_never_counts_as_damage(quantiser: Callable[[Array], Array], num_parts: int, data: st.DataObject) -> None:
    values = st.floats(-0.1875, 0.1875, width=32)
    parts = data.draw(arrays(np.float32, (num_parts, 20), elements=values))
    mixture = parts.sum(axis=0)
    assert sum_excess(quantiser(mixture), [quantiser(part) for part in parts]) == 0
    assert sum_excess(quantiser(mixture * 1.5), [quantiser(part) for part in parts]) >= 0


def test_a_mixture_of_other_sources_is_damage() -> None:
    generator = np.random.default_rng(0)
    parts = [quantise(generator.uniform(-0.3, 0.3, 1000)) for _ in range(3)]
    assert sum_excess(parts[0] + parts[1], parts[:2]) == 0
    assert sum_excess(parts[0] + parts[1], parts[1:]) > 100
    clipped = np.full(10, 2**15 - 1, np.int16)
    assert sum_excess(clipped, [clipped, clipped]) == 0
