"""The bundled registry's image and program: an mlpkg package like any other, built by mlpkg.

Its lock and records lie in the user's state folder, because an installed mlpkg is read-only and Debian's
mirrors drop superseded packages.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpkg.builders import direct
from mlpkg.builders.archive import archive
from mlpkg.builders.sources import layer_stream, sources_of
from mlpkg.errors import LockError, MlpkgError
from mlpkg.lock import choose, layers
from mlpkg.lock.layers import Making
from mlpkg.lockfile import PackageLock
from mlpkg.plan.plan import plan
from mlpkg.plan.resources import data_folder
from mlpkg.plan.snapshot import snapshot
from mlpkg.progress import Notify
from mlpkg.registry.state import state_folder
from mlpkg.spec.model import WorkspaceSpec
from mlpkg.spec.workspace import Package, single
from mlpkg.store.blobs import cache_folder
from mlpkg.store.files import write_atomically

IMAGE_NAME = "mlpkg/registry:latest"
PROGRAM = "usr/bin/docker-registry"


@dataclass(frozen=True, slots=True)
class BundledSource:
    """Makes the registry's image, or finds its program, when `mlpkg.registry.bundled.up` asks for it."""

    settings: WorkspaceSpec
    notify: Notify

    def image(self) -> tuple[str, Iterator[bytes]]:
        """The configuration's digest, and an archive for `docker load`."""
        package = self._package()
        locked = self._locked(package)
        sources = sources_of(package)
        image = direct.build(plan(package.spec, locked, snapshot(package)), sources, None, {}).image

        def read_locked(name: str) -> Iterator[bytes]:
            return layers.read_layer(Making(package, locked, self.notify), name)

        stream = archive(image, lambda layer: layer_stream(layer, sources, read_locked), [IMAGE_NAME])
        return image.config_descriptor().digest, stream

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
        folder = data_folder("registry")
        return single(folder, state=state, settings=self.settings, shown="registry/package.toml")

    def _locked(self, package: Package) -> PackageLock:
        """The lock, with its layers at hand. It is nobody's to keep: one that serves no more is chosen anew."""
        try:
            return self._made(package, upgrade=False)
        except LockError as error:
            self.notify(f"the registry's own lock serves no more: {error.message}")
            return self._made(package, upgrade=True)

    def _made(self, package: Package, *, upgrade: bool) -> PackageLock:
        locked, _ = choose.make_lock(package, upgrade=upgrade, notify=self.notify)
        for layer in locked.layers:
            layers.ensure_layer(Making(package, locked, self.notify), layer.name)
        return locked


def _take_program(package: Package, locked: PackageLock, target: Path) -> None:
    """Out of the system layer, whose digest the lock holds. Written aside and renamed."""
    path = layers.ensure_layer(Making(package, locked, lambda _: None), "system")
    with tarfile.open(path) as archive:
        member = archive.extractfile(PROGRAM)
        if member is None:
            raise MlpkgError(f"Debian's docker-registry has no /{PROGRAM}")
        data = member.read()
    write_atomically(target, data, mode=0o755)
