"""Garbage collection: what no manifest needs goes, the rest stays, and the registry runs as before."""

from __future__ import annotations

import pytest

from mlpkg.errors import MlpkgError
from mlpkg.registry import bundled as registry
from mlpkg.spec.model import RegistryTable

from .asking import ask, push_blob, push_image, quiet
from .source import BinarySource


@pytest.mark.parametrize(
    "settings_fixture",
    ["process_settings", pytest.param("container_settings", marks=pytest.mark.docker)],
)
def test_only_unreferenced_blobs_go(
    settings_fixture: str, request: pytest.FixtureRequest, registry_source: BinarySource
) -> None:
    settings: RegistryTable = request.getfixturevalue(settings_fixture)
    endpoint = registry.up(settings, registry_source, notify=quiet)
    kept, lost = push_image(endpoint), push_blob(endpoint, b"nobody needs this")
    assert ask(endpoint, "HEAD", lost)[0] == 200
    report = registry.collect_garbage(settings, registry_source, notify=quiet)
    assert lost.rpartition(":")[2] in report
    assert registry.up(settings, registry_source, notify=quiet) == endpoint
    assert ask(endpoint, "GET", lost)[0] == 404
    assert ask(endpoint, "GET", f"/v2/try/manifests/{kept}")[0] == 200


def test_untagged_images_go_when_asked(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    endpoint = registry.up(process_settings, registry_source, notify=quiet)
    tagged = push_image(endpoint, "new", tag="latest")
    untagged = push_image(endpoint, "old")
    registry.down(process_settings)
    registry.collect_garbage(process_settings, registry_source, notify=quiet, untagged=True)
    assert not registry.status(process_settings).running
    registry.up(process_settings, registry_source, notify=quiet)
    assert ask(endpoint, "GET", f"/v2/try/manifests/{untagged}")[0] == 404
    assert ask(endpoint, "GET", f"/v2/try/manifests/{tagged}")[0] == 200


def test_a_failed_collection_leaves_the_registry_running(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    """Distribution 2.8 gives up on a repository that never had a tag when it is to remove the untagged."""
    endpoint = registry.up(process_settings, registry_source, notify=quiet)
    untagged = push_image(endpoint)
    with pytest.raises(MlpkgError, match="garbage-collect failed"):
        registry.collect_garbage(process_settings, registry_source, notify=quiet, untagged=True)
    assert ask(endpoint, "GET", f"/v2/try/manifests/{untagged}")[0] == 200
