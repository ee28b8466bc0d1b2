"""A whole image into a repository, in the order that never leaves a tag on something incomplete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlpkg.digest import Descriptor, Digest, sha256
from mlpkg.errors import DigestMismatch, RegistryError
from mlpkg.http.retry import Stopped
from mlpkg.remote.upload import Outcome

if TYPE_CHECKING:
    from mlpkg.remote.blob import Blob
    from mlpkg.remote.client import Registry

Progress = Callable[[Descriptor, int], None]
"""Receives a blob and the bytes sent since the last call (negative: it starts over). Called from threads."""


@dataclass(frozen=True, slots=True)
class MovedTag:
    """A tag that named another image before."""

    tag: str
    old: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What a push did. `bytes_sent` counts the blobs in `uploaded`, in bytes."""

    digest: Digest
    uploaded: tuple[Descriptor, ...]
    existed: tuple[Descriptor, ...]
    mounted: tuple[Descriptor, ...]
    bytes_sent: int
    moved: tuple[MovedTag, ...]


def push_image(  # noqa: PLR0913 - an image has these parts; all by keyword
    registry: Registry,
    repository: str,
    *,
    blobs: Sequence[Blob],
    config: Blob,
    manifest: bytes,
    media_type: str,
    tags: Sequence[str],
    jobs: int = 2,
    progress: Progress | None = None,
    allow_tag_move: Callable[[str], bool] | None = None,
    mount_from: Mapping[Digest, str] | None = None,
) -> PushResult:
    """Push blobs in parallel, then config, manifest by digest, and tags last.

    `tags` may be empty. `allow_tag_move` is asked for each tag that names another image (None: all may move),
    before anything is sent and again before the tag is. `mount_from` names for some blobs another repository of
    the same registry that may have them. One push at a time per `registry`: a failure, or KeyboardInterrupt,
    stops all of its threads at once.

    Raises RegistryError (code TAG_MOVE_REFUSED for a tag), Unreachable, ChangedInput, DigestMismatch.
    """
    digest = sha256(manifest)
    for tag in tags:
        _old_digest(registry, repository, tag, digest, allow_tag_move)
    unique = {
        blob.descriptor.digest: blob for blob in blobs if blob.descriptor.digest != config.descriptor.digest
    }
    _check_descriptors(manifest, [*unique.values(), config])
    place = partial(_place, registry, repository, progress, mount_from or {})
    outcomes = _place_all(registry, place, list(unique.values()), jobs)
    outcomes[config.descriptor.digest] = place(config)
    _check_others(registry, repository, manifest, outcomes)
    _put_by_digest(registry, repository, digest, manifest, media_type)
    moved = []
    for tag in tags:
        old = _old_digest(registry, repository, tag, digest, allow_tag_move)
        if old == digest:
            continue
        registry.put_manifest(repository, tag, manifest, media_type)
        if old:
            moved.append(MovedTag(tag, old))
    return _result(digest, [*unique.values(), config], outcomes, moved)


def _result(
    digest: Digest, blobs: Sequence[Blob], outcomes: Mapping[Digest, Outcome], moved: Sequence[MovedTag]
) -> PushResult:
    def those(wanted: Outcome) -> tuple[Descriptor, ...]:
        return tuple(blob.descriptor for blob in blobs if outcomes[blob.descriptor.digest] is wanted)

    uploaded = those(Outcome.UPLOADED)
    return PushResult(
        digest=digest,
        uploaded=uploaded,
        existed=those(Outcome.EXISTED),
        mounted=those(Outcome.MOUNTED),
        bytes_sent=sum(blob.size for blob in uploaded),
        moved=tuple(moved),
    )


def _place(
    registry: Registry, repository: str, progress: Progress | None, sources: Mapping[Digest, str], blob: Blob
) -> Outcome:
    descriptor = blob.descriptor
    report = partial(progress, descriptor) if progress else None
    return registry.place_blob(repository, blob, mount_from=sources.get(descriptor.digest), progress=report)


