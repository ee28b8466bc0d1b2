"""The push step: the tagged image to the registry. What lacks is sent, then the manifest by digest, then the tags.

It reads the records of the build and of the tags, never today's plan or lock: what was built is what is sent,
and what was sent is what is recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpkg.errors import MlpkgError
from mlpkg.progress import Notify, note, transfer
from mlpkg.registry import bundled
from mlpkg.spec.workspace import Package
from mlpkg.steps import build, tag
from mlpkg.steps.step import Consumed, Done, Wanted, has_texts, read_record, record_path, write_record

if TYPE_CHECKING:
    from mlpkg.builders.image import Image
    from mlpkg.registry.destination import Destination
    from mlpkg.remote.push import PushResult

NAME = "push"
DOC = "push the image to the registry"
RECORD = "push.json"

_HERE = sys.modules[__name__]


def reads(package: Package) -> tuple[Path, ...]:
    """Nothing of its own: what the image is made of was read by the build, and is checked while it is sent."""
    del package
    return ()


def fits(result: Mapping[str, Any]) -> bool:
    """Where to, and what."""
    return has_texts(result, "registry", "repository", "digest", lists=["tags"])


def wanted(package: Package) -> Wanted:
    """What was tagged, and which registry it goes to."""
    return _wanted(tag.result(package), registry_instance(package))


def _wanted(tagged: Mapping[str, Any], registry: str) -> Wanted:
    tags = " ".join(tagged.get("tags", ()))
    return Wanted((), {"image": str(tagged.get("digest", "")), "tags": tags, "registry": registry})


def perform(package: Package) -> Done:
    """Push what was tagged. Raises MlpkgError where nothing was, or something else was built since."""
    from mlpkg.registry.destination import destination  # noqa: PLC0415 - loads the registry client

    tagged, image = tag.result(package), build.read_image(package)
    if not tagged or image is None:
        raise MlpkgError(f"{package.name}: not built yet", hint=f"run `mlpkg build {package.name}`")
    if image.digest != tagged["digest"]:
        raise MlpkgError(
            f"{package.name}: the image was built anew and not tagged since",
            hint=f"run `mlpkg push {package.name}`, which does all steps",
        )
    where = destination(package.settings, note)
    result = _send(package, image, list(tagged["tags"]), where)
    receipt = _receipt(package, where, result, list(tagged["tags"]))
    want = _wanted(tagged, registry_instance(package))
    write_record(_HERE, package, want, Consumed({}, result=receipt))
    return Done(
        (
            f"{receipt['repository']}@{image.digest}",
            *receipt["notices"],
            _moved(result),
        ),
        result.bytes_sent,
    )


def products(package: Package) -> tuple[Path, ...]:
    """None beside the record: what a registry holds stays there."""
    del package
    return ()


def receipt(package: Package) -> Mapping[str, Any]:
    """What was pushed last: `registry`, `repository`, `digest`, `tags`; empty where nothing was."""
    record = read_record(_HERE, package)
    return record.result if record else {}


def check(package: Package, notify: Notify) -> list[str]:
    """Ask the registry whether what was pushed is still there, by digest and by each tag; what is not, in words.

    The receipt is removed then, so that the next push sends what lacks. Raises RegistryError, Unreachable.
    """
    from mlpkg.registry.destination import destination  # noqa: PLC0415 - loads the registry client
    from mlpkg.remote.client import Registry  # noqa: PLC0415

    known = receipt(package)
    if not known:
        return []
    where = destination(package.settings, notify)
    with Registry(where.address, where.credentials) as client:
        found = {name: client.head_manifest(package.name, name) for name in (known["digest"], *known["tags"])}
    wrong = [
        f"{where.address} has no {name}" if have is None else f"tag {name} is {have.digest[:19]} there"
        for name, have in found.items()
        if have is None or have.digest != known["digest"]
    ]
    if wrong:
        record_path(_HERE, package).unlink(missing_ok=True)
    return wrong


def registry_instance(package: Package) -> str:
    """Which registry, and which incarnation of its storage, a receipt speaks of. Reads small files only."""
    settings = package.settings.registry
    if settings.address:
        return settings.address
    endpoint = bundled.known_endpoint(settings)
    return f"{endpoint.address} {endpoint.instance}" if endpoint else "none yet"


def _send(package: Package, image: Image, tags: list[str], where: Destination) -> PushResult:
    """Raises RegistryError, Unreachable, ChangedInput (a file is not what was built), DigestMismatch."""
    from mlpkg.builders.image import FromLock  # noqa: PLC0415
    from mlpkg.registry import layers  # noqa: PLC0415
    from mlpkg.remote.blob import Blob  # noqa: PLC0415
    from mlpkg.remote.client import Registry  # noqa: PLC0415
    from mlpkg.remote.push import push_image  # noqa: PLC0415

    config = image.config.encode()
    locked = [layer.descriptor for layer in image.layers if isinstance(layer.origin, FromLock)]
    with (
        Registry(where.address, where.credentials) as client,
        transfer(f"push {package.name}", image.size) as advance,
    ):
        result = push_image(
            client,
            package.name,
            blobs=_blobs(package, image),
            config=Blob(image.config_descriptor(), lambda: iter((config,))),
            manifest=image.manifest.encode(),
            media_type=image.manifest_type,
            tags=tags,
            progress=lambda _, count: advance(count),
            allow_tag_move=lambda name: where.is_bundled or name != package.spec.package.version,
            mount_from={descriptor.digest: layers.REPOSITORY for descriptor in locked},
        )
        new = {item.digest for item in (*result.uploaded, *result.mounted)}
        layers.keep(client, package.name, [item for item in locked if item.digest in new], note)
    return result


def _blobs(package: Package, image: Image) -> list[Any]:
    """The layers, each with the means to make its bytes (again, as often as asked)."""
    from functools import partial  # noqa: PLC0415

    from mlpkg.builders.sources import layer_stream, sources_of  # noqa: PLC0415
    from mlpkg.lock.layers import Making, read_layer  # noqa: PLC0415
    from mlpkg.registry.destination import kept_layers  # noqa: PLC0415
    from mlpkg.remote.blob import Blob  # noqa: PLC0415

    def locked(name: str) -> Any:
        return read_layer(
            Making(package, build.image_lock(package), note, kept_layers(package.settings)), name
        )

    sources = sources_of(package)
    return [Blob(layer.descriptor, partial(layer_stream, layer, sources, locked)) for layer in image.layers]


def _receipt(package: Package, where: Destination, result: PushResult, tags: list[str]) -> dict[str, Any]:
    return {
        "registry": where.address,
        "repository": f"{where.address}/{package.name}",
        "digest": result.digest,
        "tags": tags,
        "uploaded": len(result.uploaded),
        "mounted": len(result.mounted),
        "existed": len(result.existed),
        "bytes": result.bytes_sent,
        "notices": [f"tag {move.tag} moved; it was {move.old[:19]}" for move in result.moved],
    }


def _moved(result: PushResult) -> str:
    counts = (
        (len(result.uploaded), "sent"),
        (len(result.mounted), "mounted"),
        (len(result.existed), "already there"),
    )
    return "blobs: " + (", ".join(f"{count} {text}" for count, text in counts if count) or "none")
