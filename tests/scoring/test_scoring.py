"""Score tables: what a row holds, odd recordings, parallel and interrupted runs."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.audio.files import read_audio, write_audio
from pipeline.errors import ScoreError, WorkError
from pipeline.scoring import scoring
from pipeline.scoring.metrics import mir_eval_sources, sdr, si_snr
from pipeline.scoring.oracles import oracle
from pipeline.scoring.scoring import (
    dataset_tasks,
    folder_tasks,
    remarks,
    score,
    score_dataset,
    score_folders,
    score_tasks,
    with_oracles,
)
from pipeline.tables import MIXTURES, SCORES, check_table, read_table, write_table
from tests.separations import Speech, with_interference
from tests.waiting import process, wait_until

Samples = NDArray[np.float64]
RATE = 8000


def separated(seed: int, num_sources: int = 2, num_samples: int = 3000) -> tuple[Samples, Samples, Samples]:
    """Estimates, references and mixture."""
    random = np.random.default_rng(seed)
    references = 0.1 * random.standard_normal((num_sources, num_samples))
    return with_interference(references, random, 10.0, 20.0), references, references.sum(0)


# ---------------------------------------------------------------------------------------------------------------- arrays
def test_columns_come_in_the_promised_order() -> None:
    estimates, references, mixture = separated(0)
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE)
    promised = ["source", "estimate", "si_snr_db", "si_snri_db", "sdr_db", "sdri_db", "status"]
    assert list(scores.columns[: len(promised)]) == promised
    check_table(scores.assign(system="a", mixture_id="m"), SCORES, origin="scores")


def test_values_are_those_of_the_metrics() -> None:
    estimates, references, mixture = separated(1, num_sources=3)
    scores = score(estimates[[2, 0, 1]], references, mixture=mixture, sample_rate=RATE)
    assert scores["source"].tolist() == ["s1", "s2", "s3"]
    assert scores["estimate"].tolist() == [2, 3, 1]
    assert (scores["status"] == "ok").all()
    np.testing.assert_allclose(scores["si_snr_db"], si_snr(estimates, references), atol=1e-9)
    np.testing.assert_allclose(scores["sdr_db"], sdr(estimates, references), atol=1e-9)
    np.testing.assert_allclose(scores["si_snri_db"], scores["si_snr_db"] - si_snr(mixture, references), atol=1e-9)
    np.testing.assert_allclose(scores["sdri_db"], scores["sdr_db"] - sdr(mixture, references), atol=1e-9)


def test_both_outputs_of_one_talker() -> None:
    """SI-SNR and SIR may disagree here; the row says by which the estimates were assigned, and whether they do."""
    _, references, mixture = separated(2)
    estimates = references[[0, 0]] + np.array([[0.1], [0.3]]) * references[[1, 1]]
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, permutation="sir")
    expected = mir_eval_sources(estimates, references, compute_permutation=True)
    assert (scores["estimate"] - 1).tolist() == expected[3].tolist()
    np.testing.assert_allclose(scores["sdr_db"], expected[0], atol=1e-6)
    assert set(scores["permutation"]) == {"sir"}


def test_permutations_that_disagree_are_flagged() -> None:
    """Both outputs follow the first talker: one with noise of its own, one with more of the other talker; SIR minds no noise."""
    random = np.random.default_rng(3)
    references = random.standard_normal((2, 4000))
    noise = random.standard_normal(4000)
    estimates = np.stack([references[0] + 0.01 * references[1] + noise, references[0] + 0.05 * references[1]])
    by_si_snr, by_sir = (
        score(estimates, references, mixture=references.sum(0), sample_rate=RATE, permutation=criterion)
        for criterion in ("si_snr", "sir")
    )
    assert by_si_snr["permutations_agree"].equals(by_sir["permutations_agree"])
    assert by_si_snr["permutations_agree"].tolist() == [by_si_snr["estimate"].equals(by_sir["estimate"])] * 2
    assert not by_si_snr["permutations_agree"].any()


@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.integers(1, 6).flatmap(lambda num_sources: st.permutations(range(num_sources))),
    exponents=st.lists(st.floats(-12, 12), min_size=6, max_size=6),
)
@settings(max_examples=20, deadline=None)
def test_order_and_level_of_estimates_do_not_matter(seed: int, order: list[int], exponents: list[float]) -> None:
    estimates, references, mixture = separated(seed, num_sources=len(order), num_samples=1500)
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE)
    changed = (10.0 ** np.array(exponents)[: len(order), None] * estimates)[order]
    again = score(changed, references, mixture=mixture, sample_rate=RATE)
    values = ["si_snr_db", "si_snri_db", "sdr_db", "sdri_db"]
    np.testing.assert_allclose(again[values], scores[values], atol=1e-8)
    assert (again["estimate"] - 1).map(lambda place: order[place]).tolist() == (scores["estimate"] - 1).tolist()


def status_of(estimates: Samples, references: Samples, mixture: Samples | None) -> list[str]:
    return score(estimates, references, mixture=mixture, sample_rate=RATE)["status"].tolist()


def test_findings() -> None:
    estimates, references, mixture = separated(4)
    silence, broken = np.zeros(3000), np.where(np.arange(3000) == 9, np.nan, estimates[1])
    assert status_of(np.stack([estimates[0], silence]), references, mixture) == ["ok", "silent_estimate"]
    assert status_of(np.stack([estimates[0], broken]), references, mixture) == ["ok", "nan_estimate"]
    assert status_of(estimates, np.stack([references[0], silence]), mixture) == ["ok", "silent_reference"]
    assert status_of(estimates, np.stack([broken, references[1]]), mixture) == ["nan_reference", "ok"]
    assert status_of(estimates, references, silence) == ["silent_mixture"] * 2
    assert status_of(estimates, references, np.full(3000, np.nan)) == ["nan_mixture"] * 2
    assert status_of(estimates, references, mixture[:-7]) == ["shortened(-7)"] * 2
    assert status_of(estimates[:, :-12], references, mixture) == ["length_mismatch(-12)"] * 2
    assert status_of(estimates[:, :500], references[:, :500], mixture[:500]) == ["shorter_than_filter"] * 2
    assert status_of(references * 0.5, references, mixture) == ["perfect"] * 2
    assert status_of(np.stack([np.clip(40 * estimates[0], -1, 1), estimates[1]]), references, mixture) == ["clipped", "ok"]
    assert status_of(3 * estimates, references, mixture) == ["ok"] * 2
    assert status_of(estimates[:, :0], references, mixture) == ["empty_estimate"] * 2
    assert status_of(silence[None, :1], references[:1, :1], mixture[:1]) == [
        "silent_reference;silent_estimate;silent_mixture;shorter_than_filter"
    ]


def test_ill_conditioned_references_are_said_to_be_so() -> None:
    time_ = np.arange(4000) / RATE
    references = np.stack([np.sin(2 * np.pi * 200 * time_), np.sin(2 * np.pi * 310 * time_)])
    references[:, 2000:] = 0
    estimates = references + 1e-3 * np.random.default_rng(0).standard_normal(references.shape)
    scores = score(estimates, references, mixture=references.sum(0), sample_rate=RATE)
    assert set(scores["status"]) <= {"ok", "ill_conditioned"}
    np.testing.assert_allclose(scores["sdr_db"], mir_eval_sources(estimates, references)[0], atol=1e-6)


def test_values_of_silence() -> None:
    estimates, references, mixture = separated(5)
    scores = score(np.stack([estimates[0], np.zeros(3000)]), references, mixture=mixture, sample_rate=RATE)
    assert np.isfinite(scores.loc[0, ["si_snr_db", "sdr_db", "sdri_db"]].astype(float)).all()
    assert (scores.loc[1, ["si_snr_db", "si_snri_db", "sdr_db", "sdri_db"]] == -np.inf).all()
    assert np.isfinite(scores["input_sdr_db"]).all()


def test_a_silent_source_changes_nothing_for_the_other() -> None:
    estimates, references, mixture = separated(6)
    alone = score(estimates, references, mixture=mixture, sample_rate=RATE)
    beside = score(estimates, np.stack([references[0], np.zeros(3000)]), mixture=mixture, sample_rate=RATE)
    assert beside.loc[0, "sdr_db"] == pytest.approx(alone.loc[0, "sdr_db"], abs=1e-9)
    assert np.isnan(beside.loc[1, "sdr_db"])


def test_without_a_mixture_there_is_no_improvement() -> None:
    estimates, references, _ = separated(7)
    scores = score(estimates, references, mixture=None, sample_rate=RATE)
    assert scores[["si_snri_db", "sdri_db"]].isna().all(axis=None)
    assert (scores["status"] == "ok").all()


def test_more_estimates_than_references() -> None:
    estimates, references, mixture = separated(8)
    scores = score(np.stack([mixture * 0.1, *estimates]), references, mixture=mixture, sample_rate=RATE)
    assert scores["estimate"].tolist() == [2, 3]


@pytest.mark.parametrize(("estimates", "references"), [((1, 10), (2, 10)), ((10,), (1, 10)), ((0, 10), (0, 10))])
def test_shapes_that_do_not_fit(estimates: tuple[int, ...], references: tuple[int, ...]) -> None:
    with pytest.raises(ScoreError):
        score(np.ones(estimates), np.ones(references), mixture=None, sample_rate=RATE)


# ----------------------------------------------------------------------------------------------------------------- files
def write_dataset(folder: Path, num_mixtures: int = 6, num_samples: int = 3000) -> pd.DataFrame:
    """Rendered mixtures, and estimates of the systems ``a`` and ``b``."""
    rows = []
    for number in range(num_mixtures):
        mixture_id = f"00{number}"
        estimates, references, mixture = separated(number, num_samples=num_samples)
        row = {"mixture_id": mixture_id, "split": "test", "sample_rate": RATE, "mode": "min", "num_samples": num_samples}
        row |= {"num_sources": 2, "scale": 1.0, "mixture_path": f"mix/{mixture_id}.wav"}
        write_audio(folder / row["mixture_path"], mixture, RATE)
        for source in (1, 2):
            row |= {f"source_{source}_path": f"s{source}/{mixture_id}.wav", f"source_{source}_utterance_id": mixture_id}
            row |= {f"source_{source}_speaker_id": f"01{source}", f"source_{source}_sex": "F", f"source_{source}_gain": 1.0}
            write_audio(folder / row[f"source_{source}_path"], references[source - 1], RATE)
            for system, share in (("a", 0.0), ("b", 0.2)):
                estimate = estimates[source - 1] + share * mixture
                write_audio(folder / system / f"s{source}" / f"{mixture_id}.wav", estimate, RATE, "float32")
        rows.append(row)
    write_table(pd.DataFrame(rows), folder / "mixtures.csv", MIXTURES)
    return read_table(folder / "mixtures.csv", MIXTURES)


def run(folder: Path, mixtures: pd.DataFrame, systems: str = "a", out: str = "scores.csv", num_workers: int = 1) -> pd.DataFrame:
    return score_dataset(
        mixtures, folder, {system: folder / system for system in systems}, out=folder / out, num_workers=num_workers
    )


def test_a_row_per_system_mixture_and_source(tmp_path: Path) -> None:
    scores = run(tmp_path, write_dataset(tmp_path), "ba")
    assert len(scores) == 2 * 6 * 2
    assert scores["system"].tolist() == ["b"] * 12 + ["a"] * 12
    assert scores["mixture_id"].tolist()[:4] == ["000", "000", "001", "001"]
    assert scores["speaker_id"].tolist()[:2] == ["011", "012"]
    assert (scores["status"] == "ok").all()
    assert not list(tmp_path.glob("*.journal"))


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path)
    run(tmp_path, mixtures, "ab", out="one.csv", num_workers=1)
    run(tmp_path, mixtures, "ab", out="two.csv", num_workers=2)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_systems_do_not_change_each_others_rows(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path)
    together = run(tmp_path, mixtures, "ab", out="together.csv")
    alone = run(tmp_path, mixtures, "a", out="alone.csv")
    pd.testing.assert_frame_equal(together[together["system"] == "a"], alone, check_exact=True)


def tasnet_score(folder: Path, out: str, num_workers: int) -> AbstractContextManager[subprocess.Popen[str]]:
    """``tasnet score`` on the recordings of a folder."""
    command = [sys.executable, "-m", "pipeline", "score", "--estimates", "a", "--references", "."]
    command += ["--pattern", "references=s{source}/{mixture_id}", "-o", out, "-j", str(num_workers)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return process(command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """By the command itself, killed by the signal that nothing can catch; the rest is done by another number of workers."""
    write_dataset(tmp_path, num_mixtures=5)
    for number in range(5, 200):
        for name in ("mix", "s1", "s2", "a/s1", "a/s2"):
            os.link(tmp_path / name / f"00{number % 5}.wav", tmp_path / name / f"00{number}.wav")
    journal = tmp_path / "scores.csv.journal"
    with tasnet_score(tmp_path, "scores.csv", 1) as running:
        wait_until(lambda: journal.is_file() and journal.stat().st_size, running=running, seconds=200)
        running.kill()
    assert not (tmp_path / "scores.csv").exists()
    num_kept = 2 * journal.read_text().count("\n")
    assert 0 < num_kept < 400
    with tasnet_score(tmp_path, "scores.csv", 2) as running:
        said = running.communicate(timeout=200)[1]
    assert f"scores.csv: {num_kept} of 400 rows were known, {400 - num_kept} are new" in said
    assert not journal.exists()
    folders = tmp_path / "a", tmp_path, tmp_path / "mix"
    patterns = {"references": "s{source}/{mixture_id}"}
    score_folders(*folders, system="a", patterns=patterns, out=tmp_path / "undisturbed.csv", num_workers=1)
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Mixtures scored from now on rather than looked up, as ``mixture: systems``."""
    scored: list[str] = []
    compute = scoring._score_files

    def counting(task, estimates, settings):
        scored.append(f"{task.mixture_id}: {' '.join(estimates)}")
        return compute(task, estimates, settings)

    monkeypatch.setattr(scoring, "_score_files", counting)
    return scored


