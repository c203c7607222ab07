"""Downloads against a server on this machine that cuts connections and serves wrong and hostile files."""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.corpora import fetching
from pipeline.corpora.fetching import RemoteFile, Source, fetch, load_sources
from pipeline.corpora.unpacking import unpack
from pipeline.errors import CorpusError, WorkError

CONTENT = bytes(range(256)) * 4000
Pack = Callable[..., bytes]
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cut_after`` ends a response after so many bytes, ``ranges`` says whether it resumes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut_after: int | None = None
        self.ranges = True
        self.requests: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of some tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.requests.append(self.headers.get("Range", ""))
        content = server.files.get(self.path.strip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-")) if server.ranges else 0
        if start >= len(content) > 0 and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if server.ranges else 200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: server.cut_after])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpora.fetching.time.sleep", lambda seconds: None)


def source_of(server: Server, name: str = "thing.bin", **facts: Any) -> dict[str, Source]:
    facts.setdefault("sha256", hashlib.sha256(server.files.get(name, b"")).hexdigest())
    bound = facts.pop("max_unpacked_bytes", 10**7)
    file = RemoteFile(url=f"{server.url}/{name}", path="kept.bin" if not facts.get("unpack") else "", **facts)
    return {"thing": Source("thing", "A thing", "free", "http://x", "things", (file,), max_unpacked_bytes=bound)}


