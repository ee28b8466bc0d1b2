"""What locked layers are made from, and where it comes from: .debs from mirrors, wheels from indexes and folders."""

from __future__ import annotations

from pathlib import Path

from mlpkg import debian
from mlpkg.lockfile import Deb, PackageLock
from mlpkg.spec.workspace import Package
from mlpkg.store.blobs import Blobs, cache_folder
from mlpkg.wheels.requirements import Requirements, read_requirements
from mlpkg.wheels.sources import WheelSources, wheel_sources
from mlpkg.wheels.target import Target


def deb_cache() -> Path:
    """Where .debs and package indexes are kept."""
    return cache_folder() / "debian"


def fetch_debs(package: Package, debs: tuple[Deb, ...]) -> tuple[Path, ...]:
    """The .deb files, from the cache or a mirror, checked by size and digest."""
    cache = Blobs(deb_cache())
    if all(cache.has(deb.digest, deb.size) for deb in debs):
        return tuple(cache.path(deb.digest) for deb in debs)
    mirrors = debian.choose_mirrors(package.settings.debian, folder=package.root)
    return debian.fetch_debs(mirrors, debs, deb_cache())


def requirements_of(package: Package) -> Requirements:
    """The package's requirements file, read with all that it includes. Raises LockError."""
    name = package.spec.environment.requirements
    shown = package.relative(package.folder)
    return read_requirements(package.folder / name if name else None, folder=package.folder, shown=shown)


def python_sources(package: Package) -> WheelSources:
    """Where the package's wheels come from: mlpkg.toml, the requirements file, uv's or pip's configuration."""
    return wheel_sources(package.settings.python, requirements_of(package), folder=package.root)


def wheel_target(lock: PackageLock) -> Target:
    """What the image's wheels must run on."""
    return Target(lock.python, lock.platform, debian.glibc_version(lock.suite))
