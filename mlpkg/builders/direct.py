"""The direct builder: no daemon, no root, no emulation, and no second copy of a model on disk.

A layer of files is read once, to know its digest; its bytes are made again while they are sent. A layer
whose recipe and files are those of the record before is not read at all. Locked layers are known by
digest: they are made where a registry or an engine really lacks them (`mlpkg.lock.layers`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpkg.builders.manifest import config_json, manifest_json
from mlpkg.digest import Descriptor, Digest, canonical_json, framed, sha256
from mlpkg.errors import ChangedInput
from mlpkg.formats import TAR
from mlpkg.layer import CHUNK, MEDIA_TYPE, Bytes, Content, Entry, SourceFile, tar_stream
from mlpkg.plan.plan import BuildPlan, PlannedFile, PlannedLayer
from mlpkg.store.records import FileState, identity

THREAD_FROM = 8 * CHUNK
"""Bytes from which a file's own digest is taken in a second thread (hashlib releases the lock)."""


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A layer as built. `recipe` is the digest of its headers' origin; `sources` the files' digests by path."""

    name: str
    digest: Digest
    size: int
    recipe: Digest
    sources: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a build gives, whichever builder made it. `made` names the layers whose bytes are new."""

    digest: Digest
    manifest: str
    config: str
    layers: tuple[BuiltLayer, ...]
    made: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The `result` of image.json."""
        return {
            "digest": self.digest,
            "size": sum(layer.size for layer in self.layers),
            "manifest": self.manifest,
            "config": self.config,
            "layers": [
                {
                    "name": layer.name,
                    "digest": layer.digest,
                    "size": layer.size,
                    "recipe": layer.recipe,
                    "sources": dict(layer.sources),
                }
                for layer in self.layers
            ],
            "made": list(self.made),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageRecord:
        """Take it back. Raises KeyError and TypeError when it is something else."""
        layers = tuple(
            BuiltLayer(
                row["name"], Digest(row["digest"]), row["size"], Digest(row["recipe"]), dict(row["sources"])
            )
            for row in value["layers"]
        )
        return cls(Digest(value["digest"]), value["manifest"], value["config"], layers, tuple(value["made"]))


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


def build(
    plan: BuildPlan, sources: Sources, previous: ImageRecord | None, known: Mapping[str, FileState]
) -> tuple[ImageRecord, dict[str, FileState]]:
    """The image of a plan, and the state of every file that was consumed.

    `previous` and `known` are the record before: its image, and the file states that still hold.
    Raises ChangedInput when a file changes while it is read.
    """
    old = {layer.name: layer for layer in previous.layers} if previous else {}
    layers: list[BuiltLayer] = []
    states: dict[str, FileState] = {}
    made: list[str] = []
    for planned in plan.layers:
        layer = _kept(planned, old.get(planned.name), sources, known)
        if layer:
            states |= {name: known[name] for name in layer.sources}
        else:
            layer, read = _measured(planned, sources)
            states |= read
        if planned.name not in old or old[planned.name].digest != layer.digest:
            made.append(planned.name)
        layers.append(layer)
    descriptors = [Descriptor(MEDIA_TYPE, layer.digest, layer.size) for layer in layers]
    config = config_json(plan, descriptors)
    manifest = manifest_json(plan, config, descriptors)
    record = ImageRecord(sha256(manifest), manifest.decode(), config.decode(), tuple(layers), tuple(made))
    return record, states


def entries(layer: PlannedLayer, sources: Sources, digests: Mapping[str, Digest]) -> Iterator[Entry]:
    """The entries of a layer of files, each file checked against its recorded digest while it is sent.

    Raises ChangedInput for a file that is gone.
    """
    for file in layer.files:
        content = None
        if file.origin:
            path, name = sources.path(file), sources.name(file)
            try:
                content = SourceFile(path, path.stat().st_size, digests[name])
            except OSError as error:
                raise ChangedInput(
                    f"{name}: cannot be read: {error.strerror}", hint="run the build again"
                ) from error
        yield _entry(file, content)


def _kept(
    planned: PlannedLayer, old: BuiltLayer | None, sources: Sources, known: Mapping[str, FileState]
) -> BuiltLayer | None:
    if old is None or planned.digest or old.recipe != _recipe(planned):
        return None
    names = {sources.name(file) for file in planned.files if file.origin}
    same = all(name in known and old.sources.get(name) == known[name].digest for name in names)
    return old if same and names == set(old.sources) else None


def _recipe(planned: PlannedLayer) -> Digest:
    files = [[file.path, file.mode, file.origin, file.source, file.target] for file in planned.files]
    return framed((str(TAR), canonical_json(files)))


def _measured(planned: PlannedLayer, sources: Sources) -> tuple[BuiltLayer, dict[str, FileState]]:
    if planned.digest:
        return BuiltLayer(planned.name, planned.digest, planned.size, planned.digest), {}
    states: dict[str, FileState] = {}
    state, size = hashlib.sha256(), 0
    with ThreadPoolExecutor(1, thread_name_prefix="file-digest") as pool:
        readers = {
            file.path: _Measure(sources.path(file), sources.name(file), states, pool)
            for file in planned.files
            if file.origin
        }
        for piece in tar_stream(_entry(file, readers.get(file.path)) for file in planned.files):
            state.update(piece)
            size += len(piece)
    digest = Digest("sha256:" + state.hexdigest())
    files = {name: known.digest for name, known in states.items()}
    return BuiltLayer(planned.name, digest, size, _recipe(planned), files), states


def _entry(file: PlannedFile, content: Content | None) -> Entry:
    if file.target:
        return Entry(file.path, "symlink", file.mode, target=file.target)
    return Entry(file.path, "file", file.mode, content or Bytes(b""))


class _Measure:
    """Content of a file whose digest is being learnt; its state lands in `states` once it was read whole."""

    def __init__(self, path: Path, name: str, states: dict[str, FileState], pool: ThreadPoolExecutor) -> None:
        self.path, self.name, self.states, self.pool = path, name, states, pool
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise ChangedInput(f"{name}: cannot be read: {error.strerror}") from error

    def read(self) -> Iterator[bytes]:
        """The file in pieces. Raises ChangedInput when it is not the same before and after."""
        state = hashlib.sha256()
        left = self.size
        pending: Future[None] | None = None
        threaded = self.size >= THREAD_FROM
        with self.path.open("rb", buffering=0) as file:
            read_at = time.time_ns()
            before = identity(os.fstat(file.fileno()))
            while piece := file.read(CHUNK):
                left -= len(piece)
                if pending:
                    pending.result()
                if threaded:
                    pending = self.pool.submit(state.update, piece)
                else:
                    state.update(piece)
                if left >= 0:
                    yield piece
            if pending:
                pending.result()
            after = identity(os.fstat(file.fileno()))
        if left or before != after or identity(self.path.stat()) != before:
            raise ChangedInput(f"{self.name}: changed while it was read", hint="run the build again")
        self.states[self.name] = FileState(Digest("sha256:" + state.hexdigest()), before, read_at)
