"""`mlpkg registry`: what each action prints, for people and for machines, and how it ends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlpkg.cli import commands as cli
from mlpkg.digest import Digest
from mlpkg.registry import bundled, contents, state
from mlpkg.spec.model import RegistryTable
from tests.registry.asking import layer_of, push_image, quiet
from tests.registry.source import BinarySource


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry_program: Path) -> Iterator[int]:
    """A workspace whose registry is a process on a port of its own."""
    monkeypatch.setenv("MLPKG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    monkeypatch.setattr("mlpkg.cli.registry.BundledSource", lambda *_: BinarySource(registry_program))
    monkeypatch.chdir(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (tmp_path / "mlpkg.toml").write_text(f"[registry]\nport = {port}\n")
    yield port
    bundled.down(RegistryTable(port=port))


def asked(capsys: pytest.CaptureFixture[str], action: str, code: int = 0) -> tuple[str, Any]:
    """What an action prints for people, and then for machines."""
    assert cli.main(["registry", action]) == code
    text = capsys.readouterr().out
    assert cli.main(["registry", action, "--json"]) == code
    return text, json.loads(capsys.readouterr().out)


def test_credentials_are_ready_to_paste(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    text, value = asked(capsys, "credentials")
    address = f"127.0.0.1:{port}"
    assert value["address"] == address
    assert value["username"] == "mlpkg"
    assert value["login"] == f"docker login {address} -u mlpkg -p {value['password']}"
    for part in value.values():
        assert part in text


def test_login_says_where_and_shows_no_password(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    password = bundled.credentials(RegistryTable(port=port)).credentials
    assert password
    text, value = asked(capsys, "login")
    assert f"127.0.0.1:{port}" in text
    assert value["address"] == f"127.0.0.1:{port}"
    assert password.password not in text + json.dumps(value)


def test_verify_ends_with_1_and_repair_with_0(
    port: int, capsys: pytest.CaptureFixture[str], registry_program: Path
) -> None:
    endpoint = bundled.up(RegistryTable(port=port), BinarySource(registry_program), notify=quiet)
    push_image(endpoint, tag="1")
    text, value = asked(capsys, "verify")
    assert text == f"3 blobs, {value['size']} bytes: all are what their digests say\n"
    layer = layer_of(endpoint)
    (state.port_path(port) / "storage" / contents.blob_path(Digest(layer))).write_bytes(b"x")
    text, value = asked(capsys, "verify", code=1)
    assert [damage["what"] for damage in value["damages"]] == [layer]
    assert f"{layer}: has 1 bytes instead of " in text
    assert "try:1" in text
    assert "mlpkg registry repair" in text
    assert cli.main(["registry", "repair"]) == 0
    assert "`mlpkg push` sends it again" in capsys.readouterr().out
    text, value = asked(capsys, "repair")
    assert "nothing to repair" in text
    assert value["damages"] == []


def test_gc_says_what_it_freed(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    text, value = asked(capsys, "gc")
    assert text == "nothing to remove\n"
    assert value == {"removed": 0, "freed": 0, "result": ""}


def test_a_taken_port_that_is_written_is_exit_2(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", port)):
        assert cli.main(["registry", "up"]) == 2
    assert f"port {port} of 127.0.0.1 is taken by" in capsys.readouterr().err
