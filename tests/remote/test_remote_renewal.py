"""A 401 in the middle of a push to a real registry, from a proxy before it, is not the end of the push."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlpkg.digest import Descriptor, sha256
from mlpkg.errors import RegistryError
from mlpkg.remote.blob import Blob
from mlpkg.remote.client import Registry
from mlpkg.remote.credentials import Credentials
from mlpkg.remote.push import push_image
from tests.remote.images import ping

from .conftest import CREDENTIALS, Site

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Proxy(BaseHTTPRequestHandler):
    """Hands every request on, but answers 401 to those that `refusals` counts down: by method and part of the path."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    refusals: dict[tuple[str, str], int]
    refused: list[str]
    lock: threading.Lock

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_known = "Authorization" in self.headers
        with self.lock:
            for (method, part), left in self.refusals.items():
                if is_known and left and method == self.command and part in self.path:
                    self.refusals[method, part] = left - 1
                    self.refused.append(f"{method} {self.path}")
                    self._send(401, {"WWW-Authenticate": 'Basic realm="proxy"'}, b"")
                    return
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
            self._send(answer.status, dict(answer.getheaders()), data)
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = len(data) if self.command != "HEAD" else int(headers.get("Content-Length", 0))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - the names are http.server's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def proxied(site: Site, refusals: dict[tuple[str, str], int]) -> Iterator[tuple[str, list[str]]]:
    """A proxy before a registry: its address, and what it refused."""
    refused: list[str] = []
    fields = {"upstream": site.address, "refusals": refusals, "refused": refused, "lock": threading.Lock()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneProxy", (Proxy,), fields))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", refused
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def image(seed: bytes) -> tuple[list[Blob], Blob, bytes]:
    """Layers, config and manifest of an image that nobody else pushes."""
    texts = [hashlib.sha256(seed + bytes([number])).digest() * (1 << 15) for number in range(3)]
    config = json.dumps({"architecture": "amd64", "os": "linux", "note": seed.decode()}).encode()

    def blob(data: bytes, kind: str) -> Blob:
        media_type = f"application/vnd.oci.image.{kind}"
        return Blob(Descriptor(media_type, sha256(data), len(data)), lambda: iter((data,)))

    layers = [blob(text, "layer.v1.tar") for text in texts]
    own = blob(config, "config.v1+json")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": own.descriptor.to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
        }
    ).encode()
    return layers, own, manifest


def push(address: str, credentials: Credentials, repository: str) -> None:
    layers, config, manifest = image(repository.encode())
    with Registry(address, credentials) as registry:
        push_image(
            registry,
            repository,
            blobs=layers,
            config=config,
            manifest=manifest,
            media_type=MANIFEST,
            tags=["1"],
        )


@pytest.mark.parametrize(
    ("name", "where", "times"),
    [
        ("upload", ("PUT", "/blobs/uploads/"), 1),
        ("session", ("POST", "/blobs/uploads/"), 1),
        ("look", ("HEAD", "/blobs/"), 2),
        ("manifest", ("PUT", "/manifests/"), 2),
        ("twice", ("PUT", "/blobs/uploads/"), 3),
    ],
)
def test_a_401_in_the_middle_is_tried_again(
    binary_basic: Site, name: str, where: tuple[str, str], times: int
) -> None:
    with proxied(binary_basic, {where: times}) as (address, refused):
        with Registry(address, CREDENTIALS) as registry:
            ping(registry)
        push(address, CREDENTIALS, f"renewal/{name}")
        assert len(refused) == times
    with Registry(binary_basic.address, CREDENTIALS) as registry:
        found = registry.head_manifest(f"renewal/{name}", "1")
    assert found is not None


def test_wrong_credentials_are_final_at_once(binary_basic: Site) -> None:
    with (
        proxied(binary_basic, {}) as (address, _),
        pytest.raises(RegistryError) as refused,
    ):
        push(address, Credentials(CREDENTIALS.username, "wrong"), "renewal/wrong")
    assert refused.value.status == 401


def test_credentials_that_are_taken_back_end_the_push(binary_basic: Site) -> None:
    with (
        proxied(binary_basic, {("PUT", "/blobs/uploads/"): 1000}) as (address, seen),
        pytest.raises(RegistryError) as refused,
    ):
        push(address, CREDENTIALS, "renewal/taken-back")
    assert refused.value.status == 401
    assert len(seen) <= 3 * 5 * 2
