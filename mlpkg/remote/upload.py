"""One blob into one repository: mount it, or send it in one piece (distribution-spec, "Pushing blobs").

POST opens a session, one PUT carries all bytes. A session that broke is never continued: Distribution 2.8
loses it when the client drops (measured), so the blob starts over from POST.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import Enum
from urllib.parse import quote

from mlpkg.digest import Descriptor
from mlpkg.errors import DigestMismatch, MlpkgError, RegistryError
from mlpkg.http.retry import Busy, Stopped
from mlpkg.http.transport import Reply
from mlpkg.remote.address import next_url
from mlpkg.remote.blob import Blob, Feed, SourceFailed
from mlpkg.remote.refusal import BusyRegistry
from mlpkg.remote.session import Request, Session, pull_scope, push_scope

_COMMIT_TIMEOUT = 300.0
"""Seconds the registry may take to store a finished upload, before any byte per second is added."""

_COMMIT_RATE = 16 << 20
"""Bytes per second at which the slowest storage commits: object stores copy a blob once more."""


class Outcome(Enum):
    """How a blob came to be in the repository."""

    EXISTED = "existed"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


def has_blob(session: Session, repository: str, descriptor: Descriptor, *, for_push: bool = False) -> bool:
    """Whether the blob is there in full (one try). Raises RegistryError when it has another length."""
    scope = push_scope(repository) if for_push else pull_scope(repository)
    url = session.url(f"{repository}/blobs/{descriptor.digest}")
    reply = session.call(Request(method="HEAD", url=url, expect=(200, 404), scopes=(scope,)))
    if reply.status == 404:
        return False
    length = reply.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != descriptor.size:
        raise RegistryError(
            f"{session.registry.address}/{repository}: {descriptor.digest} is damaged there: "
            f"{length} bytes instead of {descriptor.size}",
            hint="uploading it again does not mend it: `mlpkg registry repair` (bundled), or ask its operator",
            status=200,
            code="BLOB_DAMAGED",
        )
    return True


def place(
    session: Session,
    repository: str,
    blob: Blob,
    mount_from: str | None,
    progress: Callable[[int], None] | None,
) -> Outcome:
    """Bring the blob into the repository, whatever that takes.

    Raises what the blob's iterator raises, DigestMismatch, RegistryError, Unreachable, Stopped.
    """
    with contextlib.closing(Feed(blob, session.transport.stop, progress)) as feed:
        restarts_left = 1

        def step() -> Outcome:
            nonlocal restarts_left
            if has_blob(session, repository, blob.descriptor, for_push=True):
                return Outcome.EXISTED
            location = _open_session(session, repository, blob.descriptor, mount_from)
            if location is None:
                return Outcome.MOUNTED
            try:
                _send(session, repository, blob.descriptor, location, feed)
            except RegistryError as error:
                if restarts_left and _is_lost_session(error):
                    restarts_left -= 1
                    raise _as_busy(error) from error
                raise
            return Outcome.UPLOADED

        try:
            return session.backoff.run(step)
        except SourceFailed:
            assert feed.error is not None  # noqa: S101 - set before SourceFailed is raised
            raise feed.error from None


def mount(session: Session, repository: str, descriptor: Descriptor, mount_from: str) -> bool:
    """Whether the blob is in the repository now, by mounting it where it must be (one try); sends no byte of it.

    Raises RegistryError, Unreachable.
    """
    if has_blob(session, repository, descriptor, for_push=True):
        return True
    location = _open_session(session, repository, descriptor, mount_from)
    if location is not None:
        _cancel(session, repository, location)
    return location is None


def _is_lost_session(error: RegistryError) -> bool:
    """Whether the session, not the blob, is what the registry does not like."""
    return error.status == 404 or (error.status in (400, 416) and error.code.startswith("BLOB_UPLOAD_"))


def _as_busy(error: RegistryError) -> BusyRegistry:
    return BusyRegistry(error.message, hint=error.hint, status=error.status, code=error.code)


def _open_session(
    session: Session, repository: str, descriptor: Descriptor, mount_from: str | None
) -> str | None:
    """The URL to PUT to, or None when the blob was mounted from another repository instead."""
    if mount_from and mount_from != repository:
        url = session.url(
            f"{repository}/blobs/uploads/?mount={quote(descriptor.digest)}&from={quote(mount_from, safe='')}"
        )
        scopes = (push_scope(repository), pull_scope(mount_from))
        try:
            reply = session.call(Request(method="POST", url=url, expect=(201, 202), scopes=scopes))
        except Busy:
            raise
        except RegistryError as error:
            if not 400 <= error.status < 500:
                raise
            # Some registries refuse the mount where they should fall back (source unknown, no right to read).
        else:
            return None if reply.status == 201 else _location(session, reply)
    url = session.url(f"{repository}/blobs/uploads/")
    return _location(
        session,
        session.call(Request(method="POST", url=url, expect=(202,), scopes=(push_scope(repository),))),
    )


def _location(session: Session, reply: Reply) -> str:
    location = reply.headers.get("Location")
    if not location:
        raise RegistryError(
            f"{session.registry.address}: opens an upload without a Location", status=reply.status
        )
    return next_url(reply.url, location, session.registry)


def _send(session: Session, repository: str, descriptor: Descriptor, location: str, feed: Feed) -> None:
    url = f"{location}{'&' if '?' in location else '?'}digest={quote(descriptor.digest, safe='')}"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
    try:
        reply = session.call(
            Request(
                method="PUT",
                url=url,
                expect=(201, 204),
                scopes=(push_scope(repository),),
                headers=headers,
                body=feed.start,
                answer_timeout=_COMMIT_TIMEOUT + descriptor.size / _COMMIT_RATE,
            )
        )
    except SourceFailed:
        if not isinstance(feed.error, Stopped):
            _cancel(session, repository, location)
        raise
    if not feed.is_complete:
        raise RegistryError(
            f"{session.registry.address}/{repository}: {descriptor.digest} was accepted before it was complete",
            status=reply.status,
        )
    stored = reply.headers.get("Docker-Content-Digest", descriptor.digest)
    if stored != descriptor.digest:
        raise DigestMismatch(
            f"{session.registry.address}/{repository}: stored {stored}, sent {descriptor.digest}"
        )


def _cancel(session: Session, repository: str, location: str) -> None:
    """Free what the registry kept of an abandoned upload; it purges the rest itself."""
    with contextlib.suppress(MlpkgError):
        session.call(
            Request(
                method="DELETE",
                url=location,
                expect=(200, 202, 204, 404),
                scopes=(push_scope(repository),),
                answer_timeout=5.0,
            )
        )
