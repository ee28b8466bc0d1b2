"""One request as the front hands it to a worker, with the parts of it that scripts ask for."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qsl, quote

FORM_TYPES: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "application/x-url-encoded")
"""Content types whose body Flask takes as a form, which leaves ``request.data`` empty."""

_KEEP_PERCENT: Final = "mlpkg.keep_percent"


def _keep_percent(error: UnicodeError) -> tuple[str, int]:
    """Leave bytes that are no UTF-8 percent-encoded, as Flask does."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return quote(error.object[error.start : error.end], safe=""), error.end


codecs.register_error(_KEEP_PERCENT, _keep_percent)


@dataclass(frozen=True)
class Incoming:
    """Method, request target and header lines (``name: value``) as they came, and the whole body."""

    method: str
    target: str
    scheme: str
    client: str
    request_id: str
    lines: Sequence[str]
    body: bytes

    @classmethod
    def from_frame(cls, head: str, body: bytes) -> Incoming:
        """Take a request frame apart."""
        method, target, scheme, client, request_id, *lines = head.split("\n")
        return cls(method, target, scheme, client, request_id, lines, body)

    @cached_property
    def headers(self) -> dict[str, str]:
        """Fields as a WSGI application sees them: repeated ones joined, names in Title-Case.

        Names with an underscore are dropped: they would pass for the ones with a hyphen.
        """
        merged: dict[str, str] = {}
        for line in self.lines:
            name, _, value = line.partition(": ")
            if "_" in name:
                continue
            name = name.title()
            merged[name] = f"{merged[name]},{value}" if name in merged else value
        return merged

    @property
    def content_type(self) -> str:
        """The Content-Type field, as it came."""
        for line in self.lines:
            if line[:14].lower() == "content-type: ":
                return line[14:]
        return ""

    @property
    def mimetype(self) -> str:
        """The content type without parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the content type says JSON (``application/json`` or ``application/*+json``)."""
        kind = self.mimetype
        return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))

    @property
    def is_form(self) -> bool:
        """Whether the body can be taken as a form; a multipart one needs its boundary for that."""
        kind = self.mimetype
        return kind in FORM_TYPES and (
            kind != "multipart/form-data" or "boundary=" in self.content_type.lower()
        )

    @property
    def query(self) -> str:
        """The query string."""
        return self.target.partition("?")[2]

    def query_values(self) -> dict[str, Any]:
        """The query's parameters as JSON values where they are JSON, else text; repeated ones as lists."""
        found: dict[str, list[Any]] = {}
        for key, value in parse_qsl(self.query, keep_blank_values=True, errors=_KEEP_PERCENT):
            found.setdefault(key, []).append(_json_or_text(value))
        return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
