"""Locked .debs, from the mirrors into a content-addressed cache (``<cache>/sha256/<hex>``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from mlpkg.debian.mirror import Mirrors
from mlpkg.debian.transfer import Absent, MirrorFiles
from mlpkg.errors import LockError
from mlpkg.lockfile import Deb
from mlpkg.store.blobs import Blobs


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

    blobs = Blobs(cache)
    with closing(MirrorFiles(mirrors)) as files, ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting = {pool.submit(_fetch, files, mirrors, deb, blobs): deb for deb in dict.fromkeys(debs)}
        try:
            for done in as_completed(waiting):
                done.result()
                if progress:
                    progress(waiting[done])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tuple(blobs.path(deb.digest) for deb in debs)


def _fetch(files: MirrorFiles, mirrors: Mirrors, deb: Deb, blobs: Blobs) -> None:
    if blobs.is_whole(deb.digest, deb.size):
        return
    for base in mirrors.addresses:
        try:
            files.save(base, deb.filename, deb.digest, deb.size, blobs)
        except Absent:
            continue
        return
    places = " nor ".join(mirrors.addresses)
    raise LockError(
        f"{deb.name} {deb.version} ({deb.filename}) is no longer on {places}: mirrors drop superseded packages",
        hint="lock again with `mlpkg lock --upgrade`, or set [debian] mirror and snapshot to a snapshot archive",
    )
