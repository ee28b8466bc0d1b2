"""What the client does when registries, proxies and networks fail."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.errors import DigestMismatch, RegistryError, Unreachable, UsageError
from mlpkg.http import retry
from mlpkg.remote import session
from mlpkg.remote.client import OCI_MANIFEST, Registry
from tests.fakes import web
from tests.fakes.registry import FakeRegistry, Fault
from tests.remote.conftest import CREDENTIALS
from tests.remote.images import blob, image, ping, repository, wrong_blob

BIG = bytes(range(256)) * (16 << 12)  # 16 MiB: more than all socket buffers on the way hold
SMALL = b"a layer"


@pytest.fixture
def registry(fake: FakeRegistry) -> Iterator[Registry]:
    with Registry(fake.address) as client:
        yield client


# -- answers that come before the body's end


def test_a_token_that_ends_mid_upload_resends_the_whole_body() -> None:
    with FakeRegistry("bearer").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        layer = blob(BIG)
        fault = Fault("^PUT .*uploads/", 401, after=3 << 20, is_closing=True)
        fault.headers = {"WWW-Authenticate": f'Bearer realm="{fake.url}/token",service="fake"'}
        fake.faults.append(fault)
        deltas: list[int] = []
        assert registry.upload_blob("a/b", layer, progress=deltas.append)
        first, second = fake.requests("^PUT .*uploads/")
        assert first.received < len(BIG)
        assert (second.received, second.status) == (len(BIG), 201)
        assert first.authorization != second.authorization
        assert fake.repository("a/b").blobs[layer.descriptor.digest] == BIG
        assert sum(deltas) == len(BIG)
        assert min(deltas) < 0


def test_a_token_that_ends_twice_in_one_upload_is_renewed_twice() -> None:
    """A second 401 to the same request was final, though a look before it was let in."""
    with FakeRegistry("bearer").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        layer = blob(SMALL)
        fault = Fault("^PUT .*uploads/", 401, after=1, times=2)
        fault.headers = {"WWW-Authenticate": f'Bearer realm="{fake.url}/token",service="fake"'}
        fake.faults.append(fault)
        assert registry.upload_blob("a/b", layer)
        assert [seen.status for seen in fake.requests("^PUT .*uploads/")] == [401, 401, 201]
        assert fake.repository("a/b").blobs[layer.descriptor.digest] == SMALL


def test_an_early_413_is_read_and_not_tried_again(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(
        Fault("^PUT .*uploads/", 413, body=b"<html>too large</html>", is_closing=True, times=9)
    )
    with pytest.raises(RegistryError) as caught:
        registry.upload_blob("a/b", blob(BIG))
    assert caught.value.status == 413
    assert "client_max_body_size" in caught.value.hint
    assert len(fake.requests("^PUT")) == 1
    assert "secret-state" not in str(caught.value)


def test_a_refusal_stops_the_upload_early(fake: FakeRegistry, registry: Registry) -> None:
    """A server that refuses and still reads: we notice its answer and stop sending."""
    given = 0

    def counted() -> Iterator[bytes]:
        nonlocal given
        for at in range(0, len(BIG), 1 << 16):
            given += 1 << 16
            time.sleep(0.001)
            yield BIG[at : at + (1 << 16)]

    fake.faults.append(Fault("^PUT .*uploads/", 403, after=1 << 16, is_closing=True))
    with pytest.raises(RegistryError) as caught:
        registry.upload_blob("a/b", wrong_blob(BIG, counted))
    assert caught.value.status == 403
    assert given < len(BIG)


def test_an_answer_is_heard_though_the_server_neither_reads_nor_closes(
    fake: FakeRegistry, registry: Registry
) -> None:
    fake.faults.append(Fault("^PUT .*uploads/", 413, after=1 << 20, hold=10))
    start = time.monotonic()
    with pytest.raises(RegistryError) as caught:
        registry.upload_blob("a/b", blob(BIG))
    assert caught.value.status == 413
    # And the connection with half a request on it is not used again.
    assert registry.upload_blob("a/b", blob(SMALL))
    assert time.monotonic() - start < 5


def test_the_status_of_a_refusal_survives_the_loss_of_its_text(
    fake: FakeRegistry, registry: Registry
) -> None:
    fake.faults.append(Fault("^POST", 403, {"Content-Length": "1000", "Connection": "close"}, body=b"{"))
    with pytest.raises(RegistryError) as caught:
        registry.upload_blob("a/b", blob(SMALL))
    assert caught.value.status == 403


# -- what passes by itself


def test_429_waits_as_long_as_asked(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(Fault("^POST", 429, {"Retry-After": "1"}))
    start = time.monotonic()
    assert registry.upload_blob("a/b", blob(SMALL))
    assert 1.0 <= time.monotonic() - start < 3
    assert len(fake.requests("^POST")) == 2


def test_a_429_for_longer_than_we_wait_is_reported(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(Fault("^POST", 429, {"Retry-After": "3600"}))
    with pytest.raises(RegistryError) as caught:
        registry.upload_blob("a/b", blob(SMALL))
    assert caught.value.status == 429
    assert len(fake.requests("^POST")) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_temporary_answers_are_tried_again(
    fake: FakeRegistry, registry: Registry, method: str, status: int
) -> None:
    fake.faults.append(Fault(f"^{method} .*blobs", status, times=2))
    assert registry.upload_blob("a/b", blob(SMALL))
    assert registry.has_blob("a/b", blob(SMALL).descriptor)


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_refusals_are_not_tried_again(fake: FakeRegistry, registry: Registry, status: int) -> None:
    fake.faults.append(Fault("^POST", status, times=9))
    with pytest.raises(RegistryError) as caught:
        registry.upload_blob("a/b", blob(SMALL))
    assert caught.value.status == status
    assert len(fake.requests("^POST")) == 1


def test_it_gives_up_in_the_end(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(
        Fault("^POST", 502, body=b'{"errors":[{"code":"DOWN","message":"x\\u001b[31m"}]}', times=99)
    )
    with pytest.raises(RegistryError, match="502: DOWN: x") as caught:
        registry.upload_blob("a/b", blob(SMALL))
    assert "\x1b" not in str(caught.value)
    assert len(fake.requests("^POST")) == session.SETTINGS.attempts


def test_the_budget_is_shared_by_all_blobs(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(Fault("^(HEAD|POST) .*blobs", 502, times=999))
    for _ in range(5):
        with pytest.raises(RegistryError):
            registry.upload_blob("a/b", blob(SMALL))
    assert len(fake.requests("blobs")) < 5 * session.SETTINGS.attempts


@pytest.mark.parametrize("after", [0, 1 << 20])
def test_a_reset_while_sending_starts_the_blob_over(
    fake: FakeRegistry, registry: Registry, after: int
) -> None:
    fake.faults.append(Fault("^PUT .*uploads/", 0, after=after))
    deltas: list[int] = []
    assert registry.upload_blob("a/b", blob(BIG), progress=deltas.append)
    assert sum(deltas) == len(BIG)
    assert len(fake.requests("^POST")) == 2
    assert fake.repository("a/b").blobs == {blob(BIG).descriptor.digest: BIG}


def test_a_lost_session_starts_over_once(fake: FakeRegistry, registry: Registry) -> None:
    lost = b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}'
    fake.faults.append(Fault("^PUT .*uploads/", 404, body=lost))
    assert registry.upload_blob("a/b", blob(SMALL))
    fake.faults.append(Fault("^PUT .*uploads/", 400, body=lost, times=9))
    with pytest.raises(RegistryError, match="BLOB_UPLOAD_UNKNOWN"):
        registry.upload_blob("a/b", blob(b"other"))
    assert len(fake.requests("^PUT .*uploads/")) == 4


def test_a_lost_answer_to_a_finished_upload_is_not_an_upload_twice(
    fake: FakeRegistry, registry: Registry
) -> None:
    layer = blob(SMALL)
    fake.faults.append(Fault("^PUT .*uploads/", 502))
    fake.repository("a/b").blobs.clear()

    def stored(_: int) -> None:
        fake.repository("a/b").blobs[layer.descriptor.digest] = SMALL

    fake.on_piece = stored
    registry.upload_blob("a/b", layer)
    assert len(fake.requests("^PUT")) == 1


def test_a_mount_that_is_refused_becomes_an_upload(fake: FakeRegistry, registry: Registry) -> None:
    fake.no_mount = True
    registry.upload_blob("a/source", blob(SMALL))
    assert registry.upload_blob("a/target", blob(SMALL), mount_from="a/source")


def test_an_abandoned_upload_is_cancelled(fake: FakeRegistry, registry: Registry) -> None:
    with pytest.raises(DigestMismatch):
        registry.upload_blob("a/b", wrong_blob(BIG, lambda: iter([BIG[:-1], b"?"])))
    assert fake.repository("a/b").cancelled == 1


def test_reading_goes_on_where_it_broke(fake: FakeRegistry, registry: Registry) -> None:
    layer = blob(BIG)
    registry.upload_blob("a/b", layer)
    half = len(BIG) // 2
    fake.faults.append(
        Fault("^GET .*blobs", 200, {"Content-Length": str(len(BIG)), "Connection": "close"}, body=BIG[:half])
    )
    assert b"".join(registry.read_blob("a/b", layer.descriptor)) == BIG
    assert [seen.range for seen in fake.requests("^GET .*blobs")] == ["", f"bytes={half}-"]


def test_reading_starts_over_where_ranges_are_not_known(fake: FakeRegistry, registry: Registry) -> None:
    layer = blob(BIG)
    registry.upload_blob("a/b", layer)
    broken = {"Content-Length": str(len(BIG)), "Connection": "close"}
    fake.faults.append(Fault("^GET .*blobs", 200, broken, body=BIG[:5_000_001]))
    fake.faults.append(Fault("^GET .*blobs", 200, {"Content-Length": str(len(BIG))}, body=BIG))
    assert b"".join(registry.read_blob("a/b", layer.descriptor)) == BIG


# -- where requests go


def test_credentials_do_not_follow_to_other_hosts() -> None:
    with FakeRegistry("basic").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        port = fake.address.rpartition(":")[2]
        fake.upload_host = fake.blob_host = f"localhost:{port}"  # another origin for the client
        layer = blob(SMALL)
        assert registry.upload_blob("a/b", layer)
        assert b"".join(registry.read_blob("a/b", layer.descriptor)) == SMALL
        elsewhere = fake.requests("/elsewhere/")
        assert {seen.method for seen in elsewhere} == {"PUT", "GET"}
        assert all(seen.authorization is None for seen in elsewhere)


def test_a_401_from_another_host_gets_no_credentials() -> None:
    with FakeRegistry("basic").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        port = fake.address.rpartition(":")[2]
        fake.upload_host = f"localhost:{port}"
        fake.faults.append(Fault("/elsewhere/", 401, {"WWW-Authenticate": 'Basic realm="phishing"'}, times=9))
        with pytest.raises(RegistryError) as caught:
            registry.upload_blob("a/b", blob(SMALL))
        assert caught.value.status == 401
        assert [seen.authorization for seen in fake.requests("/elsewhere/")] == [None]


def test_redirects_end(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(Fault("^HEAD", 307, {"Location": "/v2/a/b/blobs/again"}, times=99))
    with pytest.raises(RegistryError, match="redirects"):
        registry.has_blob("a/b", blob(SMALL).descriptor)


def test_an_upload_location_that_is_no_http_address(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(Fault("^POST", 202, {"Location": "file:///etc/passwd"}))
    with pytest.raises(RegistryError, match="sends us to"):
        registry.upload_blob("a/b", blob(SMALL))


@pytest.mark.parametrize(
    "realm", ["http://registry.example/token", "ftp://127.0.0.1/token", "", "http://u:p@127.0.0.1/token"]
)
def test_an_unsafe_token_service_is_not_asked(realm: str) -> None:
    with FakeRegistry("bearer").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
        fake.faults.append(Fault("^GET /v2/", 401, challenge))
        with pytest.raises(RegistryError, match=r"token|credentials") as caught:
            ping(registry)
        assert "u:p" not in str(caught.value)
        assert fake.token_requests == []


def test_tokens_are_taken_once_per_scope() -> None:
    with FakeRegistry("bearer").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        name = repository()
        image(*(blob(os.urandom(10)) for _ in range(8))).push(registry, name, ("latest", "1.0"))
        assert sorted(form["scope"] for form in fake.token_requests) == [
            [f"repository:{name}:pull"],
            [f"repository:{name}:pull,push"],
        ]


def test_a_token_near_its_end_is_renewed_first() -> None:
    with FakeRegistry("bearer").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        fake.expires_in = 1  # half of it counts
        registry.tags("a/b")
        time.sleep(0.6)
        registry.tags("a/b")
        assert len(fake.token_requests) == 2
        assert [seen.status for seen in fake.requests("tags")] == [401, 404, 404]


def test_revoked_tokens_are_renewed() -> None:
    with FakeRegistry("bearer").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        registry.upload_blob("a/b", blob(SMALL))
        fake.revoke_tokens()
        assert registry.upload_blob("a/b", blob(b"other"))
        assert registry.has_blob("a/b", blob(b"other").descriptor)


def test_threads_share_a_new_token() -> None:
    with FakeRegistry("bearer").serving() as fake, Registry(fake.address, CREDENTIALS) as registry:
        layers = [blob(os.urandom(10)) for _ in range(4)]
        for layer in layers:
            registry.upload_blob("a/b", layer)
        fake.revoke_tokens()
        fake.token_requests.clear()
        together = threading.Barrier(4)
        lookups = [
            lambda layer=layer: (together.wait(5), registry.upload_blob("a/b", layer)) for layer in layers
        ]
        threads = [threading.Thread(target=lookup) for lookup in lookups]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(fake.token_requests) == 1


# -- answers that lie


def test_a_manifest_of_another_digest(fake: FakeRegistry, registry: Registry) -> None:
    pushed = image(blob(SMALL))
    digest = pushed.push(registry, "a/b", ("latest",)).digest
    media_type, data = fake.repository("a/b").manifests[digest]
    fake.repository("a/b").manifests[digest] = (media_type, data + b" ")
    for reference in (digest, "latest"):
        with pytest.raises(DigestMismatch):
            registry.get_manifest("a/b", reference)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'{"layers":[],"manifests":[]}', OCI_MANIFEST),
        (b'{"layers":[],"manifests":[]}', "application/vnd.oci.image.index.v1+json"),
        (b'{"layers":[]}', "application/vnd.oci.image.index.v1+json"),
        (b'{"manifests":[]}', OCI_MANIFEST),
        (b'{"layers":[],"mediaType":"application/vnd.oci.image.index.v1+json"}', OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b"not json", OCI_MANIFEST),
        (b'{"layers":[]}', "text/html"),
        (b"[" * 100_000, OCI_MANIFEST),
    ],
)
def test_a_document_that_is_not_what_it_says(
    fake: FakeRegistry, registry: Registry, body: bytes, media_type: str
) -> None:
    fake.faults.append(Fault("^GET .*manifests", 200, {"Content-Type": media_type}, body=body))
    with pytest.raises(RegistryError, match="no image or index"):
        registry.get_manifest("a/b", "latest")


def test_a_manifest_without_end(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(Fault("^GET .*manifests", 200, body=bytes(5 << 20)))
    with pytest.raises(RegistryError, match="more than 4194304 bytes"):
        registry.get_manifest("a/b", "latest")


def test_a_head_without_digest_is_asked_in_full(fake: FakeRegistry, registry: Registry) -> None:
    digest = image(blob(SMALL)).push(registry, "a/b", ("latest",)).digest
    fake.faults.append(Fault("^HEAD .*manifests", 200, {"Content-Type": OCI_MANIFEST}))
    found = registry.head_manifest("a/b", "latest")
    assert found is not None
    assert found.digest == digest


def test_another_digest_stored(fake: FakeRegistry, registry: Registry) -> None:
    other = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    fake.faults.append(Fault("^PUT .*uploads", 201, other))
    with pytest.raises(DigestMismatch):
        registry.upload_blob("a/b", blob(SMALL))
    fake.faults.append(Fault("^PUT .*manifests", 201, other))
    with pytest.raises(DigestMismatch):
        registry.put_manifest("a/b", "latest", image(blob(SMALL)).manifest, OCI_MANIFEST)


def test_an_upload_accepted_too_early(fake: FakeRegistry, registry: Registry) -> None:
    fake.faults.append(Fault("^PUT .*uploads", 201, after=1 << 20, is_closing=True))
    with pytest.raises(RegistryError, match="before it was complete"):
        registry.upload_blob("a/b", blob(BIG))


def test_all_pages_of_tags(fake: FakeRegistry, registry: Registry) -> None:
    fake.repository("a/b").tags = {f"v{number}": "sha256:x" for number in range(8)}
    assert registry.tags("a/b") == [f"v{number}" for number in range(8)]
    assert len(fake.requests("tags/list")) == 3
    loop = {"Link": '</v2/a/b/tags/list?n=1000>; rel="next"'}
    fake.faults.append(Fault("tags/list", 200, loop, body=b'{"tags":["v0"]}'))
    with pytest.raises(RegistryError, match="does not end"):
        registry.tags("a/b")


# -- nobody there


def test_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 2.0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        start = time.monotonic()
        with (
            Registry(f"127.0.0.1:{port}") as registry,
            pytest.raises(Unreachable, match="does not answer") as caught,
        ):
            ping(registry)
    assert caught.value.exit_code == 4
    assert time.monotonic() - start < 1


def test_a_registry_that_is_started_again_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.1)
    with contextlib.ExitStack() as stack:
        with FakeRegistry().serving() as fake:
            port = fake.server.server_address[1]
            registry = stack.enter_context(Registry(fake.address))
            ping(registry)

        def restart() -> None:
            stack.enter_context(FakeRegistry(port=port).serving())

        timer = threading.Timer(0.2, restart)
        timer.start()
        try:
            assert registry.upload_blob("a/b", blob(SMALL))
        finally:
            timer.join()


def test_a_registry_that_stops_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads: no progress is possible, and that ends the upload, not its total time."""
    impatient = replace(session.SETTINGS, progress_timeout=0.2, attempts=1)
    monkeypatch.setattr(session, "SETTINGS", impatient)
    with FakeRegistry().serving() as fake, Registry(fake.address) as registry:
        release = threading.Event()
        fake.on_piece = lambda _total: (release.wait(20), None)[1]
        start = time.monotonic()
        try:
            with pytest.raises(Unreachable, match="no byte moved"):
                registry.upload_blob("a/b", blob(BIG))
            assert time.monotonic() - start < 5
        finally:
            release.set()


