"""Garbage collection, with the image that is shipped: what no manifest needs goes, the registry runs as before."""

from __future__ import annotations

import threading

import pytest

from mlpkg.errors import MlpkgError
from mlpkg.registry import bundled as registry
from mlpkg.registry.care import collect_garbage
from mlpkg.registry.own_image import BundledSource
from mlpkg.spec.model import RegistryTable

from .asking import ask, push_blob, push_image, quiet

pytestmark = pytest.mark.mirror


@pytest.mark.long
def test_only_unreferenced_blobs_go(settings: RegistryTable, shipped: BundledSource) -> None:
    endpoint = registry.up(settings, shipped, notify=quiet)
    waste = b"nobody needs this" * 100_000
    kept, lost = push_image(endpoint), push_blob(endpoint, waste)
    assert ask(endpoint, "HEAD", lost)[0] == 200
    done = collect_garbage(settings, shipped, notify=quiet)
    assert lost.rpartition(":")[2] in done.report
    assert done.removed == 1
    assert done.freed is not None
    assert done.freed >= len(waste)
    assert str(done).startswith("1 blobs removed, ")
    assert registry.status(settings).running
    assert registry.up(settings, shipped, notify=quiet) == endpoint
    assert ask(endpoint, "GET", lost)[0] == 404
    assert ask(endpoint, "GET", f"/v2/try/manifests/{kept}")[0] == 200
    push_blob(endpoint, waste)
    assert ask(endpoint, "GET", lost)[0] == 200, "what was collected can be pushed again"


def test_a_registry_that_is_down_stays_down(settings: RegistryTable, shipped: BundledSource) -> None:
    """In a container, the collector's command was appended to an entrypoint that serves: it never ended."""
    endpoint = registry.up(settings, shipped, notify=quiet)
    kept, lost = push_image(endpoint), push_blob(endpoint, b"nobody needs this")
    registry.down(settings)
    assert collect_garbage(settings, shipped, notify=quiet).removed == 1
    assert not registry.status(settings).running
    assert collect_garbage(settings, shipped, notify=quiet).removed == 0
    assert registry.up(settings, shipped, notify=quiet) == endpoint
    assert ask(endpoint, "GET", lost)[0] == 404
    assert ask(endpoint, "GET", f"/v2/try/manifests/{kept}")[0] == 200


@pytest.mark.long
def test_an_empty_registry_has_nothing_to_collect(settings: RegistryTable, shipped: BundledSource) -> None:
    assert str(collect_garbage(settings, shipped, notify=quiet)) == "nothing to remove"
    assert not registry.status(settings).running, "it was never started"
    endpoint = registry.up(settings, shipped, notify=quiet)
    for is_up in (True, False):
        assert str(collect_garbage(settings, shipped, notify=quiet)) == "nothing to remove"
        assert registry.status(settings).running == is_up
        registry.down(settings)
    registry.up(settings, shipped, notify=quiet)
    assert push_image(endpoint), "the collector's folders are the registry's"


@pytest.mark.long
def test_a_push_that_waits_goes_on(settings: RegistryTable, shipped: BundledSource) -> None:
    """An upload that is not finished survives, and a run that asks for the registry waits until it is back."""
    endpoint = registry.up(settings, shipped, notify=quiet)
    status, where = ask(endpoint, "POST", "/v2/try/blobs/uploads/")
    status, where = ask(endpoint, "PATCH", where.split(endpoint.address, 1)[1], b"half")
    assert status == 202
    still, done = threading.Event(), threading.Event()
    lines: list[str] = []

    def collect() -> None:
        collect_garbage(settings, shipped, notify=lambda _: still.set())
        done.set()

    worker = threading.Thread(target=collect)
    worker.start()
    assert still.wait(60)
    assert registry.up(settings, shipped, notify=lines.append) == endpoint
    assert any("waiting for another process" in line for line in lines) or done.is_set()
    worker.join(60)
    assert ask(endpoint, "PATCH", where.split(endpoint.address, 1)[1], b"rest")[0] == 202


def test_untagged_images_go_when_asked(process_settings: RegistryTable, shipped: BundledSource) -> None:
    endpoint = registry.up(process_settings, shipped, notify=quiet)
    tagged = push_image(endpoint, "new", tag="latest")
    untagged = push_image(endpoint, "old")
    registry.down(process_settings)
    collect_garbage(process_settings, shipped, notify=quiet, untagged=True)
    assert not registry.status(process_settings).running
    registry.up(process_settings, shipped, notify=quiet)
    assert ask(endpoint, "GET", f"/v2/try/manifests/{untagged}")[0] == 404
    assert ask(endpoint, "GET", f"/v2/try/manifests/{tagged}")[0] == 200


@pytest.mark.long
def test_a_failed_collection_leaves_the_registry_running(
    settings: RegistryTable, shipped: BundledSource
) -> None:
    """Distribution 2.8 gives up on a repository that never had a tag when it is to remove the untagged."""
    endpoint = registry.up(settings, shipped, notify=quiet)
    untagged = push_image(endpoint)
    with pytest.raises(MlpkgError, match="garbage-collect failed"):
        collect_garbage(settings, shipped, notify=quiet, untagged=True)
    assert ask(endpoint, "GET", f"/v2/try/manifests/{untagged}")[0] == 200


@pytest.mark.long
def test_a_collector_that_does_not_end_is_stopped(
    settings: RegistryTable, shipped: BundledSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = registry.up(settings, shipped, notify=quiet)
    monkeypatch.setattr("mlpkg.registry.care.LONGEST_COLLECTION", 0.0)
    with pytest.raises(MlpkgError, match="did not end in 0 s"):
        collect_garbage(settings, shipped, notify=quiet)
    assert registry.up(settings, shipped, notify=quiet) == endpoint
