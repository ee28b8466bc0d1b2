"""Docker gets the bundled registry's credentials: by its own command, its helper, or its configuration."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from mlpkg.errors import UsageError
from mlpkg.registry import bundled as registry
from mlpkg.registry.login import command_line, log_in
from mlpkg.remote.credentials import Credentials, find_credentials
from mlpkg.spec.model import RegistryTable

from .asking import quiet
from .source import BinarySource

ADDRESS = "127.0.0.1:5050"
LOGIN = Credentials("mlpkg", "s3cr3t-word")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration, and no docker command."""
    folder = tmp_path / "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return folder / "config.json"


def test_without_docker_its_configuration_is_written(config: Path) -> None:
    assert str(config) in log_in(ADDRESS, LOGIN)
    assert find_credentials(ADDRESS) == LOGIN
    assert config.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in config.parent.iterdir()] == ["config.json"]


def test_what_is_there_stays(config: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.json"
    kept.write_text(
        json.dumps({"psFormat": "x", "auths": {"other": {"auth": "YTpi"}, ADDRESS: {"auth": "eDp5"}}})
    )
    config.parent.mkdir()
    config.symlink_to(kept)
    log_in(ADDRESS, LOGIN)
    assert config.is_symlink()
    value = json.loads(kept.read_text())
    assert value["psFormat"] == "x"
    assert value["auths"]["other"] == {"auth": "YTpi"}
    assert find_credentials(ADDRESS) == LOGIN


def test_a_store_is_used_where_docker_uses_one(config: Path, tmp_path: Path) -> None:
    """Docker looks there first: an entry in the file would not be found."""
    helper = tmp_path / "bin" / "docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(f'#!/bin/sh\n/bin/echo "$@" > {tmp_path}/argv\n/bin/cat > {tmp_path}/stored\n')
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    config.parent.mkdir()
    text = json.dumps({"credsStore": "test"})
    config.write_text(text)
    assert log_in(ADDRESS, LOGIN) == "by docker-credential-test"
    assert json.loads((tmp_path / "stored").read_text()) == {
        "ServerURL": ADDRESS,
        "Username": LOGIN.username,
        "Secret": LOGIN.password,
    }
    assert (tmp_path / "argv").read_text() == "store\n"
    assert config.read_text() == text


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "not a JSON object")])
def test_a_broken_configuration_is_not_replaced(config: Path, text: str, message: str) -> None:
    config.parent.mkdir()
    config.write_text(text)
    with pytest.raises(UsageError, match=message):
        log_in(ADDRESS, LOGIN)
    assert config.read_text() == text


def test_a_helper_with_a_path_is_refused(config: Path) -> None:
    config.parent.mkdir()
    config.write_text(json.dumps({"credsStore": "../../bin/sh"}))
    with pytest.raises(UsageError, match="not the name"):
        log_in(ADDRESS, LOGIN)


@pytest.mark.docker
def test_docker_itself_is_logged_in(
    container_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker command")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    endpoint = registry.up(container_settings, registry_source, notify=quiet)
    assert endpoint.credentials
    assert log_in(endpoint.address, endpoint.credentials) == "by `docker login`"
    assert find_credentials(endpoint.address) == endpoint.credentials
    line = command_line(endpoint.address, endpoint.credentials)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "pasted"))
    subprocess.run(line.split(), check=True, capture_output=True, timeout=60)
    assert find_credentials(endpoint.address) == endpoint.credentials