def test_a_slow_upload_is_not_a_stalled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SETTINGS", replace(session.SETTINGS, progress_timeout=0.5))
    with FakeRegistry().serving() as fake, Registry(fake.address) as registry:
        fake.on_piece = lambda _total: time.sleep(0.02)
        start = time.monotonic()
        assert registry.upload_blob("a/b", wrong_blob(BIG, lambda: iter([BIG])))
        assert time.monotonic() - start > 1


def test_ctrl_c_ends_all_uploads_at_once(fake: FakeRegistry, registry: Registry) -> None:
    release = threading.Event()
    is_sending = threading.Event()

    def stall(_total: int) -> None:
        is_sending.set()
        release.wait(20)

    fake.on_piece = stall

    def interrupt() -> None:
        is_sending.wait(10)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            image(blob(BIG), blob(BIG[1:]), blob(BIG[2:])).push(registry, "a/b", ("latest",))
        assert time.monotonic() - start < 3
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("push")]
    finally:
        release.set()
        sender.join()
    assert fake.repository("a/b").tags == {}
    fake.on_piece = lambda _total: None
    assert image(blob(SMALL)).push(registry, "a/b", ("latest",)).digest


def test_a_failed_blob_ends_the_others(fake: FakeRegistry, registry: Registry) -> None:
    release = threading.Event()
    fake.on_piece = lambda _total: (release.wait(20), None)[1]
    small = blob(SMALL)
    fake.faults.append(Fault(f"^HEAD .*{small.descriptor.digest}", 403))
    start = time.monotonic()
    try:
        with pytest.raises(RegistryError) as caught:
            image(blob(BIG), small).push(registry, "a/b")
    finally:
        release.set()
    assert caught.value.status == 403
    assert time.monotonic() - start < 3


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return web.certificate(tmp_path_factory.mktemp("tls"))


