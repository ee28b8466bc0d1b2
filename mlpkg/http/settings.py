"""How a service is asked: certificates, proxies, time-outs, tries, and the words for its failures."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlpkg.errors import MlpkgError
from mlpkg.http.address import Origin, is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """What is the same for all requests to one kind of service. Time-outs are seconds.

    `service` and the hints are words of messages; `refused` is raised for an answer that cannot be used.
    `proxies` maps a scheme, or ``scheme::host`` (also for what is below that host, or a network), to a
    proxy's address or ``DIRECT``. `insecure_hosts` (``host``, ``host:port``, ``*``) need no valid certificate.
    """

    service: str
    hint: str
    ca_hint: str
    refused: type[MlpkgError]
    ca_file: Path | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_loopback_proxied: bool = True
    insecure_hosts: tuple[str, ...] = ()
    connect_timeout: float = 10.0
    """Until a connection must stand."""
    answer_timeout: float = 60.0
    """Without a byte of the answer."""
    progress_timeout: float = 60.0
    """In which at least one byte of a body must leave."""
    attempts: int = 5
    """Tries of one step, the first included."""

    def is_insecure(self, origin: Origin) -> bool:
        """Whether the user has said that this host's certificate proves nothing."""
        named = {re.sub(r"\A[a-z]+://", "", host.lower()).rstrip("/") for host in self.insecure_hosts}
        return not named.isdisjoint((origin.host, f"{origin.host}:{origin.port}", origin.address, "*"))

    def proxy_for(self, origin: Origin) -> str:
        """The proxy's URL, or nothing. The most exact host wins, then the scheme's own."""
        if is_loopback(origin.host) and not self.is_loopback_proxied:
            return ""
        keys = (*(f"{origin.scheme}::{name}" for name in self._names(origin)), origin.scheme)
        proxy = next((self.proxies[key] for key in keys if key in self.proxies), "")
        if not proxy or proxy.lower() in ("direct", "false"):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"

    def _names(self, origin: Origin) -> Iterator[str]:
        """What an entry for this origin may be called, from the most exact to the least."""
        yield f"{origin.host}:{origin.port}"
        labels = origin.host.split(".")
        yield from (".".join(labels[depth:]) for depth in range(len(labels) + 1))
        with suppress(ValueError):
            address = ipaddress.ip_address(origin.host)
            for name in (key.partition("::")[2] for key in self.proxies if "/" in key):
                with suppress(ValueError):
                    if address in ipaddress.ip_network(name, strict=False):
                        yield name


def environment_proxies(
    environment: Mapping[str, str], variables: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """`HttpSettings.proxies` as the environment names them; `variables` are those to read by scheme, the first wins.

    NO_PROXY holds hosts (with all below them), networks, or ``*``, with commas between.
    """
    proxies: dict[str, str] = {}
    excepted = re.split(r"[,\s]+", environment.get("no_proxy") or environment.get("NO_PROXY") or "")
    for scheme, names in variables.items():
        if value := next((found for name in names if (found := environment.get(name))), ""):
            proxies[scheme] = value
        proxies.update({f"{scheme}::{host.lstrip('.*').lower()}": "DIRECT" for host in excepted if host})
    return proxies
