"""The bundled registry's image and program: an mlpkg package like any other, built by mlpkg.

Its lock and records lie in the user's state folder, because an installed mlpkg is read-only and Debian's
mirrors drop superseded packages.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpkg.builders import archive as layout
from mlpkg.builders import direct
from mlpkg.digest import sha256
from mlpkg.errors import LockError, MlpkgError
from mlpkg.lock import choose as lock
from mlpkg.lock import layers as environment
from mlpkg.lockfile import PackageLock
from mlpkg.plan import plan, resources
from mlpkg.registry.bundled import state_folder
from mlpkg.registry.state import NotWritten
from mlpkg.spec.model import WorkspaceSpec
from mlpkg.spec.workspace import Package, single
from mlpkg.steps import look as steps
from mlpkg.steps.perform import sources_of
from mlpkg.store.blobs import cache_folder
from mlpkg.store.records import write_atomically

PROGRAM = "usr/bin/docker-registry"


@dataclass(frozen=True, slots=True)
class BundledSource:
    """Makes the registry's image, or finds its program, when `mlpkg.registry.bundled.up` asks for it."""

    settings: WorkspaceSpec
    notify: Callable[[str], None]

    def image(self) -> tuple[str, Iterator[bytes]]:
        """The configuration's digest, and an archive for `docker load`."""
        package = self._package()
        locked = self._locked(package)
        built, _ = direct.build(
            plan.plan(package.spec, locked, steps.snapshot(package)), sources_of(package), None, {}
        )
        config, manifest = built.config.encode(), built.manifest.encode()
        layers = [
            layout.Blob(layer.digest, layer.size, self._reader(package, locked, layer.name))
            for layer in built.layers
        ]
        return sha256(config), layout.archive(manifest, config, layers, ["mlpkg/registry:latest"])

    def binary(self) -> Path:
        """The registry's program, taken out of its .deb; for machines without an engine."""
        package = self._package()
        locked = self._locked(package)
        deb = next(deb for deb in locked.system if deb.name == "docker-registry")
        target = cache_folder() / "programs" / deb.digest.removeprefix("sha256:") / "docker-registry"
        if not target.is_file():
            _take_program(package, locked, target)
        return target

    def _package(self) -> Package:
        state = state_folder() / "registry-image"
        folder = resources.data_folder("registry")
        return single(folder, state=state, settings=self.settings, shown="registry/package.toml")

    def _locked(self, package: Package) -> PackageLock:
        """The lock, with its layers at hand. It is nobody's to keep: one that serves no more is chosen anew.

        Raises NotWritten when the state folder or the cache has no room, and what locking raises.
        """
        try:
            try:
                return self._made(package, upgrade=False)
            except LockError as error:
                self.notify(f"the registry's own lock serves no more: {error.message}")
                return self._made(package, upgrade=True)
        except OSError as error:
            raise NotWritten(
                f"the registry's own image cannot be made: {error.strerror} ({error.filename or package.records})",
                hint="make room in the state folder and in the cache",
            ) from error

    def _made(self, package: Package, *, upgrade: bool) -> PackageLock:
        locked, _ = lock.make_lock(package, upgrade=upgrade, notify=self.notify)
        for layer in locked.layers:
            environment.ensure_layer(package, locked, layer.name, self.notify)
        return locked

    def _reader(self, package: Package, locked: PackageLock, name: str) -> Callable[[], Iterator[bytes]]:
        return lambda: environment.read_layer(package, locked, name, self.notify)


def _take_program(package: Package, locked: PackageLock, target: Path) -> None:
    """Out of the system layer, whose digest the lock holds. Written aside and renamed."""
    path = environment.ensure_layer(package, locked, "system", lambda _: None)
    with tarfile.open(path) as archive:
        member = archive.extractfile(PROGRAM)
        if member is None:
            raise MlpkgError(f"Debian's docker-registry has no /{PROGRAM}")
        data = member.read()
    write_atomically(target, data, mode=0o755)
