"""Patterns and folders: which files are found, as which source of which mixture."""

from pathlib import Path

import pytest

from pipeline.errors import ScoreError
from pipeline.scoring.layouts import MISSING, find_mixtures, find_sources, mixtures_beside


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_sources_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "s2/b.wav", "s1/b.wav", "s10/b.wav", "s1/a.flac", "s1/notes.txt")
    found = find_sources(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"] == (tmp_path / "s1/a.flac",)
    assert found["b"] == (tmp_path / "s1/b.wav", tmp_path / "s2/b.wav", *[MISSING] * 7, tmp_path / "s10/b.wav")


def test_numbers_begin_at_0_or_1(tmp_path: Path) -> None:
    touch(tmp_path, "from0/a_est0.wav", "from0/a_est1.wav", "from0/b_est1.wav", "from1/a_est1.wav", "from1/b_est2.wav")
    assert [len(paths) for paths in find_sources(tmp_path / "from0").values()] == [2, 2]
    assert find_sources(tmp_path / "from0")["b"][0] == MISSING
    assert [len(paths) for paths in find_sources(tmp_path / "from1").values()] == [1, 2]
    assert find_sources(tmp_path / "from1")["b"][0] == MISSING


def test_mixtures(tmp_path: Path) -> None:
    touch(tmp_path, "mix/a.wav", "mix/b.wav")
    assert find_mixtures(tmp_path) == {"a": tmp_path / "mix/a.wav", "b": tmp_path / "mix/b.wav"}


WRONG_PATTERNS = ("s{source}", "{mixture_id}/{mixture_id}_{source}", "{mixture_id}_{source}_{source}", "{name}")


@pytest.mark.parametrize("pattern", WRONG_PATTERNS)
def test_a_pattern_names_mixture_and_source_once_each(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "a.wav", "a_1.wav")
    with pytest.raises(ScoreError, match=r"write {mixture_id} and {source} once, and nothing else"):
        find_sources(tmp_path, pattern)


def test_a_pattern_of_mixtures_has_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "a_1.wav")
    with pytest.raises(ScoreError, match=r"write {mixture_id} once, and nothing else"):
        find_mixtures(tmp_path, "{mixture_id}_{source}")


# ------------------------------------------------------------------------------------- estimates beside their references
@pytest.mark.parametrize(
    ("reference", "estimate", "mixture"),
    [
        ("ex_{name}/s{source}", "ex_{name}/s{source}_estimate", "ex_{name}/mixture"),
        ("item{name}_source{source}", "item{name}_source{source}hat", "item{name}_mix"),
        ("{name}_s{source}", "{name}_s{source}_est", "{name}_mixture"),
        ("s{source}/{name}", "s{source}/{name}_estimate", "mix/{name}"),
    ],
    ids=["asteroid", "speechbrain", "flat", "folders"],
)
def test_estimates_beside_their_references(tmp_path: Path, reference: str, estimate: str, mixture: str) -> None:
    for name in ("3", "4"):
        touch(tmp_path, mixture.format(name=name) + ".wav")
        for source in ("1", "2"):
            touch(tmp_path, *(each.format(name=name, source=source) + ".wav" for each in (reference, estimate)))
    (tmp_path / (estimate.format(name="4", source="2") + ".wav")).unlink()
    references, estimates = find_sources(tmp_path, kind="references"), find_sources(tmp_path)
    assert [len(paths) for paths in references.values()] == [2, 2]
    assert [len(paths) for paths in estimates.values()] == [2, 1]
    for paths in references.values():
        assert not any("est" in path.name or "hat" in path.name for path in paths)
    for paths in estimates.values():
        assert all("est" in path.name or "hat" in path.name for path in paths)
    beside = mixtures_beside(tmp_path, references)
    assert beside is not None
    assert sorted(find_mixtures(*beside, wanted=references)) == sorted(references)


# ------------------------------------------------------------------------------------------------------ disorderly folders
def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.wav", "tree/s2/a.wav")
    (tmp_path / "tree" / "s1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "again").symlink_to(tmp_path / "tree")
    assert find_sources(tmp_path / "tree") == {"a": (tmp_path / "tree/s1/a.wav", tmp_path / "tree/s2/a.wav")}


def test_hidden_files_are_no_recordings(tmp_path: Path) -> None:
    touch(tmp_path, "s1/a.wav", "s1/._a.wav", "s2/a.wav", "__MACOSX/s1/b.wav", ".trash/s1/c.wav", "s1/.d.wav")
    assert list(find_sources(tmp_path)) == ["a"]


def test_a_stray_file_does_not_decide_the_layout(tmp_path: Path) -> None:
    touch(tmp_path, "s1/stray.wav", "a_s1.wav", "a_s2.wav", "b_s1.wav", "b_s2.wav", "readme.wav")
    assert list(find_sources(tmp_path)) == ["a", "b"]


def test_the_folder_below_that_holds_the_recordings_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "wav8k/min/test/s1/a.wav", "wav8k/min/test/s2/a.wav", "wav8k/min/test/mix_clean/a.wav")
    with pytest.raises(ScoreError, match=f"; give {tmp_path / 'wav8k/min/test'}, or a pattern"):
        find_sources(tmp_path, kind="references")


def test_two_files_for_one_source_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "s1/a.wav", "s1/a.flac", "s2/a.wav")
    assert find_sources(tmp_path)["a"] == (tmp_path / "s1/a.flac", tmp_path / "s2/a.wav")
    assert "a.wav: is not scored, as a.flac is the same source" in caplog.text


@pytest.mark.parametrize("layout", ["{}_mix", "{}/mixture", "mix_clean/{}", "{}", "{}/mix"])
def test_mixtures_are_found_by_the_names_that_are_wanted(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, *(f"{layout.format(name)}.wav" for name in ("a", "b")), "s1/a.wav", "a/s1.wav", "stray.wav", "stray2.wav")
    assert find_mixtures(tmp_path, wanted=["a", "b"]) == {
        name: tmp_path / f"{layout.format(name)}.wav" for name in ("a", "b")
    } | ({"stray": tmp_path / "stray.wav", "stray2": tmp_path / "stray2.wav"} if layout == "{}" else {})


def test_clean_mixtures_are_preferred_to_noisy_ones_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "mix_both/a.wav", "mix_clean/a.wav", "s1/a.wav", "s2/a.wav")
    assert mixtures_beside(tmp_path, ["a"]) == (tmp_path / "mix_clean", "")
    assert "the mixtures are those in mix_clean; for mix_both give --mixtures" in caplog.text


# -------------------------------------------------------------------------------------------------------------- one source
def test_one_recording_per_mixture(tmp_path: Path) -> None:
    touch(tmp_path, "p232_001.wav", "p232_002.wav", "p257_434.wav")
    assert find_sources(tmp_path)["p232_001"] == (tmp_path / "p232_001.wav",)
    assert find_sources(tmp_path, "{mixture_id}") == find_sources(tmp_path)


def test_numbers_of_mixtures_are_told_from_numbers_of_sources(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, *(f"few/utt_{number}.wav" for number in range(3)), *(f"many/clean_{number}.wav" for number in range(40)))
    assert list(find_sources(tmp_path / "few", mixture_names={"utt_0", "utt_1", "utt_2"})) == ["utt_0", "utt_1", "utt_2"]
    assert len(find_sources(tmp_path / "many")) == 40
    assert caplog.text == ""
    assert list(find_sources(tmp_path / "few")) == ["utt"]
    assert "utt_0.wav is read as a source of utt, not as a mixture" in caplog.text