def test_a_journal_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path)
    monkeypatch.setattr(scoring, "write_table", lambda *_: (_ for _ in ()).throw(WorkError("no room")))
    with pytest.raises(WorkError):
        run(tmp_path, mixtures)
    monkeypatch.undo()
    journal = tmp_path / "scores.csv.journal"
    journal.write_bytes(journal.read_bytes()[:-30])
    scored = counted(monkeypatch)
    run(tmp_path, mixtures)
    run(tmp_path, mixtures, out="undisturbed.csv")
    assert scored[0] == "005: a"
    assert len(scored) == 1 + 6
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()


def test_only_what_is_missing_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path)
    run(tmp_path, mixtures, "a")
    scored = counted(monkeypatch)
    run(tmp_path, mixtures, "a")
    assert scored == []
    write_audio(tmp_path / "a" / "s1" / "003.wav", separated(99)[0][0], RATE, "float32")
    run(tmp_path, mixtures, "ab")
    assert scored == ["000: b", "001: b", "002: b", "003: a b", "004: b", "005: b"]
    run(tmp_path, mixtures, "ab", out="anew.csv")
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "anew.csv").read_bytes()


def test_another_version_of_the_metrics_computes_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=1)
    run(tmp_path, mixtures)
    monkeypatch.setattr(scoring, "METRICS_VERSION", -1)
    scored = counted(monkeypatch)
    run(tmp_path, mixtures)
    assert scored == ["000: a"]


