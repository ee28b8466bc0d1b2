"""One HTTP request at a time: pools, TLS, time-outs, and what went wrong in words. Knows no credentials."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from mlpkg.errors import RegistryError, Unreachable, UsageError
from mlpkg.remote.address import Origin, is_loopback, redacted, url_origin
from mlpkg.remote.connection import PROGRESS_TIMEOUT, Pool, TlsPool, cut
from mlpkg.remote.retry import TEMPORARY, Busy, Dropped, retry_after_seconds

CONNECT_TIMEOUT = 10.0
"""Seconds until a connection must stand."""

ANSWER_TIMEOUT = 60.0
"""Seconds without a byte of the answer."""

BODY_LIMIT = 4 << 20
"""Bytes of an answer kept in memory: the distribution-spec's bound for manifests."""

_ERROR_TEXT_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: status, headers (any case), body (at most `BODY_LIMIT` bytes), and the URL asked."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def whole(head: Reply, pieces: Iterable[bytes]) -> Reply:
    """The answer with its body. Raises RegistryError for more than `BODY_LIMIT` bytes, Dropped.

    The text of an error answer may be lost with its connection; its status is still worth having.
    """
    kept = bytearray()
    try:
        for piece in pieces:
            kept += piece
            if len(kept) > BODY_LIMIT:
                raise RegistryError(f"{redacted(head.url)}: answers with more than {BODY_LIMIT} bytes")
    except Dropped:
        if head.status < 400:
            raise
    return replace(head, body=bytes(kept))


def refusal(reply: Reply, method: str) -> RegistryError:
    """The error for an answer nobody wanted (distribution-spec, "Error Codes")."""
    code, text = _first_error(reply.body)
    subject = f"{method} {redacted(reply.url)}: {reply.status}"
    message = ": ".join(part for part in (subject, code, text) if part)
    kind = Busy if reply.status in TEMPORARY else RegistryError
    error = kind(message, hint=_HINTS.get(reply.status, ""), status=reply.status, code=code)
    if isinstance(error, Busy) and (value := reply.headers.get("Retry-After")):
        error.retry_after = retry_after_seconds(value, time.time())
    return error


_HINTS = {
    401: "the registry wants other credentials: `docker login`, or `mlpkg registry login` for the bundled one",
    403: "these credentials may not do this there",
    413: "a proxy before the registry limits the size of uploads (client_max_body_size in nginx)",
    429: "the registry limits requests: try again later",
    507: "the registry has no room left",
}


def _first_error(body: bytes) -> tuple[str, str]:
    try:
        errors = json.loads(body[: 64 << 10])["errors"]
        first = errors[0]
        code, text = first.get("code"), first.get("message")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", ""
    return _plain(code)[:64], _plain(text)[:_ERROR_TEXT_LIMIT]


def _plain(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in value).strip() if isinstance(value, str) else ""


