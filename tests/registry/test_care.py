"""A damaged storage: it is named, removed, and healed by the next push. With the image that is shipped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.digest import Digest
from mlpkg.registry import bundled as registry
from mlpkg.registry import container, contents, state
from mlpkg.registry.care import repair, verify
from mlpkg.registry.own_image import BundledSource
from mlpkg.spec.model import RegistryTable

from .asking import ask, get, layer_of, port_of, push_blob, push_image, quiet

pytestmark = pytest.mark.mirror


def write(settings: RegistryTable, path: str, data: bytes | None) -> None:
    """Overwrite a file of the storage behind the registry's back; None removes it (in a folder)."""
    known = state.read_state(port_of(settings))
    assert known
    folder = state.data_folder(known)
    if folder and data is None:
        (folder / path).unlink()
    elif folder and data is not None:
        (folder / path).write_bytes(data)
    else:
        plan = container.plan(known.wanted)
        name = container.container_name(port_of(settings))
        file = engine.File(
            path=f"{container.data_root(plan)}/{path}", data=data, mode=0o600, owner=plan.owner
        )
        engine.put(name, [file])


def blobs(endpoint: registry.Endpoint, digest: str) -> str:
    return f"/v2/try/blobs/{digest}"


@pytest.mark.parametrize("is_up", [True, False])
@pytest.mark.long
def test_push_damage_verify_repair_push_pull(
    settings: RegistryTable, shipped: BundledSource, *, is_up: bool
) -> None:
    first = registry.up(settings, shipped, notify=quiet)
    sick, sound = push_image(first, "sick", tag="1"), push_image(first, "sound", tag="2")
    assert verify(settings, shipped, notify=quiet).damages == ()
    layer = layer_of(first, "sick")
    write(settings, contents.blob_path(Digest(layer)), b"cut short")
    if not is_up:
        registry.down(settings)
    found = verify(settings, shipped, notify=quiet)
    (damage,) = found.damages
    assert damage.what == layer
    assert damage.images == ("try:1",)
    assert "9 bytes instead of " in damage.reason
    assert registry.status(settings).running == is_up
    assert repair(settings, shipped, notify=quiet) == found
    assert registry.status(settings).running == is_up
    known = registry.known_endpoint(settings)
    assert known
    assert known.instance != first.instance, "receipts that speak of the old content are not believed"
    second = registry.up(settings, shipped, notify=quiet)
    assert second == known
    assert ask(second, "HEAD", f"/v2/try/manifests/{sick}")[0] == 404
    assert ask(second, "HEAD", "/v2/try/manifests/1")[0] == 404
    assert ask(second, "HEAD", blobs(second, layer))[0] == 404
    assert ask(second, "GET", "/v2/try/manifests/2")[0] == 200
    assert ask(second, "GET", f"/v2/try/manifests/{sound}")[0] == 200
    # The same image, not one that is marked by the new instance.
    assert push_image(first, "sick", tag="1") == sick
    assert ask(second, "GET", blobs(second, layer))[0] == 200
    assert verify(settings, shipped, notify=quiet).damages == ()
    registry.down(settings)
    assert registry.up(settings, shipped, notify=quiet) == second, "the new identity stays"


@pytest.mark.long
def test_what_is_sound_of_a_damaged_image_is_kept(settings: RegistryTable, shipped: BundledSource) -> None:
    """Gigabytes are not sent again because a small part of the same image is damaged."""
    endpoint = registry.up(settings, shipped, notify=quiet)
    manifest = push_image(endpoint, "sick", tag="1")
    layer = layer_of(endpoint, "sick")
    write(settings, contents.blob_path(Digest(manifest)), b"{")
    (damage,) = verify(settings, shipped, notify=quiet).damages
    assert (damage.what, damage.images) == (manifest, ("try:1",))
    repair(settings, shipped, notify=quiet)
    assert ask(endpoint, "HEAD", f"/v2/try/manifests/{manifest}")[0] == 404
    assert push_image(endpoint, "sick", tag="1") == manifest
    write(settings, contents.blob_path(Digest(config_of(endpoint, manifest))), b"x")
    repair(settings, shipped, notify=quiet)
    assert ask(endpoint, "HEAD", blobs(endpoint, layer))[0] == 200
    assert verify(settings, shipped, notify=quiet).damages == ()


