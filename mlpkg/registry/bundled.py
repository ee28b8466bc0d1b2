"""The bundled registry's life: up, down, status, credentials. One per user and port, for all workspaces.

It is CNCF Distribution, unmodified, in a container; without a Docker engine the same program runs as a
process. Which of the two is remembered, because each has its own storage (unless a folder is asked for),
and one address must not quietly stand for two. An `Endpoint` names the storage by its instance: what is
known about one instance says nothing about another.

Cheap to import, and `known_endpoint` reads three small files: both are on the way of a run with nothing
to do. All else loads where it is used.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpkg.errors import UsageError
from mlpkg.registry import state
from mlpkg.registry.source import Source
from mlpkg.registry.state import BundledSettings, Notify
from mlpkg.remote.credentials import Credentials
from mlpkg.spec.model import Registry

if TYPE_CHECKING:
    from mlpkg.registry.state import BundledSecrets, BundledState

__all__ = [
    "Credentials",
    "Endpoint",
    "Source",
    "Status",
    "collect_garbage",
    "credentials",
    "down",
    "known_endpoint",
    "state_folder",
    "status",
    "up",
]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the bundled registry listens (``127.0.0.1:5050``, plain HTTP), and the identity of its storage."""

    address: str
    credentials: Credentials | None
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What `mlpkg registry status` tells. `size` is the storage's in bytes, `since` ISO 8601; None: unknown."""

    running: bool
    address: str
    mode: Literal["container", "process"] | None = None
    instance: str | None = None
    storage: str | None = None
    size: int | None = None
    since: str | None = None
    version: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as they are."""
        return asdict(self)


def state_folder() -> Path:
    """The folder for what outlives a workspace, made with mode 0700. Raises UsageError."""
    folder = state.state_path()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made: {error.strerror}", hint="set MLPKG_STATE_HOME to a folder of your own"
        ) from error
    return folder


def known_endpoint(settings: Registry) -> Endpoint | None:
    """The bundled registry as it was started last for these settings; whether it runs is not asked.

    None: it never was, or with another storage or other `auth`, or its storage folder was wiped; then
    `up` knows. No network, no engine. Raises UsageError (settings that cannot be).
    """
    if settings.address:
        return None
    wanted = _wanted(settings)
    known = state.read_state(wanted.port)
    if known is None or known.wanted != wanted:
        return None
    folder = state.data_folder(known)
    if folder and state.read_instance(folder) != known.instance:
        return None
    secrets = state.read_secrets(wanted.port)
    return _endpoint(known, secrets) if secrets else None


def credentials(settings: Registry) -> Credentials:
    """The bundled registry's credentials, generated at the first call. Raises UsageError when it asks none."""
    wanted = _wanted(settings)
    if not wanted.auth:
        raise UsageError("the bundled registry asks for no credentials: [registry] auth is false")
    with state.lock(wanted.port, lambda _: None):
        secrets = state.ensure_secrets(wanted.port)
    return Credentials(secrets.username, secrets.password)


def up(settings: Registry, source: Source, *, notify: Notify) -> Endpoint:
    """Have the bundled registry running and answering; changes nothing when it is.

    Raises UsageError (another registry is configured; the port is taken; it runs with other settings),
    Unreachable (neither an engine nor Linux), MlpkgError (it does not start), and what `source` raises.
    """
    from mlpkg.registry import lifecycle  # noqa: PLC0415

    wanted = _wanted(settings)
    with state.lock(wanted.port, notify):
        secrets = state.ensure_secrets(wanted.port)
        running = lifecycle.running(wanted.port, secrets, notify)
        if running:
            return _endpoint(lifecycle.confirmed(running, wanted, secrets), secrets)
        return _endpoint(lifecycle.start(wanted, secrets, source, notify), secrets)


def down(settings: Registry) -> bool:
    """Stop the bundled registry if it runs, and say whether it did. Its storage stays.

    Raises UsageError (another registry is configured), Unreachable (it is a container and no engine answers).
    """
    from mlpkg.registry import lifecycle  # noqa: PLC0415

    wanted = _wanted(settings)
    with state.lock(wanted.port, lambda _: None):
        known = state.read_state(wanted.port)
        return lifecycle.stop(known) if known else False


def collect_garbage(settings: Registry, source: Source, *, notify: Notify, untagged: bool = False) -> str:
    """Remove what no manifest of the bundled registry needs, and return the collector's report.

    The registry stands still meanwhile, and runs afterwards if it ran before. `untagged` also removes
    manifests without a tag; not where images for several platforms are kept, because distribution 2.8
    then removes the untagged parts of tagged indexes too (distribution #3178), and it gives up, with
    MlpkgError, on a repository that never had a tag. Raises as `up` does.
    """
    from mlpkg.registry import lifecycle  # noqa: PLC0415

    was_running = status(settings).running
    up(settings, source, notify=notify)
    with state.lock(settings.port, notify):
        known = state.read_state(settings.port)
        if known is None:
            raise UsageError(f"the registry on port {settings.port} was removed meanwhile")
        notify("the registry stands still while its storage is cleaned")
        report = lifecycle.collect_garbage(
            known, state.ensure_secrets(settings.port), source, untagged=untagged
        )
        if not was_running:
            lifecycle.stop(state.read_state(settings.port) or known)
    return report


def status(settings: Registry) -> Status:
    """What is known about the bundled registry. Raises UsageError (another registry is configured)."""
    wanted = _wanted(settings)
    known = state.read_state(wanted.port)
    if known is None:
        return Status(running=False, address=f"127.0.0.1:{wanted.port}")
    from mlpkg.registry import lifecycle  # noqa: PLC0415

    is_running = lifecycle.is_running(known)
    return Status(
        running=is_running,
        address=f"127.0.0.1:{known.wanted.port}",
        mode=known.mode,
        instance=known.instance,
        storage=lifecycle.place(known),
        size=lifecycle.size(known),
        since=known.since if is_running else None,
        version=known.version,
    )


def _wanted(settings: Registry) -> BundledSettings:
    """The settings that concern the bundled registry, checked. Raises UsageError."""
    if settings.address:
        raise UsageError(
            f"this workspace uses the registry {settings.address}, not the bundled one",
            hint="remove [registry] address from mlpkg.toml to use the bundled one",
        )
    if not 1 <= settings.port <= 65535:
        raise UsageError(f"[registry] port is {settings.port}", hint="choose one from 1 to 65535")
    folder = Path(settings.storage).expanduser() if settings.storage else None
    if folder and not folder.is_absolute():
        raise UsageError(f"[registry] storage is not an absolute path: {settings.storage}")
    return BundledSettings(settings.port, str(folder) if folder else "", settings.auth)


def _endpoint(known: BundledState, secrets: BundledSecrets) -> Endpoint:
    login = Credentials(secrets.username, secrets.password) if known.wanted.auth else None
    return Endpoint(f"127.0.0.1:{known.wanted.port}", login, known.instance)
