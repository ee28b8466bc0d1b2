"""Hostile indexes and mirrors: nothing is believed unsigned, nothing is read without an end.

What a mirror's signature, age and digests must be: tests/debian/test_index.py. docs/security.md, "A hostile index".
"""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlpkg.debian import load_index
from mlpkg.errors import DigestMismatch, LockError, MlpkgError
from mlpkg.wheels import uv
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.requirements import read_requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from tests.debian.archive import Source
from tests.debian.conftest import Served, archive, key, served
from tests.wheels.conftest import _private_uv
from tests.wheels.wheelhouse import make_wheel

from .hostile import run_child

__all__ = ["_private_uv", "archive", "key", "served"]

TARGET = Target("3.13", "linux/amd64", "2.41")
NAME = "guest-1.0-py3-none-any.whl"
Page = Callable[[], Iterator[bytes]]


@contextmanager
def index(page: Page, wheel: bytes = b"") -> Iterator[WheelSources]:
    """An index whose only page is what `page` gives; all else is the wheel."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            is_page = self.path.startswith("/simple/")
            self.send_header("Content-Type", "text/html" if is_page else "application/octet-stream")
            if not is_page:
                self.send_header("Content-Length", str(len(wheel)))
            self.end_headers()
            if self.command == "GET":
                try:
                    for piece in page() if is_page else (wheel,):
                        self.wfile.write(piece)
                except OSError:
                    """Whoever asked has gone."""

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield WheelSources(index=f"http://127.0.0.1:{server.server_port}/simple/")
        finally:
            server.shutdown()
            thread.join(10)


def tried(sources: WheelSources, folder: Path) -> None:
    wheels = choose_wheels(read_requirements(["guest"], folder=folder), target=TARGET, sources=sources)
    install_wheels(wheels, folder / "made" / "tree", target=TARGET, sources=sources)


@pytest.fixture
def wheel(tmp_path: Path) -> bytes:
    return make_wheel(tmp_path / "wheels", "guest").read_bytes()


def link(target: str, digest: str = "", name: str = NAME) -> bytes:
    return f'<a href="{target}{f"#sha256={digest}" if digest else ""}">{name}</a>'.encode()


LINKS = {
    "javascript": link(f"javascript:alert('/{NAME}')", "0" * 64),
    "a file of this machine": link(f"file:///etc/{NAME}", "0" * 64),
    "a file without a host": link(f"file:../../../../etc/{NAME}", "0" * 64),
    "data": link(f"data:text/plain,/{NAME}", "0" * 64),
    "no link": f"<a>{NAME}</a>".encode(),
    "a name upwards": link("/files/..%2f..%2f" + NAME, "0" * 64, f"../../{NAME}"),
    "a digest that is none": link(f"/files/{NAME}", "zz"),
    "a digest that lies": link(f"/files/{NAME}", "0" * 64),
    "another algorithm alone": link(f"/files/{NAME}#md5={'0' * 32}"),
    "no page at all": b"\0\xff" * 999,
    "a base elsewhere": b'<base href="file:///etc/">' + link(NAME, "0" * 64),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_of_an_index(name: str, wheel: bytes, tmp_path: Path) -> None:
    with index(lambda: iter((LINKS[name],)), wheel) as sources, pytest.raises(MlpkgError) as caught:
        tried(sources, tmp_path)
    assert not (tmp_path / "made" / "tree").exists()
    assert "root:" not in str(caught.value)


def test_a_page_with_many_tags_within_tags(wheel: bytes, tmp_path: Path) -> None:
    digest = hashlib.sha256(wheel).hexdigest()
    page = b"<div>" * 5000 + link(f"/files/{NAME}", digest) + b"</div>" * 5000
    with index(lambda: iter((page,)), wheel) as sources:
        try:
            tried(sources, tmp_path)
        except LockError:
            return
    assert (tmp_path / "made" / "tree").exists()


def test_a_digest_that_lies_is_told_as_such(wheel: bytes, tmp_path: Path) -> None:
    page = link(f"/files/{NAME}", "0" * 64)
    with index(lambda: iter((page,)), wheel) as sources, pytest.raises((DigestMismatch, LockError)) as caught:
        tried(sources, tmp_path)
    assert "mismatch" in str(caught.value).lower() or "not the one" in str(caught.value)


def test_a_page_without_an_end(wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "MEMORY_LIMIT", 300 << 20)

    def endless() -> Iterator[bytes]:
        while True:
            yield link("/x", "0" * 64, "x") * 9999

    with index(endless, wheel) as sources, pytest.raises(LockError, match="makes uv hold in memory"):
        tried(sources, tmp_path)


def message(size: int) -> bytes:
    """An OpenPGP message that nobody signed: `size` zero bytes, compressed (RFC 9580 §5.6)."""
    state = zlib.compressobj(9)
    head = (
        bytes((0xC4, 13, 3, 0, 8, 1, *bytes(8), 1))
        + b"\xcb\xff"
        + (size + 6).to_bytes(4, "big")
        + b"b\0"
        + bytes(4)
    )
    pieces = [
        state.compress(head),
        *(state.compress(bytes(1 << 20)) for _ in range(size >> 20)),
        state.flush(),
    ]
    return bytes((0xA3, 2)) + b"".join(pieces)


_LOAD = """
import sys
from pathlib import Path
from mlpkg.debian import load_index
from mlpkg.debian.mirror import Keyring, Mirrors
from mlpkg.errors import LockError
mirrors = Mirrors(main=sys.argv[1], security=None, keyrings=(Keyring("test", Path(sys.argv[2]).read_bytes()),))
try:
    load_index(mirrors, "trixie", "amd64", Path(sys.argv[3]))
except LockError as error:
    print(error.message)
"""


@pytest.mark.parametrize("shape", ["message", "armoured", "in the signature"])
@pytest.mark.long
def test_a_release_file_that_is_a_bomb(served: Served, tmp_path: Path, shape: str) -> None:
    """Whoever stands between can send it: it must not be unpacked before its signature was checked."""
    data = message(600 << 20)
    text = base64.encodebytes(data)
    if shape == "armoured":
        data = b"-----BEGIN PGP MESSAGE-----\n\n" + text + b"-----END PGP MESSAGE-----\n"
    elif shape == "in the signature":
        data = (
            b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nSuite: trixie\n"
            b"-----BEGIN PGP SIGNATURE-----\n\n" + text + b"-----END PGP SIGNATURE-----\n"
        )
    served.archive.put("dists/trixie/InRelease", data)
    (tmp_path / "key").write_bytes(served.archive.certificate)
    said, peak = run_child(_LOAD, served.archive.root.as_uri(), tmp_path / "key", tmp_path / "cache")
    assert "InRelease: not signed by" in said
    assert peak < 150 << 20


def test_a_release_of_another_suite_or_time(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [Source("libc6")], head={"Suite": "sid", "Codename": "sid"})
    with pytest.raises(LockError, match="is about sid, not about trixie"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    old = {"Valid-Until": "Sat, 01 Jan 2022 00:00:00 UTC"}
    served.archive.publish("trixie", [Source("libc6")], head=old)
    with pytest.raises(LockError, match="expired on"):
        load_index(
            served.mirrors(), "trixie", "amd64", tmp_path / "cache", now=datetime(2026, 1, 1, tzinfo=UTC)
        )
