"""A registry as a program sees it: blobs, manifests, tags. The way in to `mlpkg.remote`.

Wire format: OCI distribution-spec v1.1. Names and digests are checked before they become part of a URL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from mlpkg import names
from mlpkg.digest import Descriptor, Digest, parse_digest, sha256, verified
from mlpkg.errors import DigestMismatch, RegistryError, UsageError
from mlpkg.http.address import url_origin
from mlpkg.http.retry import Busy, Dropped
from mlpkg.http.transport import BODY_LIMIT, Reply
from mlpkg.remote.address import next_url, registry_origin
from mlpkg.remote.blob import DAMAGED, Blob
from mlpkg.remote.credentials import Credentials
from mlpkg.remote.session import Request, Session, pull_scope, push_scope
from mlpkg.remote.upload import Outcome, has_blob, mount, place

__all__ = ["Blob", "Credentials", "Outcome", "Registry"]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

_IMAGES, _INDEXES = (OCI_MANIFEST, DOCKER_MANIFEST), (OCI_INDEX, DOCKER_LIST)
_ACCEPT = {"Accept": ", ".join((*_IMAGES, *_INDEXES))}

_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?', re.IGNORECASE)
_MOST_PAGES = 1000


class Registry:
    """One registry, for any number of threads. A resource: `with Registry("127.0.0.1:5050") as registry:`.

    `address` is ``host[:port]``. `credentials` default to those of Docker's config, looked up when the registry
    asks for them. `plain_http` defaults to True for loopback addresses only. `ca_file` is trusted besides
    the machine's own certificates. Raises UsageError for a wrong address.

    All methods raise RegistryError when the registry refuses and Unreachable when it does not answer; failures
    that pass by themselves were tried again before (`mlpkg.http.retry`).
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials | None = None,
        plain_http: bool | None = None,  # noqa: FBT001 - three-valued
        ca_file: Path | None = None,
    ) -> None:
        self._session = Session(registry_origin(address, plain_http), credentials, ca_file)
        self.address = self._session.registry.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.transport.close()

    def abort(self) -> None:
        """Make requests of all threads fail now (Stopped), and new ones too, until `resume`."""
        self._session.transport.abort()

    def resume(self) -> None:
        """Allow requests again."""
        self._session.transport.stop.clear()

    def has_blob(self, repository: str, descriptor: Descriptor) -> bool:
        """Whether the blob is there, in full. Raises RegistryError (BLOB_DAMAGED) when its length is wrong."""
        _check_repository(repository)
        _check_digest(descriptor.digest)
        return self._session.backoff.run(lambda: has_blob(self._session, repository, descriptor))

    def upload_blob(
        self,
        repository: str,
        blob: Blob,
        *,
        mount_from: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> bool:
        """Bring the blob there; True when its bytes had to be sent. See `place_blob`."""
        outcome = self.place_blob(repository, blob, mount_from=mount_from, progress=progress)
        return outcome is Outcome.UPLOADED

    def place_blob(
        self,
        repository: str,
        blob: Blob,
        *,
        mount_from: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Outcome:
        """Bring the blob there unless it is: mounted from repository `mount_from`, else sent.

        The bytes are verified while they are sent; nothing is committed when they are not those of the
        descriptor. `progress` receives bytes sent since its last call, negative when the blob starts over.
        Raises DigestMismatch, or what the blob's iterator raises (ChangedInput).
        """
        _check_repository(repository)
        _check_digest(blob.descriptor.digest)
        if mount_from is not None:
            _check_repository(mount_from)
        return place(self._session, repository, blob, mount_from, progress)

    def mount_blob(self, repository: str, descriptor: Descriptor, *, mount_from: str) -> bool:
        """Bring a blob there from another repository of the registry; False where it does not mount.

        Distribution-spec, "Mounting a blob from another repository". No byte of the blob is sent.
        """
        for name in (repository, mount_from):
            _check_repository(name)
        _check_digest(descriptor.digest)
        return self._session.backoff.run(lambda: mount(self._session, repository, descriptor, mount_from))

    def read_blob(self, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        """The blob's bytes in pieces; the last comes only when size and digest are right.

        A connection that is lost is taken up where it broke. Raises DigestMismatch.
        """
        _check_repository(repository)
        _check_digest(descriptor.digest)
        pieces = self._raw_pieces(repository, descriptor)
        return verified(pieces, descriptor.digest, descriptor.size, hint=DAMAGED)

    def _raw_pieces(self, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        url = self._session.url(f"{repository}/blobs/{descriptor.digest}")
        done = failures = 0
        while True:
            try:
                headers = {"Range": f"bytes={done}-"} if done else {}
                with self._session.stream(
                    Request(
                        method="GET",
                        url=url,
                        expect=(200, 206),
                        scopes=(pull_scope(repository),),
                        headers=headers,
                    )
                ) as (head, pieces):
                    skip = 0 if head.status == 206 else done
                    for piece in pieces:
                        rest = piece[skip:]
                        skip = max(0, skip - len(piece))
                        if rest:
                            done += len(rest)
                            failures = 0
                            yield rest
            except (Busy, Dropped) as error:
                failures += 1
                self._session.backoff.pause(failures, error)
            else:
                self._session.backoff.succeeded()
                return

    def get_manifest(self, repository: str, reference: str) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest: its descriptor and its exact bytes (at most 4 MiB).

        Raises RegistryError (status 404 when it is not there; also for a document that is not what its
        media type says, CVE-2021-41190), DigestMismatch.
        """
        url = self._manifest_url(repository, reference)
        reply = self._session.ask(
            Request(method="GET", url=url, expect=(200,), scopes=(pull_scope(repository),), headers=_ACCEPT)
        )
        digest = sha256(reply.body)
        named = reference if ":" in reference else reply.headers.get("Docker-Content-Digest", digest)
        if digest != named:
            raise DigestMismatch(
                f"{self.address}/{repository}: {named}: the manifest's bytes are those of {digest}"
            )
        media_type = self._media_type(repository, reference, reply)
        return Descriptor(media_type, digest, len(reply.body)), reply.body

    def head_manifest(self, repository: str, reference: str) -> Descriptor | None:
        """The descriptor of a manifest or index by tag or digest; None when it is not there."""
        url = self._manifest_url(repository, reference)
        reply = self._session.ask(
            Request(
                method="HEAD", url=url, expect=(200, 404), scopes=(pull_scope(repository),), headers=_ACCEPT
            )
        )
        if reply.status == 404:
            return None
        length = reply.headers.get("Content-Length", "")
        media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip()
        try:
            digest = parse_digest(reply.headers.get("Docker-Content-Digest", ""))
        except ValueError:
            return self.get_manifest(repository, reference)[0]
        if not length.isdigit() or not media_type:
            return self.get_manifest(repository, reference)[0]
        if ":" in reference and digest != reference:
            raise DigestMismatch(f"{self.address}/{repository}: answers {digest} when asked for {reference}")
        return Descriptor(media_type, digest, int(length))

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Digest:
        """Store a manifest or index under a tag or its digest. Returns its digest.

        Raises DigestMismatch when `reference` is another digest, or the registry stored other bytes.
        """
        url = self._manifest_url(repository, reference)
        digest = sha256(data)
        if ":" in reference and reference != digest:
            raise DigestMismatch(f"{repository}@{reference}: the manifest's bytes are those of {digest}")
        if len(data) > BODY_LIMIT:
            raise RegistryError(
                f"{repository}: a manifest of {len(data)} bytes: registries take {BODY_LIMIT}"
            )
        reply = self._session.ask(
            Request(
                method="PUT",
                url=url,
                expect=(201, 202),
                scopes=(push_scope(repository),),
                headers={"Content-Type": media_type},
                body=lambda: data,
            )
        )
        stored = reply.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            raise DigestMismatch(f"{self.address}/{repository}: stored {stored}, sent {digest}")
        return digest

    def tags(self, repository: str) -> list[str]:
        """The repository's tags, in the registry's order; none when there is no such repository."""
        _check_repository(repository)
        found: list[str] = []
        url = self._session.url(f"{repository}/tags/list?n=1000")
        for _ in range(_MOST_PAGES):
            reply = self._session.ask(
                Request(method="GET", url=url, expect=(200, 404), scopes=(pull_scope(repository),))
            )
            if reply.status == 404:
                return found
            value = _json_object(reply.body).get("tags") or []
            if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
                raise RegistryError(f"{self.address}/{repository}: its list of tags is not understood")
            found += value
            following = _NEXT.search(reply.headers.get("Link", ""))
            if not following:
                return found
            asked, url = url, next_url(reply.url, following[1], self._session.registry)
            if url == asked or url_origin(url) != self._session.registry:
                break
        raise RegistryError(f"{self.address}/{repository}: its list of tags does not end")

    def _manifest_url(self, repository: str, reference: str) -> str:
        _check_repository(repository)
        if ":" in reference:
            _check_digest(reference)
        elif not re.fullmatch(names.TAG, reference):
            raise UsageError(f"not a tag: {reference!r}", hint="letters, digits, _ . -; at most 128")
        return self._session.url(f"{repository}/manifests/{quote(reference, safe=':')}")

    def _media_type(self, repository: str, reference: str, reply: Reply) -> str:
        """What the document is, when header and content agree on it."""
        document = _json_object(reply.body)
        header = reply.headers.get("Content-Type", "").partition(";")[0].strip()
        inside = document.get("mediaType", header)
        is_image, is_index = header in _IMAGES, header in _INDEXES
        # An image has layers and no manifests, an index the other way round (CVE-2021-41190).
        fits = (is_image and "manifests" not in document) or (is_index and "layers" not in document)
        if not fits or inside != header or (is_image and not isinstance(document.get("layers"), list)):
            raise RegistryError(
                f"{self.address}/{repository}: {reference} is no image or index as its media type says"
                f" ({header[:100]!r})"
            )
        return header


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _check_repository(name: str) -> None:
    if len(name) > names.LONGEST_REPOSITORY or not re.fullmatch(names.REPOSITORY, name):
        raise UsageError(
            f"not a repository name: {name!r}", hint="lower-case letters, digits, . _ - and / between"
        )


def _check_digest(text: str) -> None:
    try:
        parse_digest(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
