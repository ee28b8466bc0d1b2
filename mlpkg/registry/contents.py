"""What lies in a registry's storage, read once from end to end, and what of it is damaged. Pure.

The layout is CNCF Distribution's (registry/storage/paths.go of 2.8): content by digest below ``blobs``, and
below ``repositories`` small files that link names to it. A registry answers with a blob's length as it lies on
the disk and never compares its content, so that only reading all of it tells what is damaged.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO

from mlpkg.digest import Digest

ROOT = "docker/registry/v2"
NOTHING = Digest(f"sha256:{hashlib.sha256().hexdigest()}")
"""The digest of no bytes at all."""

_BLOB = re.compile(rf"{ROOT}/blobs/sha256/[0-9a-f]{{2}}/([0-9a-f]{{64}})/data")
_LINK = re.compile(rf"{ROOT}/repositories/(.+)/_(manifests/revisions|layers)/sha256/([0-9a-f]{{64}})/link")
_TAG = re.compile(rf"{ROOT}/repositories/(.+)/_manifests/tags/([^/]+)/current/link")
_INDEX = re.compile(rf"{ROOT}/repositories/.+/_manifests/tags/[^/]+/index/sha256/([0-9a-f]{{64}})/link")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_MANIFEST_LIMIT = 4 << 20
"""Bytes: the distribution-spec's bound for manifests."""

_LINK_LIMIT = 1 << 10


