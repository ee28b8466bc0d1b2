"""Files of a Debian mirror, streamed over HTTP(S) or from a local folder, with limits.

Nothing here knows what a file means. Whoever asks for a file checks its digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

from mlpkg.debian.mirror import Mirrors
from mlpkg.digest import Digest
from mlpkg.errors import DigestMismatch, LockError, MlpkgError, Unreachable

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")

CHUNK = 1 << 20
ATTEMPTS = 3
"""Times that one file is asked for; a body that breaks off is asked for again from its start."""

_ABSENT = (403, 404, 410)
"""What mirrors answer for a file they do not have; some object stores say 403."""


class Absent(LockError):
    """The mirror does not have the file."""


class _BrokenOff(Unreachable):
    """The connection ended before the file did."""


class Session:
    """Connections to the mirrors, kept open between files. Safe to use from several threads."""

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors
        self._pools: dict[str, urllib3.PoolManager] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools.values():
            pool.clear()

    def read(self, base: str, path: str, *, limit: int) -> bytes:
        """A small file's bytes. Raises Absent, Unreachable, and DigestMismatch when it is longer than `limit`."""
        return _again(lambda: b"".join(self._pieces(base, path, limit)))

    def save(self, base: str, path: str, *, size: int, digest: Digest, target: Path) -> None:
        """Put a file of known size and digest at `target`, whole or not at all.

        Raises Absent, Unreachable, and DigestMismatch when the mirror has other bytes there.
        """

        def attempt() -> None:
            with _replacing(target) as write:
                state, count = hashlib.sha256(), 0
                for piece in self._pieces(base, path, size):
                    state.update(piece)
                    count += len(piece)
                    write(piece)
                found = "sha256:" + state.hexdigest()
                if (count, found) != (size, digest):
                    raise DigestMismatch(
                        f"{_address(base, path)}: {count} bytes with {found}, not the {size} bytes with {digest} that were named",
                        hint="the mirror may be in the middle of an update: try again, or use another mirror",
                    )

        _again(attempt)

    def _pieces(self, base: str, path: str, limit: int) -> Generator[bytes, None, None]:
        pieces = self._local(base, path) if base.startswith("file:") else self._remote(base, path)
        left = limit
        with contextlib.closing(pieces):
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise DigestMismatch(f"{_address(base, path)}: longer than {limit} bytes")
                yield piece

    def _local(self, base: str, path: str) -> Generator[bytes, None, None]:
        file = Path(unquote(urlsplit(base).path)) / path
        try:
            with file.open("rb") as stream:
                while piece := stream.read(CHUNK):
                    yield piece
        except FileNotFoundError as error:
            raise Absent(f"{_address(base, path)}: no such file") from error
        except OSError as error:
            raise Unreachable(f"{_address(base, path)}: cannot be read: {error.strerror}") from error

    def _remote(self, base: str, path: str) -> Generator[bytes, None, None]:
        import urllib3  # noqa: PLC0415

        address = _address(base, path)
        try:
            response = self._pool(base).request(
                "GET",
                f"{base}/{quote(path, safe='/+:~=')}",
                headers=self._headers(base),
                preload_content=False,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(
                f"{address}: the mirror does not answer ({_cause(error)})",
                hint="check the network and the proxy, or set [debian] mirror in mlpkg.toml",
            ) from error
        try:
            _check_status(response.status, address)
            while piece := response.read(CHUNK):
                yield piece
        except urllib3.exceptions.HTTPError as error:
            raise _BrokenOff(f"{address}: the connection broke off ({_cause(error)})") from error
        finally:
            # A body that was not read to its end cannot be followed by another on the same connection.
            response.close()
            response.release_conn()

    def _headers(self, base: str) -> dict[str, str]:
        import urllib3  # noqa: PLC0415

        parts = urlsplit(base)
        headers = {"Accept-Encoding": "identity", "User-Agent": "mlpkg"}
        for login in self._mirrors.logins:
            if login.host in (parts.netloc, parts.hostname):
                headers |= urllib3.make_headers(basic_auth=f"{login.user}:{login.password}")
                break
        return headers

    def _pool(self, base: str) -> urllib3.PoolManager:
        import urllib3  # noqa: PLC0415

        proxy = proxy_for(self._mirrors, base)
        if proxy not in self._pools:
            options: dict[str, Any] = {
                "retries": urllib3.Retry(
                    total=4,
                    connect=2,
                    redirect=5,
                    backoff_factor=0.2,
                    status_forcelist=(429, 500, 502, 503, 504),
                    raise_on_status=False,
                ),
                "timeout": urllib3.Timeout(connect=10, read=60),
                "maxsize": 8,
            }
            self._pools[proxy] = _proxied(proxy, options) if proxy else urllib3.PoolManager(**options)
        return self._pools[proxy]


def _proxied(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    import urllib3  # noqa: PLC0415

    try:
        parts = urlsplit(proxy)
        headers = {}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers = urllib3.make_headers(proxy_basic_auth=login)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return urllib3.ProxyManager(address, proxy_headers=headers, **options)
    except (ValueError, urllib3.exceptions.HTTPError) as error:
        raise LockError(
            "the proxy that apt or the environment names for Debian mirrors cannot be used",
            hint="it must be http://host:port or https://host:port",
        ) from error


def proxy_for(mirrors: Mirrors, base: str) -> str:
    """The proxy for an address, empty for none. The most exact host wins, then the scheme's own."""
    parts = urlsplit(base)
    labels = (parts.hostname or "").split(".")
    suffixes = [".".join(labels[depth:]) for depth in range(len(labels) + 1)]
    keys = [*(f"{parts.scheme}::{suffix}" for suffix in suffixes), parts.scheme]
    value = next((mirrors.proxies[key] for key in keys if key in mirrors.proxies), "")
    return "" if value.lower() in ("direct", "false") else value


def _again(attempt: Callable[[], T]) -> T:
    for number in range(1, ATTEMPTS):
        try:
            return attempt()
        except _BrokenOff:
            time.sleep(0.3 * number)
    return attempt()


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Callable[[bytes], object]]:
    """Write a file beside `target` and put it there at the end: readers see all of it or nothing."""
    import tempfile  # noqa: PLC0415

    name: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, text = tempfile.mkstemp(dir=target.parent, prefix=".incoming-")
        name = Path(text)
        with os.fdopen(handle, "wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        name.chmod(0o644)
        name.replace(target)
    except OSError as error:
        raise MlpkgError(
            f"{target.parent}: cannot be written: {error.strerror}",
            hint="check the permissions and the free space of the cache",
        ) from error
    finally:
        if name is not None:
            name.unlink(missing_ok=True)


def _check_status(status: int, address: str) -> None:
    if status in _ABSENT:
        raise Absent(f"{address}: the mirror does not have it (HTTP {status})")
    if status != 200:
        hint = (
            "put the login into apt's auth.conf, or into the mirror's address" if status in (401, 407) else ""
        )
        raise Unreachable(f"{address}: the mirror answered HTTP {status}", hint=hint)


def _address(base: str, path: str) -> str:
    return f"{base}/{path}"


def _cause(error: BaseException) -> str:
    """The innermost reason's class: urllib3's texts repeat the address, with the proxy's password if it has one."""
    while isinstance(reason := getattr(error, "reason", None), BaseException):
        error = reason
    return type(error).__name__
