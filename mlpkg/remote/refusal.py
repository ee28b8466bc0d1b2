"""What a registry's refusal says, as an error (distribution-spec, "Error Codes")."""

from __future__ import annotations

import json

from mlpkg.errors import MlpkgError, RegistryError
from mlpkg.http.address import redacted
from mlpkg.http.retry import Busy
from mlpkg.http.transport import Reply, plain


class BusyRegistry(RegistryError, Busy):
    """A refusal that may be another answer in a moment."""


def refusal(reply: Reply, method: str) -> MlpkgError:
    """The error for an answer nobody wanted (distribution-spec, "Error Codes")."""
    code, text = _first_error(reply.body)
    subject = f"{method} {redacted(reply.url)}: {reply.status}"
    message = ": ".join(part for part in (subject, code, text) if part)
    words = {"hint": _HINTS.get(reply.status, ""), "status": reply.status, "code": code}
    return reply.failure(message, RegistryError, BusyRegistry, **words)


_HINTS = {
    401: "the registry wants other credentials: `docker login`, or `mlpkg registry login` for the bundled one",
    403: "these credentials may not do this there",
    413: "a proxy before the registry limits the size of uploads (client_max_body_size in nginx)",
    429: "the registry limits requests: try again later",
    507: "the registry has no room left",
}


def _first_error(body: bytes) -> tuple[str, str]:
    try:
        errors = json.loads(body[: 64 << 10])["errors"]
        first = errors[0]
        code, text = first.get("code"), first.get("message")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", ""
    return plain(code)[:64], plain(text)[:300]
