"""Rendering: files, tables and bytes that depend on neither workers, nor kills, nor the way to the samples."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.files import quantise, read_audio
from pipeline.audio.levels import LevelRule, active_level, level_db
from pipeline.audio.mixing import PEAK, Mode, Utterance, mix_at_levels
from pipeline.audio.resampling import resample
from pipeline.errors import AudioError, DatasetError, PlanError, WorkError
from pipeline.mixtures.packing import pack_mixtures, pack_utterances
from pipeline.mixtures.plans.drawn import MixtureSampler, draw_plan
from pipeline.mixtures.rendering import FILES, check_inputs, render
from pipeline.mixtures.shards import Shard
from pipeline.recipe.schema import Mix
from pipeline.tables import MIXTURES, read_table
from tests.mixtures.small_corpus import RATE, Corpus, digests, inputs_of, plan_settings
from tests.waiting import PATIENCE_SECONDS, wait_until

Dataset = tuple[Path, pd.DataFrame]
"""The folder of a rendered dataset, and its plan."""


@pytest.fixture(scope="module")
def dataset(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The undisturbed rendering of a plan by one worker: (folder, plan)."""
    root, manifest = corpus
    plan = draw_plan(manifest, plan_settings(), seed=0)
    folder = tmp_path_factory.mktemp("dataset")
    render(plan, manifest, inputs_of("random", root), folder, num_workers=1)
    return folder, plan


def test_the_tree_is_the_published_one(dataset: Dataset) -> None:
    folder, plan = dataset
    mixtures = read_table(folder / "mixtures.csv", MIXTURES)
    assert list(mixtures["mixture_id"]) == list(dict.fromkeys(plan["mixture_id"]))
    first = mixtures.iloc[0]
    assert first["mixture_path"] == f"2speakers/wav8k/min/tr/mix/{first['mixture_id']}.wav"
    assert first["source_2_path"] == f"2speakers/wav8k/min/tr/s2/{first['mixture_id']}.wav"
    wavs = {str(p.relative_to(folder)) for p in folder.rglob("*.wav")}
    listed = {path for column in ("mixture_path", "source_1_path", "source_2_path") for path in mixtures[column]}
    assert wavs == listed
    assert sorted(p.name for p in folder.iterdir()) == ["2speakers", "files.csv", "journal.jsonl", "mixtures.csv"]


