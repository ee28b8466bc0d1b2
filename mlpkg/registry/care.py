"""The care of the bundled registry's storage: collect what nobody needs, find what is damaged, remove it.

Damaged content cannot be mended by a push: CNCF Distribution keeps what it has of a digest, whatever its bytes
(measured, 2.8.2). So the manifests that need it are deleted, its own collector removes it, and the storage gets
a new identity: receipts that speak of the old one are not believed, and the next push sends what is missing.
"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from mlpkg.digest import Digest, sha256
from mlpkg.errors import MlpkgError, Unreachable
from mlpkg.progress import Notify
from mlpkg.registry import contents, lifecycle, process, state
from mlpkg.registry.bundled import wanted_settings
from mlpkg.registry.contents import Contents, Damage
from mlpkg.registry.source import Source
from mlpkg.registry.state import BundledSecrets, BundledState
from mlpkg.spec.model import RegistryTable

_ANSWER_TIMEOUT = 60.0

LONGEST_COLLECTION = 3600.0
"""Seconds after which a collector that has not ended is stopped; it reads every manifest once."""

COLLECTED = ("docker/registry/v2/repositories", "docker/registry/v2/blobs")
"""Below the storage's root: the collector fails where they are missing, as in a storage nobody pushed to."""


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection removed; `freed` in bytes, None when that cannot be known; the collector's own words."""

    removed: int
    freed: int | None
    report: str

    def __str__(self) -> str:
        if not self.removed:
            return "nothing to remove"
        freed = "" if self.freed is None else f", {self.freed} bytes freed"
        return f"{self.removed} blobs removed{freed}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at the whole storage found; `size` in bytes."""

    blobs: int
    size: int
    damages: tuple[Damage, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as they are."""
        return asdict(self)

    def __str__(self) -> str:
        if self.damages:
            return "\n".join(str(damage) for damage in self.damages)
        return f"{self.blobs} blobs, {self.size} bytes: all are what their digests say"


@dataclass(frozen=True, slots=True)
class _Storage:
    """The storage of the registry that is held: nobody starts or stops it meanwhile."""

    known: BundledState
    secrets: BundledSecrets
    source: Source
    notify: Notify


def collect_garbage(
    settings: RegistryTable, source: Source, *, notify: Notify, untagged: bool = False
) -> Collection:
    """Remove what no manifest of the bundled registry needs. It stands still meanwhile, and then runs as before.

    `untagged` also removes manifests without a tag; not where images for several platforms are kept,
    because distribution 2.8 then removes the untagged parts of tagged indexes too (distribution #3178), and
    it gives up, with MlpkgError, on a repository that never had a tag. Raises UsageError, Unreachable,
    MlpkgError, and what `source` raises.
    """
    with _held(settings, source, notify) as storage:
        if storage is None:
            return Collection(0, 0, "")
        return _collected(storage, untagged=untagged)


def verify(settings: RegistryTable, source: Source, *, notify: Notify) -> Findings:
    """Read all that the bundled registry holds and say what is damaged; it may run or not.

    Raises UsageError, Unreachable, MlpkgError, and what `source` raises.
    """
    with _held(settings, source, notify) as storage:
        return _findings(_read(storage)) if storage else Findings(0, 0, ())


def repair(settings: RegistryTable, source: Source, *, notify: Notify) -> Findings:
    """Remove what is damaged, and return what it was; the next push of the images it belongs to sends it again.

    Raises as `verify` does, MlpkgError also when something damaged is left.
    """
    with _held(settings, source, notify) as storage:
        if storage is None:
            return Findings(0, 0, ())
        found = _read(storage)
        findings = _findings(found)
        if findings.damages:
            _repaired(storage, found)
    return findings


@contextmanager
def _held(settings: RegistryTable, source: Source, notify: Notify) -> Generator[_Storage | None, None, None]:
    """The storage, locked; None where no registry was ever started."""
    port = wanted_settings(settings).port
    with state.lock(port, notify):
        known = state.read_state(port)
        if known is None and (secrets := state.read_secrets(port)):
            known = lifecycle.running(port, secrets, notify)
        yield _Storage(known, state.ensure_secrets(port), source, notify) if known else None


def _collected(storage: _Storage, *, untagged: bool = False) -> Collection:
    before = lifecycle.size(storage.known)
    with lifecycle.standing_still(storage.known, storage.secrets, storage.source, storage.notify):
        report = _collect(storage.known, storage.secrets, storage.source, untagged=untagged)
    after = lifecycle.size(storage.known)
    freed = None if before is None or after is None else max(before - after, 0)
    return Collection(report.count("blob eligible for deletion: "), freed, report)


def _collect(known: BundledState, secrets: BundledSecrets, source: Source, *, untagged: bool = False) -> str:
    """Remove unreferenced blobs from a storage that stands still, and return the report.

    Distribution's own collector, which must not meet a push (distribution #3045, #3743).
    Raises MlpkgError (it failed, or took more than `LONGEST_COLLECTION` seconds), Unreachable.
    """
    arguments = ["garbage-collect", *(["--delete-untagged"] if untagged else [])]
    if known.mode == "process":
        for folder in COLLECTED:
            (state.folder_of(known.wanted) / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        return process.run_once(source.binary(), known.wanted, secrets, arguments, LONGEST_COLLECTION)
    from mlpkg.registry import container  # noqa: PLC0415

    plan = container.plan(known.wanted)
    return container.run_once(plan, secrets, source, arguments, COLLECTED, LONGEST_COLLECTION)


def _findings(found: Contents) -> Findings:
    return Findings(len(found.sizes), sum(found.sizes.values()), tuple(contents.damages(found)))


def _read(storage: _Storage) -> Contents:
    """All that is there. What a push put there while it was read may look as if a part was missing: then again."""
    found = _read_once(storage)
    if contents.missing(found) and lifecycle.is_running(storage.known):
        return _read_once(storage)
    return found


def _read_once(storage: _Storage) -> Contents:
    folder = state.data_folder(storage.known)
    if folder:
        return contents.read(_files_of(folder))
    from mlpkg import engine  # noqa: PLC0415
    from mlpkg.registry import container  # noqa: PLC0415

    plan = container.plan(storage.known.wanted)
    root = container.data_root(plan)
    with (
        container.at_hand(plan, storage.secrets, storage.source) as name,
        engine.archive(name, f"{root}/.") as tar,
    ):
        return contents.read(
            (member.name.removeprefix("./"), file)
            for member in tar
            if member.isfile() and (file := tar.extractfile(member))
        )


def _files_of(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The storage's files. What goes while the registry works is passed over. Raises MlpkgError."""
    for path in sorted((folder / contents.ROOT).rglob("*")):
        try:
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                yield str(path.relative_to(folder)), file
        except FileNotFoundError:
            continue
        except OSError as error:
            raise MlpkgError(
                f"{path}: cannot be read: {error.strerror}", hint="see the disk's own log"
            ) from error


def _repaired(storage: _Storage, found: Contents) -> None:
    """Delete the manifests that need what is damaged, collect, and give the storage a new identity."""
    known = storage.known
    bad = found.rotten | contents.missing(found)
    doomed = contents.affected(found, bad)
    keepers = _write_aids(storage, found, doomed, bad)
    was_running = lifecycle.is_running(known)
    # First the new identity: a repair that is interrupted must not leave receipts that are still believed.
    lifecycle.stop(known)
    _renew_instance(known)
    known = lifecycle.start(known.wanted, storage.secrets, storage.source, storage.notify)
    try:
        for repository, digests in doomed.items():
            for digest in digests:
                _delete_manifest(known, storage.secrets, repository, digest)
        for repository, _ in contents.lost_tags(found):
            _delete_manifest(known, storage.secrets, repository, contents.NOTHING)
        with lifecycle.standing_still(known, storage.secrets, storage.source, storage.notify):
            _collect(known, storage.secrets, storage.source)
        known = state.read_state(known.wanted.port) or known
        for repository, digest in keepers.items():
            _delete_manifest(known, storage.secrets, repository, digest)
        left = _findings(_read(replace(storage, known=known)))
    finally:
        if not was_running:
            lifecycle.stop(state.read_state(known.wanted.port) or known)
    if left.damages:
        raise MlpkgError(
            f"still damaged: {left}", hint="remove the storage (see `mlpkg registry status`) and push again"
        )


def _renew_instance(known: BundledState) -> None:
    """Give the storage of a registry that stands still a new identity. Raises MlpkgError, Unreachable."""
    folder = state.data_folder(known)
    if folder:
        instance = state.renew_instance(folder)
    else:
        from mlpkg.registry import container  # noqa: PLC0415

        instance = container.renew_instance(container.plan(known.wanted))
    state.write_state(replace(known, instance=instance, container=None, pid=None, started=None, since=None))


def _write_aids(
    storage: _Storage, found: Contents, doomed: dict[str, set[Digest]], bad: set[Digest]
) -> dict[str, Digest]:
    """Put files into the storage with which the registry itself can do the rest; the keepers' digests.

    Links get the digest that their path names. Tags that name nothing, and manifests whose bytes are gone, can
    only be deleted when there is something to delete: no bytes at all. And what is sound of the images that are
    deleted is held by one more manifest, or the collector would remove it and a push had to send it again.
    """
    files = {path: digest.encode() for path, digest in found.links.items()}
    for repository, tag in contents.lost_tags(found):
        files[contents.blob_path(contents.NOTHING)] = b""
        files[contents.revision_path(repository, contents.NOTHING)] = contents.NOTHING.encode()
        files[contents.tag_path(repository, tag)] = contents.NOTHING.encode()
    keepers: dict[str, Digest] = {}
    for repository, digests in doomed.items():
        files |= {contents.blob_path(digest): b"" for digest in digests if digest not in found.sizes}
        if data := contents.keeper(found, digests, bad):
            digest = keepers[repository] = sha256(data)
            files[contents.blob_path(digest)] = data
            files[contents.revision_path(repository, digest)] = digest.encode()
    _write(storage, files)
    return keepers


def _write(storage: _Storage, files: dict[str, bytes]) -> None:
    folder = state.data_folder(storage.known)
    if folder:
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            state.write_private(path, data)
        return
    from mlpkg.registry import container  # noqa: PLC0415

    plan = container.plan(storage.known.wanted)
    with container.at_hand(plan, storage.secrets, storage.source) as name:
        container.put(name, plan, files)


def _delete_manifest(known: BundledState, secrets: BundledSecrets, repository: str, digest: Digest) -> None:
    """``DELETE /v2/NAME/manifests/DIGEST`` (distribution-spec, "Deleting Manifests"), and with it its tags."""
    headers = {}
    if known.wanted.auth:
        login = f"{secrets.username}:{secrets.password}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
    connection = http.client.HTTPConnection("127.0.0.1", known.wanted.port, timeout=_ANSWER_TIMEOUT)
    try:
        connection.request("DELETE", f"/v2/{repository}/manifests/{digest}", headers=headers)
        answer = connection.getresponse()
        said = answer.read(1 << 10).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the registry on port {known.wanted.port} does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status not in (202, 404):
        raise MlpkgError(f"{repository}@{digest} cannot be deleted: {answer.status} {said.strip()}")
