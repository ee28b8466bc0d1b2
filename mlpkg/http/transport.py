"""HTTP requests: pools, TLS, proxies, time-outs, redirects, and what went wrong in words. Knows no credentials."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
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

from mlpkg.errors import MlpkgError, Unreachable, UsageError
from mlpkg.http.address import Origin, redacted, redirected, url_origin
from mlpkg.http.connection import Pool, TlsPool, cut
from mlpkg.http.retry import TEMPORARY, Backoff, Busy, Dropped, retry_after_seconds
from mlpkg.http.settings import HttpSettings

BODY_LIMIT = 4 << 20
"""Bytes of an answer kept in memory: the distribution-spec's bound for manifests."""

PIECE = 1 << 20
"""Bytes of an answer's body that are given at once, at most."""

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ERROR_TEXT_LIMIT = 300
_PLAINLY: Mapping[str, Any] = dict.fromkeys(
    ("retries", "redirect", "assert_same_host", "preload_content", "decode_content"), False
)
"""What urllib3 is not to do. A host that is not the pool's is that of a proxy's request."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: status, headers (any case), body (at most `BODY_LIMIT` bytes), and the URL asked."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def failure(self, message: str, kind: type[MlpkgError], busy: type[Busy], **words: Any) -> MlpkgError:
        """The error for an answer nobody wanted: `busy` where it may be another the next time, else `kind`."""
        if self.status not in TEMPORARY:
            return kind(message, **words)
        error = busy(message, **words)
        if value := self.headers.get("Retry-After"):
            error.retry_after = retry_after_seconds(value, time.time())
        return error


class Transport:
    """Pooled connections, for any number of threads. A resource: `with closing(Transport(…)) as …`."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self.stop = threading.Event()
        self.backoff = Backoff(self.stop, settings.attempts)
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, str, bool], urllib3.PoolManager] = {}
        self._live: WeakSet[HTTPConnection] = WeakSet()
        self._answered: set[Origin] = set()

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
        login: str | None,
        body: bytes | None = None,
    ) -> Reply:
        """As `stream`, with the whole answer."""
        with self.stream(method, url, headers=headers, login=login, body=body) as answer:
            return self.whole(*answer)

    def whole(self, head: Reply, pieces: Iterable[bytes]) -> Reply:
        """The answer with its body. Raises `settings.refused` for more than `BODY_LIMIT` bytes, Dropped.

        The text of an error answer may be lost with its connection; its status is still worth having.
        """
        kept = bytearray()
        try:
            for piece in pieces:
                kept += piece
                if len(kept) > BODY_LIMIT:
                    raise self.settings.refused(
                        f"{redacted(head.url)}: answers with more than {BODY_LIMIT} bytes"
                    )
        except Dropped:
            if head.status < 400:
                raise
        return replace(head, body=bytes(kept))

    @contextlib.contextmanager
    def stream(  # noqa: PLR0913 - a request has these parts; all by keyword
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        login: str | None = None,
        body: bytes | Iterable[bytes] | None = None,
        answer_timeout: float | None = None,
    ) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """One answer of any status, without its body, and the body in pieces while the block runs; no retry.

        A GET or HEAD goes along redirects. `login` is an Authorization for the origin of `url`, sent to no
        other. Raises Unreachable (nothing answers), Dropped (it did answer before), `settings.refused` for
        too many redirects, and for one to where it must not lead.
        """
        first = url_origin(url)
        is_movable = body is None and method in ("GET", "HEAD")
        wait = answer_timeout or self.settings.answer_timeout
        timeout = urllib3.Timeout(connect=self.settings.connect_timeout, read=wait)
        for _ in range(_MOST_REDIRECTS + 1):
            origin = url_origin(url)
            own = {**(headers or {}), **({"Authorization": login} if login and origin == first else {})}
            response = self._opened(origin, method, url, own, body=body, timeout=timeout)
            try:
                head, pieces = (
                    Reply(response.status, response.headers, b"", url),
                    self._pieces(origin, response),
                )
                location = head.headers.get("Location") if head.status in _REDIRECTS else None
                if not location or not is_movable:
                    yield head, pieces
                    return
                self.whole(head, pieces)
            finally:
                response.close()
            url = redirected(url, location, first, self.settings.refused)
        raise self.settings.refused(f"{first.address}: more than {_MOST_REDIRECTS} redirects")

    def _opened(
        self, origin: Origin, method: str, url: str, headers: Mapping[str, str], **options: Any
    ) -> urllib3.BaseHTTPResponse:
        pool, prefix, own = self._pool(origin)
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own = {"Accept-Encoding": "identity", "User-Agent": "mlpkg", **own, **headers}
        try:
            response = pool.urlopen(method, prefix + path, headers=own, **options, **_PLAINLY)
        except (HTTPError, OSError) as error:
            raise self._failure(origin, error) from error
        self._answered.add(origin)
        return response

    def _pieces(self, origin: Origin, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            while piece := response.read(PIECE):
                yield piece
        except (HTTPError, OSError) as error:
            raise self._failure(origin, error) from error

    def _failure(self, origin: Origin, error: Exception) -> Unreachable:
        where, hint, reason = origin.address, self.settings.hint, _reason(error)
        if isinstance(error, SSLError):
            return Unreachable(f"{where}: no TLS connection: {reason}", hint=self._tls_hint(error))
        if isinstance(error, NameResolutionError):
            return Unreachable(f"{where}: no such host", hint=f"check its name, and DNS; {hint}")
        if isinstance(error, ProxyError):
            proxy = redacted(self.settings.proxy_for(origin))
            return Unreachable(f"{where}: its proxy {proxy} does not answer: {reason}", hint=hint)
        if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
            # A service that never answered is not there; one that did is perhaps being started again.
            kind = Dropped if origin in self._answered else Unreachable
            return kind(f"{where}: the {self.settings.service} does not answer: {reason}", hint=hint)
        seconds = self.settings.progress_timeout
        hint = f"or no byte moved for {seconds:.0f} s; run the step again, it goes on where it can"
        return Dropped(f"{where}: the connection was lost: {reason}", hint=hint)

    def _tls_hint(self, error: BaseException) -> str:
        text = str(error).lower()
        if "wrong version number" in text or "record layer failure" in text or "http_request" in text:
            return f"it seems to speak plain http: allow that for this {self.settings.service}, or give it a certificate"
        return self.settings.ca_hint

    def _pool(self, origin: Origin) -> tuple[urllib3.HTTPConnectionPool, str, Mapping[str, str]]:
        """Connections for an origin, and what stands before the path and in the headers of what a proxy passes on."""
        proxy, insecure = self.settings.proxy_for(origin), self.settings.is_insecure(origin)
        with self._lock:
            key = origin.scheme, proxy, insecure
            if key not in self._managers:
                self._managers[key] = _manager(origin.scheme, proxy, self.settings, insecure=insecure)
            manager = self._managers[key]
        try:
            pool = manager.connection_from_host(origin.host, origin.port, origin.scheme)
        except LocationParseError as error:
            raise UsageError(f"not a host name: {origin.host!r}") from error
        if isinstance(pool, Pool):
            pool.live, pool.progress_timeout = self._live, self.settings.progress_timeout
        if isinstance(manager, urllib3.ProxyManager) and origin.scheme == "http":
            return pool, origin.url, manager.proxy_headers
        return pool, "", {}


def _manager(scheme: str, proxy: str, settings: HttpSettings, *, insecure: bool) -> urllib3.PoolManager:
    options: dict[str, Any] = {"num_pools": 16, "maxsize": 16}
    if scheme == "https":  # reading the machine's certificates takes 20 ms or more: only where needed
        context = options["ssl_context"] = tls_context(settings.ca_file)
        if insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    manager: urllib3.PoolManager
    try:
        if proxy:
            parts = urlsplit(proxy)
            if parts.scheme == "https":
                options["proxy_ssl_context"] = tls_context(settings.ca_file)
            login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            headers = urllib3.make_headers(proxy_basic_auth=login) if parts.username else {}
            manager = urllib3.ProxyManager(url_origin(proxy).url, proxy_headers=headers, **options)
        else:
            manager = urllib3.PoolManager(**options)
    except (UsageError, ValueError, HTTPError) as error:
        raise UsageError(
            f"the proxy that is named for the {settings.service} cannot be used",
            hint="it must be http://host:port or https://host:port",
        ) from error
    manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
    return manager


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
    return plain(str(error).rpartition("): ")[2])[:_ERROR_TEXT_LIMIT] or type(error).__name__


def plain(value: object) -> str:
    """A server's text fit for a message: no control characters. Empty for what is no text."""
    return "".join(c if c.isprintable() else " " for c in value).strip() if isinstance(value, str) else ""