class Transport:
    """Pooled connections, for any number of threads. A resource: `with Transport() as transport:`."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._live: WeakSet[HTTPConnection] = WeakSet()
        self._answered: set[Origin] = set()
        self.stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        for manager in self._managers.values():
            manager.clear()

    def abort(self) -> None:
        """Make requests of all threads fail now, and no new one start, until `stop` is cleared."""
        self.stop.set()
        for connection in list(self._live):
            cut(connection)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> Reply:
        """One request, one answer of any status; no retry, no redirect.

        Raises Unreachable (nothing answers), Dropped (it did answer before), RegistryError (body too long).
        """
        with self.stream(method, url, headers=headers, body=body, answer_timeout=answer_timeout) as answer:
            return whole(*answer)

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """As `request`, but the body comes in pieces while the block runs. `Reply.body` is empty."""
        origin = url_origin(url)
        parts = urlsplit(url)
        try:
            response = self._pool(origin).urlopen(
                method,
                parts.path + (f"?{parts.query}" if parts.query else "") or "/",
                body=body,
                headers={"Accept-Encoding": "identity", "User-Agent": "mlpkg", **headers},
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=answer_timeout),
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError) as error:
            raise self._failure(origin, error) from error
        self._answered.add(origin)
        try:
            yield Reply(response.status, response.headers, b"", url), self._pieces(origin, response)
        finally:
            response.close()

    def _pieces(self, origin: Origin, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            while piece := response.read(1 << 20):
                yield piece
        except (HTTPError, OSError) as error:
            raise self._failure(origin, error) from error

    def _failure(self, origin: Origin, error: Exception) -> Unreachable:
        where = origin.address
        if isinstance(error, SSLError):
            return Unreachable(f"{where}: no TLS connection: {_reason(error)}", hint=_tls_hint(error))
        if isinstance(error, NameResolutionError):
            return Unreachable(f"{where}: no such host", hint="check the address, the network and DNS")
        if isinstance(error, ProxyError):
            return Unreachable(f"{where}: the proxy (HTTPS_PROXY) does not answer: {_reason(error)}")
        if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
            # A registry that never answered is not there; one that did is perhaps being started again.
            kind = Dropped if origin in self._answered else Unreachable
            return kind(f"{where}: does not answer: {_reason(error)}", hint="is the registry running there?")
        return Dropped(
            f"{where}: the connection was lost: {_reason(error)}",
            hint=f"or no byte moved for {PROGRESS_TIMEOUT:.0f} s; run the step again, it goes on where it can",
        )

    def _pool(self, origin: Origin) -> urllib3.HTTPConnectionPool:
        proxy = proxy_for(origin)
        with self._lock:
            manager = self._managers.get((origin.scheme, proxy))
            if manager is None:
                manager = self._managers[origin.scheme, proxy] = _manager(origin.scheme, proxy, self._ca_file)
        try:
            pool = manager.connection_from_host(origin.host, origin.port, origin.scheme)
        except LocationParseError as error:
            raise UsageError(f"not a host name: {origin.host!r}") from error
        if isinstance(pool, (Pool, TlsPool)):
            pool.live = self._live
        return pool


def _manager(scheme: str, proxy: str, ca_file: Path | None) -> urllib3.PoolManager:
    options: dict[str, Any] = {"num_pools": 16, "maxsize": 16}
    if scheme == "https":  # reading the machine's certificates takes 20 ms or more: only where needed
        options["ssl_context"] = tls_context(ca_file)
    if proxy:
        parts = urlsplit(proxy)
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
        manager: urllib3.PoolManager = urllib3.ProxyManager(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", **options
        )
    else:
        manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
    return manager


def proxy_for(origin: Origin) -> str:
    """The proxy that the environment names (HTTPS_PROXY, NO_PROXY), or nothing.

    Never for loopback, and never for plain http, whose requests a forwarding proxy could read.
    """
    if origin.scheme != "https" or is_loopback(origin.host) or urllib.request.proxy_bypass(origin.host):
        return ""
    proxy = urllib.request.getproxies().get("https", "")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verification as the machine does it, plus `ca_file` (else REQUESTS_CA_BUNDLE). Raises UsageError.

    OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR. certifi serves where the machine has no certificates.
    """
    context = ssl.create_default_context()
    named = str(ca_file or os.environ.get("REQUESTS_CA_BUNDLE") or "")
    paths = ssl.get_default_verify_paths()
    if not named and not paths.cafile and not paths.capath:
        import certifi  # noqa: PLC0415 - only on machines without certificates; comes with the Docker SDK

        named = certifi.where()
    if named:
        try:
            is_directory = Path(named).is_dir()
            context.load_verify_locations(**{"capath" if is_directory else "cafile": named})
        except OSError as error:
            raise UsageError(f"{named}: no certificates can be read: {error.strerror or error}") from error
    return context


def _reason(error: BaseException) -> str:
    """The innermost cause, without object addresses and without our URL."""
    for inner in reversed(error.args):
        if isinstance(inner, BaseException):
            return _reason(inner)
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "verify_message", "") or error.reason or error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return _plain(str(error).rpartition("): ")[2])[:_ERROR_TEXT_LIMIT] or type(error).__name__


def _tls_hint(error: BaseException) -> str:
    text = str(error).lower()
    if "wrong version number" in text or "record layer failure" in text or "http_request" in text:
        return "it seems to speak plain http: allow that for this registry, or give it a certificate"
    return "name its CA with SSL_CERT_FILE or the ca_file setting"
