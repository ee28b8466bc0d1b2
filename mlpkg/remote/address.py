"""Addresses: where a registry answers, and where it may send us. No I/O."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from mlpkg.errors import RegistryError, UsageError

_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a registry answers: scheme, host (no brackets) and port, as in RFC 6454."""

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


def registry_origin(address: str, plain_http: bool | None = None) -> Origin:  # noqa: FBT001 - three-valued
    """The origin of a registry given as ``host[:port]``, or with ``http://`` or ``https://`` before it.

    Plain http is the default for loopback addresses only. Raises UsageError.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    if "@" in rest:
        raise UsageError(
            f"registry address {rest.rpartition('@')[2]!r} is written with a user name",
            hint="give credentials with `docker login`, not in the address",
        )
    rest = rest.rstrip("/")
    rest = _HUB.get(rest.lower(), rest)
    if scheme not in ("", "http", "https") or not rest or any(c in rest for c in "/?#\\ "):
        raise UsageError(f"not a registry address: {address!r}", hint="write host or host:port")
    host = url_origin(f"https://{rest}").host
    if plain_http is None:
        plain_http = scheme == "http" or (not scheme and is_loopback(host))
    elif scheme and plain_http != (scheme == "http"):
        raise UsageError(f"registry address {address!r} contradicts plain_http={plain_http}")
    return url_origin(f"{'http' if plain_http else 'https'}://{rest}")


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


def redacted(url: str) -> str:
    """A URL fit for a message: no user name, no query (upload sessions keep their state there)."""
    text, question, _ = url.partition("?")
    scheme, separator, rest = text.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        text = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return text + ("?…" if question else "")


def next_url(asked: str, location: str, registry: Origin) -> str:
    """The absolute form of a Location or Link in the answer to URL `asked`, checked before anything is sent there.

    Refuses schemes other than http(s), a step down from https, and a way into this machine or its link-local
    network from a registry that lies elsewhere (a registry must not make its clients attack their own hosts).
    """
    target = urljoin(asked, location)
    try:
        origin = url_origin(target)
    except UsageError as error:
        raise RegistryError(f"{registry.address}: sends us to {redacted(target)!r}") from error
    if origin.scheme == "http" and registry.scheme == "https":
        if origin.host != registry.host:
            raise RegistryError(f"{registry.address}: sends us from https to {redacted(target)}")
        # A proxy that ends TLS without telling the registry: its Location says http for the same host.
        parts = urlsplit(target)
        return registry.url + parts.path + (f"?{parts.query}" if parts.query else "")
    if not is_loopback(registry.host) and _is_inner(origin.host):
        raise RegistryError(f"{registry.address}: sends us to an inner address, {redacted(target)}")
    return target


def _is_inner(host: str) -> bool:
    if is_loopback(host):
        return True
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return address.is_link_local or address.is_unspecified
    return False