def test_odd_files_get_a_row_and_a_reason(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path)
    estimates = tmp_path / "a" / "s1"
    (estimates / "000.wav").unlink()
    (estimates / "001.wav").write_bytes(b"RIFF and then nothing that is audio")
    write_audio(estimates / "002.wav", separated(2)[0][0], 16000, "float32")
    write_audio(estimates / "003.wav", np.full(3000, np.nan), RATE, "float32")
    write_audio(tmp_path / "s1" / "004.wav", np.zeros(3000), RATE)
    (tmp_path / "mix" / "005.wav").unlink()
    scores = run(tmp_path, mixtures)
    first = scores[scores["source"] == "s1"]["status"].tolist()
    assert first == [
        "missing_estimate",
        "unreadable_estimate",
        "other_rate_estimate",
        "nan_estimate",
        "silent_reference",
        "missing_mixture",
    ]
    second = scores[scores["source"] == "s2"]
    assert second["status"].tolist() == ["ok"] * 5 + ["missing_mixture"]
    assert np.isfinite(second["sdr_db"]).all()
    assert scores[scores["source"] == "s1"]["sdr_db"].notna().tolist() == [False] * 5 + [True]


def test_a_mixture_without_any_file(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=2)
    for path in tmp_path.glob("**/001.wav"):
        path.unlink()
    scores = run(tmp_path, mixtures)
    assert scores["status"].tolist()[2:] == ["missing_reference;missing_estimate;missing_mixture"] * 2