def config_of(endpoint: registry.Endpoint, manifest: str) -> str:
    return str(json.loads(get(endpoint, f"/v2/try/manifests/{manifest}"))["config"]["digest"])


@pytest.mark.long
def test_rotten_orphaned_and_mislinked(settings: RegistryTable, shipped: BundledSource) -> None:
    endpoint = registry.up(settings, shipped, notify=quiet)
    manifest = push_image(endpoint, "one", tag="1")
    push_image(endpoint, "two", tag="2")
    layer = layer_of(endpoint, "one")
    orphan = push_blob(endpoint, b"nobody needs this").rpartition("/")[2]
    write(settings, contents.blob_path(Digest(orphan)), b"nobody needs that")
    write(settings, contents.tag_path("try", "2"), b"")
    link = f"{contents.ROOT}/repositories/try/_layers/sha256/{layer.removeprefix('sha256:')}/link"
    write(settings, link, b"sha2")
    found = {damage.what: damage for damage in verify(settings, shipped, notify=quiet).damages}
    assert set(found) == {orphan, link, "try:2"}
    assert "are not those of its digest" in found[orphan].reason
    assert str(found[orphan]).endswith("no image needs it")
    repair(settings, shipped, notify=quiet)
    assert verify(settings, shipped, notify=quiet).damages == ()
    assert ask(endpoint, "GET", f"/v2/try/manifests/{manifest}")[0] == 200
    assert ask(endpoint, "GET", blobs(endpoint, layer))[0] == 200
    assert ask(endpoint, "HEAD", "/v2/try/manifests/2")[0] == 404
    push_image(endpoint, "two", tag="2")
    assert ask(endpoint, "GET", "/v2/try/manifests/2")[0] == 200


@pytest.mark.parametrize("part", ["layer", "manifest"])
def test_bytes_that_are_gone(process_settings: RegistryTable, shipped: BundledSource, part: str) -> None:
    endpoint = registry.up(process_settings, shipped, notify=quiet)
    manifest = push_image(endpoint, "one", tag="1")
    gone = manifest if part == "manifest" else layer_of(endpoint, "one")
    write(process_settings, contents.blob_path(Digest(gone)), None)
    (damage,) = verify(process_settings, shipped, notify=quiet).damages
    assert (damage.what, damage.reason, damage.images) == (gone, "is not there", ("try:1",))
    repair(process_settings, shipped, notify=quiet)
    assert verify(process_settings, shipped, notify=quiet).damages == ()
    assert push_image(endpoint, "one", tag="1") == manifest
    assert ask(endpoint, "GET", blobs(endpoint, layer_of(endpoint, "one")))[0] == 200


def test_a_registry_without_content(settings: RegistryTable, shipped: BundledSource) -> None:
    for _ in range(2):
        assert verify(settings, shipped, notify=quiet).blobs == 0
        assert repair(settings, shipped, notify=quiet).damages == ()
        registry.up(settings, shipped, notify=quiet)


@pytest.mark.docker
@pytest.mark.long
def test_a_storage_folder_of_a_container(
    container_settings: RegistryTable, shipped: BundledSource, tmp_path: Path
) -> None:
    settings = replace(container_settings, storage=str(tmp_path / "data"))
    endpoint = registry.up(settings, shipped, notify=quiet)
    assert registry.status(settings).mode == "container"
    push_image(endpoint, "sick", tag="1")
    layer = layer_of(endpoint, "sick")
    write(settings, contents.blob_path(Digest(layer)), b"")
    (damage,) = repair(settings, shipped, notify=quiet).damages
    assert damage.what == layer
    assert ask(endpoint, "HEAD", blobs(endpoint, layer))[0] == 404
    push_image(endpoint, "sick", tag="1")
    assert ask(endpoint, "GET", blobs(endpoint, layer))[0] == 200
    assert verify(settings, shipped, notify=quiet).damages == ()
