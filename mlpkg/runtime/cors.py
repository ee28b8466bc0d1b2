"""Cross-origin headers as Azure's server sends them (flask-cors with methods GET and POST)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_METHODS = "GET, POST"


def cors_headers(origins: Sequence[str], method: str, fields: Mapping[str, str]) -> list[tuple[str, str]]:
    """Header fields to add to an answer; `fields` are the request's, names in lower case."""
    if not origins:
        return []
    origin = fields.get("origin", "")
    is_any = "*" in origins
    if origin and not any(_matches(allowed, origin) for allowed in origins):
        return []
    if origin:
        allowed = [origin]
    else:
        allowed = ["*"] if is_any else sorted(each for each in origins if not _is_pattern(each))
    if not allowed:
        return []
    headers = [("Access-Control-Allow-Origin", allowed[0])]
    if fields.get("access-control-request-private-network") == "true":
        headers.append(("Access-Control-Allow-Private-Network", "false"))
    asked = fields.get("access-control-request-method", "").upper()
    if method == "OPTIONS" and asked and asked in _METHODS:
        wanted = fields.get("access-control-request-headers", "")
        if wanted:
            names = ", ".join(sorted(name.strip() for name in wanted.split(",")))
            headers.append(("Access-Control-Allow-Headers", names))
        headers.append(("Access-Control-Allow-Methods", _METHODS))
    if allowed != ["*"] and (len(origins) > 1 or any(_is_pattern(each) for each in origins)):
        headers.append(("Vary", "Origin"))
    return headers


def _is_pattern(origin: str) -> bool:
    return any(mark in origin for mark in "*\\]?$^[]()")


def _matches(allowed: str, origin: str) -> bool:
    if allowed == "*":
        return True
    if _is_pattern(allowed):
        return re.match(allowed, origin, re.IGNORECASE) is not None
    return allowed.lower() == origin.lower()
