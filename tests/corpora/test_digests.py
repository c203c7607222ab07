"""A corpus is what its files hold: digests notice every change, remember what has been read, and name what changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.corpora import digests
from pipeline.corpora.digests import MISSING, changed_files, content_digests, digest_files

PATHS = ["a/1.wav", "a/2.wav", "b/1.wav"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three small files that may be remembered at once, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "CACHED_FROM_BYTES", 0)
    monkeypatch.setattr(digests, "_SETTLED_NS", -(10**12))
    for path in PATHS:
        (tmp_path / "corpus" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / path).write_bytes(path.encode())
    return tmp_path / "corpus"


def read_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    read: list[str] = []
    whole = digests._digest

    def recorded(path: Path) -> str:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(digests, "_digest", recorded)
    return read


def test_digests_are_sha256_for_any_number_of_workers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {path: hashlib.sha256(path.encode()).hexdigest() for path in PATHS}
    assert content_digests(root, PATHS, num_workers=1) == expected
    monkeypatch.setattr(digests, "FILES_PER_CHUNK", 1)
    assert content_digests(root, PATHS[::-1], num_workers=2, fresh=True) == expected


def test_an_unchanged_file_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_paths(monkeypatch)
    first = content_digests(root, PATHS, num_workers=1)
    assert len(read) == 3
    assert content_digests(root, PATHS, num_workers=1) == first
    assert len(read) == 3
    assert content_digests(root, PATHS, num_workers=1, fresh=True) == first
    assert len(read) == 6
    assert not list(root.rglob(".*"))


def overwritten(path: Path) -> None:
    """Other content of the same size under the same modification time, in the same inode."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"z")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    """Another file of the same size and modification time in its place."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"z" * status.st_size)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [overwritten, replaced, Path.unlink, lambda path: path.write_bytes(b"longer than before")])
def test_every_change_is_noticed_and_named(root: Path, change: Callable[[Path], object]) -> None:
    before = content_digests(root, PATHS, num_workers=1)
    whole = digest_files(root, PATHS, num_workers=1)
    manifest = pd.DataFrame({"path": PATHS, "sha256": [before[path] for path in PATHS]})
    assert changed_files(manifest, root, num_workers=1) == []
    change(root / "a/2.wav")
    assert changed_files(manifest, root, num_workers=1) == ["a/2.wav"]
    assert digest_files(root, PATHS, num_workers=1) != whole


def test_files_written_just_now_are_not_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", 10**12)
    read = read_paths(monkeypatch)
    for _ in range(2):
        content_digests(root, PATHS, num_workers=1)
    assert len(read) == 6


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a/1.wav": 3}', '{"a/1.wav": [[1, 2, 3, 4], "wrong"]}'])
def test_a_damaged_cache_is_ignored(root: Path, content: str) -> None:
    expected = content_digests(root, PATHS, num_workers=1)
    (cache,) = (root.parent / "cache").rglob("*.json")
    cache.write_text(content)
    assert content_digests(root, PATHS, num_workers=1) == expected


def test_without_a_place_for_the_cache_everything_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "file"))
    assert MISSING not in content_digests(root, PATHS, num_workers=1).values()


def test_small_corpora_leave_no_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "CACHED_FROM_BYTES", 1000)
    content_digests(root, PATHS, num_workers=1)
    assert not (root.parent / "cache").exists()


def test_missing_files_and_tables_count(root: Path) -> None:
    found = {digest_files(root, PATHS, num_workers=1), digest_files(root, [*PATHS, "c/1.wav"], num_workers=1)}
    (root / "c").mkdir()
    (root / "c/1.wav").write_bytes(b"now")
    found.add(digest_files(root, [*PATHS, "c/1.wav"], num_workers=1))
    found.add(digest_files(root, PATHS, ["c/1.wav"], num_workers=1))
    assert len(found) == 4
    assert digest_files(root, PATHS, ["none.csv"], num_workers=1) == digest_files(root, PATHS[::-1] + PATHS, num_workers=1)


def test_a_manifest_without_digests_says_nothing(root: Path) -> None:
    assert changed_files(pd.DataFrame({"path": PATHS}), root) == []


def test_a_full_reading_names_what_time_stamps_do_not_show(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content_digests(root, PATHS, num_workers=1)
    stamps = {path: digests._stamp(root / path) for path in PATHS}
    (root / PATHS[1]).write_bytes(b"decayed")
    monkeypatch.setattr(digests, "_stamp", lambda path: stamps[path.relative_to(root).as_posix()])
    before = digest_files(root, PATHS, num_workers=1)
    assert digest_files(root, PATHS, num_workers=1, fresh=True) != before
    assert f"{root}: 1 files hold other bytes under the same time stamps: {PATHS[1]}" in caplog.text
    assert content_digests(root, PATHS, num_workers=1)[PATHS[1]] == hashlib.sha256(b"decayed").hexdigest()
