"""Hostile packages by hand, and what no layer and no folder may hold after them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from mlpkg.digest import sha256
from mlpkg.lockfile import Deb

CONTROL = b"Package: guest\nVersion: 1\nArchitecture: amd64\nDescription: a guest\n"


def ar(*members: tuple[str, bytes]) -> bytes:
    """An ar archive (ar(5)). Names are cut at 16 bytes."""
    return b"!<arch>\n" + b"".join(
        ar_header(name, str(len(body))) + body + b"\n" * (len(body) % 2) for name, body in members
    )


def ar_header(name: str, size: str) -> bytes:
    return f"{name:<16.16}{0:<12}{0:<6}{0:<6}{100644:<8}{size:<10}`\n".encode()


def tar_block(
    name: bytes,
    kind: bytes = b"0",
    data: bytes = b"",
    *,
    target: bytes = b"",
    size: bytes | None = None,
    mode: int = 0o644,
) -> bytes:
    """One member as raw blocks. `size` is the field's 12 bytes, where it shall lie."""
    field = b"%011o\0" % len(data) if size is None else size
    head = (
        name[:100].ljust(100, b"\0")
        + b"%07o\0" % mode
        + b"0000000\0" * 2
        + field
        + b"00000000000\0"
        + b" " * 8
        + kind
        + target[:100].ljust(100, b"\0")
        + b"ustar\x0000"
        + bytes(64)
        + b"0000000\0" * 2
        + bytes(167)
    )
    return head[:148] + b"%06o\0 " % sum(head) + head[156:] + data + bytes(-len(data) % 512)


END = bytes(1024)


def tar_of(*infos: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, data in infos:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def deb_of(data: bytes, *, suffix: str = "", control: bytes = CONTROL) -> bytes:
    """A .deb around a data.tar that is packed already, as `suffix` says."""
    return ar(
        ("debian-binary", b"2.0\n"),
        ("control.tar", tar_block(b"./control", data=control) + END),
        (f"data.tar{suffix}", data),
    )


def placed(folder: Path, deb: bytes) -> list[tuple[Deb, Path]]:
    """The file in a folder, and what a lock says of it."""
    path = folder / "guest.deb"
    path.write_bytes(deb)
    return [(Deb("guest", "1", "amd64", "pool/guest.deb", len(deb), sha256(deb)), path)]


def zeros_gzip(size: int, head: bytes = b"", kind: int = zlib.MAX_WBITS | 16) -> bytes:
    """`head` and at least `size` zero bytes, deflated 1,000 to one: one block's bytes, again and again.

    The stream has no end: who reads so far was not stopped.
    """
    block = 64 << 20
    state = zlib.compressobj(9, zlib.DEFLATED, kind)
    first = state.compress(head + bytes(1 << 20)) + state.flush(zlib.Z_FULL_FLUSH)
    repeated = state.compress(bytes(block)) + state.flush(zlib.Z_FULL_FLUSH)
    return first + repeated * -(-size // block)


def check_layer(data: bytes) -> dict[str, tarfile.TarInfo]:
    """Fail for a layer of which an engine could be led out of the image's root; its members."""
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            parts = info.name.split("/")
            assert ".." not in parts, info.name
            assert not info.name.startswith("/")
            assert info.isfile() or info.isdir() or info.issym() or info.islnk(), info.name
            assert not info.issparse()
            assert info.mode & 0o6000 == 0, info.name
            assert (info.uid, info.gid) == (0, 0)
            for depth in range(1, len(parts)):
                assert found["/".join(parts[:depth])].isdir(), f"{info.name} lies below a link or file"
            if info.islnk():
                assert found[info.linkname].isfile()
            assert info.name not in found
            found[info.name] = info
    return found


def listing(root: Path, *but: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder, with mode, size and time of change, except what lies below some folders."""
    found = {}
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in folders if here / name not in but]
        for name in (*folders, *names):
            status = (here / name).lstat()
            size = 0 if name in folders else status.st_size
            found[str(here / name)] = (status.st_mode, size, 0 if name in folders else status.st_mtime_ns)
    return found


def run_child(code: str, *arguments: object, timeout: float = 300) -> tuple[str, int]:
    """Run Python code in a process of its own: what it printed, and its peak of memory in bytes (VmHWM)."""
    text = f"{code}\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
    done = subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    return "\n".join(lines), int(peak) * 1024


def joined(pieces: Iterable[bytes]) -> bytes:
    return b"".join(pieces)
