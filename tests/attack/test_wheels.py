"""Hostile wheels, installed by the real uv: refused by name or harmless. docs/security.md, "A hostile package"."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlpkg.errors import DigestMismatch, LockError
from mlpkg.layer import Entry, tar_stream
from mlpkg.lockfile import Wheel
from mlpkg.wheels import install, uv
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.entries import environment_entries
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.requirements import read_requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from tests.wheels.conftest import _private_uv, house, sources
from tests.wheels.wheelhouse import make_wheel

from .hostile import check_layer, joined, listing

__all__ = ["_private_uv", "house", "sources"]

TARGET = Target("3.13", "linux/amd64", "2.41")
SITE = "usr/local/lib/python3.13/dist-packages"
HOST = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
DATA = "guest-1.0.data"
INFO = "guest-1.0.dist-info"
ROW = b"guest/__init__.py,,\n"


@pytest.fixture(autouse=True)
def _uv_cache_removed(tmp_path: Path) -> Iterator[None]:
    """uv leaves what it could not unpack; pytest, as all of Python, cannot remove thousands of folders in one another."""
    yield
    subprocess.run(["rm", "-rf", tmp_path / "uv-cache"], check=True)


@dataclass(frozen=True)
class Guest:
    """A wheel by hand: further members, and what its own files say."""

    members: Sequence[tuple[str, bytes]] = ()
    modes: Mapping[str, int] = field(default_factory=dict)
    info: str = INFO
    metadata: bytes = b"Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n"
    format: str = "1.0"
    tag: str = "py3-none-any"
    entry_points: bytes = b""
    rows: Sequence[tuple[str, str, str]] = ()
    record: bytes | None = None
    filename: str = "guest-1.0-py3-none-any.whl"
    patch: tuple[bytes, bytes, int] | None = None
    """Bytes of the file that are replaced, and how often."""

    def write(self, folder: Path) -> None:
        about = f"Wheel-Version: {self.format}\nGenerator: x\nRoot-Is-Purelib: true\nTag: {self.tag}\n"
        members = [("guest/__init__.py", b""), *self.members]
        members += [(f"{self.info}/METADATA", self.metadata), (f"{self.info}/WHEEL", about.encode())]
        if self.entry_points:
            members.append((f"{self.info}/entry_points.txt", b"[console_scripts]\n" + self.entry_points))
        record = io.StringIO()
        rows = [(name, _noted(data), str(len(data))) for name, data in members]
        csv.writer(record, lineterminator="\n").writerows(
            [*rows, *self.rows, (f"{self.info}/RECORD", "", "")]
        )
        members.append(
            (f"{self.info}/RECORD", record.getvalue().encode() if self.record is None else self.record)
        )
        with zipfile.ZipFile(folder / self.filename, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the same name twice
            for name, data in members:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = self.modes.get(name, 0o100644) << 16
                archive.writestr(entry, data)
        if self.patch:
            path = folder / self.filename
            path.write_bytes(path.read_bytes().replace(*self.patch))


def _noted(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def file(name: str, data: bytes = b"evil", mode: int = 0o100644) -> Guest:
    return Guest([(name, data)], {name: mode})


def script(line: bytes) -> Guest:
    return Guest(entry_points=line + b" = guest:run\n")


def choose(sources: WheelSources, *names: str) -> tuple[Wheel, ...]:
    wanted = read_requirements(names, folder=Path("/nonexistent"))
    return choose_wheels(wanted, target=TARGET, sources=sources)


def entries_of(sources: WheelSources, folder: Path, *names: str) -> dict[str, Entry]:
    """Choose, install and lay out, the whole way; nothing but the tree and uv's cache may change."""
    tree = folder / "made" / "tree"
    ours = (tree, folder / "uv-cache", folder / "made")
    before = listing(folder, *ours)
    try:
        install_wheels(choose(sources, *names), tree, target=TARGET, sources=sources)
        rows = environment_entries(tree, python="3.13").values()
    except LockError:
        assert not tree.exists() or list(folder.glob("made/.mlpkg-*")) == []
        raise
    finally:
        assert listing(folder, *ours) == before
        assert [path.name for path in folder.glob("made/*") if path != tree] == []
    found = sorted((entry for row in rows for entry in row), key=lambda entry: entry.path)
    check_layer(joined(tar_stream(found)))
    return {entry.path: entry for entry in found}


