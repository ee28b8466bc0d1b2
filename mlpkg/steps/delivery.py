"""From an image record to a registry: what to send, where, and the receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlpkg.builders import direct
from mlpkg.builders.manifest import CONFIG_TYPE, MANIFEST_TYPE
from mlpkg.digest import Descriptor, sha256
from mlpkg.layer import MEDIA_TYPE, tar_stream
from mlpkg.lock import layers as environment
from mlpkg.plan.plan import PlannedLayer
from mlpkg.progress import transfer
from mlpkg.registry import bundled as registry
from mlpkg.registry.own_image import BundledSource
from mlpkg.remote.blob import Blob
from mlpkg.remote.client import Registry
from mlpkg.remote.credentials import Credentials
from mlpkg.remote.push import push_image
from mlpkg.spec.model import WorkspaceSpec
from mlpkg.spec.workspace import Package
from mlpkg.steps.perform import current_lock, read_plan, sources_of

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """A registry to push to. `is_bundled` decides whether version tags may move."""

    address: str
    credentials: registry.Credentials | None
    is_bundled: bool


def target(settings: WorkspaceSpec, notify: Notify) -> Target:
    """The workspace's registry; the bundled one is started where it is not running."""
    if settings.registry.address:
        return Target(settings.registry.address, None, is_bundled=False)
    endpoint = registry.up(settings.registry, BundledSource(settings, notify), notify=notify)
    return Target(endpoint.address, endpoint.credentials, is_bundled=True)


def deliver(
    package: Package, image: direct.ImageRecord, tags: list[str], where: Target, notify: Notify
) -> dict[str, Any]:
    """Push an image: what lacks is sent, then the manifest by digest, then the tags. The receipt as JSON values.

    Raises RegistryError, Unreachable, ChangedInput (a file is not what was built), DigestMismatch.
    """
    config, manifest = image.config.encode(), image.manifest.encode()
    total = sum(layer.size for layer in image.layers)
    with (
        Registry(where.address, _login(where)) as client,
        transfer(f"push {package.name}", total) as advance,
    ):
        result = push_image(
            client,
            package.name,
            blobs=layer_blobs(package, image, notify),
            config=Blob(Descriptor(CONFIG_TYPE, sha256(config), len(config)), lambda: iter((config,))),
            manifest=manifest,
            media_type=MANIFEST_TYPE,
            tags=tags,
            progress=lambda _, count: advance(count),
            allow_tag_move=lambda tag: where.is_bundled or tag != package.spec.package.version,
        )
    return {
        "registry": where.address,
        "repository": f"{where.address}/{package.name}",
        "digest": result.digest,
        "tags": tags,
        "uploaded": len(result.uploaded),
        "existed": len(result.existed) + len(result.mounted),
        "bytes": result.bytes_sent,
        "notices": [f"tag {move.tag} moved; it was {move.old[:19]}" for move in result.moved],
    }


def _login(where: Target) -> Credentials | None:
    return Credentials(where.credentials.username, where.credentials.password) if where.credentials else None


def layer_blobs(package: Package, image: direct.ImageRecord, notify: Notify) -> list[Blob]:
    """The layers of an image, each with the means to make its bytes (again, as often as asked)."""
    planned = {layer.name: layer for layer in read_plan(package).layers}
    return [
        Blob(
            Descriptor(MEDIA_TYPE, layer.digest, layer.size),
            _opener(package, planned[layer.name], layer, notify),
        )
        for layer in image.layers
    ]


def _opener(
    package: Package, planned: PlannedLayer, built: direct.BuiltLayer, notify: Notify
) -> Callable[[], Iterator[bytes]]:
    if planned.digest:
        return lambda: environment.read_layer(package, current_lock(package), planned.name, notify)

    def stream() -> Iterator[bytes]:
        sources = sources_of(package)
        return tar_stream(direct.entries(planned, sources, built.sources))

    return stream
