"""LibriMix: published metadata read, and files equal sample by sample to a straightforward rendering of the same rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.signal import resample_poly

from pipeline.audio.files import read_audio
from pipeline.audio.mixing import Mode, Signal, extended
from pipeline.errors import DatasetError, PlanError
from pipeline.mixtures.footprint import footprint
from pipeline.mixtures.interchange import export_dataset
from pipeline.mixtures.plans import librimix_lists
from pipeline.mixtures.plans.published import listed_manifest
from pipeline.mixtures.rendering import check_inputs, render
from pipeline.recipe.schema import LibriMixPlan, Mix, MixType, Subsets, Variant
from pipeline.tables import MIXTURES, PLAN, check_table, read_table
from tests.mixtures.small_corpus import inputs_of

RATE = 16000
TYPES = ["mix_clean", "mix_both", "mix_single"]
VARIANTS = [(8000, "min"), (8000, "max"), (16000, "min"), (16000, "max")]


# -------------------------------------------------------------------------------------------- a straightforward rendering
def _looped(noise: Signal, length: int) -> Signal:
    """Noise repeated with a cross-fade of half a second until it is long enough."""
    window = np.hanning(RATE + 1)
    up, down = window[: RATE // 2 + 1], window[RATE // 2 :][: RATE // 2 + 1]
    longer = noise
    while len(longer) < length:
        head, tail = longer[: -len(down)], longer[-len(down) :]
        longer = np.concatenate((head, tail * down + noise[: len(up)] * up, noise[len(up) :]))
    return longer[:length]


def _straightforward(
    row: dict[str, Any], num_sources: int, speech_root: Path, noise_root: Path, rate: int, mode: Mode
) -> dict[str, Signal]:
    """Every signal of one row of the metadata, as the reference describes it, step by step."""
    sources = [soundfile.read(speech_root / row[f"source_{k}_path"], dtype="float32")[0] for k in range(1, num_sources + 1)]
    longest = max(map(len, sources))
    noise = soundfile.read(noise_root / row["noise_path"], dtype="float32", stop=longest, always_2d=True)[0][:, 0]
    noise = _looped(noise, longest) if len(noise) < longest else noise
    gains = [row[f"source_{k}_gain"] for k in range(1, num_sources + 1)] + [row["noise_gain"]]
    signals = [resample_poly(x * gain, rate, RATE) for x, gain in zip([*sources, noise], gains, strict=True)]
    lengths = [len(x) for x in signals]
    if mode == "min":
        signals = [x[: min(lengths)] for x in signals]
    else:
        signals = [np.pad(x, (0, max(lengths) - len(x))) for x in signals]
    parts = {f"s{k + 1}": x for k, x in enumerate(signals[:-1])} | {"noise": signals[-1]}
    for name, chosen in {"mix_clean": signals[:-1], "mix_both": signals, "mix_single": [signals[0], signals[-1]]}.items():
        mixture = np.zeros_like(chosen[0])
        for x in chosen:
            mixture += x
        parts[name] = mixture
    return parts


# ------------------------------------------------------------------------------------------------------- surrogate audio
def _surrogate(path: Path, length: int, number: int, channels: int = 1) -> None:
    """Noise with a rhythm, loud enough to clip now and then."""
    generator = np.random.default_rng(number)
    rhythm = np.sin(2 * np.pi * (2 + number % 5) * np.arange(length) / RATE).clip(0)
    samples = np.clip(generator.normal(0, 0.25, (length, channels)) * rhythm[:, None], -1, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


def _metadata(num_sources: int, num_rows: int, seed: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows as the published ones, of short files; every other noise is shorter than the speech, odd lengths included."""
    generator = np.random.default_rng(seed)
    rows, lengths = [], {}
    for row in range(num_rows):
        paths = [f"test-clean/{10 + k}/7/{10 + k}-7-{row:04}.flac" for k in range(num_sources)]
        noise = f"tt/{row}a_0.5_{row}b_-0.5.wav"
        speech_lengths = generator.integers(20000, 40000, num_sources)
        lengths |= dict(zip(paths, map(int, speech_lengths), strict=True))
        lengths[noise] = int(max(speech_lengths) * (1.2 if row % 2 else 0.4)) + row
        ids = [Path(path).stem for path in paths]
        cells = {"mixture_ID": "_".join(ids)}
        for k, path in enumerate(paths, start=1):
            cells |= {f"source_{k}_path": path, f"source_{k}_gain": float(generator.uniform(0.2, 2.5))}
        rows.append(cells | {"noise_path": noise, "noise_gain": float(generator.uniform(0.2, 2.0))})
    return pd.DataFrame(rows), lengths


