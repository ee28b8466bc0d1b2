"""Locked layers: made from .debs and wheels, kept in the blob cache, made again where the cache lacks them.

The same lock gives the same bytes anywhere; a layer made again is compared with the digest in the lock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from mlpkg import debian
from mlpkg.blobs import Blobs, cache_folder
from mlpkg.digest import Digest, framed, parse_digest
from mlpkg.errors import DigestMismatch
from mlpkg.formats import layer_formats
from mlpkg.layer import Entry, tar_stream
from mlpkg.lockfile import Deb, LockedLayer, PackageLock
from mlpkg.records import write_atomically
from mlpkg.wheels.entries import environment_entries
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.locked import heavy
from mlpkg.wheels.requirements import Requirements, read_requirements
from mlpkg.wheels.sources import WheelSources, wheel_sources
from mlpkg.wheels.target import Target
from mlpkg.workspace import Package

Notify = Callable[[str], None]


def blobs() -> Blobs:
    """The user's blob cache."""
    return Blobs(cache_folder() / "blobs")


def layer_names(lock: PackageLock) -> tuple[str, ...]:
    """The locked layers that a lock has, in the image's order: what moves least comes first."""
    own = tuple(f"wheel:{wheel.name}" for wheel in lock.wheels if heavy(wheel))
    return (
        *(("base",) if lock.base else ()),
        *(("system",) if lock.system else ()),
        *own,
        *(("wheels",) if len(own) < len(lock.wheels) else ()),
    )


def make_layers(
    package: Package, lock: PackageLock, kept: Mapping[str, LockedLayer], notify: Notify
) -> tuple[LockedLayer, ...]:
    """All locked layers of a lock, in the image's order; those not `kept` are made, into the cache.

    What was made once on this machine, for any package, is remembered by its contents and not made again.
    """
    formats, keys = layer_formats(), _layer_keys(lock)
    remembered = {name: _recall(keys[name]) for name in keys}
    layers = {
        name: LockedLayer(name, *known, formats["debian" if name in ("base", "system") else "wheels"])
        for name, known in remembered.items()
        if known
    } | dict(kept)
    for name, debs in (("base", lock.base), ("system", lock.system)):
        if debs and name not in layers:
            digest, size = blobs().write(_debian_layer(package, lock, debs, with_base=name == "base"))
            layers[name] = LockedLayer(name, digest, size, formats["debian"])
    if not set(keys) <= set(layers):
        for name, stream in _wheel_layers(package, lock, notify):
            digest, size = blobs().write(stream)
            layers[name] = LockedLayer(name, digest, size, formats["wheels"])
    for name, key in keys.items():
        _remember(key, layers[name])
    return tuple(layers[name] for name in keys)


def _layer_keys(lock: PackageLock) -> dict[str, Digest]:
    """What each locked layer is made from, as one digest; in the image's order."""
    formats = layer_formats()
    wheels = [wheel.digest for wheel in lock.wheels]
    return {
        name: framed((formats["debian"], lock.suite, name, *(deb.digest for deb in getattr(lock, name))))
        if name in ("base", "system")
        # Two wheels may claim one file, so that each layer depends on all of them.
        else framed((formats["wheels"], lock.suite, lock.platform, lock.python, name, *wheels))
        for name in layer_names(lock)
    }


def _memory(key: Digest) -> Path:
    return cache_folder() / "layers" / key.removeprefix("sha256:")


def _recall(key: Digest) -> tuple[Digest, int] | None:
    try:
        digest, size = _memory(key).read_text().split()
        return parse_digest(digest), int(size)
    except (OSError, ValueError):
        return None


def _remember(key: Digest, layer: LockedLayer) -> None:
    if _recall(key) != (layer.digest, layer.size):
        write_atomically(_memory(key), f"{layer.digest} {layer.size}\n".encode())


