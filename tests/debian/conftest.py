"""A signed archive in a folder, and the same served over HTTP on loopback."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from pysequoia import Tsk

from mlpkg.debian.mirror import Keyring, Mirrors
from mlpkg.http import retry

from .archive import SignedArchive


@dataclass(slots=True)
class Served:
    """An archive behind a web server: its address, and the paths and headers that were asked for."""

    archive: SignedArchive
    address: str
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    """What the next requests get instead: this HTTP status, or for 0 a body that breaks off."""

    def mirrors(self, **changes: object) -> Mirrors:
        keyring = Keyring("test keyring", self.archive.certificate)
        values: dict[str, object] = {"main": self.address, "security": None, "keyrings": (keyring,)}
        return Mirrors(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen as always, only sooner."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.01)


@pytest.fixture(scope="session")
def key() -> Tsk:
    return Tsk.generate(user_id="Archive <archive@example.org>")


@pytest.fixture
def archive(tmp_path: Path, key: Tsk) -> SignedArchive:
    return SignedArchive(tmp_path / "mirror", key)


@pytest.fixture
def served(archive: SignedArchive) -> Iterator[Served]:
    archive.root.mkdir()
    state = Served(archive, "")

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            failure = state.failures.pop(0) if state.failures else None
            if failure is None:
                super().do_GET()
            elif failure:
                self.send_error(failure)
            else:
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"half")
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Handler, directory=str(archive.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        state.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        server.shutdown()
        thread.join()