def _place_all(
    registry: Registry, place: Callable[[Blob], Outcome], blobs: Sequence[Blob], jobs: int
) -> dict[Digest, Outcome]:
    """Place the blobs, `jobs` at a time. The first failure, or KeyboardInterrupt, ends all."""
    # Big ones first: the last to start should not be the longest.
    order = sorted(blobs, key=lambda blob: -blob.descriptor.size)
    workers = ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="push")
    is_done = False
    try:
        running = {blob.descriptor.digest: workers.submit(place, blob) for blob in order}
        done, _ = wait(running.values(), return_when=FIRST_EXCEPTION)
        is_done = not any(future.exception() for future in done)
    finally:
        workers.shutdown(wait=is_done, cancel_futures=True)
        if not is_done:
            registry.abort()
            workers.shutdown(wait=True)
            registry.resume()
    if not is_done:
        raise _reason(done)
    return {digest: future.result() for digest, future in running.items()}


def _reason(done: Iterable[Future[Outcome]]) -> BaseException:
    errors = [error for future in done if (error := future.exception())]
    return next((error for error in errors if not isinstance(error, Stopped)), errors[0])


def _descriptors(manifest: bytes) -> list[Descriptor]:
    """The config and layers of a manifest. Raises RegistryError."""
    try:
        document = json.loads(manifest)
        return [Descriptor.from_json(value) for value in (document["config"], *document["layers"])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError("the manifest to push is no image manifest", code="MANIFEST_INVALID") from error


def _check_descriptors(manifest: bytes, blobs: Sequence[Blob]) -> None:
    """Sizes in the manifest must be those of the blobs: registries take wrong ones (measured, 2.8.2)."""
    sizes = {blob.descriptor.digest: blob.descriptor.size for blob in blobs}
    for descriptor in _descriptors(manifest):
        if sizes.get(descriptor.digest, descriptor.size) != descriptor.size:
            raise DigestMismatch(
                f"{descriptor.digest}: the manifest says {descriptor.size} bytes, the blob has {sizes[descriptor.digest]}"
            )


def _check_others(
    registry: Registry, repository: str, manifest: bytes, placed: Mapping[Digest, Outcome]
) -> None:
    """What the manifest names and nobody gave us must be there already, in full."""
    for descriptor in _descriptors(manifest):
        if descriptor.digest not in placed and not registry.has_blob(repository, descriptor):
            raise RegistryError(
                f"{registry.address}/{repository}: {descriptor.digest} of the manifest is neither there nor given",
                code="MANIFEST_BLOB_UNKNOWN",
            )


def _put_by_digest(
    registry: Registry, repository: str, digest: Digest, manifest: bytes, media_type: str
) -> None:
    if _is_stored(registry, repository, digest, len(manifest)):
        return
    registry.put_manifest(repository, digest, manifest, media_type)
    if not _is_stored(registry, repository, digest, len(manifest)):
        raise RegistryError(f"{registry.address}/{repository}: {digest} was accepted but is not there")


def _is_stored(registry: Registry, repository: str, digest: Digest, size: int) -> bool:
    found = registry.head_manifest(repository, digest)
    return found is not None and found.size == size


def _old_digest(
    registry: Registry,
    repository: str,
    tag: str,
    new: Digest,
    allow_tag_move: Callable[[str], bool] | None,
) -> Digest | None:
    """What the tag names now, if anything. Raises RegistryError when it would move and must not."""
    found = registry.head_manifest(repository, tag)
    if found is None:
        return None
    if found.digest != new and allow_tag_move is not None and not allow_tag_move(tag):
        raise RegistryError(
            f"{registry.address}/{repository}:{tag} is another image there ({found.digest}) and must not move",
            hint="give this build a new version",
            code="TAG_MOVE_REFUSED",
        )
    return found.digest
