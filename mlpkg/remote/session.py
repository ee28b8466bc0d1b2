"""Requests to one registry: with credentials where they belong, redirects followed, failures repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlpkg.errors import RegistryError
from mlpkg.remote.address import Origin, next_url, url_origin
from mlpkg.remote.auth import Authorizer
from mlpkg.remote.credentials import Credentials
from mlpkg.remote.retry import Backoff, Busy
from mlpkg.remote.transport import ANSWER_TIMEOUT, Reply, Transport, refusal, whole

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

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
    answer_timeout: float = ANSWER_TIMEOUT


def pull_scope(repository: str) -> str:
    """The token scope for reading (distribution "Token Scope Documentation")."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """The token scope for writing."""
    return f"repository:{repository}:pull,push"


def _grant_of(used: str, scopes: tuple[str, ...]) -> tuple[str, ...]:
    """What an Authorization value stands for: a password for all scopes, a token for its own."""
    return ("Basic",) if used.startswith("Basic ") else scopes


def _once_more(reply: Reply, method: str) -> Busy:
    """The error for a 401 to credentials that were good before.

    A token ran out once more while a long upload was sent, or the registry was just being started again.
    """
    error = refusal(reply, method)
    return Busy(error.message, hint=error.hint, status=error.status, code=error.code)


class Session:
    """One registry, for any number of threads. A resource."""

    def __init__(self, registry: Origin, credentials: Credentials | None, ca_file: Path | None) -> None:
        self.registry = registry
        self.transport = Transport(ca_file)
        self.backoff = Backoff(self.transport.stop)
        self._authorizer = Authorizer(self.transport, registry, credentials)
        self._let_in: set[tuple[str, ...]] = set()
        """With what a request that named us was answered: a 401 to that may pass by itself."""

    def close(self) -> None:
        """Close idle connections."""
        self.transport.close()

    def url(self, path: str) -> str:
        """The URL of ``/v2/`` plus `path`."""
        return f"{self.registry.url}/v2/{path}"

    def call(self, request: Request) -> Reply:
        """One request that must be answered with a status it expects; not repeated when it fails.

        Raises RegistryError (Busy when it may pass), Unreachable (Dropped when it may pass).
        """
        with self.stream(request) as answer:
            return whole(*answer)

    def ask(self, request: Request) -> Reply:
        """As `call`, and repeated: for requests that may be sent twice."""
        return self.backoff.run(lambda: self.call(request))

    @contextlib.contextmanager
    def stream(self, request: Request) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """As `call`, but the answer's body comes in pieces while the block runs."""
        method, url, scopes, body = request.method, request.url, request.scopes, request.body
        is_renewed = False
        redirects = 0
        while True:
            is_ours = url_origin(url) == self.registry
            used = self._authorizer.authorization(scopes) if is_ours else None
            headers = {**request.headers, **({"Authorization": used} if used else {})}
            with self.transport.stream(
                method,
                url,
                headers=headers,
                body=body() if body else None,
                answer_timeout=request.answer_timeout,
            ) as (head, pieces):
                if head.status in request.expect:
                    if used:
                        self._let_in.add(_grant_of(used, scopes))
                    yield head, pieces
                    return
                reply = whole(head, pieces)
            if reply.status == 401 and is_ours and not is_renewed:
                is_renewed = True
                if self._authorizer.renew(reply, scopes, used):
                    continue
            if reply.status == 401 and is_ours and used and _grant_of(used, scopes) in self._let_in:
                raise _once_more(reply, method)
            location = reply.headers.get("Location")
            if reply.status in _REDIRECTS and location and body is None and method in ("GET", "HEAD"):
                redirects += 1
                if redirects > _MOST_REDIRECTS:
                    raise RegistryError(f"{self.registry.address}: more than {_MOST_REDIRECTS} redirects")
                url = next_url(url, location, self.registry)
                continue
            raise refusal(reply, method)
