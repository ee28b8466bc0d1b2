"""Locked layers: made from .debs and wheels, kept in the blob cache, made again where the cache lacks them.

The same lock gives the same bytes anywhere; a layer made again is compared with the digest in the lock.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from mlpkg import bytecode, debian, formats
from mlpkg.bytecode import Interpreter
from mlpkg.digest import Digest, framed, parse_digest
from mlpkg.errors import DigestMismatch, MlpkgError
from mlpkg.layer import Entry, tar_stream
from mlpkg.lockfile import Deb, LockedLayer, PackageLock
from mlpkg.spec.workspace import Package
from mlpkg.store.blobs import Blobs, cache_folder
from mlpkg.store.records import write_atomically
from mlpkg.wheels.entries import environment_entries
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.locked import own_layers
from mlpkg.wheels.requirements import Requirements, read_requirements
from mlpkg.wheels.sources import WheelSources, wheel_sources
from mlpkg.wheels.target import Target

Notify = Callable[[str], None]


def blobs() -> Blobs:
    """The user's blob cache."""
    return Blobs(cache_folder() / "blobs")


def make_layers(
    package: Package, lock: PackageLock, kept: Mapping[str, LockedLayer], notify: Notify
) -> tuple[LockedLayer, ...]:
    """All locked layers of a lock, in the image's order; those not `kept` are made, into the cache.

    What was made once on this machine, for any package, is remembered by its contents and not made again.
    Python is compiled where this machine can run the image's (decision 5).
    """
    compiled = bool(lock.python) and bytecode.is_native(lock.platform)
    keys = _layer_keys(lock, compiled=compiled)
    layers = {name: known for name, key in keys.items() if (known := _recall(name, key))} | dict(kept)
    for name in ("base", "system"):
        if name in keys and name not in layers:
            layers[name] = _written(name, _debian_layer(package, lock, name), compiled=False)
    if set(keys) <= set(layers):
        return _remembered(keys, layers)
    made = replace(lock, layers=tuple(layers.values()))
    found = _interpreter(package, made, notify) if compiled else None
    if compiled and found is None:
        notify("the image's Python does not run here: its packages are not compiled, services start slower")
        keys = _layer_keys(lock, compiled=False)
    if "bytecode" in keys and "bytecode" not in layers:
        layers["bytecode"] = _written(
            "bytecode", _bytecode_layer(package, made, found, notify), compiled=True
        )
    if not set(keys) <= set(layers):
        for name, stream in _wheel_layers(package, lock, found, notify):
            layers[name] = _written(name, stream, compiled=found is not None)
    return _remembered(keys, layers)


def ensure_layer(package: Package, lock: PackageLock, name: str, notify: Notify) -> Path:
    """The cached blob of a locked layer, made again where the cache lacks it.

    Raises DigestMismatch when the layer made here is not the locked one, and what fetching raises.
    """
    wanted = lock.layer(name)
    # Uploads run in threads; several may lack layers that one installation makes.
    with _making:
        if not blobs().has(wanted.digest, wanted.size):
            _make_again(package, lock, name, notify)
    return blobs().path(wanted.digest)


_making = threading.RLock()


def _make_again(package: Package, lock: PackageLock, name: str, notify: Notify) -> None:
    wanted, cache = lock.layer(name), blobs()
    if not formats.is_current(name, wanted.format):
        raise MlpkgError(
            f"layer {name} of {package.shown} was made by the rules {wanted.format!r}, which this version does not know",
            hint=f"run `mlpkg lock {package.name}`, or use the mlpkg that locked it",
        )
    notify(f"layer {name}: not in the local cache, making it from the lock")
    if name in ("base", "system"):
        found = {name: cache.write(_debian_layer(package, lock, name))}
    else:
        compiled = formats.BYTECODE in wanted.format
        python = _interpreter(package, lock, notify) if compiled else None
        if compiled and python is None:
            raise MlpkgError(
                f"layer {name} of {package.shown} holds Python compiled for {lock.platform}, which does not run here",
                hint=f"push from a {lock.platform} machine first, or use that machine's cache",
            )
        if name == "bytecode":
            found = {name: cache.write(_bytecode_layer(package, lock, python, notify))}
        else:
            found = {
                other: cache.write(stream) for other, stream in _wheel_layers(package, lock, python, notify)
            }
    digest, size = found[name]
    if (digest, size) != (wanted.digest, wanted.size):
        raise DigestMismatch(
            f"layer {name} of {package.shown}: made {digest} ({size} bytes), the lock says {wanted.digest}"
            f" ({wanted.size} bytes)",
            hint=f"please report it; `mlpkg lock --upgrade {package.name}` makes a new lock",
        )


def _layer_keys(lock: PackageLock, *, compiled: bool) -> dict[str, Digest]:
    """What each locked layer is made from, as one digest; in the image's order: what moves least comes first."""
    alone = _own_layers(lock)
    own = [f"wheel:{wheel.name}" for wheel in lock.wheels if wheel.name in alone]
    names = [
        *(["base"] if lock.base else []),
        *(["system"] if lock.system else []),
        *(["bytecode"] if compiled else []),
        *own,
        *(["wheels"] if len(own) < len(lock.wheels) else []),
    ]
    return {name: _layer_key(name, lock, compiled=compiled) for name in names}


