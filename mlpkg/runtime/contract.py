"""What the contract says of requests without their script: ids, response headers, messages (azure-contract §2)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ID_LIMIT: Final = 100
"""Characters of an id; beyond: 431."""

NOT_FOUND: Final = (
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and"
    " try again."
)
NOT_ALLOWED: Final = "The method is not allowed for the requested URL."


VERSIONS: Final[dict[str, tuple[str, ...]]] = {"2": ("2", "2.0"), "3": ("3", "3.0"), "3.1": ("3.1",)}
"""Swagger version -> the names it is asked for by."""


@dataclass(frozen=True)
class Identity:
    """The ids of one request as they go into its answer; `refusal` is the message of a 431."""

    request_id: str
    legacy_id: str = ""
    client_id: str = ""
    refusal: str = ""

    def headers(self, version: str, trace_id: str | None) -> list[tuple[str, str]]:
        """Header fields to add to the answer."""
        fields = [("x-ms-server-version", version)] if version else []
        if self.request_id:
            fields.append(("x-request-id", self.request_id))
        if self.legacy_id:
            fields.append(("x-ms-request-id", self.legacy_id))
        if self.client_id:
            fields.append(("x-ms-client-request-id", self.client_id))
        if trace_id is not None:
            fields.append(("TraceId", trace_id))
        return fields


class _Ids:
    """Random UUIDs (RFC 9562, version 4), made from one read of randomness per 256."""

    waiting: list[str] = []  # noqa: RUF012 - the class is the one instance

    @classmethod
    def take(cls) -> str:
        if not cls.waiting:
            text = os.urandom(16 * 256).hex()
            for at in range(0, len(text), 32):
                h = text[at : at + 32]
                variant = "89ab"[int(h[16], 16) & 3]
                cls.waiting.append(f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{variant}{h[17:20]}-{h[20:]}")
        return cls.waiting.pop()


def identify(fields: Mapping[str, str]) -> Identity:
    """Choose the ids; `fields` are the request's, names in lower case."""
    request_id = fields.get("x-request-id")
    if request_id is None:
        request_id = _Ids.take()
    if len(request_id) > ID_LIMIT:
        return Identity("", refusal=f"x-request-id must not exceed {ID_LIMIT} characters")
    legacy_id = fields.get("x-ms-request-id", "")
    client_id = fields.get("x-ms-client-request-id", "")
    if legacy_id:
        client_id = client_id or legacy_id
    else:
        legacy_id = client_id or request_id
    if len(legacy_id) > ID_LIMIT or len(client_id) > ID_LIMIT:
        message = f"x-ms-request-id and x-ms-client-request-id must not exceed {ID_LIMIT} characters"
        return Identity(request_id, refusal=message)
    return Identity(request_id, legacy_id, client_id)


def swagger_answer(prepared: dict[str, Any], asked: str) -> tuple[int, Any]:
    """Status and JSON value for a request for one of the `prepared` documents; `asked` is the query's version."""
    names = ", ".join(sorted(prepared))
    version = next((version for version, aliases in VERSIONS.items() if asked in aliases), None)
    if version is None:
        return 404, {"message": f"Swagger version [{asked}] is not valid. Supported versions: [{names}]."}
    if not prepared.get(version):
        return 404, {
            "message": f"Swagger version [{asked}] is not supported for the scoring script. "
            f"Supported swagger versions: [{names}]."
        }
    return 200, prepared[version]
