"""Who we are, for one registry: Basic (RFC 7617) and Bearer tokens (distribution "Token Authentication").

Nothing is sent before the registry asks for it, nothing over plain http but to this machine, and nothing to
another host than the registry and the token service it names over https.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from mlpkg.errors import RegistryError, UsageError
from mlpkg.http.address import Origin, is_loopback, redacted, url_origin
from mlpkg.http.transport import Reply, Transport
from mlpkg.remote.credentials import Credentials, find_credentials
from mlpkg.remote.refusal import refusal

__all__ = ["Authorizer", "Challenge", "Credentials", "find_credentials", "parse_challenges"]

_SHORTEST_LIFE = 60.0
"""Seconds a token lives when the service does not say (distribution, "Token Response Fields")."""

_MARGIN = 10.0
"""Seconds before its end at which a token is no longer used."""

_LONGEST_TOKEN = 64 << 10

_PART = re.compile(
    r"""\s*,?\s*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)
        (?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+)))?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a WWW-Authenticate header: scheme in lower case, parameters by lower-case name."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header (RFC 9110, 11.6.1). What cannot be read ends the list."""
    challenges: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _PART.match(header, position):
        position = match.end()
        value = match["plain"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
        if value is None:
            challenges.append((match["name"].lower(), {}))
        elif challenges:
            challenges[-1][1].setdefault(match["name"].lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in challenges]


@dataclass(frozen=True, slots=True)
class _Grant:
    """An Authorization value and until when (monotonic seconds) it may be used."""

    value: str
    until: float = float("inf")


class Authorizer:
    """Authorization values for one registry, by scope; safe for threads, which share each renewal."""

    def __init__(self, transport: Transport, registry: Origin, credentials: Credentials | None) -> None:
        self._transport = transport
        self._registry = registry
        self._given = credentials
        self._lock = threading.Lock()
        self._grants: dict[tuple[str, ...], _Grant] = {}
        self._basic: _Grant | None = None
        self._bearer: Challenge | None = None

    def authorization(self, scopes: tuple[str, ...]) -> str | None:
        """The value to send now, or None when the registry has not asked yet.

        A token near its end is renewed first: a long upload must not start with it.
        """
        with self._lock:
            if self._basic:
                return self._basic.value
            grant = self._grants.get(scopes)
            if grant and grant.until > time.monotonic():
                return grant.value
            if self._bearer is None:
                return None
            return self._take(self._bearer, scopes).value

    def renew(self, refused: Reply, scopes: tuple[str, ...], used: str | None) -> str | None:
        """A new value after a 401 to a request that carried `used`; None when there is nothing better.

        Raises RegistryError for a challenge that cannot or must not be answered, Unreachable for a token
        service that does not answer, UsageError for credentials that cannot be read.
        """
        challenges = {
            c.scheme: c for c in reversed(parse_challenges(refused.headers.get("WWW-Authenticate", "")))
        }
        with self._lock:
            current = self._basic or self._grants.get(scopes)
            if current and current.value != used and current.until > time.monotonic():
                return current.value  # another thread was faster
            if bearer := challenges.get("bearer"):
                self._bearer = bearer
                return self._take(bearer, scopes).value
            credentials = self._credentials() if "basic" in challenges else None
            if credentials is None or credentials.basic() == used:
                return None
            self._basic = _Grant(credentials.basic())
            return self._basic.value

    def _credentials(self) -> Credentials | None:
        if self._given is None:
            self._given = find_credentials(self._registry.address)
        if self._given is not None and not self._registry.is_private_to_us:
            raise RegistryError(
                f"{self._registry.address}: credentials are not sent over plain http",
                hint="give the registry a certificate, or let it serve without credentials",
                status=401,
            )
        return self._given

    def _take(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Grant:
        realm = self._realm(challenge)
        credentials = self._credentials()
        wanted = scopes or tuple(filter(None, [challenge.parameters.get("scope", "")]))
        query = [
            ("service", challenge.parameters.get("service", "")),
            *(("scope", scope) for scope in wanted),
        ]
        query = [(name, value) for name, value in query if value]
        if credentials and credentials.identity_token:
            reply = self._exchange_identity(realm, credentials.identity_token, query)
        else:
            login = credentials.basic() if credentials else None
            url = realm + ("&" if "?" in realm else "?") + urlencode(query) if query else realm
            reply = self._transport.request("GET", url, headers={}, login=login)
        if reply.status != 200:
            raise refusal(reply, "token for " + (" ".join(wanted) or "nothing in particular") + " from")
        grant = _grant(reply)
        self._grants[scopes] = grant
        return grant

    def _exchange_identity(self, realm: str, token: str, query: list[tuple[str, str]]) -> Reply:
        """OAuth 2 with a refresh token (distribution, "OAuth2 Token Authentication")."""
        scope = " ".join(value for name, value in query if name == "scope")
        service = "".join(value for name, value in query if name == "service")
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "mlpkg"}
        body = urlencode({**form, "service": service, "scope": scope}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._transport.request("POST", realm, headers=headers, login=None, body=body)

    def _realm(self, challenge: Challenge) -> str:
        """The token service's URL: https, or http on this machine for a registry on this machine."""
        realm = challenge.parameters.get("realm", "")
        try:
            origin = url_origin(realm)
        except UsageError as error:
            raise RegistryError(
                f"{self._registry.address}: asks for a token from nowhere: {redacted(realm)!r}"
            ) from error
        is_local = is_loopback(origin.host)
        if (
            "@" in realm.partition("?")[0]
            or not origin.is_private_to_us
            or (is_local and not is_loopback(self._registry.host))
        ):
            raise RegistryError(
                f"{self._registry.address}: asks to send credentials to {redacted(realm)}, which is not safe",
                hint="its token service must be an https address",
                status=401,
            )
        return realm


def _grant(reply: Reply) -> _Grant:
    """The token of an answer: `token` or `access_token`, `expires_in` seconds."""
    try:
        value = json.loads(reply.body)
        token = value.get("token") or value.get("access_token")
        life = value.get("expires_in")
    except (ValueError, AttributeError, RecursionError):
        token, life = None, None
    if (
        not isinstance(token, str)
        or not 0 < len(token) <= _LONGEST_TOKEN
        or not token.isprintable()
        or " " in token
    ):
        raise RegistryError(f"{redacted(reply.url)}: its answer holds no token")
    seconds = (
        float(life) if isinstance(life, int) and not isinstance(life, bool) and life > 0 else _SHORTEST_LIFE
    )
    return _Grant(f"Bearer {token}", time.monotonic() + max(seconds - _MARGIN, seconds / 2))