def _published(folder: Path, num_sources: int, num_rows: int = 4) -> tuple[Path, Path, Path, list[dict[str, Any]]]:
    """Lists and audio as they are published: (folder of lists, speech root, noise root, rows)."""
    rows, lengths = _metadata(num_sources, num_rows, seed=num_sources)
    lists = folder / f"metadata/Libri{num_sources}Mix"
    lists.mkdir(parents=True)
    rows.to_csv(lists / f"libri{num_sources}mix_test-clean.csv", index=False)
    for number, (path, length) in enumerate(lengths.items()):
        noisy = path.startswith("tt/")
        _surrogate(folder / ("wham" if noisy else "speech") / path, length, number, channels=2 if noisy else 1)
    return folder / "metadata", folder / "speech", folder / "wham", rows.to_dict("records")


def _plan(num_sources: int = 2, **settings: Any) -> LibriMixPlan:
    return LibriMixPlan(kind="librimix", num_sources=num_sources, splits=["test"], **settings)


def _subsets(split: str) -> tuple[str, ...]:
    return Subsets(train="train-clean-100", valid="dev-clean", test="test-clean").of(split)


def _prepared(
    folder: Path, num_sources: int, num_rows: int = 4
) -> tuple[pd.DataFrame, pd.DataFrame, Path, Path, list[dict[str, Any]]]:
    lists, speech, wham, rows = _published(folder, num_sources, num_rows)
    plan, utterances, noises = librimix_lists.read_lists(lists, _plan(num_sources), _subsets)
    manifest = pd.concat([listed_manifest(utterances, speech, num_workers=1), listed_manifest(noises, wham, num_workers=1)])
    return plan, manifest, speech, wham, rows


def _mix(types: Sequence[MixType] = TYPES, variants: Sequence[tuple[int, Mode]] = VARIANTS, **settings: Any) -> Mix:
    (rate, mode), *others = variants
    also = [Variant(sample_rate=r, mode=m) for r, m in others]
    return Mix(sample_rate=rate, mode=mode, types=types, also=also, **settings)


# ------------------------------------------------------------------------------------------------------------- rendering
@pytest.mark.parametrize(("num_sources", "num_workers"), [(2, 1), (2, 2), (3, 1)])
def test_every_file_equals_a_straightforward_rendering(tmp_path: Path, num_sources: int, num_workers: int) -> None:
    plan, manifest, speech, wham, rows = _prepared(tmp_path, num_sources)
    out = tmp_path / "out"
    check_inputs(plan, manifest, inputs_of("librimix", speech, _mix(), noise_root=wham), num_workers=1)
    render(plan, manifest, inputs_of("librimix", speech, _mix(), noise_root=wham), out, num_workers=num_workers)
    compared, clipped, precisions = 0, 0, set()
    for rate, mode in VARIANTS:
        for row in rows:
            truth = _straightforward(row, num_sources, speech, wham, rate, mode)
            for name, samples in truth.items():
                path = f"Libri{num_sources}Mix/wav{rate // 1000}k/{mode}/test/{name}/{row['mixture_ID']}.wav"
                soundfile.write(tmp_path / "truth.wav", samples, rate)
                assert (out / path).read_bytes() == (tmp_path / "truth.wav").read_bytes(), path
                compared += 1
                clipped += np.abs(samples).max() > 1
                precisions.add((name, samples.dtype.name))
    sizes = [path.stat().st_size for path in out.rglob("*.wav")]
    assert compared == len(sizes) == 4 * 4 * (num_sources + 4)
    # What is compared holds what is hard: clipping, noise in double precision where it was repeated, lengths that are odd.
    assert clipped > 10
    assert {("noise", "float32"), ("noise", "float64"), ("s1", "float32")} <= precisions
    assert {("s1", "float64"), ("mix_both", "float64")}.isdisjoint(precisions)
    assert set(manifest["num_samples"] % 2) == {0, 1}
    counted = footprint(plan, manifest, _mix())
    assert (counted.num_files, counted.num_bytes) == (len(sizes), sum(sizes))


