"""What decides a lock: compared at every run, so nothing of what makes locks is loaded here."""

from __future__ import annotations

from pathlib import Path

from mlpkg.digest import Digest, framed
from mlpkg.errors import LockError
from mlpkg.formats import LOCK
from mlpkg.lock.script import needs_rawhttp
from mlpkg.plan import servers
from mlpkg.spec.model import PackageSpec
from mlpkg.spec.workspace import Package


def suite_of(spec: PackageSpec) -> str:
    """``trixie`` of ``debian:trixie``."""
    return spec.image.base.removeprefix("debian:")


def needs_python(spec: PackageSpec) -> bool:
    """Whether the image has a Python: for an entry script, or for Python packages asked for."""
    return spec.entry is not None or spec.environment.requirements is not None


def runtime_requirements(package: Package) -> tuple[str, ...]:
    """What the server itself needs beside the user's requirements, for the script it will serve."""
    return servers.requirements(package.spec.server, rawhttp=needs_rawhttp(package))


def requirement_files(package: Package) -> tuple[Path, ...]:
    """The requirements file and all that it includes."""
    from mlpkg.wheels.requirements import requirement_inputs  # noqa: PLC0415 - only where something is locked

    name = package.spec.environment.requirements
    shown = package.relative(package.folder)
    return requirement_inputs(package.folder / name, folder=package.folder, shown=shown) if name else ()


def lock_values(package: Package) -> dict[str, str]:
    """All that decides the choice besides the requirement files' contents, as small texts."""
    spec = package.spec
    return {
        "base": spec.image.base,
        "platform": spec.image.platforms[0],
        "python": "yes" if needs_python(spec) else "no",
        "debian": " ".join(sorted(spec.environment.debian)),
        "server": " ".join((spec.server.kind, *runtime_requirements(package))),
    }


def inputs_digest(package: Package) -> Digest:
    """What `PackageLock.inputs` must be for the lock to fit. Raises LockError for an unreadable file."""
    parts: list[bytes | str] = [str(LOCK)]
    for name, value in sorted(lock_values(package).items()):
        parts += [name, value]
    for path in requirement_files(package):
        try:
            parts += [path.relative_to(package.folder).as_posix(), path.read_bytes()]
        except OSError as error:
            raise LockError(f"{path}: {error.strerror}", hint="environment.requirements names it") from error
    return framed(parts)