def left_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_plain_file(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    folder = fetch("thing", tmp_path, sources=source_of(server, num_bytes=len(CONTENT)))
    assert (folder / "kept.bin").read_bytes() == CONTENT
    assert left_in(tmp_path) == [".downloads/thing.fetched", "things/kept.bin"]
    fetch("thing", tmp_path, sources=source_of(server))
    assert len(server.requests) == 1


@pytest.mark.parametrize("gone", ["things/top/a.txt", "things/top", "things"])
def test_what_was_deleted_is_fetched_again(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, gone: str) -> None:
    server.files["thing.zip"] = zip_of(**{"top/a.txt": b"A", "b.txt": b"B"})
    source = source_of(server, "thing.zip", unpack=True)
    folder = fetch("thing", tmp_path, sources=source)
    (tmp_path / "things" / "own.txt").write_text("not fetched")
    fetch("thing", tmp_path, sources=source)
    assert len(server.requests) == 1
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    fetch("thing", tmp_path, sources=source)
    assert "files are gone" in caplog.text
    assert len(server.requests) == 2
    assert (folder / "top" / "a.txt").read_bytes() == b"A"


def test_a_record_of_an_earlier_version_says_only_that_it_was_fetched(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    folder = fetch("thing", tmp_path, sources=source_of(server))
    (tmp_path / ".downloads" / "thing.fetched").write_text(f"{server.url}/thing.bin -\n")
    fetch("thing", tmp_path, sources=source_of(server))
    assert len(server.requests) == 1
    shutil.rmtree(folder)
    fetch("thing", tmp_path, sources=source_of(server))
    assert len(server.requests) == 2


def test_a_download_whose_connection_breaks_is_resumed(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    server.cut_after = 300_000
    folder = fetch("thing", tmp_path, sources=source_of(server, num_bytes=len(CONTENT)))
    assert (folder / "kept.bin").read_bytes() == CONTENT
    assert server.requests == ["bytes=0-", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_killed_download_continues(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    (tmp_path / ".downloads").mkdir()
    (tmp_path / ".downloads" / "thing.bin.part").write_bytes(CONTENT[:1000])
    folder = fetch("thing", tmp_path, sources=source_of(server))
    assert server.requests == ["bytes=1000-"]
    assert (folder / "kept.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_or_too_long(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    for part in (CONTENT, CONTENT + b"x"):
        here = tmp_path / str(len(part))
        (here / ".downloads").mkdir(parents=True)
        (here / ".downloads" / "thing.bin.part").write_bytes(part)
        assert (fetch("thing", here, sources=source_of(server)) / "kept.bin").read_bytes() == CONTENT


def test_a_server_that_cannot_resume(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    server.ranges = False
    (tmp_path / ".downloads").mkdir()
    (tmp_path / ".downloads" / "thing.bin.part").write_bytes(b"other bytes")
    assert (fetch("thing", tmp_path, sources=source_of(server)) / "kept.bin").read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    server.cut_after = 0
    with pytest.raises(CorpusError, match="cannot be reached") as caught:
        fetch("thing", tmp_path, sources=source_of(server))
    assert "--from" in str(caught.value)
    assert len(server.requests) == fetching.MAX_EMPTY_ATTEMPTS
    assert not (tmp_path / "things" / "kept.bin").exists()


def test_nobody_answers(tmp_path: Path) -> None:
    sources = {"thing": Source("thing", "", "", "", "things", (RemoteFile("http://127.0.0.1:9/x", "x"),))}
    with pytest.raises(CorpusError, match="cannot be reached"):
        fetch("thing", tmp_path, sources=sources)


def test_a_missing_file_is_told_at_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="the server answers 404"):
        fetch("thing", tmp_path, sources=source_of(server))
    assert len(server.requests) == 1


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_wrong_checksum_keeps_nothing_and_the_next_try_is_fresh(server: Server, tmp_path: Path, algorithm: str) -> None:
    server.files["thing.bin"] = CONTENT
    right: dict[str, Any] = {"sha256": None, algorithm: hashlib.new(algorithm, CONTENT).hexdigest()}
    server.files["thing.bin"] = CONTENT[:-1] + b"!"
    with pytest.raises(CorpusError, match="is not the published file"):
        fetch("thing", tmp_path, sources=source_of(server, **right))
    assert left_in(tmp_path) == []
    server.files["thing.bin"] = CONTENT
    assert (fetch("thing", tmp_path, sources=source_of(server, **right)) / "kept.bin").read_bytes() == CONTENT


def test_a_wrong_size_is_told_before_the_download(server: Server, tmp_path: Path) -> None:
    server.files["thing.bin"] = CONTENT
    with pytest.raises(CorpusError, match="offers 1,024,000 bytes where 5 were published"):
        fetch("thing", tmp_path, sources=source_of(server, num_bytes=5))


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["thing.bin"] = CONTENT
    monkeypatch.setattr("pipeline.corpora.fetching.shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(WorkError, match="GB free where"):
        fetch("thing", tmp_path, sources=source_of(server))


def test_mirrors(server: Server, tmp_path: Path) -> None:
    server.files["mirror/thing.bin"] = CONTENT
    facts: dict[str, Any] = {"sha256": SHA256, "num_bytes": len(CONTENT)}
    first = fetch("thing", tmp_path / "a", mirror=f"{server.url}/mirror/", sources=source_of(server, **facts))
    assert (first / "kept.bin").read_bytes() == CONTENT
    local = tmp_path / "disk"
    local.mkdir()
    with pytest.raises(CorpusError, match="no such file in the mirror"):
        fetch("thing", tmp_path / "b", mirror=str(local), sources=source_of(server, **facts))
    (local / "thing.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(CorpusError, match="is not the published file"):
        fetch("thing", tmp_path / "b", mirror=str(local), sources=source_of(server, **facts))
    (local / "thing.bin").unlink()
    (local / "below").mkdir()
    (local / "below" / "thing.bin").write_bytes(CONTENT)
    second = fetch("thing", tmp_path / "b", mirror=str(local), sources=source_of(server, **facts))
    assert (second / "kept.bin").read_bytes() == CONTENT
    assert (local / "below" / "thing.bin").exists()
    for nowhere in ("file:///etc", str(tmp_path / "gone")):
        with pytest.raises(CorpusError, match="neither an http address nor a folder"):
            fetch("thing", tmp_path / "c", mirror=nowhere, sources=source_of(server, **facts))


# -------------------------------------------------------------------------------------------------------------- archives
def tar_of(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            add_to_tar(tar, name, content)
    return packed.getvalue()


def add_to_tar(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o4777
    for key, value in fields.items():
        setattr(entry, key, value)
    tar.addfile(entry, io.BytesIO(content))


def zip_of(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("thing.tar.gz", tar_of), ("thing.zip", zip_of)])
def test_archives_are_unpacked_and_removed(server: Server, tmp_path: Path, name: str, pack: Pack) -> None:
    server.files[name] = pack(**{"top/a.txt": b"A", "top/deep/b.txt": b"B"})
    folder = fetch("thing", tmp_path, sources=source_of(server, name, unpack=True))
    assert left_in(folder) == ["top/a.txt", "top/deep/b.txt"]
    assert left_in(tmp_path / ".downloads") == ["thing.fetched"]
    assert not (folder / "top" / "a.txt").stat().st_mode & (stat.S_IXUSR | stat.S_ISUID)


def test_a_kill_before_the_record_only_repeats_the_unpacking(server: Server, tmp_path: Path) -> None:
    server.files["thing.zip"] = zip_of(a=b"A")
    (tmp_path / ".downloads" / "thing.zip.unpacked").mkdir(parents=True)
    (tmp_path / ".downloads" / "thing.zip.unpacked" / "rubbish").touch()
    (tmp_path / ".downloads" / "thing.zip").write_bytes(server.files["thing.zip"])
    folder = fetch("thing", tmp_path, sources=source_of(server, "thing.zip", unpack=True))
    assert left_in(folder) == ["a"]
    assert server.requests == []


HOSTILE_MEMBERS = {
    "out": {"name": "../out.txt"},
    "absolute": {"name": "/tmp/out.txt"},
    "deep": {"name": "a/b/../../../out.txt"},
    "windows": {"name": "C:\\out.txt"},
    "backslash": {"name": "..\\out.txt"},
    "symlink": {"name": "link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hardlink": {"name": "link", "type": tarfile.LNKTYPE, "linkname": "../../out.txt"},
    "device": {"name": "device", "type": tarfile.CHRTYPE},
    "fifo": {"name": "fifo", "type": tarfile.FIFOTYPE},
}


@pytest.mark.parametrize("fields", list(HOSTILE_MEMBERS.values()), ids=list(HOSTILE_MEMBERS))
def test_hostile_tars_leave_nothing(server: Server, tmp_path: Path, fields: dict[str, Any]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        add_to_tar(tar, "good.txt", b"good")
        add_to_tar(tar, **fields)
    server.files["thing.tar.gz"] = packed.getvalue()
    with pytest.raises(CorpusError, match="refused, nothing was unpacked"):
        fetch("thing", tmp_path / "in", sources=source_of(server, "thing.tar.gz", unpack=True))
    assert left_in(tmp_path) == ["in/.downloads/thing.tar.gz"]


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "link"])
def test_hostile_zips_leave_nothing(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("good.txt", "good")
        entry = zipfile.ZipInfo(name)
        if name == "link":
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(entry, "/etc/passwd")
    with pytest.raises(CorpusError, match="refused, nothing was unpacked"):
        unpack(archive, tmp_path / "target", staging=tmp_path / "staging", max_bytes=1000)
    assert left_in(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path, pack: Pack, names: list[str]) -> None:
    (tmp_path / "x").write_bytes(pack(**dict.fromkeys(names, b"content")))
    with pytest.raises(CorpusError, match="is a file in one place and a folder in another"):
        unpack(tmp_path / "x", tmp_path / "target", staging=tmp_path / "staging", max_bytes=1000)
    assert left_in(tmp_path) == ["x"]


def test_of_two_members_of_one_name_the_last_counts(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        add_to_tar(tar, "a.txt", b"first")
        add_to_tar(tar, "a.txt", b"last")
    (tmp_path / "x").write_bytes(packed.getvalue())
    unpack(tmp_path / "x", tmp_path / "target", staging=tmp_path / "staging", max_bytes=9)
    assert (tmp_path / "target" / "a.txt").read_bytes() == b"last"
    with pytest.raises(CorpusError, match="more than the 8 bytes allowed"):
        unpack(tmp_path / "x", tmp_path / "target", staging=tmp_path / "staging", max_bytes=8)


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_bombs_are_stopped(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "x").write_bytes(pack(**{f"{number}.txt": bytes(1000) for number in range(100)}))
    with pytest.raises(CorpusError, match="more than the 50,000 bytes allowed"):
        unpack(tmp_path / "x", tmp_path / "target", staging=tmp_path / "staging", max_bytes=50_000)
    assert left_in(tmp_path) == ["x"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:60] + b"XXXXXXXXXXXX" + b[72:], lambda b: b"no archive"]
)
def test_damaged_archives(tmp_path: Path, pack: Pack, damage: Callable[[bytes], bytes]) -> None:
    content = hashlib.sha512(b"noise").digest() * 50
    (tmp_path / "x").write_bytes(damage(pack(a=content, b=content[::-1])))
    with pytest.raises(CorpusError, match="is damaged or not an archive"):
        unpack(tmp_path / "x", tmp_path / "target", staging=tmp_path / "staging", max_bytes=10**6)
    assert left_in(tmp_path) == ["x"]


def test_kept_members_are_checked(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(zip_of(**{"deep/list.txt": b"rows", "deep/script.m": b"code"}))
    places: dict[str, Any] = {"staging": tmp_path / "staging", "max_bytes": 1000}
    unpack(tmp_path / "x", tmp_path / "target", keep={"list.txt": hashlib.sha256(b"rows").hexdigest()}, **places)
    assert left_in(tmp_path / "target") == ["list.txt"]
    with pytest.raises(CorpusError, match=r"list.txt in it is not the published file"):
        unpack(tmp_path / "x", tmp_path / "target", keep={"list.txt": "0" * 64}, **places)
    with pytest.raises(CorpusError, match=r"other.txt is missing"):
        unpack(tmp_path / "x", tmp_path / "target", keep={"other.txt": "0" * 64}, **places)


# -------------------------------------------------------------------------------------------------------------- registry
def test_the_registry_is_sound() -> None:
    sources = load_sources()
    assert {f"librispeech-{subset}" for subset in ("train-clean-100", "dev-clean", "test-clean")} <= set(sources)
    assert {"wham_noise", "librimix", "wsj0mix", "wsj0"} <= set(sources)
    for source in sources.values():
        assert source.title
        assert source.terms
        assert source.homepage.startswith("http")
        assert bool(source.files) != bool(source.needs)
        for file in source.files:
            assert file.url.startswith("https://")
            assert file.unpack != bool(file.path)
            assert len(file.sha256 or "0" * 64) == 64
            assert len(file.md5 or "0" * 32) == 32


def test_librispeech_checksums_are_those_torchaudio_knows() -> None:
    known = pytest.importorskip("torchaudio.datasets.librispeech")._CHECKSUMS
    ours = {file.name: file.sha256 for source in load_sources().values() for file in source.files if "openslr" in file.url}
    assert ours == {url.rpartition("/")[2]: checksum for url, checksum in known.items()}


def test_list_checksums_are_those_of_the_files_at_hand(corpora: Path) -> None:
    folders = {"librimix": corpora / "librimix", "wsj0mix": corpora / "wsj0", "wsj0mix-levels": corpora / "wsj0" / "activlev"}
    checked = 0
    for name, folder in folders.items():
        for file in load_sources()[name].files:
            for path, sha256 in (file.keep or {file.path: file.sha256 or ""}).items():
                if (folder / path).is_file():
                    assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == sha256, path
                    checked += 1
    assert checked >= 14


def test_licensed_corpora_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        fetch("wsj0", tmp_path)
    for words in ("LDC93S6A", "https://catalog.ldc.upenn.edu", "si_tr_s", ".wv1"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_sources_and_a_broken_registry(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="libri: no such source; there are librimix, librispeech-dev-clean"):
        fetch("libri", tmp_path)
    for text in ("[x", "[x]\ncolour = 1", ""):
        (tmp_path / "sources.toml").write_text(text)
        if text:
            with pytest.raises(CorpusError, match="not a readable list of sources"):
                load_sources(tmp_path / "sources.toml")
        else:
            assert load_sources(tmp_path / "sources.toml") == {}