def _own_layers(lock: PackageLock) -> frozenset[str]:
    """Names of the wheels with a layer of their own, as the lock has them where it has layers already."""
    locked = frozenset(
        layer.name.removeprefix("wheel:") for layer in lock.layers if layer.name[:6] == "wheel:"
    )
    return locked or own_layers(lock.wheels)


def _layer_key(name: str, lock: PackageLock, *, compiled: bool) -> Digest:
    parts: list[str] = [name, formats.layer_format(name, compiled=compiled), lock.suite]
    if name == "base" or compiled:
        parts += [deb.digest for deb in lock.base]
    if name in ("system", "bytecode"):
        parts += ["system", *(deb.digest for deb in lock.system)]
    if name.startswith("wheel"):
        # Two wheels may claim one file, so that each layer depends on all of them.
        parts += [lock.platform, lock.python, *(wheel.digest for wheel in lock.wheels)]
    return framed(parts)


def _memory(key: Digest) -> Path:
    return cache_folder() / "layers" / key.removeprefix("sha256:")


def _recall(name: str, key: Digest) -> LockedLayer | None:
    try:
        digest, size, form = _memory(key).read_text().rstrip("\n").split(" ", 2)
        return LockedLayer(name, parse_digest(digest), int(size), form)
    except (OSError, ValueError):
        return None


def _remembered(keys: Mapping[str, Digest], layers: Mapping[str, LockedLayer]) -> tuple[LockedLayer, ...]:
    for name, key in keys.items():
        layer = layers[name]
        if _recall(name, key) != layer:
            write_atomically(_memory(key), f"{layer.digest} {layer.size} {layer.format}\n".encode())
    return tuple(layers[name] for name in keys)


def _written(name: str, stream: Iterator[bytes], *, compiled: bool) -> LockedLayer:
    digest, size = blobs().write(stream)
    return LockedLayer(name, digest, size, formats.layer_format(name, compiled=compiled))


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
    shown = package.relative(package.folder)
    return read_requirements(package.folder / name if name else None, folder=package.folder, shown=shown)


def python_sources(package: Package) -> WheelSources:
    """Where the package's wheels come from: mlpkg.toml, the requirements file, uv's or pip's configuration."""
    return wheel_sources(package.settings.python, requirements_of(package), folder=package.root)


def wheel_target(lock: PackageLock) -> Target:
    """What the image's wheels must run on."""
    return Target(lock.python, lock.platform, debian.glibc_version(lock.suite))


def _all_cached(debs: Iterable[Deb]) -> bool:
    cache = Blobs(deb_cache())
    return all(cache.has(deb.digest, deb.size) for deb in debs)


def _debian_layer(package: Package, lock: PackageLock, name: str) -> Iterator[bytes]:
    debs = lock.base if name == "base" else lock.system
    paths = fetch_debs(package, debs)
    placed = list(zip(debs, paths, strict=True))
    return tar_stream(debian.layer_entries(placed, suite=lock.suite, with_base=name == "base"))


def _interpreter(package: Package, lock: PackageLock, notify: Notify) -> Interpreter | None:
    """The image's Python, able to run here; needs the base layer."""
    base = ensure_layer(package, lock, "base", notify)
    return bytecode.interpreter(base, python=lock.python, platform=lock.platform, cache=cache_folder())


def _bytecode_layer(
    package: Package, lock: PackageLock, python: Interpreter | None, notify: Notify
) -> Iterator[bytes]:
    """The standard library (and Debian's own Python packages), compiled."""
    notify("compiling the image's standard library")
    names = [name for name in ("base", "system") if any(layer.name == name for layer in lock.layers)]
    lower = [ensure_layer(package, lock, name, notify) for name in names]
    return tar_stream(bytecode.layer_bytecode(python, lower, cache=cache_folder()) if python else ())


def _wheel_layers(
    package: Package, lock: PackageLock, python: Interpreter | None, notify: Notify
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """One stream a layer: each heavy wheel, then all others. Valid only until the next one is asked for."""
    folder = cache_folder() / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        tree = Path(temporary) / "tree"
        doing = "installing and compiling" if python else "installing"
        notify(f"{doing} {len(lock.wheels)} Python packages for {lock.platform}, Python {lock.python}")
        install_wheels(
            lock.wheels, tree, target=wheel_target(lock), sources=python_sources(package), notify=notify
        )
        entries = environment_entries(tree, python=lock.python)
        light: list[list[Entry]] = []
        own = _own_layers(lock)
        for wheel in lock.wheels:
            found = entries[wheel.name]
            if python:
                found = [*found, *bytecode.wheel_bytecode(python, found, cache=cache_folder())]
            if wheel.name in own:
                yield f"wheel:{wheel.name}", tar_stream(_sorted(found))
            else:
                light.append(found)
        if light:
            yield "wheels", tar_stream(_sorted(chain.from_iterable(light)))


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.path)


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
