"""The size of a wheel that its index does not state (PEP 503 pages and folders have no sizes)."""

from __future__ import annotations

import base64
import netrc
import os
import ssl
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from mlpkg.errors import LockError, Unreachable
from mlpkg.wheels.sources import WheelSources, credentials_for

_TIMEOUT = 30.0
_PIECE = 1 << 20


def wheel_size(url: str, sources: WheelSources) -> int:
    """Bytes of the wheel at an address, or a ``file:`` address, without reading it where that can be.

    Raises LockError when it cannot be learned, Unreachable when the server does not answer.
    """
    parts = urlsplit(url)
    filename = parts.path.rsplit("/", 1)[-1]
    if parts.scheme in ("", "file"):
        try:
            return Path(url2pathname(parts.path)).stat().st_size
        except OSError as error:
            raise LockError(f"{filename}: cannot be read: {error.strerror}") from error
    if parts.scheme not in ("http", "https"):
        raise LockError(
            f"{filename}: lies at an address of the kind {parts.scheme!r}, which is not supported"
        )
    stated = _asked(url, filename, sources, "HEAD")
    return stated if stated is not None else _asked(url, filename, sources, "GET") or 0


def _asked(url: str, filename: str, sources: WheelSources, method: str) -> int | None:
    request = Request(url, method=method)  # noqa: S310 (the scheme was checked)
    if pair := credentials_for(url, sources) or _netrc(url):
        token = base64.b64encode(f"{pair[0]}:{pair[1]}".encode()).decode()
        # Not sent on to another host when the server redirects.
        request.add_unredirected_header("Authorization", f"Basic {token}")
    try:
        with urlopen(request, timeout=_TIMEOUT, context=_context(sources)) as answer:  # noqa: S310
            if method == "GET":
                return sum(len(piece) for piece in iter(lambda: answer.read(_PIECE), b""))
            stated = answer.headers.get("Content-Length", "")
            return int(stated) if stated.isdecimal() else None
    except HTTPError as error:
        error.close()
        if method == "HEAD" and error.code in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
            return None
        raise LockError(
            f"{filename}: the package index answers {error.code} when asked for its size"
        ) from error
    except (URLError, OSError) as error:
        raise Unreachable(
            f"{filename}: the package index cannot be reached",
            hint="check the network, or set index under [python] in mlpkg.toml",
        ) from error


def _context(sources: WheelSources) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=sources.ca_file or os.environ.get("SSL_CERT_FILE"))


def _netrc(url: str) -> tuple[str, str] | None:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(path).authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return (found[0], found[2]) if found else None
