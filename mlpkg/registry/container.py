"""The bundled registry as a container.

The image's layers belong to uid 0 and hold no shell, so nothing in it can hand a fresh volume, which the
engine makes for uid 0, to the registry's user. Hence the volume's root stays uid 0's, and a folder for
the registry's user (65532) is put into it through the engine's archive call before the first start.
The configuration goes the same way into a volume of its own: nothing of it is in the image, in labels,
in the environment, or in a file that an engine in a virtual machine could not see. The registry can read
it and not change it. A storage folder is mounted as it is, and the registry runs as its owner.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mlpkg import engine
from mlpkg.digest import framed
from mlpkg.errors import MlpkgError, Unreachable, UsageError
from mlpkg.registry import state
from mlpkg.registry.config import config_text
from mlpkg.registry.process import ENVIRONMENT, parse_version
from mlpkg.registry.source import Source
from mlpkg.registry.state import BundledSecrets, BundledSettings

PROGRAM = "/usr/bin/docker-registry"
USER = 65532
PORT = 5000
CONFIG = "/etc/mlpkg-registry"
DATA = "/var/lib/registry"
LABEL = "org.mlpkg.registry"


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """The container for what is wanted; `owner` is the registry's user and group."""

    wanted: BundledSettings
    owner: tuple[int, int]


def plan(wanted: BundledSettings) -> ContainerPlan:
    """The container for these settings. Raises Unreachable."""
    if not wanted.storage:
        return ContainerPlan(wanted, (USER, USER))
    # A rootless engine maps the user who runs it to uid 0 of its containers.
    return ContainerPlan(wanted, (0, 0) if engine.is_rootless() else (os.getuid(), os.getgid()))


def volume_name(port: int) -> str:
    """The data volume's name, where no folder was asked for: one per user."""
    return f"mlpkg-registry-{port}-u{os.getuid()}"


def config_volume(port: int) -> str:
    """The name of the volume that holds the configuration."""
    return f"{volume_name(port)}-config"


def container_name(port: int) -> str:
    """The container's name: one per port of the machine."""
    return f"mlpkg-registry-{port}"


def ensure_instance(plan: ContainerPlan) -> str:
    """The storage's identity: the volume's label, or the folder's file. Makes what is missing."""
    if plan.wanted.storage:
        return state.ensure_instance(Path(plan.wanted.storage))
    import secrets  # noqa: PLC0415

    name = volume_name(plan.wanted.port)
    labels = engine.ensure_volume(name, {LABEL: "data", f"{LABEL}.instance": secrets.token_hex(16)})
    known = labels.get(f"{LABEL}.instance")
    if not known:
        raise UsageError(
            f"the volume {name} was not made by mlpkg: it has no label {LABEL}.instance",
            hint="remove it, or choose another [registry] port",
        )
    repaired = engine.ensure_volume(config_volume(plan.wanted.port), {LABEL: "config"}).get(
        f"{LABEL}.repaired"
    )
    return f"{known}.{repaired}" if repaired else known


def renew_instance(plan: ContainerPlan) -> str:
    """Give the storage of a registry that stands still a new identity, and return it.

    A volume's labels cannot be changed, so the new part is a label of the volume that holds the
    configuration: that one can be made anew. Raises MlpkgError (it is in use), Unreachable.
    """
    if plan.wanted.storage:
        return state.renew_instance(Path(plan.wanted.storage))
    import secrets  # noqa: PLC0415

    if left := existing(plan.wanted.port):
        engine.remove(left.id)
    name = config_volume(plan.wanted.port)
    engine.remove_volume(name)
    engine.ensure_volume(name, {LABEL: "config", f"{LABEL}.repaired": secrets.token_hex(8)})
    return ensure_instance(plan)


def existing(port: int) -> engine.ContainerState | None:
    """This user's registry container for a port, running or not. Raises Unreachable."""
    found = engine.inspect(container_name(port))
    is_own = found is not None and found.labels.get(f"{LABEL}.uid") == str(os.getuid())
    return found if is_own else None


def wanted_of(found: engine.ContainerState) -> BundledSettings:
    """The settings that a container was made for, from its labels."""
    label = found.labels.get
    return BundledSettings(
        int(label(LABEL, "0")), label(f"{LABEL}.storage", ""), label(f"{LABEL}.auth") != "false"
    )


def start(plan: ContainerPlan, secrets: BundledSecrets, source: Source) -> str:
    """Start the registry's container and return its id; one that was only stopped is started again.

    Raises UsageError (port or name taken), MlpkgError, Unreachable, and what `source` raises.
    """
    files = _files(plan, secrets)
    # The digest in the label tells nothing: the files hold random secrets of 256 bits.
    shape = framed(
        [plan.wanted.storage, *(part for file in files for part in (repr(file), file.data or b""))]
    )
    old = existing(plan.wanted.port)
    if old and old.labels.get(f"{LABEL}.shape") == shape and _restarted(old.id):
        return old.id
    if old:
        engine.remove(old.id)
    digest, stream = source.image()
    engine.ensure_volume(config_volume(plan.wanted.port), {LABEL: "config"})
    return engine.run(
        engine.RunSpec(
            image=_loaded(digest, stream),
            name=container_name(plan.wanted.port),
            ports={PORT: ("127.0.0.1", plan.wanted.port)},
            user="{}:{}".format(*plan.owner),
            env=ENVIRONMENT,
            labels={
                LABEL: str(plan.wanted.port),
                f"{LABEL}.uid": str(os.getuid()),
                f"{LABEL}.storage": plan.wanted.storage,
                f"{LABEL}.auth": str(plan.wanted.auth).lower(),
                f"{LABEL}.shape": shape,
            },
            mounts=_mounts(plan.wanted),
            files=files,
            restart=True,
            healthcheck=False,
        )
    )


