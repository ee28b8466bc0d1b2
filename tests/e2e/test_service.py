"""A package as a running service: run, score, logs, stop, serve; beside other services, and without an engine."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.digest import Digest
from mlpkg.registry import container, contents
from mlpkg.service import running as service
from mlpkg.spec import workspace
from tests.ports import free_port

from .conftest import remove_traces
from .house import House, Workspace

pytestmark = pytest.mark.mirror

SAMPLE = Path(__file__).parents[2] / "examples/diabetes/sample.json"


def run(place: Workspace, *options: str) -> tuple[int, str]:
    """Start the example's service on a free port: the port, and its container's id or process's number."""
    port = free_port()
    started = place.mlpkg("run", "diabetes", "--port", str(port), "--json", *options).json()
    return port, started["id"]


def scores(place: Workspace) -> int:
    """Ask the service: how many predictions it gave."""
    return len(json.loads(place.mlpkg("score", "diabetes", str(SAMPLE)).out))


def record(place: Workspace) -> Path:
    """Where the running service is written down."""
    return workspace.load(place.folder).package("diabetes").records / "service.json"


@pytest.fixture
def mine(workspace: Workspace) -> Iterator[Workspace]:
    """A pushed workspace of one's own; what runs in it is stopped."""
    yield workspace
    workspace.mlpkg("stop", "diabetes", code=None)


@pytest.mark.docker
@pytest.mark.long
def test_run_score_logs_stop(mine: Workspace) -> None:
    port, started = run(mine)
    assert scores(mine) == 2
    refused = mine.mlpkg("score", "diabetes", str(SAMPLE.with_name("score.py")), code=1)
    assert "the service answered 500" in refused.err
    assert "POST /score" in mine.mlpkg("logs", "diabetes").out
    healthy = engine.inspect(started)
    assert healthy is not None
    assert healthy.health in ("starting", "healthy")
    taken = mine.mlpkg("serve", "diabetes", "--port", str(port), code=2)
    assert f"port {port} of 127.0.0.1 is taken" in taken.err
    assert mine.mlpkg("stop", "diabetes", "--json").json() == {"stopped": True}
    assert engine.inspect(started) is None
    assert "not running" in mine.mlpkg("score", "diabetes", str(SAMPLE), code=2).err
    assert "not running" in mine.mlpkg("logs", "diabetes", code=2).err
    assert mine.mlpkg("stop", "diabetes", "--json").json() == {"stopped": False}


@pytest.mark.docker
@pytest.mark.long
def test_a_taken_port_is_refused_before_any_work(mine: Workspace) -> None:
    port, started = run(mine)
    digest = mine.digest()
    script = mine.package / "score.py"
    script.write_text(script.read_text() + "\n")
    # A tag of its own: the registry is that of all tests.
    spec = mine.package / "package.toml"
    spec.write_text(spec.read_text().replace('version = "1.0.0"', 'version = "0.0.1"'))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        refused = mine.mlpkg("run", "diabetes", "--port", taken, code=2)
    assert f"port {taken} of 127.0.0.1 is taken" in refused.err
    assert mine.digest() == digest, "nothing was built"
    still = engine.inspect(started)
    assert still is not None
    assert still.running
    again = mine.mlpkg("run", "diabetes", "--port", str(port))
    assert again.done == ["render:diabetes", "build:diabetes", "tag:diabetes", "push:diabetes"]
    assert mine.digest() != digest
    assert engine.inspect(started) is None, "its own port is no hindrance: the old service gives way"
    assert scores(mine) == 2
    quiet = mine.mlpkg("run", "diabetes", "--port", str(port), "--quiet")
    assert quiet.err == ""