def test_mistakes_that_end_a_run(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=1)
    with pytest.raises(ScoreError, match="no estimate of system 'c'"):
        run(tmp_path, mixtures, "c")
    with pytest.raises(ScoreError, match="000 stands in the mixtures table twice"):
        run(tmp_path, pd.concat([mixtures, mixtures]))
    with pytest.raises(ScoreError, match="no mixtures"):
        run(tmp_path, mixtures.iloc[:0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=1)
    tmp_path.chmod(0o500)
    with pytest.raises(WorkError):
        run(tmp_path, mixtures)


# --------------------------------------------------------------------------------------------------------------- folders
LAYOUTS = {
    "s1/x.wav": "s{source}/{mixture_id}.wav",
    "x_s1.flac": "{mixture_id}_s{source}.flac",
    "x/s1.wav": "{mixture_id}/s{source}.wav",
    "x_est0.wav": "{mixture_id}_est{source}.wav",
    "x_1.wav": "{mixture_id}_{source}.wav",
}


def write_folder(folder: Path, layout: str, mixtures: dict[str, Samples]) -> None:
    first = 0 if "est" in layout else 1
    for mixture_id, signals in mixtures.items():
        for number, one in enumerate(signals, start=first):
            path = folder / layout.format(mixture_id=mixture_id, source=number)
            write_audio(path, one, RATE, "flac" if layout.endswith("flac") else "float32")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_anybodys_folders(tmp_path: Path, layout: str) -> None:
    sets = {f"a{number}b": separated(number) for number in range(3)}
    write_folder(tmp_path / "estimates", layout, {name: each[0] for name, each in sets.items()})
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {name: each[1] for name, each in sets.items()})
    for name, each in sets.items():
        write_audio(tmp_path / "mixtures" / f"{name}.wav", each[2], RATE, "float32")
    scores = score_folders(tmp_path / "estimates", tmp_path / "references", tmp_path / "mixtures", system="theirs", num_workers=1)
    assert scores["system"].tolist() == ["theirs"] * 6
    assert scores["status"].tolist() == ["ok"] * 6
    expected = np.concatenate([sdr(each[0], each[1]) - sdr(each[2], each[1]) for each in sets.values()])
    np.testing.assert_allclose(scores["sdri_db"], expected, atol=0.01 if layout.endswith("flac") else 1e-3)


