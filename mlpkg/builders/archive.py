"""Images as files: one tar that is an OCI layout and a `docker load` archive at once.

OCI image-spec v1.1, "Image Layout"; Docker reads ``manifest.json``, whose layers may point at
``blobs/sha256/*`` (measured: Docker refuses a plain layout without it, images-and-registries §2.6).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlpkg.builders.image import Image, ImageLayer
from mlpkg.digest import Descriptor, Digest
from mlpkg.layer import Bytes, Entry, tar_stream

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

OpenLayer = Callable[[ImageLayer], Iterator[bytes]]
"""Gives a layer's bytes, in pieces."""


@dataclass(frozen=True, slots=True)
class _LayerContent:
    """A layer as the content of a member of the archive (`mlpkg.layer.Content`)."""

    layer: ImageLayer
    open_layer: OpenLayer

    @property
    def size(self) -> int:
        return self.layer.size

    def read(self) -> Iterator[bytes]:
        return self.open_layer(self.layer)


def archive(image: Image, open_layer: OpenLayer, names: Sequence[str]) -> Iterator[bytes]:
    """The tar, streamed. `names` are full references (``host/repository:tag``) that an engine will list."""
    manifest = Descriptor(image.manifest_type, image.digest, len(image.manifest.encode()))
    named = [
        Descriptor(
            manifest.media_type,
            manifest.digest,
            manifest.size,
            {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name},
        )
        for name in names
    ]
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [descriptor.to_json() for descriptor in named or [manifest]],
    }
    docker = [
        {
            "Config": _place(image.config_descriptor().digest),
            "RepoTags": list(names),
            "Layers": [_place(layer.digest) for layer in image.layers],
        }
    ]
    return tar_stream(_entries(image, open_layer, index, docker))


def _entries(image: Image, open_layer: OpenLayer, index: object, docker: object) -> Iterator[Entry]:
    yield Entry("oci-layout", content=Bytes(b'{"imageLayoutVersion":"1.0.0"}'))
    yield Entry("index.json", content=Bytes(json.dumps(index).encode()))
    yield Entry("manifest.json", content=Bytes(json.dumps(docker).encode()))
    yield Entry(_place(image.digest), content=Bytes(image.manifest.encode()))
    yield Entry(_place(image.config_descriptor().digest), content=Bytes(image.config.encode()))
    unique = {layer.digest: layer for layer in image.layers}
    for digest, layer in unique.items():
        yield Entry(_place(digest), content=_LayerContent(layer, open_layer))


def _place(digest: Digest) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
