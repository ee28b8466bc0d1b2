"""The engine adapter against the machine's engine: images in, containers run, failures told."""

from __future__ import annotations

import gc
import socket
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.engine import File, Mount, RunSpec
from mlpkg.errors import ChangedInput, MlpkgError, UsageError

from .archive import docker_archive

pytestmark = pytest.mark.docker

SHELL = {"bin/sh": Path("/bin/sh"), "bin/sleep": Path("/bin/sleep"), "bin/cat": Path("/bin/cat")}


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    reason = engine.available()
    if reason:
        pytest.skip(reason)
    _, stream = docker_archive(SHELL, {"Cmd": ["/bin/sleep", "60"]})
    loaded = engine.load(stream)
    assert engine.image_id(loaded) == loaded
    yield loaded
    engine.remove_image(loaded)


@pytest.fixture
def spec(image: str) -> Iterator[RunSpec]:
    """A container's description under a name of its own; what has the label is removed afterwards."""
    mark = uuid.uuid4().hex
    yield RunSpec(image=image, name=f"mlpkg-test-{mark}", labels={"org.mlpkg.test": mark})
    for left in engine.find(f"org.mlpkg.test={mark}"):
        engine.remove(left.id)


def shell(spec: RunSpec, text: str) -> RunSpec:
    return replace(spec, command=("/bin/sh", "-c", text))


def test_an_image_is_loaded_named_and_removed(image: str) -> None:
    _, stream = docker_archive(SHELL, {"Cmd": ["/bin/sleep", "62"]})
    loaded = engine.load(stream)
    name = f"mlpkg-test:{uuid.uuid4().hex}"
    assert engine.image_id(loaded)
    assert engine.image_id(name) is None
    engine.tag(loaded, name)
    assert engine.image_id(name) == loaded
    engine.remove_image(name)
    engine.remove_image(name)
    assert engine.image_id(loaded) is None
    with pytest.raises(MlpkgError, match="not an image name with a tag"):
        engine.tag(image, "localhost:5000/no-tag")


def test_a_named_archive_gives_the_images_id(image: str) -> None:
    _, stream = docker_archive(SHELL, {"Cmd": ["/bin/sleep", "61"]}, name="mlpkg-test:named")
    loaded = engine.load(stream)
    assert loaded == engine.image_id("mlpkg-test:named")
    assert loaded != image
    engine.remove_image("mlpkg-test:named")
    assert engine.image_id(loaded) is None


def test_an_image_is_not_held_in_memory(image: str) -> None:
    _, stream = docker_archive(SHELL, {}, extra=bytes(64 << 20))
    tar = b"".join(stream)
    pieces = (tar[start : start + (1 << 20)] for start in range(0, len(tar), 1 << 20))
    tracemalloc.start()
    try:
        loaded = engine.load(pieces)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    engine.remove_image(loaded)


def test_a_bad_archive_is_refused_with_the_engines_words(image: str) -> None:
    with pytest.raises(MlpkgError, match="loading an image: the Docker engine refused"):
        engine.load(iter([b"no tar at all" * 1000]))


def test_the_sources_own_failure_comes_through(image: str) -> None:
    def torn() -> Iterator[bytes]:
        yield bytes(1 << 20)
        raise ChangedInput("model.bin: changed since it was read first")

    with pytest.raises(ChangedInput, match=r"model\.bin"):
        engine.load(torn())


def test_a_container_runs_confined_and_is_read(spec: RunSpec) -> None:
    name = engine.run(
        shell(replace(spec, env={"WHAT": "out"}), "echo $WHAT; sleep 0.2; echo err >&2; : > /x")
    )
    assert b"".join(engine.logs(name, follow=True)).split(b"\n")[:2] == [b"out", b"err"], (
        "both streams are read"
    )
    state = engine.inspect(name)
    assert state
    assert not state.running
    assert state.exit_code != 0  # the root file system is read-only
    assert state.name == spec.name
    assert state.health is None


def test_tmpfs_can_be_written(spec: RunSpec) -> None:
    name = engine.run(
        shell(replace(spec, user="65532:65532", tmpfs=("/tmp",)), "echo 1 > /tmp/x; cat /tmp/x")
    )
    assert b"".join(engine.logs(name, follow=True)) == b"1\n"


def test_a_log_can_be_left_before_its_end(spec: RunSpec) -> None:
    name = engine.run(shell(spec, "echo one; sleep 60"))
    lines = engine.logs(name, follow=True)
    assert next(lines) == b"one\n"
    lines.close()  # type: ignore[attr-defined]
    gc.collect()  # an open socket would be reported here


def test_the_log_of_no_container_is_told(image: str) -> None:
    with pytest.raises(MlpkgError, match="No such container"):
        next(engine.logs("mlpkg-test-none"))


