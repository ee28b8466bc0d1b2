"""The layer's tar stream: its bytes are fixed, and GNU tar and Python read them as they were meant."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpkg.digest import sha256
from mlpkg.errors import ChangedInput, MlpkgError
from mlpkg.layer import BLOCK, MTIME, Bytes, Entry, SourceFile, tar_stream

LONG = "/".join(["d" * 60] * 5) + "/" + "f" * 120


def packed(*entries: Entry) -> bytes:
    return b"".join(tar_stream(entries))


def file(path: str, data: bytes = b"data", mode: int = 0o644) -> Entry:
    return Entry(path, mode=mode, content=Bytes(data))


def gnu_listing(data: bytes) -> list[str]:
    """Names as GNU tar prints them; it warns on stderr of anything odd."""
    command = ["tar", "--quoting-style=literal", "-tf", "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=30)
    assert not done.stderr
    return done.stdout.decode().splitlines()


def test_the_bytes_never_change() -> None:
    entries = (
        file("app/score.py", b"def run(data): ...\n", 0o755),
        Entry("app/models", "symlink", 0o777, target="/var/models"),
        Entry("app/again.py", "hardlink", 0o755, target="app/score.py"),
        Entry("tmp", "directory", 0o1777),
        file(LONG, b"x" * 513),
        file("caf\u00e9/\u6a21\u578b"),
    )
    # Another digest here means: every image gets new layers. Raise mlpkg.formats.TAR with it.
    assert (
        sha256(packed(*entries)) == "sha256:87bf4c4f8b45f76d1ae0edaf3a68757e4605e9ab1e893bff16af34602ac2bd18"
    )


def test_gnu_tar_and_python_read_all_kinds(tmp_path: Path) -> None:
    data = packed(
        file("app/score.py", b"code", 0o755),
        Entry("app/link", "symlink", 0o777, target="score.py"),
        Entry("app/hard", "hardlink", 0o755, target="app/score.py"),
        Entry("tmp", "directory", 0o1777),
        file("empty", b""),
        file("exact", b"x" * BLOCK),
    )
    assert gnu_listing(data) == ["app/", "app/score.py", "app/link", "app/hard", "tmp/", "empty", "exact"]
    subprocess.run(["tar", "-xpf", "-", "-C", tmp_path], input=data, check=True, timeout=30)
    assert (tmp_path / "app/link").read_bytes() == (tmp_path / "app/hard").read_bytes() == b"code"
    assert (tmp_path / "app/hard").stat().st_ino == (tmp_path / "app/score.py").stat().st_ino
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "app/score.py").stat().st_mtime == MTIME
    assert ((tmp_path / "empty").stat().st_size, (tmp_path / "exact").stat().st_size) == (0, BLOCK)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        owners = {(info.uid, info.gid, info.uname, info.gname) for info in tar}
    assert owners == {(0, 0, "", "")}


@pytest.mark.parametrize("length", [99, 100, 101, 155, 255, 256, 400])
def test_long_names_and_link_targets(length: int) -> None:
    name, target = "n" * (length // 2) + "/" + "m" * (length - length // 2 - 1), "t" * length
    data = packed(
        file(name), Entry("link", "symlink", 0o777, target=target), Entry("h", "hardlink", target=name)
    )
    assert gnu_listing(data)[1:] == [name, "link", "h"]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {info.name: info for info in tar}
    assert found["link"].linkname == target
    assert found["h"].linkname == name


def test_names_that_are_no_utf8_keep_their_bytes(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    subprocess.run(["tar", "-xf", "-", "-C", tmp_path], input=packed(file(name)), check=True, timeout=30)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_of_more_than_8_gib_has_a_pax_size() -> None:
    @dataclass(frozen=True)
    class Huge:
        size: int = 8**11 + 5

        def read(self) -> Iterator[bytes]:
            return iter(())

    head = next(tar_stream([Entry("huge", content=Huge())]))
    info = tarfile.TarInfo.frombuf(head[2 * BLOCK :], "utf-8", "strict")
    assert (info.name, info.size) == ("huge", 0)
    assert head[BLOCK:].startswith(b"19 size=8589934597\n")


def test_content_of_another_size_than_the_header_says_never_passes() -> None:
    @dataclass(frozen=True)
    class Lying:
        size: int

        def read(self) -> Iterator[bytes]:
            yield b"12345"

    for size in (4, 6):
        with pytest.raises(ChangedInput, match="/lying"):
            packed(Entry("lying", content=Lying(size)))


def test_a_hard_link_needs_an_earlier_file() -> None:
    with pytest.raises(MlpkgError, match="no earlier file"):
        packed(Entry("link", "hardlink", target="file"), file("file", b"x"))


def test_parents_come_once_and_before_their_entries() -> None:
    data = packed(file("a/b/c"), Entry("a", "directory", 0o700), file("a/b/d"), Entry("a/b", "directory"))
    assert gnu_listing(data) == ["a/", "a/b/", "a/b/c", "a/b/d"]


@pytest.mark.parametrize("path", ["", "/etc/x", "a//b", "a/../b", "./a", "a/.", "a/", "a\0b"])
def test_paths_that_leave_the_root_or_are_not_plain(path: str) -> None:
    with pytest.raises(MlpkgError, match="not a path inside an image"):
        packed(file(path))


@pytest.mark.parametrize(
    "entries",
    [
        [file("a"), file("a")],
        [file("a"), file("a/b")],
        [Entry("a", "symlink", target="/x"), Entry("a", "directory")],
        [Entry("lib", "symlink", target="usr/lib"), file("lib/x")],
        [file("a/b"), file("a")],
    ],
    ids=["twice", "below a file", "folder over a link", "below a link", "file over a folder"],
)
def test_paths_that_clash(entries: Sequence[Entry]) -> None:
    with pytest.raises(MlpkgError):
        packed(*entries)


def test_a_source_file_is_checked_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x" * 2_500_000)
    size, digest = 2_500_000, sha256(b"x" * 2_500_000)
    assert packed(Entry("m", content=SourceFile(path, size, digest))) == packed(file("m", b"x" * size))
    for wrong in (
        SourceFile(path, size + 1),
        SourceFile(path, size - 1),
        SourceFile(path, size, sha256(b"")),
    ):
        with pytest.raises(ChangedInput, match="model"):
            packed(Entry("m", content=wrong))
    with pytest.raises(ChangedInput, match="cannot be read"):
        packed(Entry("m", content=SourceFile(tmp_path / "absent", 1)))


names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=5).map("/".join)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(paths, st.binary(max_size=1200), max_size=8))
def test_any_tree_is_read_back(tree: dict[str, bytes]) -> None:
    above = set(chain.from_iterable(_above(path) for path in tree))
    entries = [file(path, data) for path, data in tree.items() if path not in above]
    data = packed(*entries)
    assert len(data) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {
            info.name: (member.read() if (member := tar.extractfile(info)) else b"")
            for info in tar
            if info.isfile()
        }
    assert found == {path: data for path, data in tree.items() if path not in above}


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
