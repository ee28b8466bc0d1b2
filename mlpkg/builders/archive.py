"""Images as files: one tar that is an OCI layout and a `docker load` archive at once.

OCI image-spec v1.1, "Image Layout"; Docker reads ``manifest.json``, whose layers may point at
``blobs/sha256/*`` (measured: Docker refuses a plain layout without it, images-and-registries §2.6).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlpkg.builders.manifest import MANIFEST_TYPE
from mlpkg.digest import Descriptor, Digest, sha256
from mlpkg.layer import Bytes, Entry, tar_stream


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob with the means to read it, as `mlpkg.layer.Content`."""

    digest: Digest
    size: int
    open: Callable[[], Iterator[bytes]]

    def read(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        return self.open()


def archive(manifest: bytes, config: bytes, layers: Sequence[Blob], names: Sequence[str]) -> Iterator[bytes]:
    """The tar, streamed. `names` are full references (``host/repository:tag``) that an engine will list."""
    digest = sha256(manifest)
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            Descriptor(
                MANIFEST_TYPE,
                digest,
                len(manifest),
                {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name},
            ).to_json()
            for name in names
        ]
        or [Descriptor(MANIFEST_TYPE, digest, len(manifest)).to_json()],
    }
    docker = [
        {
            "Config": _place(sha256(config)),
            "RepoTags": list(names),
            "Layers": [_place(layer.digest) for layer in layers],
        }
    ]
    return tar_stream(_entries(index, docker, manifest, config, layers))


def _entries(
    index: object, docker: object, manifest: bytes, config: bytes, layers: Iterable[Blob]
) -> Iterator[Entry]:
    yield Entry("oci-layout", content=Bytes(b'{"imageLayoutVersion":"1.0.0"}'))
    yield Entry("index.json", content=Bytes(json.dumps(index).encode()))
    yield Entry("manifest.json", content=Bytes(json.dumps(docker).encode()))
    yield Entry(_place(sha256(manifest)), content=Bytes(manifest))
    yield Entry(_place(sha256(config)), content=Bytes(config))
    seen: set[Digest] = set()
    for layer in layers:
        if layer.digest not in seen:
            seen.add(layer.digest)
            yield Entry(_place(layer.digest), content=layer)


def _place(digest: Digest) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
