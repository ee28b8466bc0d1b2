"""A web server on loopback that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Answer:
    """One answer. Without `has_length` the body ends with the connection, as from a server that does not know it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    has_length: bool = True


@dataclass(frozen=True)
class Seen:
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Web:
    """The answers by path, or by method and path (``HEAD /x``), or one for all; 404 for what is not there."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    answer: Callable[[Seen], Answer | None] = lambda _: None
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    @property
    def host(self) -> str:
        """``host:port``."""
        return self.url.partition("://")[2]

    @contextmanager
    def serving(self, certificate: tuple[Path, Path] | None = None) -> Iterator[Self]:
        """Serve while the block runs; with TLS when a certificate and its key are given."""
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                seen = Seen(self.command, self.path, {n.lower(): v for n, v in self.headers.items()})
                web.seen.append(seen)
                known = web.answers.get(f"{seen.method} {seen.path}") or web.answers.get(seen.path)
                answer = known or web.answer(seen) or Answer(404)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.has_length:
                    self.send_header("Content-Length", str(len(answer.body)))
                else:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_HEAD = do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            host = "127.0.0.1"
            if certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*certificate)
                server.socket = context.wrap_socket(server.socket, server_side=True)
                host = "localhost"
            self.url = f"{'https' if certificate else 'http'}://{host}:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join(10)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody has signed, and its key."""
    made, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", str(key), "-out", str(made)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return made, key
