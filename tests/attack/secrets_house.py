"""Servers on loopback that demand secrets, and a search for these in all that mlpkg leaves behind."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from mlpkg.registry.config import config_text


def canary(place: str) -> str:
    """A secret that tells where it came from. With a sign that addresses must escape."""
    return f"CANARY+{place}+9b1f"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def spellings(secret: str, user: str = "robot") -> tuple[bytes, ...]:
    """How a secret may be written: as it is, in an address, in a header."""
    return secret.encode(), quote(secret, safe="").encode(), basic(user, secret).split()[1].encode()


@dataclass
class Guarded:
    """A proxy that demands a password, and behind it an index that demands another and a Debian mirror."""

    port: int
    proxy_password: str
    index_password: str
    used: set[str] = field(default_factory=set)
    broken: str = ""
    """``index`` or ``proxy``: what refuses whatever it is given; ``down``: the index answers 503."""

    @property
    def proxy(self) -> str:
        return f"http://robot:{quote(self.proxy_password, safe='')}@127.0.0.1:{self.port}"


@contextmanager
def guarded(wheels: Path, mirror: Path) -> Iterator[Guarded]:
    """http://index.test/simple/ and http://debian.test/debian/, through the proxy only."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            proxied = self.headers.get("Proxy-Authorization") == basic("robot", state.proxy_password)
            if not proxied or state.broken == "proxy":
                self.answer(407, b"")
            elif parts.hostname == "debian.test":
                state.used.add("proxy")
                self.file(mirror / unquote(parts.path).removeprefix("/debian/"))
            elif not self.knows_password():
                self.answer(401, b"")
            elif state.broken:
                self.answer(401 if state.broken == "index" else 503, b"")
            else:
                state.used.add("index")
                self.index(unquote(parts.path))

        do_HEAD = do_GET  # noqa: N815

        def knows_password(self) -> bool:
            if self.headers.get("Authorization") == basic("robot", state.index_password):
                return True
            return f"/{state.index_password}/" in unquote(self.path)

        def index(self, path: str) -> None:
            path = path.replace(f"/{state.index_password}/", "/")
            if not path.startswith("/simple/"):
                return self.file(wheels / path.rsplit("/", 1)[1])
            # An index whose password is in its path has it in its links.
            top = self.path.partition("/simple/")[0].partition("://index.test")[2]
            project = path.strip("/").rsplit("/", 1)[1]
            found = [
                item for item in wheels.iterdir() if item.name.split("-")[0].replace("_", "-") == project
            ]
            links = "".join(
                f'<a href="{top}/files/{item.name}#sha256={sha256(item.read_bytes()).hexdigest()}">{item.name}</a>'
                for item in found
            )
            return self.answer(200 if found else 404, links.encode(), "text/html")

        def file(self, path: Path) -> None:
            self.answer(200, path.read_bytes()) if path.is_file() else self.answer(404, b"")

        def answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state = Guarded(server.server_port, canary("proxy"), canary("index"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def real_registry(program: Path, folder: Path, port: int, password: str) -> Iterator[Path]:
    """A real registry on loopback that demands `password` of the user robot; its storage."""
    import bcrypt

    storage = folder / "storage"
    storage.mkdir(parents=True)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()
    (folder / "htpasswd").write_text(f"robot:{hashed}\n")
    (folder / "config.yml").write_text(
        config_text(
            storage=str(storage),
            address=f"127.0.0.1:{port}",
            secret="0" * 32,
            htpasswd=str(folder / "htpasswd"),
        )
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", folder / "config.yml"],
            stdout=log,
            stderr=log,
            env={"OTEL_TRACES_EXPORTER": "none"},
        )
        try:
            _wait(port, process)
            yield storage
        finally:
            process.terminate()
            process.wait(20)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the registry does not start")


def fetched(port: int, path: str, password: str, user: str = "robot") -> tuple[int, bytes]:
    """What the registry answers a user."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    asked.add_header("Authorization", basic(user, password))
    asked.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def found_in(data: bytes, secrets: dict[str, tuple[bytes, ...]]) -> list[str]:
    """The places whose secrets show."""
    return [place for place, texts in secrets.items() if any(text in data for text in texts)]


def search(root: Path, secrets: dict[str, tuple[bytes, ...]]) -> list[str]:
    """Each file below a folder that holds a secret, or has one in its name."""
    shown = []
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            data = os.fsencode(name)
            if path.is_file() and not path.is_symlink():
                data += b"\n" + path.read_bytes()
            shown += [f"{path}: {place}" for place in found_in(data, secrets)]
    return shown
