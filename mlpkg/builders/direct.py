"""The direct builder: no daemon, no root, no emulation, and no second copy of a model on disk.

A layer of files is read once, to know its digest; its bytes are made again while they are sent. A layer
whose files are those of the image before is not read at all. Locked layers are known by digest: they are
made where a registry or an engine really lacks them (`mlpkg.lock.layers`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mlpkg.builders.image import FromFiles, FromLock, Image, ImageLayer
from mlpkg.builders.manifest import config_json, manifest_json
from mlpkg.builders.sources import Sources, entry
from mlpkg.digest import Descriptor, Digest
from mlpkg.errors import ChangedInput
from mlpkg.layer import CHUNK, MEDIA_TYPE, tar_stream
from mlpkg.plan.plan import BuildPlan, PlannedLayer
from mlpkg.store.records import FileState, identity

THREAD_FROM = 8 * CHUNK
"""Bytes from which a file's own digest is taken in a second thread (hashlib releases the lock)."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gives: the image, the state of every file that it read, and the layers whose bytes are new."""

    image: Image
    states: Mapping[str, FileState]
    made: tuple[str, ...]


def build(plan: BuildPlan, sources: Sources, previous: Image | None, known: Mapping[str, FileState]) -> Built:
    """Build a plan.

    `previous` and `known` are the image before, by today's formats, and the file states that still hold.
    Raises ChangedInput when a file changes while it is read.
    """
    old = {layer.name: layer for layer in previous.layers} if previous else {}
    layers: list[ImageLayer] = []
    states: dict[str, FileState] = {}
    for planned in plan.layers:
        layer = _kept(planned, old.get(planned.name), sources, known)
        if layer is None:
            layer, read = _measured(planned, sources)
            states |= read
        elif isinstance(layer.origin, FromFiles):
            states |= {name: known[name] for name in layer.origin.digests}
        layers.append(layer)
    config = config_json(plan, [layer.diff_id for layer in layers])
    manifest = manifest_json(plan, config, [layer.descriptor for layer in layers])
    made = tuple(
        layer.name for layer in layers if layer.name not in old or old[layer.name].digest != layer.digest
    )
    return Built(Image(manifest.decode(), config.decode(), tuple(layers)), states, made)


def _kept(
    planned: PlannedLayer, old: ImageLayer | None, sources: Sources, known: Mapping[str, FileState]
) -> ImageLayer | None:
    if old is None or not isinstance(old.origin, FromFiles) or old.origin.files != planned.files:
        return None
    digests = old.origin.digests
    names = {sources.name(file) for file in planned.files if file.origin}
    same = all(name in known and digests.get(name) == known[name].digest for name in names)
    return old if same and names == set(digests) else None


def _measured(planned: PlannedLayer, sources: Sources) -> tuple[ImageLayer, dict[str, FileState]]:
    if planned.digest:
        descriptor = Descriptor(MEDIA_TYPE, planned.digest, planned.size)
        return ImageLayer(planned.name, descriptor, planned.digest, FromLock(planned.name)), {}
    states: dict[str, FileState] = {}
    state, size = hashlib.sha256(), 0
    with ThreadPoolExecutor(1, thread_name_prefix="file-digest") as pool:
        readers = {
            file.path: _Measure(sources.path(file), sources.name(file), states, pool)
            for file in planned.files
            if file.origin
        }
        for piece in tar_stream(entry(file, readers.get(file.path)) for file in planned.files):
            state.update(piece)
            size += len(piece)
    digest = Digest("sha256:" + state.hexdigest())
    origin = FromFiles(planned.files, {name: known.digest for name, known in states.items()})
    return ImageLayer(planned.name, Descriptor(MEDIA_TYPE, digest, size), digest, origin), states


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