def test_folders_of_several_systems_without_mixtures(tmp_path: Path) -> None:
    write_dataset(tmp_path, num_mixtures=2)
    (tmp_path / "references").mkdir()
    for source in ("s1", "s2"):
        (tmp_path / source).rename(tmp_path / "references" / source)
    (tmp_path / "b" / "s2" / "001.wav").unlink()
    systems = {"a": tmp_path / "a", "b": tmp_path / "b"}
    scores = score_folders(systems, tmp_path / "references", out=tmp_path / "scores.csv", num_workers=1)
    assert scores["sdri_db"].isna().all()
    assert scores["status"].tolist() == ["ok"] * 7 + ["missing_estimate"]
    assert (tmp_path / "scores.csv").is_file()


def test_a_pattern_of_ones_own(tmp_path: Path) -> None:
    write_folder(tmp_path / "estimates", "{mixture_id}.talker{source}.wav", {"x": separated(0)[0]})
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {"x": separated(0)[1]})
    with pytest.raises(ScoreError, match="give a pattern"):
        score_folders(tmp_path / "estimates", tmp_path / "references")
    patterns = {"estimates": "{mixture_id}.talker{source}"}
    scores = score_folders(tmp_path / "estimates", tmp_path / "references", patterns=patterns, num_workers=1)
    assert scores["status"].tolist() == ["ok", "ok"]
    with pytest.raises(ScoreError, match="mixture_id"):
        score_folders(tmp_path / "estimates", tmp_path / "references", patterns={"estimates": "{name}_{source}"})


