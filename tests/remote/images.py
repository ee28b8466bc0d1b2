"""Small images made of bytes, for the tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlpkg.digest import Descriptor, canonical_json, sha256
from mlpkg.remote.client import OCI_MANIFEST, Blob, Registry
from mlpkg.remote.push import PushResult, push_image
from mlpkg.remote.session import Request

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


def pieces(data: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def blob(data: bytes, media_type: str = LAYER) -> Blob:
    return Blob(Descriptor(media_type, sha256(data), len(data)), lambda: pieces(data))


def wrong_blob(named: bytes, open_: Callable[[], Iterator[bytes]]) -> Blob:
    """A blob that names some bytes and gives others."""
    return Blob(Descriptor(LAYER, sha256(named), len(named)), open_)


def repository() -> str:
    return f"tests/{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Image:
    layers: tuple[Blob, ...]
    config: Blob
    manifest: bytes

    def push(
        self,
        registry: Registry,
        name: str,
        tags: tuple[str, ...] = (),
        allow_tag_move: Callable[[str], bool] | None = None,
        progress: Callable[[Descriptor, int], None] | None = None,
    ) -> PushResult:
        return push_image(
            registry,
            name,
            blobs=self.layers,
            config=self.config,
            manifest=self.manifest,
            media_type=OCI_MANIFEST,
            tags=tags,
            allow_tag_move=allow_tag_move,
            progress=progress,
        )


def image(*layers: Blob, author: str = "") -> Image:
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "author": author}).encode(), CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor.to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    return Image(layers, config, canonical_json(document))


def ping(registry: Registry) -> None:
    """The smallest request there is: whether it is a registry, and takes the credentials."""
    session = registry._session
    session.ask(Request(method="GET", url=session.url(""), expect=(200,)))