def test_mixtures_are_sums_with_the_right_levels_peaks_and_lengths(corpus: Corpus, dataset: Dataset) -> None:
    root, manifest = corpus
    folder, plan = dataset
    utterances = manifest.set_index("utterance_id")
    for row in read_table(folder / "mixtures.csv", MIXTURES).to_dict("records"):
        mixture, sample_rate = read_audio(folder / row["mixture_path"])
        sources = [read_audio(folder / row[f"source_{k}_path"])[0] for k in (1, 2)]
        used = utterances.loc[[row["source_1_utterance_id"], row["source_2_utterance_id"]]]
        assert sample_rate == 8000
        assert len(mixture) == row["num_samples"] == -(-used["num_samples"].min() // 2)
        assert np.abs(mixture - sum(sources)).max() <= 1.5 / 2**15
        assert max(np.abs(mixture).max(), *(np.abs(s).max() for s in sources)) == pytest.approx(PEAK, abs=1 / 2**15)
        # The published scripts measure the whole utterance at 8 kHz, before anything is cut.
        whole = [resample(read_audio(root / path)[0], RATE, 8000) for path in used["path"]]
        levels_db = [10 * np.log10(active_level(w * row[f"source_{k}_gain"], 8000).power) for k, w in enumerate(whole, 1)]
        wanted = plan[plan["mixture_id"] == row["mixture_id"]]["level"].to_numpy()
        assert levels_db[0] - levels_db[1] == pytest.approx(wanted[0] - wanted[1], abs=0.02)


def test_the_record_of_files_is_true(dataset: Dataset) -> None:
    folder, _ = dataset
    for row in read_table(folder / "files.csv", FILES).to_dict("records"):
        samples, sample_rate = read_audio(folder / row["path"])
        assert (sample_rate, len(samples)) == (row["sample_rate"], row["num_samples"])
        assert np.abs(samples).max() == row["peak"]
        assert hashlib.sha256(quantise(samples).tobytes()).hexdigest() == row["sha256"]


def test_two_workers_write_the_same_bytes(corpus: Corpus, dataset: Dataset, tmp_path: Path) -> None:
    root, manifest = corpus
    folder, plan = dataset
    render(plan, manifest, inputs_of("random", root), tmp_path, num_workers=2)
    assert digests(tmp_path) == digests(folder)


def test_max_mode_other_rates_other_formats_and_three_sources(corpus: Corpus, tmp_path: Path) -> None:
    root, manifest = corpus
    plan = draw_plan(manifest, plan_settings(4, num_sources=3, level="loudness"), seed=1)
    mix = Mix(sample_rate=16000, mode="max", encoding="float32")
    mixtures = render(plan, manifest, inputs_of("random", root, mix), tmp_path, num_workers=1)
    row = mixtures.iloc[0]
    assert row["mixture_path"].startswith("3speakers/wav16k/max/tr/mix/")
    mixture, _ = read_audio(tmp_path / row["mixture_path"])
    sources = [read_audio(tmp_path / row[f"source_{k}_path"])[0] for k in (1, 2, 3)]
    lengths = manifest.set_index("utterance_id").loc[[row[f"source_{k}_utterance_id"] for k in (1, 2, 3)], "num_samples"]
    assert len(mixture) == lengths.max()
    assert np.allclose(mixture, sum(sources), atol=1e-6)
    for source, length, level in zip(sources, lengths, plan["level"][:3], strict=True):
        assert level_db(source[:length] / row["scale"], 16000, "loudness") == pytest.approx(level, abs=1e-4)
        assert not source[length:].any()
    flac = render(plan, manifest, inputs_of("random", root, Mix(encoding="flac")), tmp_path / "flac", num_workers=1)
    assert flac["mixture_path"].str.endswith(".flac").all()
    assert read_audio(tmp_path / "flac" / flac.iloc[0]["mixture_path"])[1] == 8000


@pytest.mark.parametrize("level", ["active", "loudness", "rms"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_on_the_fly_samples_are_those_on_disk(corpus: Corpus, tmp_path: Path, level: LevelRule, mode: Mode) -> None:
    root, manifest = corpus
    plan, mix = draw_plan(manifest, plan_settings(level=level), seed=2), Mix(mode=mode)
    mixtures = render(plan, manifest, inputs_of("random", root, mix), tmp_path, num_workers=1)
    pack_utterances(manifest, root, "train", mix, tmp_path / "bank.shard", level=level, num_workers=1)
    pack_mixtures(tmp_path, mixtures, "train", tmp_path / "train.shard", num_workers=1)
    bank, shard = Shard(tmp_path / "bank.shard"), Shard(tmp_path / "train.shard")
    places = bank.index_of()

    def utterance(name: str) -> Utterance:
        facts = bank.facts[places[name]]
        return Utterance(bank.read(places[name])[0], facts["level_db"], facts["peak"])

    for index, (mixture_id, rows) in enumerate(plan[plan["split"] == "train"].groupby("mixture_id", sort=False)):
        mixed = mix_at_levels([utterance(u) for u in rows["utterance_id"]], list(rows["level"]), rule=level, mode=mode)
        assert shard.names[index] == mixture_id
        assert np.array_equal(shard.read(index), quantise(np.vstack([mixed.mixture, mixed.sources])))
    sampler = MixtureSampler(manifest, plan_settings(level=level), split="train", seed=0)
    assert all(u in places for k in range(20) for u in sampler.draw(0, k).utterance_ids)


def test_a_packed_dataset_of_floats_stays_exact(corpus: Corpus, tmp_path: Path) -> None:
    root, manifest = corpus
    mixtures = render(
        draw_plan(manifest, plan_settings(), seed=2),
        manifest,
        inputs_of("random", root, Mix(encoding="float32")),
        tmp_path,
        num_workers=1,
    )
    pack_mixtures(tmp_path, mixtures, "valid", tmp_path / "valid.shard", encoding="float32", num_workers=1)
    shard = Shard(tmp_path / "valid.shard")
    row = mixtures[mixtures["split"] == "valid"].iloc[1]
    assert np.array_equal(shard.read(1)[2], read_audio(tmp_path / row["source_2_path"])[0].astype(np.float32))
    with pytest.raises(PlanError, match="split train"):
        pack_mixtures(tmp_path, mixtures[mixtures["split"] == "valid"], "train", tmp_path / "none.shard")


# ------------------------------------------------------------------------------------------------------------- bad input
def test_every_bad_input_is_named_at_once_and_nothing_is_written(corpus: Corpus, tmp_path: Path) -> None:
    root, manifest = corpus
    bad = tmp_path / "bad"
    for path in manifest["path"]:
        (bad / path).parent.mkdir(parents=True, exist_ok=True)
        (bad / path).symlink_to(root / path)
    tone = 0.1 * np.sin(np.arange(RATE))
    spoilt = list(manifest["path"].iloc[:6])
    for path in spoilt:
        (bad / path).unlink()
    (bad / spoilt[1]).write_bytes(b"")
    soundfile.write(bad / spoilt[2], tone[:4000], 4000)
    soundfile.write(bad / spoilt[3], np.stack([tone, tone], 1), RATE)
    soundfile.write(bad / spoilt[4], tone[:0], RATE, format="WAV")
    soundfile.write(bad / spoilt[5], tone[:-1], RATE)
    plan = draw_plan(manifest, plan_settings(30), seed=0)
    with pytest.raises(AudioError) as caught:
        check_inputs(plan, manifest, inputs_of("random", bad), num_workers=1)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{bad}: no such file for 1 of the ")
    assert lines[1].endswith(f": 1 missing: {spoilt[0]}")
    assert lines[2].startswith("  to fix it: ")
    expected = ["damaged", "below the mixtures' 8000 Hz", "2 channels", "holds no samples", "manifest says"]
    assert [path in line and words in line for path, words, line in zip(spoilt[1:], expected, lines[3:], strict=True)] == [
        True
    ] * 5
    check_inputs(plan, manifest, inputs_of("random", root), num_workers=2)


def test_a_plan_of_another_corpus_is_refused(corpus: Corpus) -> None:
    root, manifest = corpus
    plan = draw_plan(manifest, plan_settings(), seed=0)
    with pytest.raises(PlanError, match="the manifest does not have"):
        check_inputs(plan, manifest[manifest["split"] != "test"], inputs_of("random", root), num_workers=1)


@pytest.mark.parametrize("name", ["../../x", "/x", "a\\b", ".."])
def test_a_mixture_whose_name_is_a_path_is_refused(corpus: Corpus, tmp_path: Path, name: str) -> None:
    root, manifest = corpus
    plan = draw_plan(manifest, plan_settings(), seed=0)
    with pytest.raises(PlanError, match="so no file can be called so"):
        render(plan.assign(mixture_id=name), manifest, inputs_of("random", root), tmp_path / "out", num_workers=1)
    assert not any(tmp_path.iterdir())


def test_a_plan_of_another_kind_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    root, manifest = corpus
    plan = draw_plan(manifest, plan_settings(), seed=0)
    with pytest.raises(PlanError, match=r"level_rule is 'active', and plan\.kind = 'librimix' has only gain"):
        render(plan, manifest, inputs_of("librimix", root), tmp_path / "out", num_workers=1)


@pytest.mark.parametrize(
    ("damage", "message"), [("nan", "not numbers"), ("silent", "is silent"), ("truncated", "cut short|damaged")]
)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_damage_found_on_the_way_is_one_line_and_can_be_mended(
    corpus: Corpus, tmp_path: Path, damage: str, message: str, num_workers: int
) -> None:
    root, manifest = corpus
    bad = tmp_path / "bad"
    for path in manifest["path"]:
        (bad / path).parent.mkdir(parents=True, exist_ok=True)
        (bad / path).write_bytes((root / path).read_bytes())
    plan = draw_plan(manifest, plan_settings(), seed=0)
    spoilt = bad / manifest.set_index("utterance_id").loc[plan["utterance_id"].iloc[0], "path"]
    if damage == "truncated":
        spoilt.write_bytes(spoilt.read_bytes()[: spoilt.stat().st_size // 2])
    else:
        samples = np.full(RATE, np.nan if damage == "nan" else 0.0)
        soundfile.write(spoilt, samples, RATE, format="WAV", subtype="FLOAT")
    out = tmp_path / "out"
    with pytest.raises(AudioError, match=message) as caught:
        render(plan, manifest, inputs_of("random", bad), out, num_workers=num_workers)
    assert str(spoilt) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (out / "mixtures.csv").exists()
    spoilt.write_bytes((root / spoilt.relative_to(bad)).read_bytes())
    render(plan, manifest, inputs_of("random", bad), out, num_workers=num_workers)
    undisturbed = tmp_path / "undisturbed"
    render(plan, manifest, inputs_of("random", root), undisturbed, num_workers=1)
    assert digests(out) == digests(undisturbed)


# ------------------------------------------------------------------------------------------------------ kills and resumes
PROGRAM = """
import sys, time
from pathlib import Path
import pandas as pd
from pipeline.mixtures import rendering
from tests.mixtures.small_corpus import inputs_of

plan, manifest, root, out, num_workers, num_done = sys.argv[1:]
journal = Path(out, "journal.jsonl")
rendering._CHUNK, write = 1, rendering.write_audio

def slowly(*arguments):
    # A little beyond the kill it waits for it, however long that takes to come.
    beyond = journal.exists() and len(journal.read_text().splitlines()) > int(num_done) + 2
    time.sleep(100 if beyond else 0.03)
    return write(*arguments)

rendering.write_audio = slowly
inputs = inputs_of("random", Path(root))
rendering.render(pd.read_pickle(plan), pd.read_pickle(manifest), inputs, Path(out), num_workers=int(num_workers))
"""


@pytest.mark.parametrize(("num_workers", "kills"), [(1, (1, 4, 8)), (2, (4,))])
def test_killed_again_and_again_it_keeps_what_is_done_and_ends_with_the_same_bytes(
    corpus: Corpus, dataset: Dataset, tmp_path: Path, num_workers: int, kills: tuple[int, ...]
) -> None:
    """Each number is that of mixtures in the journal at the next kill."""
    root, manifest = corpus
    folder, plan = dataset
    plan.to_pickle(tmp_path / "plan.pkl")
    manifest.to_pickle(tmp_path / "manifest.pkl")
    out = tmp_path / "out"
    arguments = [tmp_path / "plan.pkl", tmp_path / "manifest.pkl", root, out, num_workers]
    for num_done in kills:
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, [*arguments, num_done])],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        try:
            wait_until(
                lambda running=running, num_done=num_done: running.poll() is not None or len(_journalled(out)) >= num_done,
                seen=lambda: f"{len(_journalled(out))} mixtures in the journal",
            )
            assert running.poll() is None, "it ended before it could be killed"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait(timeout=PATIENCE_SECONDS)
        assert not (out / "mixtures.csv").exists()
    kept = {path: path.stat().st_mtime_ns for files in _journalled(out) for path in files}
    assert len(kept) >= 3 * kills[-1], "a mixture in the journal is three files, and none of them was lost by the kill"
    render(plan, manifest, inputs_of("random", root), out, num_workers=num_workers)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert digests(out) == digests(folder)


def _journalled(out: Path) -> list[list[Path]]:
    """The files of every mixture that the journal counts as written; a kill may have cut its last line."""
    journal = out / "journal.jsonl"
    lines = journal.read_text().split("\n")[1:-1] if journal.exists() else []
    return [[out / file["path"] for file in json.loads(line)["files"]] for line in lines]


def test_files_lost_after_the_journal_knew_them_are_made_again(corpus: Corpus, dataset: Dataset, tmp_path: Path) -> None:
    root, manifest = corpus
    folder, plan = dataset
    out = tmp_path / "out"

    def stop_before_the_end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipeline.mixtures.rendering.write_tables", stop_before_the_end)
        with pytest.raises(KeyboardInterrupt):
            render(plan, manifest, inputs_of("random", root), out, num_workers=1)
    journal = out / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])
    lost, emptied, *_ = sorted(out.rglob("*.wav"))
    lost.unlink()
    emptied.write_bytes(b"")
    (lost.parent / ".half.wav.123.tmp").write_bytes(b"RIFF")
    render(plan, manifest, inputs_of("random", root), out, num_workers=1)
    assert digests(out) == digests(folder)


def test_a_whole_dataset_is_left_as_it_is(corpus: Corpus, dataset: Dataset) -> None:
    root, manifest = corpus
    folder, plan = dataset
    before, times = digests(folder), {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    render(plan, manifest, inputs_of("random", root), folder, num_workers=1)
    assert digests(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")} == times


def test_the_beginnings_of_another_dataset_are_not_continued(corpus: Corpus, dataset: Dataset, tmp_path: Path) -> None:
    root, manifest = corpus
    _, plan = dataset
    (tmp_path / "journal.jsonl").write_text('{"identity":"of another"}\n')
    (tmp_path / "mixtures.csv").write_text("of another\n")
    with pytest.raises(DatasetError, match="another dataset"):
        render(plan, manifest, inputs_of("random", root), tmp_path, num_workers=1)
    assert (tmp_path / "mixtures.csv").read_text() == "of another\n"


def test_a_full_disk_is_one_line_and_no_half_file(
    corpus: Corpus, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, manifest = corpus
    folder, plan = dataset
    written = []

    def full_after_seven(path: Path, content: bytes) -> object:
        with path.open("wb") as file:
            written.append(path)
            if len(written) > 7:
                file.write(content[:100])
                raise OSError(28, "No space left on device")
            return file.write(content)

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_bytes", full_after_seven)
        with pytest.raises(WorkError, match="No space left on device"):
            render(plan, manifest, inputs_of("random", root), tmp_path, num_workers=1)
    assert len(list(tmp_path.rglob("*.wav"))) == 7
    assert not list(tmp_path.rglob("*.tmp"))
    render(plan, manifest, inputs_of("random", root), tmp_path, num_workers=1)
    assert digests(tmp_path) == digests(folder)
