"""The repository in which a registry keeps the locked layers of all packages, to mount them from there.

Distribution looks a blob up by repository only, never by digest alone, so that a layer which one package has
pushed would be sent again for the next. Here each locked layer has a manifest of its own, tagged by the
layer's digest: garbage collection keeps it, and any push may mount it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from mlpkg.builders.image import MANIFEST_TYPE
from mlpkg.digest import Descriptor, sha256
from mlpkg.errors import RegistryError, Unreachable
from mlpkg.progress import Notify
from mlpkg.remote.blob import Blob
from mlpkg.remote.client import Registry

REPOSITORY = "mlpkg/layers"
ARTIFACT_TYPE = "application/vnd.mlpkg.layer.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
"""The configuration of an artifact that needs none (OCI image-spec v1.1, "Guidance for an Empty Descriptor")."""

_EMPTY = b"{}"


def keep(client: Registry, repository: str, layers: Iterable[Descriptor], notify: Notify) -> None:
    """Keep layers that were just pushed to `repository`. No byte is sent: they are mounted.

    The push itself is over by then, and is not failed for this: a registry that cannot mount, lets nobody write
    there, or went away keeps what its packages hold, and `notify` is told.
    """
    try:
        for layer in layers:
            if client.head_manifest(REPOSITORY, tag(layer)):
                continue
            if not client.mount_blob(REPOSITORY, layer, mount_from=repository):
                notify(f"{client.address} keeps no layers in {REPOSITORY}: it does not mount them")
                return
            config = Descriptor(EMPTY_TYPE, sha256(_EMPTY), len(_EMPTY))
            client.upload_blob(REPOSITORY, Blob(config, lambda: iter((_EMPTY,))))
            client.put_manifest(REPOSITORY, tag(layer), _manifest(layer, config), MANIFEST_TYPE)
    except (RegistryError, Unreachable) as error:
        notify(f"{client.address} keeps no layers in {REPOSITORY}: {error.message}")


def read(client: Registry, layer: Descriptor) -> Iterator[bytes]:
    """A kept layer's bytes, checked. Raises RegistryError where it is not kept, DigestMismatch, Unreachable."""
    return client.read_blob(REPOSITORY, layer)


def tag(layer: Descriptor) -> str:
    """The tag of a layer's manifest: a tag may hold no colon."""
    return layer.digest.replace(":", "-")


def _manifest(layer: Descriptor, config: Descriptor) -> bytes:
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }
    return json.dumps(value, separators=(",", ":")).encode()