@pytest.mark.docker
@pytest.mark.long
def test_a_broken_neighbour_keeps_nothing_from_working(mine: Workspace) -> None:
    run(mine)
    broken = mine.folder / "examples" / "broken"
    broken.mkdir()
    (broken / "package.toml").write_text("[package\n")
    assert scores(mine) == 2
    assert "POST /score" in mine.mlpkg("logs", "diabetes").out
    assert mine.mlpkg("registry", "status", "--json").json()["running"] is True
    assert mine.mlpkg("stop", "diabetes", "--json").json() == {"stopped": True}
    assert "examples/broken/package.toml:1" in mine.mlpkg("stop", "broken", code=2).err
    (broken / "package.toml").write_text('[package]\nname = "broken"\nversion = 1\n')
    assert "package.version" in mine.mlpkg("logs", "broken", code=2).err
    shutil.copy(mine.package / "package.toml", broken / "package.toml")
    assert "is also the name of" in mine.mlpkg("stop", "diabetes", code=2).err
    shutil.rmtree(broken)
    assert "did you mean diabetes?" in mine.mlpkg("stop", "diabets", code=2).err


@pytest.mark.docker
@pytest.mark.long
def test_two_workspaces_run_the_same_package(mine: Workspace, house: House, tmp_path: Path) -> None:
    _, first = run(mine)
    copy = Workspace(tmp_path / "copy", house)
    shutil.copytree(mine.folder, copy.folder, symlinks=True)
    try:
        assert "not running" in copy.mlpkg("score", "diabetes", str(SAMPLE), code=2).err
        _, second = run(copy)
        assert first != second
        assert scores(mine) == scores(copy) == 2
    finally:
        assert copy.mlpkg("stop", "diabetes", "--json").json() == {"stopped": True}
    left = engine.inspect(first)
    assert left is not None
    assert left.running
    assert scores(mine) == 2


@pytest.mark.docker
@pytest.mark.long
def test_a_service_that_was_not_written_down_is_found(mine: Workspace) -> None:
    _, started = run(mine)
    record(mine).unlink()
    assert scores(mine) == 2
    assert "POST /score" in mine.mlpkg("logs", "diabetes").out
    _, other = run(mine)
    assert engine.inspect(started) is None
    record(mine).write_text("{")
    assert mine.mlpkg("stop", "diabetes", "--json").json() == {"stopped": True}
    assert engine.inspect(other) is None


def test_containers_have_names_of_their_own(tmp_path: Path) -> None:
    names = set()
    for folder in ("one", "two"):
        for name in ("a/b", "a-b", "registry-5050"):
            place = tmp_path / folder / name
            place.mkdir(parents=True)
            (place / "package.toml").write_text(f'[package]\nname = "{name}"\n[entry]\nscript = "s.py"\n')
            (package,) = workspace.load(place).packages
            package = replace(package, root=tmp_path / folder)
            names.add(service.container_name(package))
    assert len(names) == 6
    assert all(name.startswith("mlpkg-run-") for name in names)
    assert container.container_name(5050) not in names


@pytest.mark.docker
@pytest.mark.long
def test_a_registry_that_was_removed_by_hand_is_pushed_to_again(house: House, tmp_path: Path) -> None:
    own = replace(house, state=tmp_path / "state", port=free_port())
    place = own.workspace(tmp_path / "workspace")
    try:
        place.mlpkg("push")
        name = container.volume_name(own.port)
        engine.remove(container.container_name(own.port))
        engine.remove_volume(name)
        engine.remove_volume(f"{name}-config")
        assert place.mlpkg("push").done == [], "looking needs no engine"
        ran = place.mlpkg("run", "diabetes", "--port", str(free_port()))
        assert "pushing again" in ran.err
        assert scores(place) == 2
    finally:
        place.mlpkg("stop", "diabetes", code=None)
        place.mlpkg("registry", "down", code=None)
        remove_traces(own.port)


