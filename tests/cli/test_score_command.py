"""``tasnet score``: what it takes, prints and writes; mistakes end in a line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.files import write_audio
from pipeline.cli.app import app
from pipeline.errors import ScoreError
from pipeline.scoring.metrics import sdr
from pipeline.tables import SCORES, read_table
from tests.scoring.cases import RATE, separated

SETS = {f"utt_{number}": separated(number) for number in range(3)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """References as WSJ0-mix has them, a system's estimates likewise, and another tool's under names of its own."""
    for name, (estimates, references, mixture) in SETS.items():
        write_audio(tmp_path / "tt" / "mix" / f"{name}.wav", mixture, RATE, "float32")
        for number in (1, 2):
            write_audio(tmp_path / "tt" / f"s{number}" / f"{name}.wav", references[number - 1], RATE, "float32")
            write_audio(tmp_path / "ours" / f"s{number}" / f"{name}.wav", estimates[number - 1], RATE, "float32")
            other = estimates[2 - number] + 0.3 * mixture
            write_audio(tmp_path / "theirs" / f"out{number - 1}-{name}.flac", other, RATE, "flac")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def score(*arguments: str) -> None:
    app(["score", "--references", "tt", "-j", "1", *arguments], standalone_mode=False)


def test_several_systems_with_everything(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score("--estimates", "causal=ours", "--estimates", "noncausal=ours", "--also", "sir,sar", "--also", "sa_sdr", "--verify", "2")
    scores = read_table(place / "scores.csv", SCORES)
    assert scores["system"].tolist() == ["causal"] * 6 + ["noncausal"] * 6
    assert np.isfinite(scores[["si_snri_db", "sdri_db", "sir_db", "sar_db", "sa_sdr_db"]]).all(axis=None)
    expected = np.concatenate([sdr(*each[:2]) for each in SETS.values()])
    np.testing.assert_allclose(scores["sdr_db"][:6], expected, atol=1e-4)
    check = json.loads((place / "scores.verification.json").read_text())
    assert check["num_rows"] == 2
    assert check["permutations_equal"] is True
    said = capsys.readouterr().out
    assert "2 random rows recomputed by mir_eval 0.8" in said
    assert float(re.search(r"largest difference (\S+) dB", said)[1]) == pytest.approx(check["largest_difference_db"], rel=0.1)


def test_another_tools_names(place: Path) -> None:
    score("--estimates", "theirs", "--pattern", "estimates=out{source}-{mixture_id}", "--permutation", "sir", "-o", "t.csv")
    scores = read_table(place / "t.csv", SCORES)
    assert scores["system"].unique().tolist() == ["theirs"]
    assert scores["estimate"].tolist() == [2, 1] * 3
    assert set(scores["permutation"]) == {"sir"}
    assert (scores["status"] == "ok").all()


def test_oracles_have_a_table_of_their_own(place: Path) -> None:
    score("--estimates", "ours", "--oracles", "oracles.csv")
    assert set(read_table(place / "scores.csv", SCORES)["system"]) == {"ours"}
    oracles = read_table(place / "oracles.csv", SCORES)
    assert set(oracles["system"]) == {"oracle IRM", "oracle IBM", "oracle WFM"}
    assert (oracles["status"] == "ok").all()


def test_what_is_not_ok_is_printed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "ours" / "s1" / "utt_0.wav").unlink()
    write_audio(place / "ours" / "s2" / "utt_1.wav", SETS["utt_1"][0][1][:-5], RATE, "float32")
    score("--estimates", "ours")
    said = capsys.readouterr().out
    for line in ("1 of 6 rows: missing_estimate", "1 of 6 rows: length_mismatch", "1 of 6 rows: shortened"):
        assert line in said.splitlines()


def test_recordings_that_cannot_be_used_are_named_with_the_reason(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estimates = SETS["utt_0"][0]
    soundfile.write(place / "ours" / "s1" / "utt_0.wav", np.stack([estimates[0], estimates[1]], axis=1), RATE)
    write_audio(place / "ours" / "s2" / "utt_1.wav", np.repeat(SETS["utt_1"][0][1], 2), 2 * RATE, "float32")
    score("--estimates", "ours")
    said = capsys.readouterr().out.splitlines()
    assert "1 of 6 rows: multichannel_estimate" in said
    assert "ours/s1/utt_0.wav: has 2 channels; choose one with --channel 0 (the first)" in said
    assert "ours/s2/utt_1.wav: is at 16000 Hz and its reference at 8000 Hz; --resample converts it" in said
    score("--estimates", "ours", "--channel", "0", "--resample")
    statuses = read_table(place / "scores.csv", SCORES)["status"].tolist()
    assert statuses[0] == "ok"
    assert statuses[3] == "resampled(16000)"


def test_a_second_score_adds_to_the_table(place: Path) -> None:
    score("--estimates", "ours")
    score("--estimates", "theirs", "--pattern", "estimates=out{source}-{mixture_id}", "--verify", "2")
    assert read_table(place / "scores.csv", SCORES).groupby("system").size().to_dict() == {"ours": 6, "theirs": 6}


def test_estimates_without_references_are_named_and_change_the_exit_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("s1", "s2"):
        (place / "tt" / source / "utt_2.wav").unlink()
    with pytest.raises(SystemExit) as ended:
        app(["score", "--references", "tt", "-j", "1", "--estimates", "ours"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "ours: 1 of 3 mixtures of system 'ours' have no references in tt, and are not scored: utt_2" in said
    assert len(read_table(place / "scores.csv", SCORES)) == 4


def test_mixtures_of_a_librimix_tree(place: Path) -> None:
    (place / "tt" / "mix").rename(place / "tt" / "mix_clean")
    score("--estimates", "ours")
    assert np.isfinite(read_table(place / "scores.csv", SCORES)["si_snri_db"]).all()


def test_a_check_does_not_outlive_its_table(place: Path) -> None:
    score("--estimates", "ours", "--verify", "1")
    assert (place / "scores.verification.json").is_file()
    score("--estimates", "ours")
    assert not (place / "scores.verification.json").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--estimates", "nowhere"), "nowhere: no such folder"),
        (("--estimates", "a=ours", "--estimates", "a=ours"), "--estimates a=ours: give every system a name of its own"),
        (("--estimates", "=ours"), "--estimates =ours: give every system a name of its own"),
        (("--estimates", "theirs"), "theirs: 2 of 2 mixtures of system 'theirs' have no references in tt, for example out0-utt"),
        (("--estimates", "tt"), "tt/s1/utt_0.wav: this estimate of system 'tt' is the reference tt/s1/utt_0.wav itself"),
        (("--estimates", "ours", "--pattern", "estimate={mixture_id}"), "--pattern estimate: write it as KIND=PATTERN"),
        (("--estimates", "ours", "--pattern", "estimates={name}"), "pattern '{name}': write {mixture_id} and {source} once"),
        (("--estimates", "ours", "--mixtures", "ours"), "ours: none of its 6 audio files is named like"),
        (("--estimates", "ours", "--permutation", "sdr"), "permutation 'sdr': choose si_snr or sir"),
        (("--estimates", "ours", "--also", "sir,sdr"), "metric 'sdr': choose among sir, sar"),
    ],
)
def test_mistakes(place: Path, arguments: tuple[str, ...], line: str) -> None:
    with pytest.raises(ScoreError) as raised:
        score(*arguments)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
    assert not (place / "scores.csv").exists()


def test_oracles_need_mixtures(place: Path) -> None:
    (place / "tt" / "mix").rename(place / "elsewhere")
    with pytest.raises(ScoreError, match="oracle masks need the mixtures"):
        score("--estimates", "ours", "--oracles", "oracles.csv")
