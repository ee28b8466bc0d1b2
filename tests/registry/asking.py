"""Plain requests to a running registry."""

from __future__ import annotations

import http.client
import json
import urllib.request
from base64 import b64encode

from mlpkg.digest import sha256
from mlpkg.layer import Bytes, Entry, tar_stream
from mlpkg.registry.bundled import Endpoint
from mlpkg.spec.model import RegistryTable

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def quiet(line: str) -> None:
    """Progress that nobody reads."""


def port_of(settings: RegistryTable) -> int:
    """The port that a test wrote into its settings."""
    assert settings.port
    return settings.port


def ask(
    endpoint: Endpoint, method: str, path: str, body: bytes = b"", *, login: bool = True, kind: str = ""
) -> tuple[int, str]:
    """One request: status and Location. `kind` is the body's media type."""
    headers = {"Content-Type": kind} if kind else {"Accept": MANIFEST}
    if login and endpoint.credentials:
        pair = f"{endpoint.credentials.username}:{endpoint.credentials.password}"
        headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
    connection = http.client.HTTPConnection(endpoint.address, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Location", "")
    finally:
        connection.close()


def push_blob(endpoint: Endpoint, data: bytes) -> str:
    """Push a blob to the repository `try` and return its path."""
    status, where = ask(endpoint, "POST", "/v2/try/blobs/uploads/")
    assert status == 202
    target = where.split(endpoint.address, 1)[1] + f"&digest={sha256(data)}"
    assert ask(endpoint, "PUT", target, data)[0] == 201
    return f"/v2/try/blobs/{sha256(data)}"


def get(endpoint: Endpoint, path: str) -> bytes:
    """The body of an answer that must be 200."""
    assert endpoint.credentials
    request = urllib.request.Request(f"http://{endpoint.address}{path}", headers={"Accept": MANIFEST})
    request.add_header("Authorization", endpoint.credentials.basic())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def layer_of(endpoint: Endpoint, text: str = "") -> str:
    """The digest of the layer that `push_image` makes."""
    return sha256(_layer(endpoint, text))


def _layer(endpoint: Endpoint, text: str) -> bytes:
    return b"".join(tar_stream([Entry("note", content=Bytes(f"{endpoint.instance} {text}".encode()))]))


def push_image(endpoint: Endpoint, text: str = "", tag: str = "") -> str:
    """A one-file image in the repository `try`, by tag or by digest; returns the manifest's digest."""
    layer = _layer(endpoint, text)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
        }
    ).encode()
    described = [
        {"mediaType": f"application/vnd.oci.image.{kind}", "digest": sha256(data), "size": len(data)}
        for kind, data in (("config.v1+json", config), ("layer.v1.tar", layer))
    ]
    for data in (config, layer):
        push_blob(endpoint, data)
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    ).encode()
    status, _ = ask(endpoint, "PUT", f"/v2/try/manifests/{tag or sha256(manifest)}", manifest, kind=MANIFEST)
    assert status == 201
    return sha256(manifest)
