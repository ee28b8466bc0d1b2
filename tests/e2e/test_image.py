"""The pushed image, by other people's tools: docker pull and run, skopeo, curl's equal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlpkg import engine

from .house import Workspace

pytestmark = pytest.mark.mirror

SAMPLE = Path(__file__).parents[2] / "examples/diabetes/sample.json"


def login(workspace: Workspace) -> tuple[str, str]:
    found = workspace.mlpkg("registry", "credentials", "--json").json()
    return found["username"], found["password"]


def reference(workspace: Workspace) -> str:
    return f"127.0.0.1:{workspace.house.port}/diabetes@{workspace.digest()}"


def post(address: str, body: bytes) -> Any:
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
        return json.load(answer)


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """Compose as a plugin of docker's, or as a program of its own."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=60)
    return "docker compose" if plugin.returncode == 0 else "docker-compose"


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(Path(__file__).with_name("compose.yml"))


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """What Compose 1 knows as well (it answers ``--wait`` with its help and exit 0)."""
    return ["up --detach"]


@pytest.fixture(scope="session")
def pulled(pushed: Workspace) -> Iterator[str]:
    """The image by digest, pulled into the engine; named for compose."""
    name = reference(pushed)
    engine.pull(name, login(pushed))
    os.environ["MLPKG_TEST_IMAGE"] = name
    yield name
    del os.environ["MLPKG_TEST_IMAGE"]


@pytest.mark.docker
def test_the_image_answers_the_sample_read_only_and_unprivileged(
    pulled: str, docker_ip: str, docker_services: Any
) -> None:
    address = f"http://{docker_ip}:{docker_services.port_for('diabetes', 5001)}"

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    docker_services.wait_until_responsive(timeout=120, pause=0.2, check=is_ready)
    predictions = post(f"{address}/score", SAMPLE.read_bytes())
    assert len(predictions) == 2
    assert all(isinstance(number, float) for number in predictions)


@pytest.mark.docker
def test_the_image_runs_as_nobody_with_a_health_check(pulled: str) -> None:
    import docker

    client = docker.from_env()
    try:
        config = client.images.get(pulled).attrs["Config"]
    finally:
        client.close()
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/usr/bin/python3", "-P", "-m", "mlpkg.runtime"]
    assert list(config["ExposedPorts"]) == ["5001/tcp"]
    assert config["Healthcheck"]["Test"][0] == "CMD"


def test_skopeo_accepts_the_image(pushed: Workspace, tmp_path: Path) -> None:
    if not shutil.which("skopeo"):
        if os.environ.get("CI"):
            pytest.fail("CI needs skopeo")
        pytest.skip("skopeo is not installed")
    user, password = login(pushed)
    common = ["--tls-verify=false", "--creds", f"{user}:{password}"]
    name = f"docker://{reference(pushed)}"
    inspected = subprocess.run(
        ["skopeo", "inspect", *common, name], capture_output=True, text=True, timeout=60, check=True
    )
    document = json.loads(inspected.stdout)
    assert document["Digest"] == pushed.digest()
    assert document["Architecture"] == "amd64"
    tagged = subprocess.run(
        ["skopeo", "inspect", *common, f"docker://127.0.0.1:{pushed.house.port}/diabetes:1.0.0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(tagged.stdout)["Digest"] == pushed.digest()
    copied = subprocess.run(
        [
            "skopeo",
            "copy",
            "--src-tls-verify=false",
            "--src-creds",
            f"{user}:{password}",
            name,
            f"oci:{tmp_path}/layout",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr


def test_nothing_secret_and_nothing_of_this_machine_is_in_the_image(pushed: Workspace) -> None:
    record = pushed.record("image.json")
    text = json.dumps([record["config"], record["manifest"], pushed.record("push.json")])
    _, password = login(pushed)
    for secret in (password, str(pushed.folder), str(Path.home()), str(pushed.house.cache)):
        assert secret not in text
    for layer in record["layers"]:
        blob = pushed.house.cache / "blobs" / "sha256" / layer["descriptor"]["digest"].removeprefix("sha256:")
        if blob.exists():
            data = blob.read_bytes()
            assert os.fsencode(pushed.house.cache) not in data
            assert password.encode() not in data
