"""A strict OCI registry in a thread, for tests: it refuses what a good registry refuses, and fails on demand.

Stricter than Distribution 2.8 where that one is lax: descriptor sizes in manifests must be right.
Storage is memory; blobs of a sink are hashed and dropped. It listens on 127.0.0.1 and speaks HTTP/1.1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "ann", "pass:wörd"
PAGE = 3
"""Tags per page at most, so that three pages need few tags."""


@dataclass
class Seen:
    """One request as it came in. `received` counts body bytes that were read."""

    method: str
    path: str
    authorization: str | None
    received: int = 0
    status: int = 0
    range: str = ""


@dataclass
class Fault:
    """What to do instead of serving: `times` requests whose "METHOD path" matches `pattern`.

    `after` body bytes are read first. Then the connection is reset (``status=0``), or `status`, `headers` and
    `body` are sent. `is_closing` closes without reading the rest, as servers do that refuse a body; `hold`
    neither reads nor closes for so many seconds, and does not say that it will.
    """

    pattern: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: int = 0
    times: int = 1
    is_closing: bool = False
    hold: float = 0.0


@dataclass
class Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    cancelled: int = 0


class FakeRegistry:
    """The registry's state. `address` is ``127.0.0.1:PORT``."""

    def __init__(
        self, auth: Literal["none", "basic", "bearer"] = "none", *, is_sink: bool = False, port: int = 0
    ) -> None:
        self.auth = auth
        self.is_sink = is_sink
        self.lock = threading.RLock()
        self.repositories: dict[str, Repository] = {}
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.tokens: dict[str, set[str]] = {}
        self.identity_token = "identity-" + secrets.token_hex(4)
        self.token_requests: list[dict[str, list[str]]] = []
        self.expires_in = 300
        self.realm = ""
        self.upload_host = ""
        self.blob_host = ""
        self.sink_size = 0
        self.no_mount = False
        self.on_piece: Callable[[int], None] = lambda _total: None
        self.released = threading.Event()
        self.server = _Server(self, port)
        self.scheme = "http"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    def repository(self, name: str) -> Repository:
        with self.lock:
            return self.repositories.setdefault(name, Repository())

    def requests(self, pattern: str) -> list[Seen]:
        """The requests so far whose "METHOD path" matches."""
        with self.lock:
            return [seen for seen in self.seen if re.search(pattern, f"{seen.method} {seen.path}")]

    def revoke_tokens(self) -> None:
        with self.lock:
            self.tokens.clear()

    @contextmanager
    def serving(self, tls: tuple[Path, Path] | None = None) -> Iterator[FakeRegistry]:
        """Serve while the block runs; `tls` is a certificate and its key."""
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self.server.shutdown()
            thread.join()
            self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close then waits for them
    block_on_close = True

    def __init__(self, registry: FakeRegistry, port: int) -> None:
        self.registry = registry
        self.open_sockets: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open_sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open_sockets.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in list(self.open_sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # type: ignore[mutable-override]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server names them so

    # -- one request

    def _serve(self) -> None:
        registry = self.server.registry
        self.left = int(self.headers.get("Content-Length") or 0)
        self.record = Seen(self.command, self.path, self.headers.get("Authorization"))
        self.record.range = self.headers.get("Range", "")
        with registry.lock:
            registry.seen.append(self.record)
            fault = self._fault()
        if fault is not None:
            self._fail(fault)
            return
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            self._token(parse_qs(parts.query))
        elif parts.path.startswith("/elsewhere/"):
            self._elsewhere(parts.path)
        elif self._is_allowed(parts.path):
            self._route(parts.path)

    def _fault(self) -> Fault | None:
        for fault in self.server.registry.faults:
            if fault.times > 0 and re.search(fault.pattern, f"{self.command} {self.path}"):
                fault.times -= 1
                return fault
        return None

    def _fail(self, fault: Fault) -> None:
        for _ in self._body(fault.after):
            pass
        if fault.status == 0:
            # An RST, not a FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if fault.hold:
            self.left = 0
            self._answer(fault.status, fault.body, fault.headers)
            self.server.registry.released.wait(fault.hold)
            self.close_connection = True
            return
        if not fault.is_closing:
            for _ in self._body():
                pass
        self._answer(fault.status, fault.body, fault.headers)

    def _body(self, limit: int | None = None) -> Iterator[bytes]:
        left = self.left if limit is None else min(limit, self.left)
        while left:
            piece = self.rfile.read(min(left, 1 << 18))
            if not piece:
                raise ConnectionError
            left -= len(piece)
            self.left -= len(piece)
            self.record.received += len(piece)
            self.server.registry.on_piece(self.record.received)
            yield piece

    def _whole(self) -> bytes:
        return b"".join(self._body())

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.record.status = status
        self.send_response_only(status)
        values = {"Content-Length": str(len(body)), **(headers or {})}
        if self.left:
            values["Connection"] = "close"
            self.close_connection = True
        for name, value in values.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(
        self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None
    ) -> None:
        error = {"errors": [{"code": code, "message": message or code.lower(), "detail": None}]}
        self._answer(
            status, json.dumps(error).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    # -- who may

    def _is_allowed(self, path: str) -> bool:
        registry = self.server.registry
        given = self.headers.get("Authorization", "")
        if registry.auth == "none":
            if given:
                self._refuse(400, "UNASKED", "credentials nobody asked for")
            return not given
        if registry.auth == "basic":
            if given == _basic():
                return True
            self._refuse(401, "UNAUTHORIZED", headers={"WWW-Authenticate": 'Basic realm="fake"'})
            return False
        scope = self._scope(path)
        with registry.lock:
            granted = registry.tokens.get(given.removeprefix("Bearer "))
        if granted is not None and scope <= granted:
            return True
        realm = registry.realm or f"{registry.url}/token"
        wanted = f',scope="{" ".join(sorted(scope))}"' if scope else ""
        challenge = f'Bearer realm="{realm}",service="fake"{wanted}'
        self._refuse(401, "UNAUTHORIZED", headers={"WWW-Authenticate": challenge})
        return False

    def _scope(self, path: str) -> set[str]:
        match = re.match(r"/v2/(.+?)/(blobs|manifests|tags)/", path)
        if not match:
            return set()
        action = "pull" if self.command in ("GET", "HEAD") else "push"
        scope = {f"{match[1]}:{action}"}
        if "from" in parse_qs(urlsplit(self.path).query):
            scope.add(parse_qs(urlsplit(self.path).query)["from"][0] + ":pull")
        return scope

    def _token(self, query: dict[str, list[str]]) -> None:
        registry = self.server.registry
        if self.command == "POST":
            form = parse_qs(self._whole().decode())
            is_known = form.get("refresh_token") == [registry.identity_token]
            scopes = form.get("scope", [""])[0].split()
        else:
            form = query
            is_known = self.headers.get("Authorization") == _basic()
            scopes = query.get("scope", [])
        registry.token_requests.append(form)
        if not is_known:
            self._refuse(401, "UNAUTHORIZED", "wrong password")
            return
        granted = set()
        for scope in scopes:
            _, name, actions = scope.split(":")
            granted |= {f"{name}:{action}" for action in actions.split(",")}
        token = secrets.token_urlsafe(16)
        with registry.lock:
            registry.tokens[token] = granted
        self._answer(200, json.dumps({"token": token, "expires_in": registry.expires_in}).encode())

    # -- what

    def _route(self, path: str) -> None:
        for pattern, action in _ROUTES:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                action(self, *match.groups())
                return
        self._refuse(404, "UNSUPPORTED")

    def _elsewhere(self, path: str) -> None:
        """Storage behind another host name: it must not see our credentials."""
        if self.headers.get("Authorization"):
            self._refuse(400, "CREDENTIALS_LEAKED")
            return
        self._route(path.removeprefix("/elsewhere"))

    def _base(self) -> None:
        self._answer(200, b"{}")

    def _get_blob(self, name: str, digest: str) -> None:
        registry = self.server.registry
        data = registry.repository(name).blobs.get(digest)
        if data is None:
            self._refuse(404, "BLOB_UNKNOWN")
            return
        if registry.blob_host and not self.path.startswith("/elsewhere"):
            self._answer(307, headers={"Location": f"http://{registry.blob_host}/elsewhere{self.path}"})
            return
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if span:
            first = int(span[1])
            headers = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
            self._answer(206, data[first:], headers)
            return
        self._answer(200, b"" if self.command == "HEAD" else data, {"Content-Length": str(len(data))})

    def _post_upload(self, name: str) -> None:
        registry = self.server.registry
        repository = registry.repository(name)
        digest, source = self.query.get("mount"), self.query.get("from")
        if digest and registry.no_mount:
            self._refuse(405, "UNSUPPORTED")
            return
        if digest and source and digest in registry.repository(source).blobs:
            repository.blobs[digest] = registry.repository(source).blobs[digest]
            self._answer(201, headers={"Location": f"/v2/{name}/blobs/{digest}"})
            return
        session = secrets.token_hex(8)
        repository.sessions.add(session)
        location = f"/v2/{name}/blobs/uploads/{session}?_state=secret-state"
        if registry.upload_host:
            location = f"http://{registry.upload_host}/elsewhere{location}"
        self._answer(202, headers={"Location": location})

    def _put_upload(self, name: str, session: str) -> None:
        registry = self.server.registry
        repository = registry.repository(name)
        if session not in repository.sessions or self.query.get("_state") != "secret-state":
            self._refuse(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.headers.get("Content-Length") is None:
            self._refuse(411, "SIZE_INVALID")
            return
        # A session whose body broke off is lost, as in Distribution 2.8.
        repository.sessions.discard(session)
        state, kept = hashlib.sha256(), bytearray()
        for piece in self._body():
            if registry.is_sink:
                registry.sink_size += len(piece)
                continue
            state.update(piece)
            kept += piece
        digest = self.query.get("digest", "")
        if not registry.is_sink and digest != f"sha256:{state.hexdigest()}":
            self._refuse(400, "DIGEST_INVALID")
            return
        repository.blobs[digest] = bytes(kept)
        self._answer(201, headers={"Docker-Content-Digest": digest, "Location": f"/v2/{name}/blobs/{digest}"})

    def _delete_upload(self, name: str, session: str) -> None:
        self.server.registry.repository(name).cancelled += 1
        self.server.registry.repository(name).sessions.discard(session)
        self._answer(204)

    def _get_manifest(self, name: str, reference: str) -> None:
        repository = self.server.registry.repository(name)
        digest = repository.tags.get(reference, reference)
        media_type, data = repository.manifests.get(digest, ("", b""))
        if not media_type or media_type not in self.headers.get("Accept", ""):
            self._refuse(404, "MANIFEST_UNKNOWN")
            return
        headers = {
            "Docker-Content-Digest": digest,
            "Content-Type": media_type,
            "Content-Length": str(len(data)),
        }
        self._answer(200, b"" if self.command == "HEAD" else data, headers)

    def _put_manifest(self, name: str, reference: str) -> None:
        repository = self.server.registry.repository(name)
        data = self._whole()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        media_type = self.headers.get("Content-Type", "")
        document = json.loads(data)
        if ":" in reference and reference != digest:
            self._refuse(400, "DIGEST_INVALID")
            return
        if document.get("mediaType", media_type) != media_type:
            self._refuse(400, "MANIFEST_INVALID")
            return
        for part in [document.get("config"), *document.get("layers", [])]:
            if part and part["digest"] not in repository.blobs:
                self._refuse(400, "MANIFEST_BLOB_UNKNOWN")
                return
            if (
                part
                and len(repository.blobs[part["digest"]]) != part["size"]
                and not self.server.registry.is_sink
            ):
                self._refuse(400, "SIZE_INVALID")
                return
        repository.manifests[digest] = (media_type, data)
        if ":" not in reference:
            repository.tags[reference] = digest
        self._answer(201, headers={"Docker-Content-Digest": digest})

    def _list_tags(self, name: str) -> None:
        registry = self.server.registry
        if name not in registry.repositories:
            self._refuse(404, "NAME_UNKNOWN")
            return
        names = sorted(registry.repository(name).tags)
        last = self.query.get("last", "")
        rest = [tag for tag in names if tag > last]
        page, is_more = rest[:PAGE], len(rest) > PAGE
        link = {"Link": f'</v2/{name}/tags/list?n={PAGE}&last={page[-1]}>; rel="next"'} if is_more else {}
        self._answer(200, json.dumps({"name": name, "tags": page}).encode(), link)


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"GET /v2/", _Handler._base),
    (r"(?:GET|HEAD) /v2/(.+)/blobs/(sha256:[0-9a-f]{64})", _Handler._get_blob),
    (r"POST /v2/(.+)/blobs/uploads/", _Handler._post_upload),
    (r"PUT /v2/(.+)/blobs/uploads/([0-9a-f]+)", _Handler._put_upload),
    (r"DELETE /v2/(.+)/blobs/uploads/([0-9a-f]+)", _Handler._delete_upload),
    (r"(?:GET|HEAD) /v2/(.+)/manifests/([^/]+)", _Handler._get_manifest),
    (r"PUT /v2/(.+)/manifests/([^/]+)", _Handler._put_manifest),
    (r"GET /v2/(.+)/tags/list", _Handler._list_tags),
]