@dataclass(slots=True)
class Contents:
    """What was read. `sizes` has every blob, `rotten` those whose bytes are not those of their digest.

    `references` maps manifests to the digests and sizes they name; `revisions` and `tags` are by repository.
    `links` maps files that do not say what they must to what they must say.
    """

    sizes: dict[Digest, int] = field(default_factory=dict)
    rotten: set[Digest] = field(default_factory=set)
    references: dict[Digest, dict[Digest, int]] = field(default_factory=dict)
    revisions: dict[str, set[Digest]] = field(default_factory=dict)
    tags: dict[str, dict[str, Digest | None]] = field(default_factory=dict)
    links: dict[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged thing: a blob's digest or a link's path, what is wrong, and the images that need it."""

    what: str
    reason: str
    images: tuple[str, ...]

    def __str__(self) -> str:
        needed = ", ".join(self.images) or "no image needs it"
        return f"{self.what}: {self.reason}: {needed}"


def read(files: Iterable[tuple[str, IO[bytes]]]) -> Contents:
    """The contents of a storage, from its files: paths below its root, each open for reading until the next."""
    found = Contents()
    for path, file in files:
        if blob := _BLOB.fullmatch(path):
            _read_blob(found, Digest(f"sha256:{blob[1]}"), file)
        elif path.endswith("/link"):
            _read_link(found, path, file.read(_LINK_LIMIT).decode("ascii", errors="replace").strip())
    return found


def _read_blob(found: Contents, digest: Digest, file: IO[bytes]) -> None:
    hasher, size, kept = hashlib.sha256(), 0, b""
    while piece := file.read(1 << 20):
        hasher.update(piece)
        size += len(piece)
        if size <= _MANIFEST_LIMIT and (kept or piece).startswith(b"{"):
            kept += piece
    found.sizes[digest] = size
    if f"sha256:{hasher.hexdigest()}" != digest:
        found.rotten.add(digest)
    elif 0 < size <= _MANIFEST_LIMIT and (references := _references(kept)):
        found.references[digest] = references


def _references(data: bytes) -> dict[Digest, int]:
    """The digests and sizes that a manifest or an index names; nothing for other content.

    What has URLs of its own lies elsewhere (image-spec, "Descriptor").
    """
    try:
        value = json.loads(data)
        rows = [value.get("config"), *(value.get("layers") or []), *(value.get("manifests") or [])]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}
    named: dict[Digest, int] = {}
    for row in rows:
        if isinstance(row, dict) and not row.get("urls") and isinstance(row.get("size"), int):
            text = row.get("digest")
            if isinstance(text, str) and _DIGEST.fullmatch(text):
                named[Digest(text)] = row["size"]
    return named


def _read_link(found: Contents, path: str, text: str) -> None:
    if tag := _TAG.fullmatch(path):
        linked = Digest(text) if _DIGEST.fullmatch(text) else None
        found.tags.setdefault(tag[1], {})[tag[2]] = linked
        return
    link = _LINK.fullmatch(path)
    index = _INDEX.fullmatch(path)
    if not link and not index:
        return
    wanted = Digest(f"sha256:{link[3] if link else (index and index[1])}")
    if text != wanted:
        found.links[path] = wanted
    if link and link[2] != "layers":
        found.revisions.setdefault(link[1], set()).add(wanted)


def missing(found: Contents) -> set[Digest]:
    """What manifests name and is not there."""
    stored = {digest for digests in found.revisions.values() for digest in digests}
    named = {digest for one in stored for digest in found.references.get(one, {})}
    tagged = {digest for tags in found.tags.values() for digest in tags.values() if digest}
    return {digest for digest in named | (tagged & stored) if digest not in found.sizes}


def damages(found: Contents) -> list[Damage]:
    """All that is damaged, each with the images that need it."""
    sizes = {digest: size for named in found.references.values() for digest, size in named.items()}
    rows = []
    for digest in sorted(found.rotten | missing(found)):
        has = found.sizes.get(digest)
        if has is None:
            reason = "is not there"
        elif has != sizes.get(digest, has):
            reason = f"has {has} bytes instead of {sizes[digest]}"
        else:
            reason = f"its {has} bytes are not those of its digest"
        rows.append(Damage(digest, reason, _images(found, {digest})))
    rows += [Damage(path, "does not say what it must", ()) for path in sorted(found.links)]
    rows += [
        Damage(f"{repository}:{tag}", "names no image", (f"{repository}:{tag}",))
        for repository, tag in lost_tags(found)
    ]
    return rows


def lost_tags(found: Contents) -> list[tuple[str, str]]:
    """Tags that name nothing, or a manifest that their repository does not have."""
    return sorted(
        (repository, tag)
        for repository, tags in found.tags.items()
        for tag, digest in tags.items()
        if digest is None or digest not in found.revisions.get(repository, ())
    )


def affected(found: Contents, bad: set[Digest]) -> dict[str, set[Digest]]:
    """The manifests of each repository that are bad, or name something that is: themselves or through others."""
    parents: dict[Digest, set[Digest]] = {}
    for manifest, named in found.references.items():
        for digest in named:
            parents.setdefault(digest, set()).add(manifest)
    reached, waiting = set(bad), list(bad)
    while waiting:
        fresh = parents.get(waiting.pop(), set()) - reached
        reached |= fresh
        waiting += fresh
    hit = {repository: digests & reached for repository, digests in found.revisions.items()}
    return {repository: digests for repository, digests in hit.items() if digests}


def _images(found: Contents, bad: set[Digest]) -> tuple[str, ...]:
    names = []
    for repository, digests in affected(found, bad).items():
        tags = {tag: digest for tag, digest in found.tags.get(repository, {}).items() if digest in digests}
        names += [f"{repository}:{tag}" for tag in tags]
        names += [f"{repository}@{digest}" for digest in digests - set(tags.values())]
    return tuple(sorted(names))


def blob_path(digest: Digest) -> str:
    """Where a blob's bytes lie."""
    name = digest.removeprefix("sha256:")
    return f"{ROOT}/blobs/sha256/{name[:2]}/{name}/data"


def revision_path(repository: str, digest: Digest) -> str:
    """The link that makes a manifest one of a repository."""
    return (
        f"{ROOT}/repositories/{repository}/_manifests/revisions/sha256/{digest.removeprefix('sha256:')}/link"
    )


def tag_path(repository: str, tag: str) -> str:
    """The link from a tag to its manifest."""
    return f"{ROOT}/repositories/{repository}/_manifests/tags/{tag}/current/link"


def keeper(found: Contents, digests: Iterable[Digest], bad: set[Digest]) -> bytes | None:
    """A manifest that names the sound parts of others, so that a collector keeps them; None where there are none."""
    parts = {
        part
        for digest in digests
        for part in (digest, *found.references.get(digest, ()))
        if part not in bad and part in found.sizes and part not in found.references
    }
    if not parts:
        return None
    rows: list[Mapping[str, object]] = [
        {"mediaType": "application/octet-stream", "digest": part, "size": found.sizes[part]}
        for part in sorted(parts)
    ]
    media_type = "application/vnd.oci.image.manifest.v1+json"
    value = {"schemaVersion": 2, "mediaType": media_type, "config": rows[0], "layers": rows[1:]}
    return json.dumps(value).encode()