@pytest.mark.parametrize("variants", [[(8000, "min")], [(16000, "min"), (8000, "max")]])
def test_fewer_variants_give_the_same_files(tmp_path: Path, variants: Sequence[tuple[int, Mode]]) -> None:
    plan, manifest, speech, wham, _ = _prepared(tmp_path, 2)
    render(plan, manifest, inputs_of("librimix", speech, _mix(), noise_root=wham), tmp_path / "all", num_workers=1)
    render(
        plan, manifest, inputs_of("librimix", speech, _mix(variants=variants), noise_root=wham), tmp_path / "some", num_workers=1
    )
    written = [path.relative_to(tmp_path / "some") for path in (tmp_path / "some").rglob("*.wav")]
    assert len(written) == 4 * 6 * len(variants)
    assert all((tmp_path / "some" / path).read_bytes() == (tmp_path / "all" / path).read_bytes() for path in written)


def test_an_utterance_heard_for_longer_than_before(tmp_path: Path) -> None:
    """Only what is heard is decoded and remembered: the same utterance beside shorter and longer ones, in any order."""
    lists, speech, wham, rows = _published(tmp_path, 2, num_rows=3)
    shared = {"source_1_path": rows[0]["source_1_path"]}
    for number, length in enumerate((9001, 31000, 15002)):
        _surrogate(speech / rows[number]["source_2_path"], length, number)
        rows[number] |= shared
    pd.DataFrame(rows).to_csv(lists / "Libri2Mix/libri2mix_test-clean.csv", index=False)
    plan, utterances, noises = librimix_lists.read_lists(lists, _plan(2), _subsets)
    manifest = pd.concat([listed_manifest(utterances, speech, num_workers=1), listed_manifest(noises, wham, num_workers=1)])
    mix = _mix(variants=[(8000, "min"), (16000, "min")])
    render(plan, manifest, inputs_of("librimix", speech, mix, noise_root=wham), tmp_path / "out", num_workers=1)
    for row in rows:
        for rate in (8000, 16000):
            for name, samples in _straightforward(row, 2, speech, wham, rate, "min").items():
                soundfile.write(tmp_path / "truth.wav", samples, rate)
                written = tmp_path / f"out/Libri2Mix/wav{rate // 1000}k/min/test/{name}/{row['mixture_ID']}.wav"
                assert written.read_bytes() == (tmp_path / "truth.wav").read_bytes()


def test_clean_mixtures_never_touch_the_noise(tmp_path: Path) -> None:
    plan, manifest, speech, wham, rows = _prepared(tmp_path, 2)
    mix = _mix(types=["mix_clean"], variants=[(8000, "min")])
    check_inputs(plan, manifest[manifest["speaker_id"] != ""], inputs_of("librimix", speech, mix), num_workers=1)
    render(plan, manifest[manifest["speaker_id"] != ""], inputs_of("librimix", speech, mix), tmp_path / "out", num_workers=1)
    folders = {path.name for path in (tmp_path / "out/Libri2Mix/wav8k/min/test").iterdir()}
    assert folders == {"s1", "s2", "mix_clean"}
    truth = _straightforward(rows[0], 2, speech, wham, 8000, "min")
    soundfile.write(tmp_path / "truth.wav", truth["mix_clean"], 8000)
    written = tmp_path / f"out/Libri2Mix/wav8k/min/test/mix_clean/{rows[0]['mixture_ID']}.wav"
    assert written.read_bytes() == (tmp_path / "truth.wav").read_bytes()