def _restarted(container: str) -> bool:
    """Start a stopped container again; False when it must be made anew. Raises UsageError, Unreachable."""
    try:
        engine.start(container)
    except (UsageError, Unreachable):
        raise
    except MlpkgError:
        return False
    return True


def _mounts(wanted: BundledSettings) -> tuple[engine.Mount, ...]:
    data = (
        engine.Mount(target=DATA, source=wanted.storage, kind="bind")
        if wanted.storage
        else engine.Mount(target=DATA, source=volume_name(wanted.port))
    )
    return (data, engine.Mount(target=CONFIG, source=config_volume(wanted.port)))


def _files(plan: ContainerPlan, secrets: BundledSecrets) -> tuple[engine.File, ...]:
    folder = data_root(plan)
    text = config_text(
        storage=folder,
        address=f":{PORT}",
        secret=secrets.http,
        htpasswd=f"{CONFIG}/htpasswd" if plan.wanted.auth else None,
    )
    files = [
        engine.File(path=f"{CONFIG}/{name}", data=data.encode(), mode=0o440, owner=(0, plan.owner[1]))
        for name, data in (("config.yml", text), ("htpasswd", secrets.htpasswd))
    ]
    if not plan.wanted.storage:
        files.append(engine.File(path=folder, mode=0o700, owner=plan.owner))
    return tuple(files)


def _loaded(digest: str, stream: Iterator[bytes]) -> str:
    """The image's id in the engine; it is loaded only when the engine lacks it.

    It gets a name made of its config's digest: in containerd's image store the id is another digest.
    """
    name = f"mlpkg-registry:{digest.removeprefix('sha256:')}"
    known = engine.image_id(name)
    if known:
        return known
    loaded = engine.load(stream)
    engine.tag(loaded, name)
    return loaded


def run_once(  # noqa: PLR0913, PLR0917 - what one run consists of
    plan: ContainerPlan,
    secrets: BundledSecrets,
    source: Source,
    arguments: list[str],
    folders: Iterable[str],
    seconds: float,
) -> str:
    """Run the program on the registry's volumes, in a container of its own, and return what it said.

    `folders` (below the storage's root) are there when it starts; `seconds` is the longest it may take.
    Raises MlpkgError, Unreachable, and what `source` raises.
    """
    spec = _once(plan, secrets, source, _folders(plan, folders))
    command = (*arguments, f"{CONFIG}/config.yml")
    once = engine.run(replace(spec, entrypoint=(PROGRAM,), command=command))
    try:
        code = engine.wait(once, seconds)
        said = b"".join(engine.logs(once)).decode(errors="replace")
    finally:
        engine.remove(once)
    if code is None:
        raise MlpkgError(f"{arguments[0]} did not end in {seconds:.0f} s and was stopped")
    if code:
        raise MlpkgError(f"{arguments[0]} failed: {said.strip()[-500:]}")
    return said


@contextmanager
def at_hand(plan: ContainerPlan, secrets: BundledSecrets, source: Source) -> Generator[str, None, None]:
    """A container (its id) through which the volume can be read and written: the registry's, else one that never runs.

    Raises MlpkgError, Unreachable, and what `source` raises.
    """
    found = existing(plan.wanted.port)
    if found:
        yield found.id
        return
    once = engine.create(_once(plan, secrets, source, ()))
    try:
        yield once
    finally:
        engine.remove(once)


def data_root(plan: ContainerPlan) -> str:
    """The storage's root in the container."""
    return DATA if plan.wanted.storage else f"{DATA}/data"


def put(container: str, plan: ContainerPlan, files: Mapping[str, bytes]) -> None:
    """Write files (paths below the storage's root) into the volume. Raises MlpkgError, Unreachable."""
    for name, data in files.items():
        parents = _folders(plan, [str(PurePosixPath(name).parent)])
        file = engine.File(path=f"{data_root(plan)}/{name}", data=data, mode=0o600, owner=plan.owner)
        engine.put(container, [*parents, file])


def _folders(plan: ContainerPlan, folders: Iterable[str]) -> tuple[engine.File, ...]:
    """Folders below the storage's root, each after its parents."""
    names: dict[str, None] = {}
    for folder in folders:
        path = PurePosixPath(folder)
        for part in (*reversed(path.parents), path):
            if str(part) != ".":
                names[str(part)] = None
    return tuple(
        engine.File(path=f"{data_root(plan)}/{name}", mode=0o700, owner=plan.owner) for name in names
    )


def _once(
    plan: ContainerPlan, secrets: BundledSecrets, source: Source, folders: tuple[engine.File, ...]
) -> engine.RunSpec:
    """A container on the registry's volumes that is not the registry."""
    digest, stream = source.image()
    engine.ensure_volume(config_volume(plan.wanted.port), {LABEL: "config"})
    return engine.RunSpec(
        image=_loaded(digest, stream),
        user="{}:{}".format(*plan.owner),
        env=ENVIRONMENT,
        mounts=_mounts(plan.wanted),
        files=(*_files(plan, secrets), *folders),
        healthcheck=False,
    )


def version(container: str) -> str | None:
    """What the registry in a running container calls itself. Raises Unreachable."""
    try:
        return parse_version(engine.execute(container, [PROGRAM, "--version"]))
    except MlpkgError:
        return None


def log_tail(container: str) -> str:
    """The log's last lines. Raises Unreachable."""
    return "\n".join(b"".join(engine.logs(container)).decode(errors="replace").splitlines()[-10:])
