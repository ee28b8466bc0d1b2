"""What the client promises, against every kind of registry."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from mlpkg.digest import Descriptor, Digest, canonical_json, sha256
from mlpkg.errors import ChangedInput, DigestMismatch, RegistryError, UsageError
from mlpkg.remote.client import OCI_INDEX, OCI_MANIFEST, Registry
from mlpkg.remote.credentials import Credentials
from mlpkg.remote.push import MovedTag, push_image
from tests.remote.conftest import Site
from tests.remote.images import Image, blob, image, pieces, ping, repository, wrong_blob


def test_what_was_pushed_comes_back(registry: Registry) -> None:
    name = repository()
    small, big, empty = os.urandom(10), os.urandom(3_500_000), b""
    pushed = image(blob(small), blob(big), blob(empty))
    result = pushed.push(registry, name, ("latest", "1.0"))

    assert result.digest == sha256(pushed.manifest)
    assert {d.digest for d in result.uploaded} == {
        *(layer.descriptor.digest for layer in pushed.layers),
        pushed.config.descriptor.digest,
    }
    assert result.bytes_sent == len(small) + len(big) + pushed.config.descriptor.size
    assert sorted(registry.tags(name)) == ["1.0", "latest"]
    descriptor, data = registry.get_manifest(name, "latest")
    assert data == pushed.manifest
    assert descriptor == Descriptor(OCI_MANIFEST, result.digest, len(data))
    assert registry.head_manifest(name, "1.0") == descriptor
    for content, layer in zip((small, big, empty), pushed.layers, strict=True):
        assert b"".join(registry.read_blob(name, layer.descriptor)) == content


def test_a_second_push_sends_nothing(registry: Registry) -> None:
    name = repository()
    pushed = image(blob(os.urandom(1000)))
    pushed.push(registry, name, ("latest",))
    again = pushed.push(registry, name, ("latest",))
    assert (again.uploaded, again.mounted, again.bytes_sent, again.moved) == ((), (), 0, ())
    assert len(again.existed) == 2


def test_a_changed_layer_moves_only_itself(registry: Registry) -> None:
    name = repository()
    kept, old, new = blob(os.urandom(5000)), blob(os.urandom(6000)), blob(os.urandom(7000))
    image(kept, old).push(registry, name, ("latest",))
    result = image(kept, new).push(registry, name, ("latest",))
    assert result.uploaded == (new.descriptor,)
    assert result.bytes_sent == 7000


def test_a_blob_is_mounted_from_another_repository(registry: Registry) -> None:
    source, target = repository(), repository()
    data = os.urandom(4000)
    assert registry.upload_blob(source, blob(data))

    def unread() -> Iterator[bytes]:
        raise AssertionError("a mounted blob is not read")

    assert not registry.upload_blob(target, wrong_blob(data, unread), mount_from=source)
    assert registry.has_blob(target, blob(data).descriptor)


def test_a_mount_from_where_the_blob_is_not_becomes_an_upload(registry: Registry) -> None:
    source, target = repository(), repository()
    registry.upload_blob(source, blob(b"something else"))
    assert registry.upload_blob(target, blob(b"not there"), mount_from=source)
    assert registry.has_blob(target, blob(b"not there").descriptor)


def test_push_image_reports_mounts(registry: Registry) -> None:
    source, target = repository(), repository()
    pushed = image(blob(os.urandom(100)))
    pushed.push(registry, source)
    layer = pushed.layers[0].descriptor
    result = push_image(
        registry,
        target,
        blobs=pushed.layers,
        config=pushed.config,
        manifest=pushed.manifest,
        media_type=OCI_MANIFEST,
        tags=(),
        mount_from={layer.digest: source},
    )
    assert result.mounted == (layer,)
    assert result.uploaded == (pushed.config.descriptor,)


NAMED = bytes(range(256)) * 8192  # 2 MiB


def _changed() -> Iterator[bytes]:
    yield NAMED[: 1 << 20]
    raise ChangedInput("model.bin: changed while it was read")


def _unreadable() -> Iterator[bytes]:
    yield NAMED[: 1 << 20]
    raise BrokenPipeError("the disk went away")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (lambda: pieces(NAMED[:-1] + b"!"), DigestMismatch),
        (lambda: pieces(NAMED[:-1]), DigestMismatch),
        (lambda: pieces(NAMED + b"!"), DigestMismatch),
        (lambda: iter(()), DigestMismatch),
        (_changed, ChangedInput),
        (_unreadable, ChangedInput),
    ],
    ids=["other", "short", "long", "none", "changed", "unreadable"],
)
def test_wrong_bytes_are_never_committed(registry: Registry, given: object, error: type[Exception]) -> None:
    name = repository()
    wrong = wrong_blob(NAMED, given)  # type: ignore[arg-type]
    other = blob(os.urandom(100))
    with pytest.raises(error):
        image(other, wrong).push(registry, name, ("latest",))
    assert not registry.has_blob(name, wrong.descriptor)
    assert registry.head_manifest(name, "latest") is None
    # And the same registry object goes on working.
    assert image(other, blob(NAMED)).push(registry, name, ("latest",)).digest


def test_a_moved_tag_is_reported(registry: Registry) -> None:
    name = repository()
    old = image(blob(b"old")).push(registry, name, ("latest",)).digest
    result = image(blob(b"new")).push(registry, name, ("latest", "first"), allow_tag_move=lambda _tag: True)
    assert result.moved == (MovedTag("latest", old),)
    found = registry.head_manifest(name, "latest")
    assert found is not None
    assert found.digest == result.digest


def test_a_tag_that_must_not_move_stops_the_push_before_it_sends(registry: Registry) -> None:
    name = repository()
    old = image(blob(b"old")).push(registry, name, ("1.0",)).digest
    new = image(blob(b"new"))
    asked = []

    def refuse(tag: str) -> bool:
        asked.append(tag)
        return False

    with pytest.raises(RegistryError, match=r"1\.0.*must not move") as caught:
        new.push(registry, name, ("latest", "1.0"), allow_tag_move=refuse)
    assert caught.value.code == "TAG_MOVE_REFUSED"
    assert asked == ["1.0"]
    assert not registry.has_blob(name, new.layers[0].descriptor)
    assert registry.tags(name) == ["1.0"]
    found = registry.head_manifest(name, "1.0")
    assert found is not None
    assert found.digest == old


def test_the_same_tag_again_needs_no_permission(registry: Registry) -> None:
    name = repository()
    pushed = image(blob(b"same"))
    pushed.push(registry, name, ("1.0",))
    assert pushed.push(registry, name, ("1.0",), allow_tag_move=lambda _tag: False).moved == ()


def test_a_layer_given_twice_is_sent_once(registry: Registry) -> None:
    layer = blob(os.urandom(100_000))
    sent: Counter[Digest] = Counter()

    def progress(descriptor: Descriptor, count: int) -> None:
        sent[descriptor.digest] += count

    pushed = image(layer, layer)
    result = pushed.push(registry, repository(), progress=progress)
    assert sent == {
        layer.descriptor.digest: 100_000,
        pushed.config.descriptor.digest: pushed.config.descriptor.size,
    }
    assert len(result.uploaded) == 2


def test_small_pieces_arrive_in_order(registry: Registry) -> None:
    name = repository()
    data = os.urandom(700_000)
    mixed = [*pieces(data[:300_000], 512), data[300_000:600_000], *pieces(data[600_000:], 1000)]
    registry.upload_blob(name, wrong_blob(data, lambda: iter(mixed)))
    assert b"".join(registry.read_blob(name, blob(data).descriptor)) == data


def test_what_is_not_there(registry: Registry) -> None:
    name = repository()
    assert registry.tags(name) == []
    assert registry.head_manifest(name, "latest") is None
    assert not registry.has_blob(name, blob(b"x").descriptor)
    with pytest.raises(RegistryError) as caught:
        registry.get_manifest(name, "latest")
    assert caught.value.status == 404
    with pytest.raises(RegistryError) as caught:
        b"".join(registry.read_blob(name, blob(b"x").descriptor))
    assert caught.value.status == 404


def test_a_blob_of_another_length_is_called_damaged(site: Site, registry: Registry) -> None:
    name = repository()
    data = os.urandom(5000)
    stored = blob(data)
    registry.upload_blob(name, stored)
    digest = stored.descriptor.digest
    if site.fake:
        site.fake.repository(name).blobs[digest] = data[:-1]
    else:
        assert site.storage is not None
        hexadecimal = digest.removeprefix("sha256:")
        path = site.storage / f"docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"
        path.write_bytes(data[:-1])
    with pytest.raises(RegistryError, match="damaged") as caught:
        registry.has_blob(name, stored.descriptor)
    assert caught.value.code == "BLOB_DAMAGED"
    assert "repair" in caught.value.hint
    with pytest.raises(DigestMismatch):
        b"".join(registry.read_blob(name, stored.descriptor))
    with pytest.raises(RegistryError, match="damaged"):
        image(stored).push(registry, name)


def test_a_flipped_bit_never_reaches_the_last_piece(site: Site, registry: Registry) -> None:
    name = repository()
    data = os.urandom(3 << 20)
    stored = blob(data)
    registry.upload_blob(name, stored)
    digest = stored.descriptor.digest
    flipped = data[:100] + bytes([data[100] ^ 1]) + data[101:]
    if site.fake:
        site.fake.repository(name).blobs[digest] = flipped
    else:
        assert site.storage is not None
        hexadecimal = digest.removeprefix("sha256:")
        path = site.storage / f"docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"
        path.write_bytes(flipped)
    received: list[bytes] = []
    with pytest.raises(DigestMismatch):
        received.extend(registry.read_blob(name, stored.descriptor))
    assert sum(map(len, received)) < len(data)


def test_a_manifest_must_name_what_is_there(registry: Registry) -> None:
    name = repository()
    pushed = image(blob(b"given"), blob(b"missing"))
    partly = Image(pushed.layers[:1], pushed.config, pushed.manifest)
    with pytest.raises(RegistryError, match="neither there nor given") as caught:
        partly.push(registry, name, ("latest",))
    assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"
    assert registry.head_manifest(name, "latest") is None
    registry.upload_blob(name, pushed.layers[1])
    assert partly.push(registry, name, ("latest",)).digest == sha256(pushed.manifest)


def test_the_registry_refuses_a_manifest_of_missing_blobs(registry: Registry) -> None:
    pushed = image(blob(b"missing"))
    with pytest.raises(RegistryError) as caught:
        registry.put_manifest(repository(), "latest", pushed.manifest, OCI_MANIFEST)
    assert (caught.value.status, caught.value.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_a_wrong_size_in_the_manifest_is_refused_here(registry: Registry) -> None:
    layer = blob(b"layer")
    pushed = image(layer)
    lie = pushed.manifest.replace(b'"size":5}', b'"size":6}')
    assert lie != pushed.manifest
    with pytest.raises(DigestMismatch, match="6 bytes"):
        Image((layer,), pushed.config, lie).push(registry, repository())


def test_an_index_is_pushed_and_read(registry: Registry) -> None:
    name = repository()
    child = image(blob(b"child"))
    child.push(registry, name)
    child_descriptor = Descriptor(OCI_MANIFEST, sha256(child.manifest), len(child.manifest))
    index = canonical_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child_descriptor.to_json()]}
    )
    digest = registry.put_manifest(name, "latest", index, OCI_INDEX)
    assert registry.get_manifest(name, "latest") == (Descriptor(OCI_INDEX, digest, len(index)), index)


def test_names_that_would_leave_their_place_in_a_url(registry: Registry) -> None:
    descriptor = blob(b"x").descriptor
    for name in ("../other", "a/../b", "A", "", "a//b", "a b", "a?x=", "a" * 256, "a/b\n"):
        with pytest.raises(UsageError):
            registry.has_blob(name, descriptor)
        with pytest.raises(UsageError):
            registry.tags(name)
    for tag in ("", "../x", "a/b", "a b", "-a", "a" * 129, "a\n"):
        with pytest.raises(UsageError):
            registry.head_manifest("good", tag)
    for digest in ("sha256:abc", "md5:" + "0" * 64, "sha256:" + "A" * 64):
        with pytest.raises(UsageError, match="not a sha256 digest"):
            registry.head_manifest("good", digest)


def test_ping(registry: Registry) -> None:
    ping(registry)


def test_wrong_credentials(site: Site) -> None:
    if site.credentials is None:  # nobody asks for them, so nobody gets them
        with Registry(site.address, Credentials("ann", "wrong-secret")) as registry:
            ping(registry)
        return
    with Registry(site.address, Credentials("ann", "wrong-secret")) as registry:
        with pytest.raises(RegistryError) as caught:
            ping(registry)
        assert caught.value.status == 401
        assert "login" in caught.value.hint
        assert "wrong-secret" not in str(caught.value)
    with Registry(site.address) as registry, pytest.raises(RegistryError) as caught:
        image(blob(b"x")).push(registry, repository())
    assert caught.value.status == 401