def test_the_published_tables_are_written(tmp_path: Path) -> None:
    plan, manifest, speech, wham, rows = _prepared(tmp_path, 2)
    out = tmp_path / "out"
    render(plan, manifest, inputs_of("librimix", speech, _mix(variants=[(8000, "max")]), noise_root=wham), out, num_workers=1)
    metadata = out / "Libri2Mix/wav8k/max/metadata"
    assert sorted(path.name for path in metadata.iterdir()) == sorted(
        f"{family}_test_{kind}.csv" for family in ("mixture", "metrics") for kind in TYPES
    )
    both = pd.read_csv(metadata / "mixture_test_mix_both.csv")
    assert list(both.columns) == ["mixture_ID", "mixture_path", "source_1_path", "source_2_path", "noise_path", "length"]
    assert list(both["mixture_ID"]) == [row["mixture_ID"] for row in rows]
    assert [len(soundfile.read(out / path)[0]) for path in both["mixture_path"]] == list(both["length"])
    single = pd.read_csv(metadata / "metrics_test_mix_single.csv")
    assert list(single.columns) == ["mixture_ID", "source_1_SNR", "noise_SNR"]
    truth = _straightforward(rows[0], 2, speech, wham, 8000, "max")
    rest = truth["mix_both"] - truth["s2"]
    expected = 10 * np.log10(np.mean(truth["s2"] ** 2) / (np.mean(rest**2) + 1e-10) + 1e-10)
    assert pd.read_csv(metadata / "metrics_test_mix_both.csv")["source_2_SNR"][0] == pytest.approx(expected, abs=1e-4)


def test_absolute_paths_where_asked_for(tmp_path: Path) -> None:
    plan, manifest, speech, wham, _ = _prepared(tmp_path, 2, num_rows=1)
    mix = _mix(variants=[(8000, "min")])
    mixtures = render(plan, manifest, inputs_of("librimix", speech, mix, noise_root=wham), tmp_path / "out", num_workers=1)
    written = export_dataset(mixtures, tmp_path / "out", tmp_path / "lists", to="librimix")
    metadata = Path("Libri2Mix/wav8k/min/metadata")
    assert [path.relative_to(tmp_path / "lists") for path in written] == [
        metadata / f"{family}_test_{kind}.csv" for family in ("metrics", "mixture") for kind in sorted(TYPES)
    ]
    table = pd.read_csv(tmp_path / "lists" / metadata / "mixture_test_mix_both.csv")
    assert len(table) == 1
    for name in ("mixture_path", "source_1_path", "source_2_path", "noise_path"):
        assert Path(table[name][0]).is_absolute()
        assert Path(table[name][0]).exists()
    metrics = metadata / "metrics_test_mix_both.csv"
    assert (tmp_path / "lists" / metrics).read_bytes() == (tmp_path / "out" / metrics).read_bytes()
    with pytest.raises(DatasetError, match="only LibriMix trees"):
        export_dataset(mixtures, tmp_path / "speech", tmp_path / "lists", to="librimix")


def test_the_table_of_mixtures_is_of_the_first_type_and_variant(tmp_path: Path) -> None:
    plan, manifest, speech, wham, rows = _prepared(tmp_path, 2)
    mix = _mix(types=["mix_both", "mix_single"], variants=[(8000, "min"), (16000, "max")])
    render(plan, manifest, inputs_of("librimix", speech, mix, noise_root=wham), tmp_path / "out", num_workers=1)
    tables = sorted(path.name for path in (tmp_path / "out").glob("mixtures*.csv"))
    assert tables == [
        "mixtures-wav16k-max-mix_single.csv",
        "mixtures-wav16k-max.csv",
        "mixtures-wav8k-min-mix_single.csv",
        "mixtures.csv",
    ]
    first = read_table(tmp_path / "out/mixtures.csv", MIXTURES).iloc[0]
    assert first["mixture_path"] == f"Libri2Mix/wav8k/min/test/mix_both/{rows[0]['mixture_ID']}.wav"
    assert first["source_2_gain"] == rows[0]["source_2_gain"]
    assert (first["source_2_speaker_id"], first["num_sources"]) == ("11", 2)


