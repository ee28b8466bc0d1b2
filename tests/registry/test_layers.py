"""Keeping locked layers: a push that is over is not failed because a registry will not keep them."""

from __future__ import annotations

from mlpkg.registry import layers
from mlpkg.remote.client import Registry
from tests.remote.conftest import Site, _process, binary_none, no_credentials_of_this_user, short_delays
from tests.remote.images import blob, image, repository

__all__ = ["_process", "binary_none", "no_credentials_of_this_user", "short_delays"]


def test_a_pushed_layer_is_kept_and_mounted_for_the_next_package(binary_none: Site) -> None:
    layer, name, said = blob(b"a locked layer" * 1000), repository(), list[str]()
    with Registry(binary_none.address) as client:
        image(layer).push(client, name)
        layers.keep(client, name, [layer.descriptor], said.append)
        assert layers.tag(layer.descriptor) in client.tags(layers.REPOSITORY)
        assert client.mount_blob(repository(), layer.descriptor, mount_from=layers.REPOSITORY)
        assert b"".join(layers.read(client, layer.descriptor)) == b"a locked layer" * 1000
    assert said == []


def test_what_is_not_there_to_mount_is_told_and_no_error(binary_none: Site) -> None:
    said = list[str]()
    with Registry(binary_none.address) as client:
        layers.keep(client, repository(), [blob(b"never pushed").descriptor], said.append)
    assert said == [f"{binary_none.address} keeps no layers in mlpkg/layers: it does not mount them"]


def test_a_registry_that_went_away_is_told_and_no_error() -> None:
    said = list[str]()
    with Registry("127.0.0.1:1") as client:
        layers.keep(client, "p", [blob(b"x").descriptor], said.append)
    assert len(said) == 1
