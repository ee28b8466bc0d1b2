"""Where bytes come from: planned files on disk, and the layers of an image as streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlpkg.builders.image import FromFiles, FromLock, ImageLayer
from mlpkg.digest import Digest
from mlpkg.errors import ChangedInput, MlpkgError
from mlpkg.layer import Bytes, Content, Entry, SourceFile, tar_stream
from mlpkg.plan import resources
from mlpkg.plan.plan import PlannedFile
from mlpkg.spec.workspace import Package


@dataclass(frozen=True, slots=True)
class Sources:
    """Where planned files are: the folder of each origin, and the folder that records are relative to."""

    package: Path
    mlpkg: Path
    root: Path

    def path(self, file: PlannedFile) -> Path:
        """The file on disk."""
        return (self.mlpkg if file.origin == "mlpkg" else self.package) / file.source

    def name(self, file: PlannedFile) -> str:
        """The file as records name it."""
        return Path(os.path.relpath(self.path(file), self.root)).as_posix()


def sources_of(package: Package) -> Sources:
    """Where the files of a package's plan lie."""
    return Sources(package.folder, resources.package_folder(), package.root)


def layer_stream(
    layer: ImageLayer, sources: Sources, locked: Callable[[str], Iterator[bytes]]
) -> Iterator[bytes]:
    """A layer's bytes, made or read anew at each call; `locked` gives those of a locked layer by its name.

    Raises ChangedInput for a file that is not what was built, MlpkgError for a layer that is never made here.
    """
    if isinstance(layer.origin, FromFiles):
        return tar_stream(_entries(layer.origin, sources))
    if isinstance(layer.origin, FromLock):
        return locked(layer.origin.layer)
    raise MlpkgError(
        f"layer {layer.name}: its bytes lie in {layer.origin.repository} only",
        hint="push to a registry that has it, or one that can mount it from there",
    )


def entry(file: PlannedFile, content: Content | None) -> Entry:
    """A planned file as a member of a layer; a link, and a file without content, need none."""
    if file.target:
        return Entry(file.path, "symlink", file.mode, target=file.target)
    return Entry(file.path, "file", file.mode, content or Bytes(b""))


def _entries(origin: FromFiles, sources: Sources) -> Iterator[Entry]:
    """The members of a layer of files, each file checked against its recorded digest while it is sent."""
    for file in origin.files:
        yield entry(file, _content(file, sources, origin.digests) if file.origin else None)


def _content(file: PlannedFile, sources: Sources, digests: Mapping[str, Digest]) -> SourceFile:
    path, name = sources.path(file), sources.name(file)
    try:
        return SourceFile(path, path.stat().st_size, digests[name])
    except OSError as error:
        raise ChangedInput(f"{name}: cannot be read: {error.strerror}", hint="run the build again") from error
