"""What the wheel tests share: a private uv, and a package index on loopback."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlpkg.wheels.sources import WheelSources

from .wheelhouse import FOREIGN_SETTINGS


@pytest.fixture(autouse=True)
def _private_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No configuration of this machine, no cache of this user, no retries. Mirror tests want all three."""
    if request.node.get_closest_marker("mirror"):
        return
    for name in FOREIGN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """An empty folder for wheels."""
    path = tmp_path / "house"
    path.mkdir()
    return path


@pytest.fixture
def sources(house: Path) -> WheelSources:
    """The folder of wheels and nothing else."""
    return WheelSources(index="", find_links=(str(house),))


@dataclass
class Index:
    """A PEP 503 index of a folder of wheels, and the requests it got."""

    address: str
    host: str
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def with_credentials(self, pair: str) -> str:
        return self.address.replace("://", f"://{pair}@")


@pytest.fixture
def serve(house: Path) -> Iterator[Callable[..., Index]]:
    """Start an index of `house`. With `credentials` (``name:password``) it refuses all others; `broken` is
    a status that it answers everything with; without `head` it knows no HEAD.
    """
    with ExitStack() as stack:
        yield lambda credentials="", head=True, broken=0: stack.enter_context(
            _running(house, credentials, head, broken)
        )


@contextmanager
def _running(house: Path, credentials: str, head: bool, broken: int) -> Iterator[Index]:
    wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.requests.append((self.command, self.path, self.headers.get("Authorization")))
            if broken:
                self.answer(broken, b"")
            elif wanted and self.headers.get("Authorization") != wanted:
                self.answer(401, b"")
            elif self.command == "HEAD" and not head:
                self.answer(405, b"")
            elif self.path.startswith("/simple/"):
                self.page(self.path.strip("/").rsplit("/", 1)[1])
            else:
                path = house / self.path.rsplit("/", 1)[1]
                self.answer(200 if path.exists() else 404, path.read_bytes() if path.exists() else b"")

        do_HEAD = do_GET  # noqa: N815

        def page(self, project: str) -> None:
            found = [path for path in house.iterdir() if path.name.split("-")[0].replace("_", "-") == project]
            links = "".join(
                f'<a href="/files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>'
                for path in found
            )
            self.answer(200 if found else 404, links.encode(), "text/html")

        def answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        host = f"127.0.0.1:{server.server_port}"
        index = Index(f"http://{host}/simple/", host)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join(10)
