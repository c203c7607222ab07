"""The command line: what it promises to people who make mistakes, and how little it does when nothing is to be done."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.cli import runs
from pipeline.stages.runner import Stage
from tests.cli.commands import RECIPE, tasnet
from tests.nursery import IN_THE_NURSERY
from tests.voices import write_voices

pytestmark = IN_THE_NURSERY


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a recipe and a little speech."""
    (tmp_path / "tiny.toml").write_text(RECIPE)
    write_voices(tmp_path / "speech")
    return tmp_path


def mix(place: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return tasnet("run", "tiny.toml", "mix", "--corpus", "folder=speech", "-j", "1", *more, cwd=place)


def first_file(place: Path) -> Path:
    return min((place / "speech").rglob("*.flac"))


def rewrite(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Do something to every file of the corpus, so that any plan meets it."""

    def everywhere(place: Path) -> None:
        for path in (place / "speech").rglob("*.flac"):
            change(path)

    return everywhere


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def stereo(path: Path) -> None:
    samples, rate = soundfile.read(path)
    soundfile.write(path, np.stack([samples, samples], axis=1), rate)


def slow(path: Path) -> None:
    samples, _ = soundfile.read(path)
    soundfile.write(path, samples, 4000)


def not_a_number(path: Path) -> None:
    samples, rate = soundfile.read(path)
    samples[1000] = np.nan
    path.unlink()
    soundfile.write(path.with_suffix(".wav"), samples, rate, subtype="FLOAT")


def one_speaker(place: Path) -> None:
    for folder in list((place / "speech").iterdir())[1:]:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def no_files(place: Path) -> None:
    rewrite(lambda path: path.unlink())(place)


def twins(place: Path) -> None:
    path = first_file(place)
    samples, rate = soundfile.read(path)
    soundfile.write(path.with_suffix(".wav"), samples, rate)


def unwritable(place: Path) -> None:
    (place / "work").write_text("a file where the folder should be")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_files, "speech: "),
        (one_speaker, "speaker"),
        (rewrite(truncate), ".flac: is damaged"),
        (rewrite(empty), "00-0.flac"),
        (rewrite(stereo), "corpus.channel"),
        (rewrite(slow), "4000"),
        (rewrite(not_a_number), ".wav"),
        (twins, "00-0"),
        (unwritable, "--work"),
    ],
    ids=["empty", "one-speaker", "truncated", "zero-length", "stereo", "low-rate", "nan", "same-id", "unwritable"],
)
def test_bad_input_is_a_line_that_names_it_and_nothing_is_half_written(
    place: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(place)
    result = mix(place)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert said in result.stderr
    assert all(line.startswith("tasnet: ") for line in result.stderr.splitlines() if said in line)
    assert not list(place.glob("work/mix/*/stage.json"))
    assert not list(place.glob("work/mix/*/mixtures.csv"))


def test_wrong_recipe_says_everything_at_once(place: Path) -> None:
    result = mix(place, "--set", "train.epochz=1", "--set", "mix.sample_rate=fast")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "tasnet: tiny.toml: mix.sample_rate: Input should be a valid integer",
        "tasnet: tiny.toml: train.epochz: no such setting",
    ]


@pytest.mark.parametrize(
    "arguments", [("run", "none.toml"), ("status", "tiny.toml"), ("run", "tiny.toml", "bake", "--corpus", "folder=speech")]
)
def test_other_mistakes(place: Path, arguments: tuple[str, ...]) -> None:
    result = tasnet(*arguments, "--corpora", "nowhere", cwd=place)
    assert result.returncode == 2
    assert result.stderr.startswith("tasnet: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_checkpoint_that_is_not_ours_is_refused(place: Path) -> None:
    (place / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    result = tasnet("separate", "model.safetensors", first_file(place), cwd=place)
    assert result.returncode == 2
    assert result.stderr.startswith("tasnet: model.safetensors: ")
    assert not (place / "owned").exists()


def test_dry_run_writes_nothing(place: Path) -> None:
    result = tasnet("run", "tiny.toml", "-n", "--corpus", "folder=speech", cwd=place, check=True)
    assert result.stdout.splitlines()[:2] == ["would run scan: never run", "would run plan: never run; after scan"]
    assert not (place / "work").exists()


def test_lint_looks_at_recipes_and_at_lists(place: Path) -> None:
    sound = tasnet("lint", "tiny.toml", "--corpus", "folder=speech", "-j", "1", cwd=place, check=True)
    assert sound.stdout == "no problems found\n"
    (place / "mix_2_spk_tt.txt").write_text("a/1.wav 1 a/2.wav -1 \n")
    doubtful = tasnet("lint", ".", cwd=place)
    assert doubtful.returncode == 1
    assert doubtful.stdout == "mix_2_spk_tt.txt: split tt: the same speaker more than once in 1 of 1 mixtures (line 1)\n"
    assert tasnet("lint", "speech", cwd=place).returncode == 2


def test_check_counts_what_mixing_writes_and_names_what_is_doubtful(place: Path) -> None:
    # Two speakers with one utterance each make every mixture of a split the same.
    arguments = ("tiny.toml", "--corpus", "folder=speech", "-j", "1", "--set", "plan.num_mixtures.valid=9")
    said = tasnet("check", *arguments, cwd=place, check=True).stdout
    assert re.search(r"warning   split valid: the same utterances as another mixture in \d of 9", said)
    tasnet("run", *arguments, "mix", cwd=place, check=True)
    sizes = [path.stat().st_size for path in (place / "work").rglob("*.wav")]
    assert f"disk      {len(sizes)} files, {sum(sizes):,} bytes" in said


def test_a_stage_is_printed_by_its_name_even_if_that_is_an_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage("train", {"training": 1}, {}, lambda folder: None, label="fire")
    runs._announce(Path("work"), stage, True)
    assert capsys.readouterr().err == "train:fire: done already\n"


def test_a_dataset_that_was_moved_is_repaired_where_it_is(place: Path) -> None:
    assert mix(place).returncode == 0
    [made] = (path for path in (place / "work" / "mix").iterdir() if path.is_dir())
    made.rename(place / "moved")
    (place / "work").rename(place / "gone")
    lost = min((place / "moved").rglob("*.wav"))
    content = lost.read_bytes()
    lost.unlink()
    repaired = tasnet("verify", "moved", "--repair", "tiny.toml", "--corpus", "folder=speech", "-j", "1", cwd=place)
    assert (repaired.returncode, lost.read_bytes()) == (0, content), repaired.stderr
    assert "repaired 1 findings" in repaired.stdout
    lost.unlink()
    other = tasnet("verify", "moved", "--repair", "tiny.toml", "--set", "seed=7", "--corpus", "folder=speech", cwd=place)
    assert other.returncode == 2
    assert "does not make this dataset" in other.stderr
