"""Digests and descriptors (OCI image-spec, "Content Descriptors"), and keys made of several parts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

from mlpkg.errors import DigestMismatch

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


class Tally:
    """The digest and the number of the bytes that have passed."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """Of all bytes so far."""
        return Digest("sha256:" + self._state.hexdigest())

    def add(self, piece: bytes) -> bytes:
        """Count a piece, and give it back."""
        self._state.update(piece)
        self.size += len(piece)
        return piece

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces, counted as they pass."""
        return map(self.add, pieces)


def verified(
    pieces: Iterable[bytes], digest: Digest, size: int, *, hint: str, name: str = ""
) -> Iterator[bytes]:
    """The same pieces, each one late: the last is given only when digest and size (bytes) are right.

    Raises DigestMismatch that begins with `name` (else the digest), as soon as there are too many bytes.
    """
    tally, held, name = Tally(), b"", name or digest
    for piece in tally.of(pieces):
        if tally.size > size:
            raise DigestMismatch(f"{name}: more than its {size} bytes", hint=hint)
        if held:
            yield held
        held = piece
    if tally.size != size:
        raise DigestMismatch(f"{name}: {tally.size} bytes instead of {size}", hint=hint)
    if tally.digest != digest:
        raise DigestMismatch(
            f"{name}: the bytes are those of {tally.digest}, not the {size} bytes of {digest}", hint=hint
        )
    if held:
        yield held


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
