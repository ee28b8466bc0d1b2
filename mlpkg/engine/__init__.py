"""The Docker engine: images, containers and volumes as values and functions.

Only this module and `mlpkg.engine.client` import `docker`. Every function opens a client and closes it
again: an engine is asked a few times per run, and no socket outlives its question.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

from mlpkg.engine.client import CALL, PROBE, TRANSFER, client, endpoint, raise_for_status, raise_in_band
from mlpkg.errors import MlpkgError

_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")


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
    `command` empty means the image's own. `memory` is in bytes. `restart` means: after a crash and
    after a reboot, until it is stopped. `healthcheck=False` switches off the image's own.
    """

    image: str
    name: str | None = None
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


def available() -> str | None:
    """Why no engine can be used, or None when one can. Answers within about 3 seconds."""
    try:
        with client("is an engine there?", PROBE) as api:
            system = api.version().get("Os", "")
    except MlpkgError as error:
        return error.message
    return (
        None if system == "linux" else f"the Docker engine runs {system or 'unknown'} containers, not Linux"
    )


def is_local() -> bool:
    """Whether ports that the engine publishes on 127.0.0.1 are this machine's. Asks nobody."""
    local = r"http\+unix://|npipe://|(tcp|https?)://(localhost|127\.|\[::1\])"
    return re.match(local, endpoint()["base_url"]) is not None


def is_rootless() -> bool:
    """Whether the engine runs as an ordinary user, whom it maps to uid 0 of containers. Raises Unreachable."""
    with client("asking the engine for its options") as api:
        options = api.info().get("SecurityOptions") or []
    return any("rootless" in option for option in options)


def load(stream: Iterable[bytes]) -> str:
    """Load an image from a docker-archive tar, sent as it is made, and return its id.

    The id is the config's digest in the classic image store and the manifest's in containerd's store.
    Raises MlpkgError (the engine refused), Unreachable, and whatever `stream` raises.
    """
    names: list[str] = []
    with client("loading an image", TRANSFER) as api:
        # A generator makes requests send chunks; anything with a length would be held in memory.
        for row in api.load_image((piece for piece in stream), quiet=True):
            raise_in_band(row, "loading an image")
            names += _LOADED.findall(str(row.get("stream", "")))
        if not names:
            raise MlpkgError("the Docker engine loaded no image", hint="the archive held none")
        return str(api.inspect_image(names[-1])["Id"])


def image_id(image: str) -> str | None:
    """The id of an image by id or name, or None when the engine lacks it. Raises Unreachable."""
    from docker.errors import ImageNotFound  # noqa: PLC0415

    with client(f"looking for the image {image}") as api:
        try:
            return str(api.inspect_image(image)["Id"])
        except ImageNotFound:
            return None


def has_image(image: str) -> bool:
    """Whether the engine holds an image of that id or name. Raises Unreachable."""
    return image_id(image) is not None


def pull(reference: str, credentials: tuple[str, str] | None = None) -> str:
    """Pull ``host/repository@sha256:…`` (or a tag) and return the image's id.

    Without `credentials` (user name, password) those of Docker's configuration are used.
    Raises MlpkgError (refused; not there), Unreachable.
    """
    what = f"pulling {reference}"
    login = {"username": credentials[0], "password": credentials[1]} if credentials else None
    with client(what, TRANSFER) as api:
        for row in api.pull(reference, stream=True, decode=True, auth_config=login):
            raise_in_band(row, what)
        return str(api.inspect_image(reference)["Id"])


def tag(image: str, name: str) -> None:
    """Give an image of the engine the name ``[host[:port]/]repository:tag``. Raises MlpkgError, Unreachable."""
    repository, _, label = name.rpartition(":")
    if not repository or "/" in label:
        raise MlpkgError(f"not an image name with a tag: {name}")
    with client(f"naming an image {name}") as api:
        api.tag(image, repository, label)


def remove_image(name: str) -> None:
    """Take a name from an image, and the image when it was its last. An absent one is fine."""
    from docker.errors import ImageNotFound  # noqa: PLC0415

    with client(f"removing the image {name}") as api, suppress(ImageNotFound):
        api.remove_image(name)


def run(spec: RunSpec) -> str:
    """Make a container, put its files in place, start it, and return its id.

    A container that cannot start is removed again. Raises UsageError (port or name taken), MlpkgError,
    Unreachable.
    """
    what = f"starting {spec.name or spec.image}"
    with client(what) as api:
        container = str(api.create_container(**_creation(api, spec))["Id"])
        is_started = False
        try:
            for file in spec.files:
                folder = str(PurePosixPath(file.path).parent)
                api.put_archive(container, folder, _archive(file))
            api.start(container)
            is_started = True
        finally:
            if not is_started:
                api.remove_container(container, force=True, v=True)
        return container


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
    """Start a stopped container. Raises UsageError (port taken), MlpkgError, Unreachable."""
    with client(f"starting the container {container}") as api:
        api.start(container)


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


def ensure_volume(name: str, labels: Mapping[str, str]) -> Mapping[str, str]:
    """Make a named volume where there is none, and return its labels (an existing one keeps its own)."""
    with client(f"making the volume {name}") as api:
        volume = api.create_volume(name, labels=dict(labels))
    return dict(volume.get("Labels") or {})


def volume_size(name: str) -> int | None:
    """Bytes in a named volume, None when the engine cannot say. Raises Unreachable."""
    with client(f"measuring the volume {name}") as api:
        volumes = api.df().get("Volumes") or []
    sizes = [(volume.get("UsageData") or {}).get("Size", -1) for volume in volumes if volume["Name"] == name]
    return sizes[0] if sizes and sizes[0] >= 0 else None


def remove_volume(name: str) -> None:
    """Remove a named volume and all in it. An absent one is fine. Raises MlpkgError (in use), Unreachable."""
    from docker.errors import NotFound  # noqa: PLC0415

    with client(f"removing the volume {name}") as api, suppress(NotFound):
        api.remove_volume(name)
