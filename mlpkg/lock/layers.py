"""Locked layers: made from .debs and wheels, kept in the blob cache, made again where the cache lacks them.

The same lock gives the same bytes anywhere; a layer made again is compared with the digest in the lock.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mlpkg import bytecode, debian, formats
from mlpkg.bytecode import Interpreter
from mlpkg.digest import Descriptor, Digest, framed, parse_digest
from mlpkg.errors import DigestMismatch, LockError, MlpkgError
from mlpkg.layer import MEDIA_TYPE, Entry, tar_stream
from mlpkg.lock.materials import fetch_debs, python_sources, wheel_target
from mlpkg.lockfile import LockedLayer, PackageLock
from mlpkg.plan.plan import site_packages
from mlpkg.progress import Notify
from mlpkg.spec.workspace import Package
from mlpkg.store.blobs import Blobs, cache_folder
from mlpkg.store.files import write_atomically
from mlpkg.wheels.entries import environment_entries
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.locked import own_layers

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


Kept = Callable[[Descriptor], Iterator[bytes]]
"""Reads a locked layer from where it is kept besides the cache. Raises MlpkgError where it is not."""


@dataclass(frozen=True, slots=True)
class Making:
    """How locked layers are made: for which package, by which lock, telling whom, and where else they may lie."""

    package: Package
    lock: PackageLock
    notify: Notify
    kept: Kept | None = None

    def interpreter(self) -> Interpreter | None:
        """The image's Python, able to run here; needs the base layer."""
        base = ensure_layer(self, "base")
        return bytecode.interpreter(
            base, python=self.lock.python, platform=self.lock.platform, cache=cache_folder()
        )


def blobs() -> Blobs:
    """The user's blob cache."""
    return Blobs(cache_folder() / "blobs")


def make_layers(making: Making, kept: Mapping[str, LockedLayer]) -> tuple[LockedLayer, ...]:
    """All locked layers of a lock, in the image's order; those not `kept` are made, into the cache.

    What was made once on this machine, for any package, is remembered by its contents and not made again.
    Python is compiled where this machine can run the image's (decision 5).
    """
    lock = making.lock
    compiled = bool(lock.python) and bytecode.is_native(lock.platform)
    keys = _layer_keys(lock, compiled=compiled)
    layers = {name: known for name, key in keys.items() if (known := _recall(name, key))} | dict(kept)
    if set(keys) <= set(layers):
        return _remembered(keys, layers)
    with _installation(making) as wheels:
        if not {name for name in keys if name.startswith("wheel")} <= set(layers):
            wheels.begin()
        for name in ("base", "system"):
            if name in keys and name not in layers:
                layers[name] = _written(name, _debian_layer(making, name), compiled=False)
        if set(keys) <= set(layers):
            return _remembered(keys, layers)
        made = replace(making, lock=replace(lock, layers=tuple(layers.values())))
        found = made.interpreter() if compiled else None
        if compiled and found is None:
            making.notify(
                "the image's Python does not run here: its packages are not compiled, services start slower"
            )
            keys = _layer_keys(lock, compiled=False)
        if "bytecode" in keys and "bytecode" not in layers:
            layers["bytecode"] = _written("bytecode", _bytecode_layer(made, found), compiled=True)
        if not set(keys) <= set(layers):
            for name, stream in _wheel_layers(wheels, found):
                layers[name] = _written(name, stream, compiled=found is not None)
    return _remembered(keys, layers)


def ensure_layer(making: Making, name: str) -> Path:
    """The cached blob of a locked layer: where the cache lacks it, read from where it is kept, else made again.

    Raises DigestMismatch when the layer made here is not the locked one, and what fetching raises.
    """
    wanted = making.lock.layer(name)
    # Uploads run in threads; several may lack layers that one installation makes.
    with _making:
        if not blobs().has(wanted.digest, wanted.size) and not _taken(making, wanted):
            _make_again(making, name)
    return blobs().path(wanted.digest)


_making = threading.RLock()


def _taken(making: Making, wanted: LockedLayer) -> bool:
    """Bring a layer into the cache from where it is kept; False where it is not, or cannot be read."""
    if making.kept is None:
        return False
    try:
        blobs().write(making.kept(Descriptor(MEDIA_TYPE, wanted.digest, wanted.size)))
    except MlpkgError:
        return False
    making.notify(f"layer {wanted.name}: not in the local cache, taken from the registry")
    return True


