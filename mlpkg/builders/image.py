"""The image as a value: what a builder gives and all that later steps need. Any builder, any registry.

A layer carries its descriptor (how it is stored: media type, digest, size), its diff ID (the digest of its
uncompressed tar, OCI image-spec, "Layer DiffID") and its origin: where its bytes come from. The two digests
are equal for the layers that mlpkg makes, which are not compressed; a layer of a foreign base has two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpkg.digest import Descriptor, Digest, parse_digest, sha256
from mlpkg.plan.plan import PlannedFile

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class FromFiles:
    """Made of files while it is sent. `digests` has the content of each source file, by its name in records."""

    files: tuple[PlannedFile, ...]
    digests: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FromLock:
    """The locked layer of that name: from the cache or a registry, else made again from the image's own lock."""

    layer: str


@dataclass(frozen=True, slots=True)
class FromRegistry:
    """A layer of a base that lies in a registry (``host/repository``): mounted or copied, never made here."""

    repository: str


Origin = FromFiles | FromLock | FromRegistry


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One layer, from the bottom up in its image."""

    name: str
    descriptor: Descriptor
    diff_id: Digest
    origin: Origin

    @property
    def digest(self) -> Digest:
        """The stored blob's digest."""
        return self.descriptor.digest

    @property
    def size(self) -> int:
        """The stored blob's bytes."""
        return self.descriptor.size


@dataclass(frozen=True, slots=True)
class Image:
    """An image's two documents as texts, byte for byte, and its layers."""

    manifest: str
    config: str
    layers: tuple[ImageLayer, ...]
    manifest_type: str = MANIFEST_TYPE
    config_type: str = CONFIG_TYPE

    @property
    def digest(self) -> Digest:
        """The manifest's digest, by which registries know the image."""
        return sha256(self.manifest.encode())

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    def config_descriptor(self) -> Descriptor:
        """The configuration as a blob."""
        data = self.config.encode()
        return Descriptor(self.config_type, sha256(data), len(data))

    def to_json(self) -> dict[str, Any]:
        """As a record keeps it."""
        return {
            "digest": self.digest,
            "size": self.size,
            "manifest_type": self.manifest_type,
            "manifest": self.manifest,
            "config_type": self.config_type,
            "config": self.config,
            "layers": [
                {
                    "name": layer.name,
                    "descriptor": layer.descriptor.to_json(),
                    "diff_id": layer.diff_id,
                    "origin": _origin_json(layer.origin),
                }
                for layer in self.layers
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Image:
        """Take it back. Raises ValueError, KeyError, TypeError, AttributeError for anything else."""
        image = cls(
            manifest=value["manifest"],
            config=value["config"],
            layers=tuple(
                ImageLayer(
                    row["name"],
                    Descriptor.from_json(row["descriptor"]),
                    parse_digest(row["diff_id"]),
                    _origin(row["origin"]),
                )
                for row in value["layers"]
            ),
            manifest_type=value["manifest_type"],
            config_type=value["config_type"],
        )
        if image.digest != value["digest"] or not _is_sound(image):
            raise ValueError("the image's documents and layers do not belong together")
        return image


def _is_sound(image: Image) -> bool:
    """Whether the manifest names this configuration and these layers."""
    manifest = json.loads(image.manifest)
    named = [manifest["config"]["digest"], *(row["digest"] for row in manifest["layers"])]
    return named == [image.config_descriptor().digest, *(layer.digest for layer in image.layers)]


def _origin_json(origin: Origin) -> dict[str, Any]:
    if isinstance(origin, FromLock):
        return {"lock": origin.layer}
    if isinstance(origin, FromRegistry):
        return {"registry": origin.repository}
    rows = [[file.path, file.mode, file.origin, file.source, file.target] for file in origin.files]
    return {"files": rows, "digests": dict(origin.digests)}


def _origin(value: Mapping[str, Any]) -> Origin:
    if "lock" in value:
        return FromLock(str(value["lock"]))
    if "registry" in value:
        return FromRegistry(str(value["registry"]))
    files = tuple(PlannedFile(*row) for row in value["files"])
    return FromFiles(files, {name: parse_digest(digest) for name, digest in value["digests"].items()})
