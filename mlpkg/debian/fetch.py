"""Locked .debs, from the mirrors into a content-addressed cache (``<cache>/sha256/<hex>``)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from mlpkg.debian.mirror import Mirrors
from mlpkg.debian.transfer import CHUNK, Absent, Session
from mlpkg.digest import Digest
from mlpkg.errors import LockError
from mlpkg.lockfile import Deb


def cached(cache: Path, digest: Digest, size: int) -> Path | None:
    """The cached file with these bytes, checked; None when there is none or it has gone bad."""
    path = cache_path(cache, digest)
    state = hashlib.sha256()
    try:
        if path.stat().st_size != size:
            return None
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                state.update(piece)
    except OSError:
        return None
    return path if "sha256:" + state.hexdigest() == digest else None


def cache_path(cache: Path, digest: Digest) -> Path:
    """Where the file with that digest lies."""
    return cache / "sha256" / digest.removeprefix("sha256:")


def fetch_deb(mirrors: Mirrors, deb: Deb, cache: Path) -> Path:
    """Bring one .deb into the cache. Raises like `fetch_debs`."""
    return fetch_debs(mirrors, (deb,), cache)[0]


def fetch_debs(
    mirrors: Mirrors,
    debs: Sequence[Deb],
    cache: Path,
    *,
    jobs: int = 4,
    progress: Callable[[Deb], None] | None = None,
) -> tuple[Path, ...]:
    """Bring .debs into the cache, `jobs` at a time; the paths keep the order of `debs`.

    `progress` is called in the calling thread once for each .deb that is there. Raises LockError when
    no mirror has a file any more, DigestMismatch when one has other bytes, Unreachable.
    """
    from concurrent.futures import ThreadPoolExecutor, as_completed  # noqa: PLC0415

    with Session(mirrors) as session, ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting = {pool.submit(_fetch, session, mirrors, deb, cache): deb for deb in dict.fromkeys(debs)}
        try:
            for done in as_completed(waiting):
                done.result()
                if progress:
                    progress(waiting[done])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tuple(cache_path(cache, deb.digest) for deb in debs)


def _fetch(session: Session, mirrors: Mirrors, deb: Deb, cache: Path) -> None:
    if cached(cache, deb.digest, deb.size):
        return
    for base in mirrors.addresses:
        try:
            session.save(
                base, deb.filename, size=deb.size, digest=deb.digest, target=cache_path(cache, deb.digest)
            )
        except Absent:
            continue
        return
    places = " nor ".join(mirrors.addresses)
    raise LockError(
        f"{deb.name} {deb.version} ({deb.filename}) is no longer on {places}: mirrors drop superseded packages",
        hint="lock again with `mlpkg lock --upgrade`, or set [debian] mirror and snapshot to a snapshot archive",
    )
