"""Files of a Debian mirror, streamed over HTTP(S) or from a local folder, with limits.

Nothing here knows what a file means. Whoever asks for a file names its digest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from mlpkg.debian.mirror import Mirrors
from mlpkg.digest import Digest, verified
from mlpkg.errors import DigestMismatch, LockError, Unreachable
from mlpkg.http.address import basic_login
from mlpkg.http.retry import Overloaded
from mlpkg.http.settings import HttpSettings
from mlpkg.store.blobs import Blobs
from mlpkg.store.files import read_pieces

if TYPE_CHECKING:
    from mlpkg.http.transport import Reply

_ABSENT = (403, 404, 410)
"""What mirrors answer for a file they do not have; some object stores say 403."""


class Absent(LockError):
    """The mirror does not have the file."""


def http_settings(mirrors: Mirrors) -> HttpSettings:
    """How mirrors are asked."""
    return HttpSettings(
        service="mirror",
        hint="check the network and the proxy, or set [debian] mirror in mlpkg.toml",
        ca_hint="name its CA with SSL_CERT_FILE",
        refused=Unreachable,
        proxies=mirrors.proxies,
    )


class MirrorFiles:
    """Connections to the mirrors, kept open between files. Safe to use from several threads."""

    def __init__(self, mirrors: Mirrors) -> None:
        from mlpkg.http.transport import Transport  # noqa: PLC0415 - loads urllib3

        self._mirrors = mirrors
        self._transport = Transport(http_settings(mirrors))

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def read(self, base: str, path: str, *, limit: int) -> bytes:
        """A small file's bytes. Raises Absent, Unreachable, and DigestMismatch when it is longer than `limit`."""
        return self._transport.backoff.run(lambda: b"".join(self._pieces(base, path, limit)))

    def save(self, base: str, path: str, digest: Digest, size: int, blobs: Blobs) -> None:
        """Put a file of known digest and size (bytes) into a cache, whole or not at all.

        Raises Absent, Unreachable, DigestMismatch when the mirror has other bytes there, MlpkgError when it
        cannot be written.
        """
        hint = "the mirror may be in the middle of an update: try again, or use another mirror"

        def attempt() -> None:
            with contextlib.closing(self._pieces(base, path, size)) as pieces:
                blobs.write(verified(pieces, digest, size, name=f"{base}/{path}", hint=hint))

        self._transport.backoff.run(attempt)

    def _pieces(self, base: str, path: str, limit: int) -> Generator[bytes, None, None]:
        left = limit
        with self._opened(base, path) as pieces:
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise DigestMismatch(f"{base}/{path}: longer than {limit} bytes")
                yield piece

    @contextlib.contextmanager
    def _opened(self, base: str, path: str) -> Iterator[Iterator[bytes]]:
        if base.startswith("file:"):
            yield _local(base, path)
            return
        parts = urlsplit(base)
        logins = (login for login in self._mirrors.logins if login.host in (parts.netloc, parts.hostname))
        login = next((basic_login(login.user, login.password) for login in logins), None)
        url = f"{base}/{quote(path, safe='/+:~=')}"
        with self._transport.stream("GET", url, login=login) as (head, pieces):
            _check_status(head, f"{base}/{path}")
            yield pieces


def _local(base: str, path: str) -> Iterator[bytes]:
    try:
        yield from read_pieces(Path(unquote(urlsplit(base).path)) / path)
    except FileNotFoundError as error:
        raise Absent(f"{base}/{path}: no such file") from error
    except OSError as error:
        raise Unreachable(f"{base}/{path}: cannot be read: {error.strerror}") from error


def _check_status(head: Reply, address: str) -> None:
    if head.status in _ABSENT:
        raise Absent(f"{address}: the mirror does not have it (HTTP {head.status})")
    if head.status != 200:
        refuses = head.status in (401, 407)
        hint = "put the login into apt's auth.conf, or into the mirror's address" if refuses else ""
        message = f"{address}: the mirror answered HTTP {head.status}"
        raise head.failure(message, Unreachable, Overloaded, hint=hint)