ABSOLUTE = "/tmp/mlpkg-attack-evil"

REFUSED: dict[str, Guest] = {
    "backslashes upwards": Guest([("guest\\..\\..\\evil.py", b"")]),
    "an unknown place": file(f"{DATA}/evil/x"),
    "a script python3": file(f"{DATA}/scripts/python3", b"#!/bin/sh\n", 0o100755),
    "data at bin/python3": file(f"{DATA}/data/bin/python3", b"\x7fELF", 0o100755),
    "data in the image's own folder": file(f"{DATA}/data/lib/python3.13/dist-packages/evil.py"),
    "another list of files": file("other-1.0.dist-info/RECORD", ROW),
    "another version's list of files": file("guest-2.0.dist-info/RECORD", ROW),
    "another list of files, as data": file(f"{DATA}/data/{HOST}/other-1.0.dist-info/RECORD", ROW),
    "its own list again, as data": file(f"{DATA}/data/{HOST}/Guest-2.0.dist-info/RECORD", ROW),
    "a newline": file("guest/a\nb"),
    "a control character": file("guest/a\x1b[31m.py"),
    "a name of 300 characters": file("guest/" + "n" * 300),
    "2,500 folders": file("guest/" + "d/" * 2500 + "x"),
    "1,200 folders": file("guest/" + "d/" * 1200 + "x"),
    "one name twice": Guest([("guest/a.py", b"1"), ("guest/a.py", b"2")]),
    "a link and a file below it": Guest(
        [("guest/link", b"/tmp"), ("guest/link/evil", b"x")], {"guest/link": 0o120777}
    ),
    "a file and a file below it": Guest([("guest/a", b"1"), ("guest/a/b", b"2")]),
    "a name that is not UTF-8": Guest(
        [("guest/bad.py", b"")], patch=(b"guest/bad.py", b"guest/\xff\xfed.py", -1)
    ),
    "a header of another name": Guest([("guest/aa.py", b"")], patch=(b"guest/aa.py", b"guest/bb.py", 1)),
    "a header upwards": Guest([("guest/aa.py", b"")], patch=(b"guest/aa.py", b"../../aa.py", 1)),
    "other bytes than the sum says": Guest([("guest/a.py", b"content")], patch=(b"content", b"CONTENT", 1)),
    "an entry point upwards": script(b"../../evil"),
    "an absolute entry point": script(ABSOLUTE.encode()),
    "an entry point in a folder": script(b"a/b"),
    "an entry point with backslashes": script(b"a\\..\\b"),
    "an entry point with control characters": script(b"a\x1b[31m"),
    "an entry point ..": script(b".."),
    "an entry point without a name": script(b""),
    "an entry point python": script(b"python"),
    "an entry point python3": script(b"python3"),
    "an entry point python3.13": script(b"python3.13"),
    "an entry point of 300 characters": script(b"x" * 300),
    "an entry point that is code": Guest(entry_points=b"a = guest:x;import os\n"),
    "an entry point that calls": Guest(entry_points=b"a = os:system('x')\n"),
    "an entry point with a newline": Guest(entry_points=b"a = guest:x\n  import os\n"),
    "torn entry points": Guest(entry_points=b"[console_scripts\n\xff"),
    "METADATA of another name": Guest(metadata=b"Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"),
    "METADATA of another version": Guest(metadata=b"Metadata-Version: 2.1\nName: guest\nVersion: 9.0\n"),
    "METADATA that is rubbish": Guest(metadata=b"\xff\xfe\0"),
    "a wheel of format 2": Guest(format="2.0"),
    "a folder of another name": Guest(info="other-1.0.dist-info"),
    "RECORD not in UTF-8": Guest(record=b"guest/__init__.py,\xff\xfe,1\n"),
    "RECORD with an endless field": Guest(record=b"guest/__init__.py," + b"a" * 200_000 + b",1\n"),
    "RECORD with an open quote": Guest(record=b'"guest/__init__.py,,1\n'),
    "a wheel for another platform": Guest(filename="guest-1.0-py3-none-win_amd64.whl"),
    "no zip": Guest(patch=(b"PK", b"XX", -1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, house: Path, sources: WheelSources, tmp_path: Path) -> None:
    REFUSED[name].write(house)
    with pytest.raises((LockError, DigestMismatch)) as caught:
        entries_of(sources, tmp_path, "guest")
    assert "\x1b" not in str(caught.value)
    assert not Path(ABSOLUTE).exists()


HARMLESS: dict[str, tuple[Guest, set[str]]] = {
    # What uv passes over: members outside the wheel.
    "a path upwards": (file("../evil.py"), set()),
    "a path far upwards": (file("../" * 12 + "tmp/mlpkg-attack-evil"), set()),
    "an absolute path": (file(ABSOLUTE), set()),
    "a path upwards from within": (file("guest/../../evil.py"), set()),
    "data upwards": (file(f"{DATA}/data/../../../evil"), set()),
    "a script upwards": (file(f"{DATA}/scripts/../../../../evil"), set()),
    "headers upwards": (file(f"{DATA}/headers/../../../../../evil.h"), set()),
    # What stays inside.
    "an absolute path of data": (file(f"{DATA}/data/{ABSOLUTE}"), {f"usr/local{ABSOLUTE}"}),
    "a drive letter": (file("C:/evil.py"), {f"{SITE}/C:/evil.py"}),
    "a link": (file("guest/link", b"/etc/passwd", 0o120777), {f"{SITE}/guest/link"}),
    "a device": (file("guest/dev", b"", 0o020666), {f"{SITE}/guest/dev"}),
    "set-user-id": (file("guest/su", b"", 0o106755), {f"{SITE}/guest/su"}),
    "names that differ by case": (
        Guest([("guest/a.py", b"1"), ("guest/A.py", b"2")]),
        {f"{SITE}/guest/a.py", f"{SITE}/guest/A.py"},
    ),
    "a system path": (file(f"{DATA}/data/usr/bin/python3", b"\x7fELF"), {"usr/local/usr/bin/python3"}),
    "a dynamic linker's list": (file(f"{DATA}/data/etc/ld.so.preload", b"/x.so"), {"usr/local/etc/ld.so.preload"}),
    "a C library": (
        file(f"{DATA}/data/lib/x86_64-linux-gnu/libc.so.6"),
        {"usr/local/lib/x86_64-linux-gnu/libc.so.6"},
    ),
    # Code that each Python in the image runs: said in docs/security.md, not hindered.
    "sitecustomize": (file("sitecustomize.py"), {f"{SITE}/sitecustomize.py"}),
    "usercustomize": (file("usercustomize.py"), {f"{SITE}/usercustomize.py"}),
    "a .pth file that imports": (file("evil.pth", b"import os; os._exit(1)\n"), {f"{SITE}/evil.pth"}),
    # uv writes the list of files anew, of what it installed.
    "RECORD without the files": (Guest(record=f"{INFO}/RECORD,,\n".encode()), set()),
    "an empty RECORD": (Guest(record=b""), set()),
    "RECORD with a file that is not there": (Guest(rows=[("guest/absent.py", "sha256=x", "1")]), set()),
    "RECORD with a file upwards": (Guest(rows=[("../" * 9 + "etc/passwd", "sha256=x", "1")]), set()),
    "RECORD with an absolute file": (Guest(rows=[("/etc/passwd", "sha256=x", "1")]), set()),
    "RECORD that lies of digests": (
        Guest(record=f"guest/__init__.py,sha256=AAAA,77\n{INFO}/RECORD,,\n".encode()),
        set(),
    ),
    "a Tag of another platform": (Guest(tag="cp27-cp27m-win32"), set()),
    "an installer's note": (file(f"{INFO}/direct_url.json", b'{"url": "https://me:pw@x/"}'), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name: str, house: Path, sources: WheelSources, tmp_path: Path) -> None:
    guest, wanted = HARMLESS[name]
    guest.write(house)
    try:
        found = entries_of(sources, tmp_path, "guest")
    except LockError:
        # A later uv may refuse it.
        assert not wanted
        return
    own = {path for path in found if not path.startswith((f"{SITE}/guest/__init__", f"{SITE}/{INFO}/"))}
    assert own == wanted
    assert {found[path].kind for path in wanted} <= {"file"}
    assert not Path(ABSOLUTE).exists()
    assert not any("direct_url" in path for path in found)
    assert all(stat.S_IMODE(entry.mode) in (0o644, 0o755) for entry in found.values())


def test_a_list_of_files_that_takes_another_packages_files(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    """Listed as data's own: the files of `victim` would belong to nobody who ships."""
    make_wheel(house, "victim", files={"victim/core.py": b""})
    digest = _noted(b"")
    row = f"victim/core.py,{digest},0\n".encode()
    file(f"{DATA}/data/{HOST}/aaa-1.0.dist-info/RECORD", row).write(house)
    with pytest.raises(LockError, match="hold other packages than their names say: aaa"):
        entries_of(sources, tmp_path, "guest", "victim")


def zeros(path: Path, name: str, size: int, head: bytes = b"") -> None:
    """A wheel with one member of `size` zero bytes after `head`, deflated."""
    Guest().write(path.parent)
    with zipfile.ZipFile(path) as archive:
        held = {entry: archive.read(entry) for entry in archive.namelist() if entry != name}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for entry, data in held.items():
            archive.writestr(entry, data)
        with archive.open(name, "w", force_zip64=True) as file:
            file.write(head)
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))


def test_what_uv_writes_is_counted(
    house: Path, sources: WheelSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros(house / "guest-1.0-py3-none-any.whl", "guest/bomb", 512 << 20)
    monkeypatch.setattr(uv, "_LOOKED_EACH", 0.005)
    monkeypatch.setattr(uv, "WRITTEN_LIMIT", 32 << 20)
    with pytest.raises(LockError, match=r"makes uv write .* stopped at 33554432"):
        choose(sources, "guest")


def test_what_uv_holds_is_counted(
    house: Path, sources: WheelSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros(house / "guest-1.0-py3-none-any.whl", f"{INFO}/METADATA", 512 << 20, Guest.metadata + b"\n")
    monkeypatch.setattr(uv, "_LOOKED_EACH", 0.005)
    monkeypatch.setattr(uv, "MEMORY_LIMIT", 200 << 20)
    with pytest.raises(LockError, match=r"makes uv hold in memory .* stopped at 209715200"):
        choose(sources, "guest")


@pytest.mark.parametrize(("bytes_limit", "files_limit"), [(1 << 20, 10**6), (1 << 30, 3)])
def test_what_came_out_is_counted_though_uv_unpacked_it_before(
    house: Path,
    sources: WheelSources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bytes_limit: int,
    files_limit: int,
) -> None:
    zeros(house / "guest-1.0-py3-none-any.whl", "guest/bomb", 8 << 20)
    wheels = choose(sources, "guest")
    install_wheels(wheels, tmp_path / "before" / "tree", target=TARGET, sources=sources)
    monkeypatch.setattr(install, "unpacked_limit", lambda _: bytes_limit)
    monkeypatch.setattr(install, "FILES_LIMIT", files_limit)
    with pytest.raises(LockError, match="the wheels unpack to more than"):
        install_wheels(wheels, tmp_path / "made" / "tree", target=TARGET, sources=sources)
    assert list((tmp_path / "made").iterdir()) == []


def test_a_python_script_of_gigabytes_is_not_read(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    data = b"#!/bin/sh\n" + bytes(20 << 20)
    Guest([(f"{DATA}/scripts/shell", data)]).write(house)
    assert f"{SITE}/guest/__init__.py" in entries_of(sources, tmp_path, "guest")
    Guest([(f"{DATA}/scripts/tool", b"#!python\n" + bytes(20 << 20))]).write(house)
    with pytest.raises(LockError, match="bin/tool: a script of more than"):
        entries_of(sources, tmp_path / "again", "guest")


@pytest.mark.long
def test_a_bomb_of_3_gib(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    """A wheel of 3 MB with 3 GiB inside, chosen and installed with the real limits."""
    zeros(house / "guest-1.0-py3-none-any.whl", "guest/bomb", 3 << 30)
    with pytest.raises(LockError, match=r"makes uv write|the wheels unpack to more than"):
        entries_of(sources, tmp_path, "guest")


@pytest.mark.long
def test_half_a_million_empty_files(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    Guest([(f"guest/{number}", b"") for number in range(500_000)]).write(house)
    with pytest.raises(LockError, match=r"400000 files"):
        entries_of(sources, tmp_path, "guest")