def _make_again(making: Making, name: str) -> None:
    package, lock = making.package, making.lock
    wanted, cache = lock.layer(name), blobs()
    if not formats.is_current(name, wanted.format):
        raise MlpkgError(
            f"layer {name} of {package.shown} was made by the rules {wanted.format!r}, which this version does not know",
            hint=f"run `mlpkg lock {package.name}`, or use the mlpkg that locked it",
        )
    making.notify(f"layer {name}: not in the local cache, making it from the lock")
    if name in ("base", "system"):
        found = {name: cache.write(_debian_layer(making, name))}
    else:
        compiled = formats.BYTECODE in wanted.format
        python = making.interpreter() if compiled else None
        if compiled and python is None:
            raise MlpkgError(
                f"layer {name} of {package.shown} holds Python compiled for {lock.platform}, which does not run here",
                hint=f"push from a {lock.platform} machine first, or use that machine's cache",
            )
        if name == "bytecode":
            found = {name: cache.write(_bytecode_layer(making, python))}
        else:
            with _installation(making) as wheels:
                found = {other: cache.write(stream) for other, stream in _wheel_layers(wheels, python)}
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


def _debian_layer(making: Making, name: str) -> Iterator[bytes]:
    debs = making.lock.base if name == "base" else making.lock.system
    placed = list(zip(debs, fetch_debs(making.package, debs), strict=True))
    return tar_stream(debian.layer_entries(placed, suite=making.lock.suite, with_base=name == "base"))


def _bytecode_layer(making: Making, python: Interpreter | None) -> Iterator[bytes]:
    """The standard library (and Debian's own Python packages), compiled."""
    making.notify("compiling the image's standard library")
    held = {layer.name for layer in making.lock.layers}
    lower = [ensure_layer(making, name) for name in ("base", "system") if name in held]
    return tar_stream(bytecode.layer_bytecode(python, lower, cache=cache_folder()) if python else ())


class _Installation:
    """The lock's wheels in a folder of their own: uv fetches and unpacks them while other layers are made."""

    def __init__(self, making: Making, folder: Path, pool: Executor) -> None:
        self.lock = making.lock
        self._making, self._tree, self._pool = making, folder / "tree", pool
        self._begun: Future[None] | None = None

    def begin(self) -> Future[None]:
        """Start it, where it was not started yet."""
        if self._begun is None:
            lock, notify = self.lock, self._making.notify
            notify(f"installing {len(lock.wheels)} Python packages for {lock.platform}, Python {lock.python}")
            self._begun = self._pool.submit(
                install_wheels,
                lock.wheels,
                self._tree,
                target=wheel_target(lock),
                sources=python_sources(self._making.package),
                notify=notify,
            )
        return self._begun

    def tree(self) -> Path:
        """Where they are installed, once they are. Raises what `install_wheels` raises."""
        self.begin().result()
        return self._tree


@contextmanager
def _installation(making: Making) -> Iterator[_Installation]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - a run with nothing to do needs none

    folder = cache_folder() / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary, ThreadPoolExecutor(1) as pool:
        yield _Installation(making, Path(temporary), pool)


def _wheel_layers(wheels: _Installation, python: Interpreter | None) -> Iterator[tuple[str, Iterator[bytes]]]:
    """One stream a layer: each heavy wheel, then all others. Valid only until the next one is asked for."""
    entries = environment_entries(wheels.tree(), python=wheels.lock.python)
    _refuse_server(entries, site_packages(wheels.lock.python))
    light: list[list[Entry]] = []
    own = _own_layers(wheels.lock)
    for wheel in wheels.lock.wheels:
        found = entries[wheel.name]
        if python:
            found = [*found, *bytecode.wheel_bytecode(python, found, cache=cache_folder())]
        if wheel.name in own:
            yield f"wheel:{wheel.name}", tar_stream(_sorted(found))
        else:
            light.append(found)
    if light:
        yield "wheels", tar_stream(_sorted(chain.from_iterable(light)))


def _refuse_server(entries: Mapping[str, Sequence[Entry]], site: str) -> None:
    """Raise LockError for packages with files at the place of the server that ships in images.

    The server's layer lies above theirs, but what it does not overwrite (a compiled file) would be loaded instead.
    """
    for name, held in entries.items():
        for entry in held:
            if entry.path.startswith((f"{site}/mlpkg/", f"{site}/mlpkg.")):
                raise LockError(
                    f"the Python package {name} holds /{entry.path}, which is the place of the image's server",
                    hint="remove it from the requirements: the image brings its own server",
                )


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.path)


def read_layer(making: Making, name: str) -> Iterator[bytes]:
    """A locked layer's bytes; a damaged blob in the cache is made anew once."""
    wanted = making.lock.layer(name)
    path = ensure_layer(making, name)
    if not blobs().is_whole(wanted.digest, wanted.size):
        path.unlink(missing_ok=True)
        ensure_layer(making, name)
    return blobs().read(wanted.digest)
