"""Files: whole or not at all; a full disk or a closed folder is told in words, wherever mlpkg writes."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlpkg.cli import commands
from mlpkg.debian import fetch_deb
from mlpkg.debian.mirror import Mirrors
from mlpkg.digest import sha256
from mlpkg.errors import ChangedInput, MlpkgError
from mlpkg.lockfile import Deb
from mlpkg.registry import state
from mlpkg.store import files, records
from mlpkg.store.blobs import Blobs
from mlpkg.store.runlock import hold_workspace
from tests.fakes.disks import Disk, closed_folder, fill, kinds, small_disk
from tests.ports import free_port

BIG = bytes(1 << 20)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirrors:
    """A mirror in a folder, made before the disk is full."""
    (tmp_path / "mirror/pool").mkdir(parents=True)
    (tmp_path / "mirror/pool/a.deb").write_bytes(BIG)
    return Mirrors((tmp_path / "mirror").as_uri(), None, ())


@pytest.fixture(params=kinds())
def small(request: pytest.FixtureRequest, tmp_path: Path, mirror: Mirrors) -> Iterator[Disk]:
    with small_disk(request.param, tmp_path / "small") as disk:
        yield disk


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    with closed_folder(tmp_path / "closed") as folder:
        yield folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for data, mode in ((b"one", 0o644), (b"two", 0o600), (b"three", 0o755)):
        files.write_atomically(path, data, mode=mode)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == mode
    assert names(tmp_path) == ["file"]


def test_a_stream_is_named_by_its_digest(tmp_path: Path) -> None:
    found = files.write_stream(tmp_path, iter([b"a", b"", b"bc"]), lambda digest: tmp_path / digest[-8:])
    assert found == (sha256(b"abc"), 3)
    assert files.file_digest(tmp_path / sha256(b"abc")[-8:]) == sha256(b"abc")


def test_the_file_and_its_folder_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync

    def noted(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), names(tmp_path)))
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    files.write_atomically(tmp_path / "file", b"data")
    (file, before), (folder, after) = synced
    assert file.parent == tmp_path
    assert before != ["file"]
    assert (folder, after) == (tmp_path, ["file"])


@pytest.mark.parametrize("error", [ChangedInput("moved"), KeyboardInterrupt()])
def test_a_stream_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "file").write_text("before")

    def pieces() -> Iterator[bytes]:
        yield b"x" * (2 << 20)
        raise error

    with pytest.raises(type(error)):
        files.write_stream(tmp_path, pieces(), lambda _: tmp_path / "file")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_what_cannot_be_read_is_no_fault_of_where_it_goes(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield from files.read_pieces(tmp_path / "gone")

    with pytest.raises(MlpkgError, match=r"gone: cannot be read: No such file"):
        files.write_stream(tmp_path, pieces(), lambda _: tmp_path / "file")
    assert names(tmp_path) == []


def test_a_full_disk(small: Disk) -> None:
    path = small.folder / "folder" / "file"
    files.write_atomically(path, b"before")
    with pytest.raises(MlpkgError, match=r"folder: cannot be written: (No space|File too large)") as caught:
        files.write_atomically(path, BIG)
    assert (caught.value.exit_code, "free some space" in caught.value.hint) == (1, True)
    assert names(small.folder) == ["file"]
    assert path.read_bytes() == b"before"


def test_a_full_cache(small: Disk, mirror: Mirrors) -> None:
    with pytest.raises(MlpkgError, match="cannot be written") as caught:
        Blobs(small.folder).write(BIG[at : at + 512] for at in range(0, len(BIG), 512))
    assert (caught.value.exit_code, "free some space" in caught.value.hint) == (1, True)
    deb = Deb("a", "1", "all", "pool/a.deb", len(BIG), sha256(BIG))
    with pytest.raises(MlpkgError, match="cannot be written") as caught:
        fetch_deb(mirror, deb, small.folder)
    assert (caught.value.exit_code, "free some space" in caught.value.hint) == (1, True)
    assert names(small.folder) == []


def test_a_closed_folder(closed: Path) -> None:
    record = records.Record("p", "lock", {}, {}, {})
    for write in (
        lambda: files.write_atomically(closed / "file", b"data"),
        lambda: records.write(closed / "below" / "record.json", record),
        lambda: Blobs(closed).write([b"data"]),
        lambda: hold_workspace(closed),
    ):
        with pytest.raises(MlpkgError, match=r"cannot be written: (Read-only|Permission)") as caught:
            write()
        assert str(closed) in caught.value.message
        assert caught.value.exit_code == 1
        assert "permissions" in caught.value.hint


@pytest.mark.parametrize("command", [["registry", "credentials"], ["registry", "up"]])
def test_a_full_state_folder_ends_a_command_in_words(small: Disk, tmp_path: Path, command: list[str]) -> None:
    fill(small.folder)
    done = run(command, tmp_path, MLPKG_STATE_HOME=small.folder / "state", limit=small.limit)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr
    assert "free some space" in done.stderr


@pytest.mark.parametrize("command", [["registry", "credentials"], ["registry", "up"]])
def test_a_closed_state_folder_ends_a_command_in_words(
    closed: Path, tmp_path: Path, command: list[str]
) -> None:
    done = run(command, tmp_path, MLPKG_STATE_HOME=closed)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(rf"{re.escape(str(closed))}/registry/\d+: cannot be written", done.stderr)
    assert "set MLPKG_STATE_HOME" in done.stderr


def test_what_else_cannot_be_written_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line's own net, for the places that say nothing themselves."""

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "somewhere"))

    (tmp_path / "mlpkg.toml").write_text(f"[registry]\nport = {free_port()}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(state, "ensure_secrets", full)
    monkeypatch.setenv("MLPKG_STATE_HOME", str(tmp_path))
    assert commands.main(["registry", "credentials"]) == 1
    told = capsys.readouterr().err
    assert f"error: {tmp_path}/somewhere: cannot be written: No space left on device" in told
    assert "free some space" in told


def run(
    command: list[str],
    folder: Path,
    *,
    limit: Callable[[], None] | None = None,
    **variables: Path,
) -> subprocess.CompletedProcess[str]:
    (folder / "mlpkg.toml").write_text(f"[registry]\nport = {free_port()}\n")
    return subprocess.run(
        [sys.executable, "-m", "mlpkg", *command],
        cwd=folder,
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