def test_ports_are_published_where_asked(spec: RunSpec) -> None:
    name = engine.run(replace(spec, ports={5001: ("127.0.0.1", 0)}))
    state = engine.inspect(name)
    assert state
    address, port = state.ports[5001]
    assert address == "127.0.0.1"
    assert port > 0
    second = replace(spec, name=f"{spec.name}-2", ports={5001: ("127.0.0.1", port)})
    with pytest.raises(UsageError, match=r"allocated|in use"):
        engine.run(second)
    assert engine.inspect(f"{spec.name}-2") is None


def test_a_port_of_another_program_is_a_usage_error(spec: RunSpec) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(spec, ports={5001: ("127.0.0.1", other.getsockname()[1])})
        with pytest.raises(UsageError, match="in use"):
            engine.run(taken)


def test_a_taken_name_is_a_usage_error(spec: RunSpec) -> None:
    engine.run(spec)
    with pytest.raises(UsageError, match="already in use by container"):
        engine.run(spec)


def test_an_absent_image_or_command_is_told(spec: RunSpec) -> None:
    with pytest.raises(MlpkgError, match="starting"):
        engine.run(replace(spec, image="sha256:" + "0" * 64))
    with pytest.raises(MlpkgError, match="no/such/program"):
        engine.run(replace(spec, command=("/no/such/program",)))
    assert spec.name
    assert engine.inspect(spec.name) is None


def test_stop_start_remove(spec: RunSpec) -> None:
    name = engine.run(replace(spec, command=("/bin/sleep", "60"), memory=64 << 20))
    engine.stop(name, timeout=0)
    state = engine.inspect(name)
    assert state
    assert not state.running
    engine.start(name)
    assert [found.running for found in engine.find(f"org.mlpkg.test={spec.labels['org.mlpkg.test']}")] == [
        True
    ]
    engine.remove(name)
    engine.remove(name)
    engine.stop(name)
    assert engine.inspect(name) is None


@pytest.mark.long
def test_files_are_in_the_volume_before_the_start(spec: RunSpec) -> None:
    volume = f"{spec.name}-volume"
    try:
        assert engine.ensure_volume(volume, {"org.mlpkg.test": "first"}) == {"org.mlpkg.test": "first"}
        assert engine.ensure_volume(volume, {"org.mlpkg.test": "second"}) == {"org.mlpkg.test": "first"}
        secret = File(path="/etc/own/key", data=b"secret\n", mode=0o440, owner=(0, 65532))
        folder = File(path="/etc/own/data", mode=0o700, owner=(65532, 65532))
        filled = replace(
            shell(spec, "cat /etc/own/key; echo 1 > /etc/own/data/x && : 2>/dev/null > /etc/own/y"),
            user="65532:65532",
            mounts=(Mount(target="/etc/own", source=volume),),
            files=(secret, folder),
        )
        assert b"secret" not in repr(filled).encode()
        name = engine.run(filled)
        assert b"".join(engine.logs(name, follow=True)).startswith(b"secret\n")
        state = engine.inspect(name)
        assert state
        assert state.exit_code != 0  # the volume's root is not the user's to write
        size = engine.volume_size(volume)
        assert size is not None
        assert size > 0
        engine.remove(name)
    finally:
        engine.remove_volume(volume)
    assert engine.volume_size(volume) is None


def test_execute_tells_the_output_or_the_failure(spec: RunSpec) -> None:
    name = engine.run(spec)
    assert engine.execute(name, ["/bin/sh", "-c", "echo hello"]) == "hello\n"
    with pytest.raises(MlpkgError, match=r"ended with 7: broken"):
        engine.execute(name, ["/bin/sh", "-c", "echo broken; exit 7"])


def test_a_health_check_is_the_images_unless_switched_off(spec: RunSpec) -> None:
    check = {"Test": ["CMD", "/bin/cat", "/dev/null"], "Interval": 60_000_000_000}
    _, stream = docker_archive(SHELL, {"Cmd": ["/bin/sleep", "60"], "Healthcheck": check})
    loaded = engine.load(stream)
    checked = replace(spec, image=loaded)
    state = engine.inspect(engine.run(checked))
    assert state
    assert state.health in ("starting", "healthy")
    assert spec.name
    engine.remove(spec.name)
    state = engine.inspect(engine.run(replace(checked, healthcheck=False)))
    assert state
    assert state.health is None
    engine.remove(spec.name)
    engine.remove_image(loaded)


def test_pulling_from_nowhere_is_told(image: str) -> None:
    with pytest.raises(MlpkgError) as caught:
        engine.pull("127.0.0.1:1/no@sha256:" + "0" * 64, ("user", "pass-word"))
    assert "pulling 127.0.0.1:1/no@sha256" in str(caught.value)
    assert "pass-word" not in str(caught.value)