@pytest.mark.docker
@pytest.mark.parametrize("mode", ["container", "process"])
@pytest.mark.long
def test_a_damaged_registry_is_healed_by_the_next_push(house: House, tmp_path: Path, mode: str) -> None:
    """Push, damage, verify, repair, push, pull: the receipt must not keep the push from running."""
    without = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"} if mode == "process" else {}
    own = replace(house, state=tmp_path / "state", port=free_port(), extra=without)
    place = own.workspace(tmp_path / "workspace")
    try:
        place.mlpkg("push")
        digest = place.digest()
        assert place.mlpkg("registry", "status", "--json").json()["mode"] == mode
        layers = json.loads((place.folder / ".mlpkg/diabetes/image.json").read_text())["result"]["layers"]
        layer = Digest(max((row["descriptor"] for row in layers), key=lambda row: row["size"])["digest"])
        damage(own, layer)
        named = place.mlpkg("registry", "verify", code=1)
        assert f"{layer}: has 3 bytes instead of " in named.out
        assert "diabetes:" in named.out
        assert place.mlpkg("push").done == [], "nobody looked yet"
        assert "`mlpkg push` sends it again" in place.mlpkg("registry", "repair").out
        assert place.mlpkg("push").done == ["push:diabetes"]
        assert place.record("push.json")["digest"] == digest
        assert place.record("push.json")["uploaded"] == 1, "only what was damaged is sent again"
        assert place.mlpkg("registry", "verify", "--json").json()["damages"] == []
        assert place.mlpkg("push").done == []
        # What protected the sound parts meanwhile: one manifest in each repository that had the damaged layer.
        assert place.mlpkg("registry", "gc", "--json").json()["removed"] <= 2
        assert place.mlpkg("registry", "verify", "--json").json()["damages"] == []
        if mode == "container":
            place.mlpkg("run", "diabetes")
            assert scores(place) == 2
    finally:
        place.mlpkg("stop", "diabetes", code=None)
        place.mlpkg("registry", "down", code=None)
        if mode == "container":
            remove_traces(own.port)


def damage(house: House, digest: Digest) -> None:
    """Cut a blob short behind the registry's back."""
    path = contents.blob_path(digest)
    folder = house.state / "registry" / str(house.port) / "storage"
    if folder.exists():
        (folder / path).write_bytes(b"cut")
        return
    name = f"{container.DATA}/data/{path}"
    engine.put(
        container.container_name(house.port),
        [engine.File(path=name, data=b"cut", mode=0o600, owner=(container.USER, container.USER))],
    )


def answers(port: int, seconds: float = 60) -> bool:
    """Wait for a service to be ready."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.1)
    return False


@pytest.mark.long
def test_serve_in_the_foreground_leaves_the_workspace_free(mine: Workspace) -> None:
    port = free_port()
    server = mine.start("mlpkg", "serve", "diabetes", "--port", str(port), "--quiet")
    try:
        assert answers(port)
        beside = mine.mlpkg("lock")
        assert "waiting for process" not in beside.err
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
    assert server.returncode == 130, out + err
    assert "Traceback" not in err


@pytest.mark.long
def test_without_an_engine_all_but_the_container_works(
    house: House, pushed: Workspace, tmp_path: Path
) -> None:
    """The registry is a process, the script is served from a venv, and the image is the same."""
    bare = replace(
        house,
        state=tmp_path / "state",
        port=free_port(),
        extra={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"},
    )
    place = bare.workspace(tmp_path / "workspace")
    try:
        place.doit()
        assert place.digest() == pushed.digest()
        assert place.mlpkg("registry", "status", "--json").json()["mode"] == "process"
        started = place.mlpkg("run", "diabetes", "--port", str(free_port()), "--json").json()
        assert started["kind"] == "process"
        assert scores(place) == 2
        assert "POST /score" in place.mlpkg("logs", "diabetes").out
        assert place.mlpkg("stop", "diabetes", "--json").json() == {"stopped": True}
    finally:
        place.mlpkg("stop", "diabetes", code=None)
        place.mlpkg("registry", "down", code=None)
