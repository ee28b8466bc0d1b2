"""Containers of the Docker engine, as values and functions."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

from mlpkg.engine.client import CALL, TRANSFER, client, raise_for_status
from mlpkg.errors import MlpkgError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A named volume or a folder of this machine (`source`), and where it appears in the container."""

    target: str
    source: str
    kind: Literal["volume", "bind"] = "volume"
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file (or, without data, a folder) that is put into a volume of the container before it starts.

    `owner` is user and group. The folder that holds `path` must exist.
    """

    path: str
    data: bytes | None = field(default=None, repr=False)
    mode: int = 0o444
    owner: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """A container to make and start.

    `ports` maps a port of the container to an address and port of the host (0: the engine chooses).
    `entrypoint` and `command` empty mean the image's own; a `command` alone is appended to the image's
    entrypoint. `memory` is in bytes. `restart` means: after a crash and
    after a reboot, until it is stopped. `healthcheck=False` switches off the image's own.
    """

    image: str
    name: str | None = None
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    read_only: bool = True
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    tmpfs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    cap_drop: tuple[str, ...] = ("ALL",)
    memory: int | None = None
    mounts: tuple[Mount, ...] = ()
    files: tuple[File, ...] = ()
    restart: bool = False
    healthcheck: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """What the engine says about a container. `started` is RFC 3339; `health` None without a health check."""

    id: str
    name: str
    image: str
    running: bool
    exit_code: int
    health: str | None
    ports: Mapping[int, tuple[str, int]]
    labels: Mapping[str, str]
    started: str


def create(spec: RunSpec) -> str:
    """Make a container, put its files in place, and return its id; it does not run yet.

    Raises Taken (the name is another container's), MlpkgError, Unreachable.
    """
    with client(f"making {spec.name or spec.image}") as api:
        return _created(api, spec)


def run(spec: RunSpec) -> str:
    """Make a container, put its files in place, start it, and return its id.

    A container that cannot start is removed again. Raises Taken (port or name), MlpkgError, Unreachable.
    """
    with client(f"starting {spec.name or spec.image}") as api:
        container = _created(api, spec)
        with _removed_on_failure(api, container):
            api.start(container)
        return container


def _created(api: Any, spec: RunSpec) -> str:
    container = str(api.create_container(**_creation(api, spec))["Id"])
    with _removed_on_failure(api, container):
        _put(api, container, spec.files)
    return container


@contextmanager
def _removed_on_failure(api: Any, container: str) -> Iterator[None]:
    is_done = False
    try:
        yield
        is_done = True
    finally:
        if not is_done:
            api.remove_container(container, force=True, v=True)


def _put(api: Any, container: str, files: Iterable[File]) -> None:
    for file in files:
        api.put_archive(container, str(PurePosixPath(file.path).parent), _archive(file))


def put(container: str, files: Iterable[File]) -> None:
    """Put files into the volumes of a container, running or not. Raises MlpkgError, Unreachable."""
    with client(f"writing into the container {container}") as api:
        _put(api, container, files)


@contextmanager
def archive(container: str, path: str) -> Iterator[tarfile.TarFile]:
    """All that lies below a folder of a container, running or not, as a tar that is read while it comes.

    Raises MlpkgError (no such path; a torn answer), Unreachable.
    """
    what = f"reading {path} of the container {container}"
    with client(what, TRANSFER) as api:
        pieces, _ = api.get_archive(container, path, chunk_size=1 << 20)
        try:
            with tarfile.open(fileobj=_Pieces(pieces), mode="r|", bufsize=1 << 20) as tar:
                yield tar
        except tarfile.TarError as error:
            raise MlpkgError(f"{what}: {error}") from error
        finally:
            pieces.close()


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At least one byte until the end; at most `size`."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = (self._rest[:size], self._rest[size:]) if size >= 0 else (self._rest, b"")
        return taken


def _creation(api: Any, spec: RunSpec) -> dict[str, Any]:
    from docker import types  # noqa: PLC0415

    host = api.create_host_config(
        port_bindings=dict(spec.ports),
        read_only=spec.read_only,
        tmpfs=dict.fromkeys(spec.tmpfs, ""),
        cap_drop=list(spec.cap_drop),
        security_opt=["no-new-privileges"],
        mem_limit=spec.memory,
        mounts=[
            types.Mount(mount.target, mount.source, type=mount.kind, read_only=mount.read_only)
            for mount in spec.mounts
        ],
        restart_policy={"Name": "unless-stopped"} if spec.restart else None,
        log_config=types.LogConfig(
            type=types.LogConfig.types.JSON, config={"max-size": "4m", "max-file": "2"}
        ),
    )
    return {
        "image": spec.image,
        "name": spec.name,
        "entrypoint": list(spec.entrypoint) or None,
        "command": list(spec.command) or None,
        "user": spec.user,
        "environment": dict(spec.env),
        "labels": dict(spec.labels),
        "ports": list(spec.ports),
        "healthcheck": None if spec.healthcheck else {"test": ["NONE"]},
        "host_config": host,
    }


def _archive(file: File) -> bytes:
    member = tarfile.TarInfo(PurePosixPath(file.path).name)
    member.mode = file.mode
    member.uid, member.gid = file.owner
    member.type = tarfile.DIRTYPE if file.data is None else tarfile.REGTYPE
    member.size = len(file.data or b"")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(file.data or b""))
    return buffer.getvalue()


def inspect(container: str) -> ContainerState | None:
    """What the engine knows of a container, by id or name; None when it has none. Raises Unreachable."""
    from docker.errors import NotFound  # noqa: PLC0415

    with client(f"asking about the container {container}") as api:
        try:
            return _state(api.inspect_container(container))
        except NotFound:
            return None


def _state(value: Mapping[str, Any]) -> ContainerState:
    state = value["State"]
    published = (value.get("NetworkSettings") or {}).get("Ports") or {}
    return ContainerState(
        id=str(value["Id"]),
        name=str(value["Name"]).lstrip("/"),
        image=str(value["Image"]),
        running=bool(state["Running"]) and not state.get("Restarting", False),
        exit_code=int(state["ExitCode"]),
        health=(state.get("Health") or {}).get("Status"),
        ports={
            int(inside.split("/")[0]): (str(bindings[0]["HostIp"]), int(bindings[0]["HostPort"]))
            for inside, bindings in published.items()
            if bindings
        },
        labels=dict(value["Config"].get("Labels") or {}),
        started=str(state["StartedAt"]),
    )


def find(label: str) -> list[ContainerState]:
    """The containers, running or not, with a label (``key`` or ``key=value``). Raises Unreachable."""
    with client(f"looking for containers with the label {label}") as api:
        known = [str(row["Id"]) for row in api.containers(all=True, filters={"label": label})]
    states = (inspect(container) for container in known)
    return [state for state in states if state]


def start(container: str) -> None:
    """Start a stopped container. Raises Taken (port), MlpkgError, Unreachable."""
    with client(f"starting the container {container}") as api:
        api.start(container)


def wait(container: str, seconds: float) -> int | None:
    """Wait for a container to end: its exit code, None when it did not end in time. Raises MlpkgError, Unreachable."""
    end, pause = time.monotonic() + seconds, 0.05
    while (found := inspect(container)) is not None and found.running:
        if time.monotonic() > end:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
    if found is None:
        raise MlpkgError(f"the container {container} was removed while it ran")
    return found.exit_code


def stop(container: str, timeout: int = 10) -> None:
    """Ask a container to end, kill it after `timeout` seconds. An absent one is fine. Raises Unreachable."""
    from docker.errors import NotFound  # noqa: PLC0415

    with client(f"stopping the container {container}", CALL + timeout) as api, suppress(NotFound):
        api.stop(container, timeout=timeout)


def remove(container: str) -> None:
    """Remove a container and its unnamed volumes. An absent one is fine. Raises Unreachable."""
    from docker.errors import NotFound  # noqa: PLC0415

    with client(f"removing the container {container}") as api, suppress(NotFound):
        api.remove_container(container, force=True, v=True)


def logs(container: str, *, follow: bool = False) -> Iterator[bytes]:
    """What a container wrote (both streams), in pieces; with `follow` until it ends. Raises MlpkgError.

    The SDK's own call leaves its socket open when the reader stops early, hence the plain request; the
    frames are those of the Engine API, "Attach to a container", "Stream format".
    """
    with client(f"reading the log of {container}") as api:
        path = f"/v{api.api_version}/containers/{quote(container, safe='')}/logs"
        query = {"stdout": 1, "stderr": 1, "follow": int(follow)}
        with api.get(api.base_url + path, params=query, stream=True, timeout=(CALL, None)) as answer:
            raise_for_status(answer)
            while header := answer.raw.read(8):
                yield answer.raw.read(int.from_bytes(header[4:], "big"))


def execute(container: str, command: Iterable[str]) -> str:
    """Run a command in a running container and return what it wrote. Raises MlpkgError, Unreachable."""
    argv = list(command)
    with client(f"running {argv[0]} in the container {container}") as api:
        call = api.exec_create(container, argv)
        output: bytes = api.exec_start(call["Id"])
        code = api.exec_inspect(call["Id"])["ExitCode"]
    text = output.decode(errors="replace")
    if code:
        raise MlpkgError(f"{argv[0]} in the container {container} ended with {code}: {text.strip()[-500:]}")
    return text
