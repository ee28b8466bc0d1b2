"""Addresses of registries. No I/O."""

from __future__ import annotations

from mlpkg.errors import RegistryError, UsageError
from mlpkg.http.address import Origin, is_loopback, redirected, url_origin

_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


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


def next_url(asked: str, location: str, registry: Origin) -> str:
    """Where a registry's Location or Link leads. Raises RegistryError for where it must not lead."""
    return redirected(asked, location, registry, RegistryError)