def test_folders_that_do_not_belong_together(tmp_path: Path) -> None:
    write_folder(tmp_path / "estimates", "s{source}/{mixture_id}.wav", {"x": separated(0)[0], "y": separated(0)[0]})
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {"x": separated(0)[1]})
    with pytest.raises(ScoreError, match=r"no references in .* y"):
        score_folders(tmp_path / "estimates", tmp_path / "references")
    with pytest.raises(ScoreError, match="no such folder"):
        score_folders(tmp_path / "nowhere", tmp_path / "references")


def test_references_that_are_missing_are_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = {name: separated(number, num_sources=3) for number, name in enumerate("xyz")}
    write_folder(tmp_path / "estimates", "s{source}/{mixture_id}.wav", {name: each[0] for name, each in sets.items()})
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {name: each[1] for name, each in sets.items()})
    (tmp_path / "references" / "s1" / "x.wav").unlink()
    (tmp_path / "references" / "s3" / "z.wav").unlink()
    with caplog.at_level("INFO", logger="pipeline"):
        scores = score_folders(tmp_path / "estimates", tmp_path / "references", num_workers=1)
    assert scores["status"].tolist() == ["missing_reference", *["ok"] * 7]
    assert "1 of 3 mixtures have 2 instead, for example z" in caplog.text
    assert remarks(scores) == ["1 of 8 rows: missing_reference"]


def test_oracles_in_the_place_of_systems(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    (tmp_path / "mix" / "002.wav").unlink()
    tasks = with_oracles(dataset_tasks(mixtures, tmp_path, {}))
    scores = score_tasks(tasks, out=tmp_path / "oracles.csv", num_workers=1)
    assert list(scores["system"].unique()) == ["oracle IRM", "oracle IBM", "oracle WFM"]
    found = scores[scores["mixture_id"] != "002"]
    assert (found["status"] == "ok").all()
    assert (found["si_snri_db"] > 0).all()
    assert set(scores[scores["mixture_id"] == "002"]["status"]) == {"missing_estimate;missing_mixture"}
    paths = [tmp_path / name / "000.wav" for name in ("mix", "s1", "s2")]
    mixture, *references = (read_audio(path)[0] for path in paths)
    estimates = oracle(mixture, np.stack(references), sample_rate=RATE, mask="binary")
    np.testing.assert_allclose(si_snr(estimates, np.stack(references)), scores["si_snr_db"][6:8], atol=1e-9)
    with pytest.raises(ScoreError, match="mixtures"):
        with_oracles(folder_tasks({"a": tmp_path / "a"}, tmp_path, patterns={"references": "s{source}/{mixture_id}"}))


def test_oracles_are_not_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    tasks = with_oracles(dataset_tasks(mixtures, tmp_path, {}))
    first = score_tasks(tasks, out=tmp_path / "oracles.csv", num_workers=1)
    scored = counted(monkeypatch)
    write_audio(tmp_path / "s2" / "001.wav", separated(99)[1][0], RATE)
    again = score_tasks(tasks, out=tmp_path / "oracles.csv", num_workers=1)
    assert scored == ["001: oracle IRM oracle IBM oracle WFM"]
    changed = first["mixture_id"] == "001"
    pd.testing.assert_frame_equal(again[~changed], first[~changed])
    assert (again[changed]["si_snr_db"] != first[changed]["si_snr_db"]).any()


# ------------------------------------------------------------------------------------------------------- metrics on request
def test_sir_and_sar_on_request() -> None:
    estimates, references, mixture = separated(9)
    scores = score(estimates[::-1], references, mixture=mixture, sample_rate=RATE, also=["sir", "sar"])
    _, sir_db, sar_db, _ = mir_eval_sources(estimates, references)
    np.testing.assert_allclose(scores["sir_db"], sir_db, atol=1e-6)
    np.testing.assert_allclose(scores["sar_db"], sar_db, atol=1e-6)


def test_sir_without_a_reference_that_sounds() -> None:
    estimates, references, mixture = separated(9)
    scores = score(estimates, 0 * references, mixture=mixture, sample_rate=RATE, also=["sir", "sa_sdr"], permutation="sir")
    assert scores["status"].tolist() == ["silent_reference"] * 2
    assert scores[["sir_db", "sa_sdr_db"]].isna().all(axis=None)


def test_sir_of_references_that_nearly_depend_on_each_other() -> None:
    _, references, mixture = separated(9)
    references[1] = references[0] + 1e-6 * references[1]
    estimates = references + 0.1 * separated(10)[1]
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["sir"], permutation="sir")
    assert scores["status"].tolist() == ["ill_conditioned"] * 2
    expected = mir_eval_sources(estimates, references, compute_permutation=True)
    assert (scores["estimate"] - 1).tolist() == expected[3].tolist()
    np.testing.assert_allclose(scores["sir_db"], expected[1], atol=1e-6)


