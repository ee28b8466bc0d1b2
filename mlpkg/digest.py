"""Digests and descriptors (OCI image-spec, "Content Descriptors"), and keys made of several parts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

Digest = NewType("Digest", str)
"""``sha256:`` and 64 lower-case hexadecimal digits; the only algorithm registries must support."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def parse_digest(text: object) -> Digest:
    """Check a digest that came from outside. Raises ValueError."""
    if not isinstance(text, str) or not _DIGEST.match(text):
        raise ValueError(f"not a sha256 digest: {text!r}")
    return Digest(text)


def sha256(data: bytes) -> Digest:
    """The digest of some bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def canonical_json(value: Any) -> bytes:
    """One value, one sequence of bytes: sorted keys, no white space, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def framed(parts: Iterable[bytes | str]) -> Digest:
    """The digest of several parts, each preceded by its length, so that no two lists collide."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return Digest("sha256:" + state.hexdigest())


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob or manifest by media type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The image-spec's JSON form."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Descriptor:
        """Check and take a descriptor that came from outside. Raises ValueError."""
        media_type, size = value.get("mediaType"), value.get("size")
        if not isinstance(media_type, str) or not media_type:
            raise ValueError("descriptor without mediaType")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError(f"descriptor with size {size!r}")
        annotations = value.get("annotations", {})
        if not isinstance(annotations, Mapping):
            raise ValueError("descriptor with annotations that are no object")
        return cls(media_type, parse_digest(value.get("digest", "")), size, dict(annotations))