def test_torchaudio_reads_the_tree(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets = pytest.importorskip("torchaudio.datasets")
    plan, manifest, speech, wham, rows = _prepared(tmp_path, 2)
    render(
        plan,
        manifest,
        inputs_of("librimix", speech, _mix(variants=[(8000, "min")]), noise_root=wham),
        tmp_path / "out",
        num_workers=1,
    )
    for task, folder in (("sep_clean", "mix_clean"), ("sep_noisy", "mix_both")):
        dataset = datasets.LibriMix(tmp_path / "out", subset="test", num_speakers=2, sample_rate=8000, task=task, mode="min")
        assert len(dataset) == len(rows)
        sample_rate, mixture_path, source_paths = dataset.get_metadata(0)
        assert (sample_rate, len(source_paths)) == (8000, 2)
        assert folder in str(mixture_path)


@pytest.mark.parametrize("num_samples", [1, 5000, 8001])
def test_noise_shorter_than_a_cross_fade_is_repeated_end_to_end(tmp_path: Path, num_samples: int) -> None:
    plan, manifest, speech, wham, rows = _prepared(tmp_path, 2, num_rows=1)
    clip = np.random.default_rng(0).uniform(-0.1, 0.1, num_samples)
    soundfile.write(wham / rows[0]["noise_path"], clip, RATE, subtype="FLOAT")
    manifest.loc[manifest["speaker_id"] == "", "num_samples"] = num_samples
    mix = _mix(variants=[(16000, "max")], encoding="float32")
    render(plan, manifest, inputs_of("librimix", speech, mix, noise_root=wham), tmp_path / "out", num_workers=1)
    written, _ = read_audio(tmp_path / f"out/Libri2Mix/wav16k/max/test/noise/{rows[0]['mixture_ID']}.wav")
    assert np.allclose(written, rows[0]["noise_gain"] * np.resize(clip, len(written)), atol=1e-6)


def test_noise_without_a_corpus_is_refused(tmp_path: Path) -> None:
    plan, manifest, speech, _, _ = _prepared(tmp_path, 2, num_rows=1)
    with pytest.raises(PlanError, match="wham_noise"):
        check_inputs(plan, manifest, inputs_of("librimix", speech, _mix()), num_workers=1)


@pytest.mark.parametrize("length", [100, 9000, 20000, 40001, 100000])
def test_extended_noise(length: int) -> None:
    noise = np.random.default_rng(0).normal(size=9000).astype(np.float32)
    longer = extended(noise, length, RATE)
    assert len(longer) == min(length, max(length, 9000)) if length > 9000 else 9000
    assert np.allclose(longer[:length], _looped(noise, length), rtol=0, atol=0)


# --------------------------------------------------------------------------------------------------------------- reading
@pytest.mark.parametrize(("num_sources", "counts"), [(2, (13900, 3000, 3000)), (3, (None, 3000, 3000))])
def test_the_published_metadata_are_read(corpora: Path, num_sources: int, counts: tuple[int | None, ...]) -> None:
    splits = [split for split, count in zip(("train", "valid", "test"), counts, strict=True) if count]
    settings = LibriMixPlan(kind="librimix", num_sources=num_sources, splits=splits)
    plan, speech, noises = librimix_lists.read_lists(corpora / "librimix", settings, _subsets)
    check_table(plan, PLAN, origin="plan")
    for split, count in zip(("train", "valid", "test"), counts, strict=True):
        assert (plan[plan["split"] == split]["source"] == "s1").sum() == (count or 0)
    assert set(plan[plan["source"] != "noise"]["utterance_id"]) == set(speech["utterance_id"])
    assert set(plan[plan["source"] == "noise"]["utterance_id"]) == set(noises["utterance_id"])
    assert set(plan["subset"]) <= {"train-100", "dev", "test"}
    assert set(speech["sex"]) == {"F", "M"}
    first = plan[plan["split"] == "valid"].iloc[0]
    if num_sources == 2:
        assert (first["mixture_id"], first["level"]) == ("3536-8226-0026_1673-143397-0009", 0.7925878276419455)


def test_a_limit_and_missing_columns(tmp_path: Path) -> None:
    lists, *_ = _published(tmp_path, 2)
    assert len(librimix_lists.read_lists(lists, _plan(limit=2), _subsets)[0]) == 6
    path = lists / "Libri2Mix/libri2mix_test-clean.csv"
    pd.read_csv(path).drop(columns="source_2_gain").to_csv(path, index=False)
    with pytest.raises(PlanError, match="the columns source_2_gain are missing"):
        librimix_lists.read_lists(lists, _plan(), _subsets)
    with pytest.raises(PlanError, match=r"no libri3mix_test-clean\.csv"):
        librimix_lists.read_lists(lists, _plan(3), _subsets)


def test_from_ten_sources_on_files_are_named_by_digest(tmp_path: Path) -> None:
    lists, *_ = _published(tmp_path, 10, num_rows=1)
    plan, _, _ = librimix_lists.read_lists(lists, _plan(10), _subsets)
    assert plan["mixture_id"].str.fullmatch("[0-9a-f]{32}").all()
