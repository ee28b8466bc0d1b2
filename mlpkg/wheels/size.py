"""The size of a wheel that its index does not state (PEP 503 pages and folders have no sizes)."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlpkg.errors import LockError
from mlpkg.http.address import basic_login
from mlpkg.http.retry import Overloaded
from mlpkg.http.settings import HttpSettings, environment_proxies
from mlpkg.http.transport import Reply, Transport
from mlpkg.wheels.sources import WheelSources, credentials_for

LIMIT = 16 << 30
"""Bytes that are read at most where a server tells no size in advance."""

_PROXIES = {
    "http": ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"),
    "https": ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
}
"""Those that uv reads: it fetches the wheels, and what asks for their size goes the same way."""


def http_settings(sources: WheelSources) -> HttpSettings:
    """How package indexes are asked: as uv asks them."""
    return HttpSettings(
        service="package index",
        hint="check the network, or set index under [python] in mlpkg.toml",
        ca_hint="name your authority's certificates as ca_file under [python] in mlpkg.toml",
        refused=LockError,
        ca_file=Path(sources.ca_file) if sources.ca_file else None,
        proxies=environment_proxies(os.environ, _PROXIES),
        insecure_hosts=sources.insecure_hosts or tuple(os.environ.get("UV_INSECURE_HOST", "").split()),
    )


@contextmanager
def wheel_sizes(sources: WheelSources) -> Iterator[Callable[[str], int]]:
    """While the block runs: `wheel_size`, with connections that are kept between the wheels."""
    with closing(Transport(http_settings(sources))) as transport:
        yield lambda url: wheel_size(url, sources, transport)


def wheel_size(url: str, sources: WheelSources, transport: Transport) -> int:
    """Bytes of the wheel at an address, or a ``file:`` address, without reading it where that can be.

    Raises LockError when the size cannot be learned, Unreachable when the server does not answer.
    """
    parts = urlsplit(url)
    filename = parts.path.rsplit("/", 1)[-1]
    if parts.scheme in ("", "file"):
        try:
            return Path(url2pathname(parts.path)).stat().st_size
        except OSError as error:
            raise LockError(f"{filename}: cannot be read: {error.strerror}") from error
    pair = credentials_for(url, sources) or _netrc(url)
    login = basic_login(*pair) if pair else None

    def step() -> int:
        with transport.stream("HEAD", url, login=login) as (head, _):
            if size := _stated(head):
                return size
        # Not every server knows HEAD, or the length of what it sends.
        with transport.stream("GET", url, headers={"Range": "bytes=0-0"}, login=login) as (head, pieces):
            return _stated(head) or _counted(head, pieces, filename)

    return transport.backoff.run(step)


def _stated(head: Reply) -> int:
    """The whole length in bytes that an answer's header tells (RFC 9110, 8.6 and 14.4); 0 for none."""
    name = {200: "Content-Length", 206: "Content-Range"}.get(head.status, "")
    found = re.fullmatch(r"(?:bytes 0-0/)?([0-9]{1,18})", head.headers.get(name, ""))
    return int(found[1]) if found else 0


def _counted(head: Reply, pieces: Iterator[bytes], filename: str) -> int:
    if head.status != 200:
        message = f"{filename}: the package index answers {head.status} when asked for its size"
        raise head.failure(message, LockError, Overloaded)
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > LIMIT:
            raise LockError(f"{filename}: has more than {LIMIT} bytes")
    return size


def _netrc(url: str) -> tuple[str, str] | None:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(path).authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return (found[0], found[2]) if found else None
