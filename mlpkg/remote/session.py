"""Requests to one registry: with credentials where they belong, redirects followed, failures repeated."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlpkg.errors import MlpkgError, RegistryError
from mlpkg.http.address import Origin, url_origin
from mlpkg.http.settings import HttpSettings, environment_proxies
from mlpkg.http.transport import Reply, Transport
from mlpkg.remote.auth import Authorizer
from mlpkg.remote.credentials import Credentials
from mlpkg.remote.refusal import BusyRegistry, refusal

SETTINGS = HttpSettings(
    service="registry",
    hint="is the registry running there?",
    ca_hint="name its CA with SSL_CERT_FILE or the ca_file setting",
    refused=RegistryError,
    is_loopback_proxied=False,
)

_PROXIES = {"https": ("https_proxy", "HTTPS_PROXY")}
"""Never one for plain http, whose requests a forwarding proxy could read."""

Body = Callable[[], bytes | Iterable[bytes]]
"""Gives the whole body again at each call: a request refused with 401 is sent a second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: which answers are wanted, and which token scopes it needs (seconds for the time-out)."""

    method: str
    url: str
    expect: tuple[int, ...]
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    answer_timeout: float | None = None


def pull_scope(repository: str) -> str:
    """The token scope for reading (distribution "Token Scope Documentation")."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """The token scope for writing."""
    return f"repository:{repository}:pull,push"


def _grant_of(used: str, scopes: tuple[str, ...]) -> tuple[str, ...]:
    """What an Authorization value stands for: a password for all scopes, a token for its own."""
    return ("Basic",) if used.startswith("Basic ") else scopes


def _once_more(reply: Reply, method: str) -> MlpkgError:
    """The error for a 401 to credentials that were good before.

    A token ran out once more while a long upload was sent, or the registry was just being started again.
    """
    error = refusal(reply, method)
    return BusyRegistry(error.message, hint=error.hint, status=reply.status)


class Session:
    """One registry, for any number of threads. A resource."""

    def __init__(self, registry: Origin, credentials: Credentials | None, ca_file: Path | None) -> None:
        self.registry = registry
        proxies = environment_proxies(os.environ, _PROXIES)
        self.transport = Transport(replace(SETTINGS, ca_file=ca_file, proxies=proxies))
        self.backoff = self.transport.backoff
        self._authorizer = Authorizer(self.transport, registry, credentials)
        self._let_in: set[tuple[str, ...]] = set()
        """With what a request that named us was answered: a 401 to that may pass by itself."""

    def url(self, path: str) -> str:
        """The URL of ``/v2/`` plus `path`."""
        return f"{self.registry.url}/v2/{path}"

    def call(self, request: Request) -> Reply:
        """One request that must be answered with a status it expects; not repeated when it fails.

        Raises RegistryError (Busy when it may pass), Unreachable (Dropped when it may pass).
        """
        with self.stream(request) as answer:
            return self.transport.whole(*answer)

    def ask(self, request: Request) -> Reply:
        """As `call`, and repeated: for requests that may be sent twice."""
        return self.backoff.run(lambda: self.call(request))

    @contextlib.contextmanager
    def stream(self, request: Request) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """As `call`, but the answer's body comes in pieces while the block runs."""
        is_ours = url_origin(request.url) == self.registry
        for is_renewed in (False, True):
            used = self._authorizer.authorization(request.scopes) if is_ours else None
            with self.transport.stream(
                request.method,
                request.url,
                headers=request.headers,
                login=used,
                body=request.body() if request.body else None,
                answer_timeout=request.answer_timeout,
            ) as (head, pieces):
                if head.status in request.expect:
                    if used:
                        self._let_in.add(_grant_of(used, request.scopes))
                    yield head, pieces
                    return
                reply = self.transport.whole(head, pieces)
            is_refused = reply.status == 401 and url_origin(reply.url) == self.registry
            if is_refused and not is_renewed and self._authorizer.renew(reply, request.scopes, used):
                continue
            if is_refused and used and _grant_of(used, request.scopes) in self._let_in:
                raise _once_more(reply, request.method)
            raise refusal(reply, request.method)
