"""The registries that the client suite runs against: the strict fake, and Debian's docker-registry binary."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from mlpkg.http import retry
from mlpkg.remote.client import Registry
from mlpkg.remote.credentials import Credentials
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.ports import free_port

CREDENTIALS = Credentials(USER, PASSWORD)

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
http: {{addr: "127.0.0.1:{port}", secret: fixed-for-tests}}
storage:
  filesystem: {{rootdirectory: "{storage}"}}
  delete: {{enabled: true}}
"""


@dataclass(frozen=True)
class Site:
    """A registry under test; `storage` is its folder when it is a process, `fake` its state when it is not."""

    address: str
    credentials: Credentials | None
    storage: Path | None = None
    fake: FakeRegistry | None = None


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen as always, only sooner."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.01)


@pytest.fixture(autouse=True)
def no_credentials_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker-config"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry().serving() as registry:
        yield registry


@pytest.fixture(scope="session")
def binary_none(tmp_path_factory: pytest.TempPathFactory, registry_program: Path) -> Iterator[Site]:
    yield from _process(tmp_path_factory.mktemp("registry"), None, registry_program)


@pytest.fixture(scope="session")
def binary_basic(tmp_path_factory: pytest.TempPathFactory, registry_program: Path) -> Iterator[Site]:
    yield from _process(tmp_path_factory.mktemp("registry"), CREDENTIALS, registry_program)


@pytest.fixture(params=["fake_none", "fake_basic", "fake_bearer", "binary_none", "binary_basic"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Each kind of registry in turn. Processes are shared: tests choose their own repository names."""
    kind, _, auth = request.param.partition("_")
    if kind == "binary":
        yield request.getfixturevalue(request.param)
        return
    with FakeRegistry(auth).serving() as registry:
        yield Site(registry.address, CREDENTIALS if auth != "none" else None, fake=registry)


@pytest.fixture
def registry(site: Site) -> Iterator[Registry]:
    with Registry(site.address, site.credentials) as client:
        yield client


def _process(folder: Path, credentials: Credentials | None, program: Path) -> Iterator[Site]:
    port = free_port()
    storage = folder / "storage"
    config = _CONFIG.format(port=port, storage=storage)
    if credentials:
        hashed = bcrypt.hashpw(credentials.password.encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{credentials.username}:{hashed}\n")
        config += f'auth: {{htpasswd: {{realm: tests, path: "{folder}/htpasswd"}}}}\n'
    (folder / "config.yml").write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        _wait(port, process, folder / "log")
        yield Site(f"127.0.0.1:{port}", credentials, storage=storage)
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("docker-registry does not listen: " + log.read_text())
