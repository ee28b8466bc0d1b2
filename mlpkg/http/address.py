"""Addresses: origins, where a server may send us, and what of an address may be shown. No I/O."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from mlpkg.errors import MlpkgError, UsageError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a server answers: scheme, host (no brackets) and port, as in RFC 6454."""

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """``host[:port]`` as a user writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """``scheme://host[:port]``."""
        return f"{self.scheme}://{self.address}"

    @property
    def is_private_to_us(self) -> bool:
        """Whether nobody else can listen on the way: TLS, or this machine's loopback."""
        return self.scheme == "https" or is_loopback(self.host)


_DEFAULT_PORT = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether a host name or literal address means this machine (RFC 6761 for localhost)."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


def url_origin(url: str) -> Origin:
    """The origin of an absolute URL. Raises UsageError when it has none."""
    try:
        # urlsplit drops control characters and http.client fails at others: none may come that far.
        parts = urlsplit(url if url.isascii() and url.isprintable() and " " not in url else "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in _DEFAULT_PORT or not host:
        raise UsageError(f"not an http(s) address: {redacted(url)!r}")
    return Origin(parts.scheme, host.lower(), port or _DEFAULT_PORT[parts.scheme])


def basic_login(username: str, password: str) -> str:
    """The value of an Authorization header (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def redacted(url: str) -> str:
    """A URL fit for a message: no user name, no query (upload sessions keep their state there)."""
    text, question, _ = url.partition("?")
    scheme, separator, rest = text.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        text = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return text + ("?…" if question else "")


def redirected(asked: str, location: str, first: Origin, refused: type[MlpkgError]) -> str:
    """The absolute form of a Location or Link in the answer to URL `asked`, checked before anything is sent there.

    Raises `refused` for schemes other than http(s), a step down from https, and a way into this machine or its
    link-local network from a server that lies elsewhere (a server must not make its clients attack their own
    hosts). `first` is the origin that the user named.
    """
    try:
        target = urljoin(asked, location)
        origin = url_origin(target)
    except (UsageError, ValueError) as error:
        raise refused(f"{first.address}: sends us to {redacted(location)!r}") from error
    if origin.scheme == "http" and first.scheme == "https":
        if origin.host != first.host:
            raise refused(f"{first.address}: sends us from https to {redacted(target)}")
        # A proxy that ends TLS without telling the server: its Location says http for the same host.
        parts = urlsplit(target)
        return first.url + parts.path + (f"?{parts.query}" if parts.query else "")
    if not is_loopback(first.host) and _is_inner(origin.host):
        raise refused(f"{first.address}: sends us to an inner address, {redacted(target)}")
    return target


def _is_inner(host: str) -> bool:
    if is_loopback(host):
        return True
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return address.is_link_local or address.is_unspecified
    return False