def test_aggregated_sdr_has_a_place_for_silence() -> None:
    _, references, mixture = separated(10)
    references[1] = 0.0
    estimates = 0.5 * references
    estimates[1, :100] = 0.5 * 0.1 * references[0, :100]
    expected = 10 * np.log10(np.sum(references[0] ** 2) / np.sum((0.1 * references[0, :100]) ** 2))
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["sa_sdr"])
    assert scores["sa_sdr_db"].tolist() == pytest.approx([expected] * 2, abs=1e-9)


def test_intelligibility_and_quality(corpora: Path) -> None:
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    speech = Speech(corpora, 1)
    references = speech.utterances(2, 24000)
    estimates = with_interference(references, speech.random, 15.0, 20.0)
    noisy = with_interference(references, speech.random, 0.0, 0.0)
    also = ["stoi", "estoi", "pesq"]
    better, worse = (
        score(each, references, mixture=references.sum(0), sample_rate=RATE, also=also)[also].to_numpy()
        for each in (estimates, noisy)
    )
    assert (better > worse).all()
    assert (better[:, :2] <= 1).all()
    silent = score(np.stack([estimates[0], np.zeros(24000)]), references, mixture=None, sample_rate=RATE, also=also)
    assert silent[also].isna().to_numpy().tolist() == [[False] * 3, [True] * 3]


def test_quality_of_next_to_nothing_is_no_crash() -> None:
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    for num_samples in (2, 100, 1500, 3000):
        estimates, references, mixture = separated(12, num_samples=num_samples)
        scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["stoi", "estoi", "pesq"])
        assert scores[["stoi", "estoi"]].isna().all(axis=None)


def test_intelligibility_does_not_depend_on_the_level() -> None:
    pytest.importorskip("pystoi")
    estimates, references, mixture = separated(13, num_samples=8000)
    loud, quiet = (
        score(gain * estimates, references, mixture=mixture, sample_rate=RATE, also=["stoi", "estoi"]) for gain in (1, 1e-12)
    )
    np.testing.assert_allclose(quiet[["stoi", "estoi"]], loud[["stoi", "estoi"]], rtol=1e-9)
    assert (loud["stoi"] > 0.5).all()


def test_what_cannot_be_asked_for() -> None:
    estimates, references, mixture = separated(11)
    with pytest.raises(ScoreError, match="choose si_snr or sir"):
        score(estimates, references, mixture=mixture, sample_rate=RATE, permutation="sdr")  # type: ignore[arg-type]
    with pytest.raises(ScoreError, match="metric 'stio': choose among sir, sar"):
        score(estimates, references, mixture=mixture, sample_rate=RATE, also=["stio"])  # type: ignore[list-item]


def test_metrics_that_cannot_be_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    estimates, references, mixture = separated(11)
    monkeypatch.setattr("pipeline.scoring.perceptual.find_spec", lambda _: None)
    with pytest.raises(ScoreError, match="pip install"):
        score(estimates, references, mixture=mixture, sample_rate=RATE, also=["stoi"])
    monkeypatch.undo()
    pytest.importorskip("pesq")
    with pytest.raises(ScoreError, match="8000 and 16000"):
        score(estimates, references, mixture=mixture, sample_rate=44100, also=["pesq"])