def test_tls_with_a_ca_file(certificate: tuple[Path, Path]) -> None:
    with (
        FakeRegistry("basic").serving(certificate) as fake,
        Registry(fake.address, CREDENTIALS, plain_http=False, ca_file=certificate[0]) as registry,
    ):
        assert image(blob(BIG), blob(SMALL)).push(registry, "a/b", ("latest",)).digest
        fake.faults.append(Fault("^PUT .*uploads/", 413, after=1 << 20, is_closing=True))
        with pytest.raises(RegistryError) as caught:
            registry.upload_blob("a/b", blob(BIG[1:]))
        assert caught.value.status == 413


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_tls_with_a_ca_from_the_environment(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(certificate[0]))
    with FakeRegistry().serving(certificate) as fake, Registry(f"https://{fake.address}") as registry:
        ping(registry)


def test_a_certificate_nobody_signed(certificate: tuple[Path, Path]) -> None:
    with (
        FakeRegistry().serving(certificate) as fake,
        Registry(fake.address, plain_http=False) as registry,
        pytest.raises(Unreachable, match="certificate") as caught,
    ):
        ping(registry)
    assert "SSL_CERT_FILE" in caught.value.hint


def test_plain_http_where_tls_was_expected(fake: FakeRegistry) -> None:
    with (
        Registry(fake.address, plain_http=False) as registry,
        pytest.raises(Unreachable, match="TLS") as caught,
    ):
        ping(registry)
    assert "plain http" in caught.value.hint


def test_a_ca_file_that_is_none(tmp_path: Path, fake: FakeRegistry) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with (
            Registry(fake.address, plain_http=False, ca_file=tmp_path / name) as registry,
            pytest.raises(UsageError, match=name),
        ):
            ping(registry)