def ensure_layer(package: Package, lock: PackageLock, name: str, notify: Notify) -> Path:
    """The cached blob of a locked layer, made again where the cache lacks it.

    Raises DigestMismatch when the layer made here is not the locked one, and what fetching raises.
    """
    wanted = lock.layer(name)
    cache = blobs()
    if cache.has(wanted.digest, wanted.size):
        return cache.path(wanted.digest)
    notify(f"layer {name}: not in the local cache, making it from the lock")
    if name in ("base", "system"):
        debs = lock.base if name == "base" else lock.system
        found = {name: cache.write(_debian_layer(package, lock, debs, with_base=name == "base"))}
    else:
        found = {other: cache.write(stream) for other, stream in _wheel_layers(package, lock, notify)}
    digest, size = found[name]
    if (digest, size) != (wanted.digest, wanted.size):
        raise DigestMismatch(
            f"layer {name} of {package.shown}: made {digest} ({size} bytes), the lock says {wanted.digest} ({wanted.size})",
            hint=f"locked with {wanted.format!r}, made with {layer_formats()!r}; run `mlpkg lock {package.name}`",
        )
    return cache.path(digest)


def fetch_debs(package: Package, debs: tuple[Deb, ...]) -> tuple[Path, ...]:
    """The .deb files, from the cache or a mirror, checked by size and digest."""
    mirrors = (
        None if _all_cached(debs) else debian.choose_mirrors(package.settings.debian, folder=package.root)
    )
    if mirrors is None:
        return tuple(deb_cache() / "sha256" / deb.digest.removeprefix("sha256:") for deb in debs)
    return debian.fetch_debs(mirrors, debs, deb_cache())


def deb_cache() -> Path:
    """Where .debs and package indexes are kept."""
    return cache_folder() / "debian"


def requirements_of(package: Package) -> Requirements:
    """The package's requirements file, read with all that it includes. Raises LockError."""
    name = package.spec.environment.requirements
    return read_requirements(package.folder / name if name else None, folder=package.folder)


def python_sources(package: Package) -> WheelSources:
    """Where the package's wheels come from: mlpkg.toml, the requirements file, uv's or pip's configuration."""
    return wheel_sources(package.settings.python, requirements_of(package), folder=package.root)


def wheel_target(lock: PackageLock) -> Target:
    """What the image's wheels must run on."""
    return Target(lock.python, lock.platform, debian.glibc_version(lock.suite))


def _all_cached(debs: Iterable[Deb]) -> bool:
    cache = Blobs(deb_cache())
    return all(cache.has(deb.digest, deb.size) for deb in debs)


def _debian_layer(
    package: Package, lock: PackageLock, debs: tuple[Deb, ...], *, with_base: bool
) -> Iterator[bytes]:
    paths = fetch_debs(package, debs)
    entries = debian.layer_entries(list(zip(debs, paths, strict=True)), suite=lock.suite, with_base=with_base)
    return tar_stream(entries)


def _wheel_layers(
    package: Package, lock: PackageLock, notify: Notify
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """One stream a layer: each heavy wheel, then all others. Valid only until the next one is asked for."""
    folder = cache_folder() / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        tree = Path(temporary) / "tree"
        notify(f"installing {len(lock.wheels)} Python packages for {lock.platform}, Python {lock.python}")
        install_wheels(
            lock.wheels, tree, target=wheel_target(lock), sources=python_sources(package), notify=notify
        )
        entries = environment_entries(tree, python=lock.python)
        light: list[list[Entry]] = []
        for wheel in lock.wheels:
            found = entries[wheel.name]
            if heavy(wheel):
                yield f"wheel:{wheel.name}", tar_stream(found)
            else:
                light.append(found)
        if light:
            yield "wheels", tar_stream(sorted(chain.from_iterable(light), key=lambda entry: entry.path))


def read_layer(package: Package, lock: PackageLock, name: str, notify: Notify) -> Iterator[bytes]:
    """A locked layer's bytes; a damaged blob in the cache is made anew once."""
    wanted = lock.layer(name)
    path = ensure_layer(package, lock, name, notify)
    if not _is_whole(path, wanted.digest):
        path.unlink(missing_ok=True)
        ensure_layer(package, lock, name, notify)
    return blobs().read(wanted.digest)


def _is_whole(path: Path, digest: Digest) -> bool:
    import hashlib  # noqa: PLC0415

    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest
