"""Tasks from anybody's folders: layouts, names that do not match, references that are missing."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.files import write_audio
from pipeline.errors import ScoreError
from pipeline.scoring.metrics import sdr
from pipeline.scoring.scoring import score_folders, score_warnings
from pipeline.scoring.tasks import folder_tasks, match_folders, with_oracles
from tests.scoring.cases import RATE, separated, write_dataset, write_folder

LAYOUTS = {
    "s1/x.wav": "s{source}/{mixture_id}.wav",
    "x_s1.flac": "{mixture_id}_s{source}.flac",
    "x/s1.wav": "{mixture_id}/s{source}.wav",
    "x_est0.wav": "{mixture_id}_est{source}.wav",
    "x_1.wav": "{mixture_id}_{source}.wav",
}


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


def test_a_custom_pattern(tmp_path: Path) -> None:
    write_folder(tmp_path / "estimates", "{mixture_id}.talker{source}.wav", {"x": separated(0)[0]})
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {"x": separated(0)[1]})
    with pytest.raises(ScoreError, match="give a pattern"):
        score_folders(tmp_path / "estimates", tmp_path / "references")
    patterns = {"estimates": "{mixture_id}.talker{source}"}
    scores = score_folders(tmp_path / "estimates", tmp_path / "references", patterns=patterns, num_workers=1)
    assert scores["status"].tolist() == ["ok", "ok"]
    with pytest.raises(ScoreError, match="mixture_id"):
        score_folders(tmp_path / "estimates", tmp_path / "references", patterns={"estimates": "{name}_{source}"})


def test_what_has_no_references_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = {name: separated(0)[0] for name in ("x", "stray")}
    write_folder(tmp_path / "estimates", "s{source}/{mixture_id}.wav", names)
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {"x": separated(0)[1]})
    scores = score_folders(tmp_path / "estimates", tmp_path / "references", num_workers=1)
    assert scores["mixture_id"].tolist() == ["x", "x"]
    assert "1 of 2 mixtures of system 'estimates' have no references" in caplog.text
    assert "are not scored: stray" in caplog.text
    left_out = match_folders({"a": tmp_path / "estimates"}, tmp_path / "references").left_out
    assert len(left_out) == 1


def test_folders_that_do_not_match(tmp_path: Path) -> None:
    write_folder(tmp_path / "estimates", "s{source}/{mixture_id}.wav", {"y": separated(0)[0]})
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {"x": separated(0)[1]})
    write_audio(tmp_path / "mixtures" / "y.wav", separated(0)[2], RATE)
    with pytest.raises(ScoreError, match=r"no references in .* y"):
        score_folders(tmp_path / "estimates", tmp_path / "references")
    with pytest.raises(ScoreError, match=r"none of its 1 mixtures belongs to references in .*: it has y, they have x"):
        score_folders(tmp_path / "references", tmp_path / "references", tmp_path / "mixtures")
    with pytest.raises(ScoreError, match="no such folder"):
        score_folders(tmp_path / "nowhere", tmp_path / "references")


def test_speech_enhancement_in_flat_folders(tmp_path: Path) -> None:
    for number in range(3):
        estimates, references, mixture = separated(number, num_sources=2)
        for kind, signal in (("enhanced", estimates[0]), ("clean", references[0]), ("noisy", mixture)):
            write_audio(tmp_path / kind / f"utt_{number}.wav", signal, RATE, "float32")
    scores = score_folders(tmp_path / "enhanced", tmp_path / "clean", tmp_path / "noisy", num_workers=1)
    assert scores["mixture_id"].tolist() == ["utt_0", "utt_1", "utt_2"]
    assert scores["status"].tolist() == ["ok"] * 3
    assert (scores["si_snri_db"] > 5).all()


# ------------------------------------------------------------------------------------------ references taken for estimates
def linked(tmp_path: Path, way: str) -> Path:
    """Estimates that are the references in ``tmp_path / "references"``, reached in some way."""
    references, estimates = tmp_path / "references", tmp_path / "estimates"
    if way == "same path":
        return references
    if way == "linked folder":
        estimates.symlink_to(references)
    for source in ("s1", "s2") if way == "linked files" else ():
        (estimates / source).mkdir(parents=True)
        (estimates / source / "x.wav").symlink_to(references / source / "x.wav")
    return estimates


@pytest.mark.parametrize("way", ["same path", "linked folder", "linked files"])
def test_references_are_no_estimates_of_themselves(tmp_path: Path, way: str) -> None:
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {"x": separated(0)[1]})
    with pytest.raises(ScoreError, match=r"this estimate of system 'estimates' is the reference .* itself"):
        score_folders(linked(tmp_path, way), tmp_path / "references", out=tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()


def test_copies_of_references_are_scored_with_a_warning(tmp_path: Path) -> None:
    for kind in ("estimates", "references"):
        write_folder(tmp_path / kind, "s{source}/{mixture_id}.wav", {"x": separated(0)[1]})
    scores = score_folders(tmp_path / "estimates", tmp_path / "references", num_workers=1)
    assert scores["status"].tolist() == ["perfect;identical"] * 2
    assert "2 of 2 estimates equal their references bit by bit: are they copies of the references?" in score_warnings(scores)


@pytest.mark.parametrize("layout", ["ex_{mixture_id}/s{source}{kind}.wav", "item{mixture_id}_source{source}{kind}.wav"])
def test_one_folder_of_references_and_estimates(tmp_path: Path, layout: str) -> None:
    ending = "_estimate" if layout.startswith("ex") else "hat"
    for mixture_id in "01":
        estimates, references, _ = separated(int(mixture_id))
        write_folder(tmp_path, layout.replace("{kind}", ""), {mixture_id: references})
        write_folder(tmp_path, layout.replace("{kind}", ending), {mixture_id: estimates})
    scores = score_folders(tmp_path, tmp_path, num_workers=1)
    assert scores["status"].tolist() == ["ok"] * 4
    assert scores["si_snr_db"].between(5, 30).all()


def test_missing_references_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = {name: separated(number, num_sources=3) for number, name in enumerate("xyz")}
    write_folder(tmp_path / "estimates", "s{source}/{mixture_id}.wav", {name: each[0] for name, each in sets.items()})
    write_folder(tmp_path / "references", "s{source}/{mixture_id}.wav", {name: each[1] for name, each in sets.items()})
    (tmp_path / "references" / "s1" / "x.wav").unlink()
    (tmp_path / "references" / "s3" / "z.wav").unlink()
    with caplog.at_level("INFO", logger="pipeline"):
        scores = score_folders(tmp_path / "estimates", tmp_path / "references", num_workers=1)
    assert scores["status"].tolist() == ["missing_reference", *["ok"] * 7]
    assert "1 of 3 mixtures have 2 instead, for example z" in caplog.text
    assert score_warnings(scores) == ["1 of 8 rows: missing_reference"]


def test_oracles_need_mixtures(tmp_path: Path) -> None:
    write_dataset(tmp_path, num_mixtures=1)
    tasks = folder_tasks({"a": tmp_path / "a"}, tmp_path, patterns={"references": "s{source}/{mixture_id}"})
    with pytest.raises(ScoreError, match="need the mixtures"):
        with_oracles(tasks)
