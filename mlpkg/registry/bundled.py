"""The bundled registry's life: up, down, status, credentials. One per user and port, for all workspaces.

It is CNCF Distribution, unmodified, in a container; without a Docker engine the same program runs as a
process. Which of the two is remembered, because each has its own storage (unless a folder is asked for),
and one address must not quietly stand for two. An `Endpoint` names the storage by its instance: what is
known about one instance says nothing about another.

Cheap to import, and `known_endpoint` reads four small files at most: both are on the way of a run with nothing
to do. All else loads where it is used.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpkg.errors import Taken, UsageError
from mlpkg.progress import Notify
from mlpkg.registry import state
from mlpkg.registry.source import Source
from mlpkg.registry.state import BundledSettings
from mlpkg.remote.credentials import Credentials
from mlpkg.spec.model import RegistryTable

if TYPE_CHECKING:
    from mlpkg.registry.state import BundledSecrets, BundledState

DEFAULT_PORT = 5050
"""Where the bundled registry listens, where nothing else is written and it is free."""

PORTS = 100
"""How many ports, from the default on, are tried before none is found."""

__all__ = [
    "DEFAULT_PORT",
    "Credentials",
    "Endpoint",
    "Source",
    "Status",
    "credentials",
    "down",
    "known_endpoint",
    "status",
    "up",
    "wanted_settings",
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
    note: str | None = None
    """What is not as it should be."""

    def to_json(self) -> dict[str, Any]:
        """The fields as they are."""
        return asdict(self)


def known_endpoint(settings: RegistryTable) -> Endpoint | None:
    """The bundled registry as it was started last for these settings; whether it runs is not asked.

    None: it never was, or with another storage or other `auth`, or its storage folder was wiped; then
    `up` knows. No network, no engine. Raises UsageError (settings that cannot be).
    """
    if settings.address:
        return None
    wanted = wanted_settings(settings)
    known = state.read_state(wanted.port)
    if known is None or known.wanted != wanted:
        return None
    folder = state.data_folder(known)
    if folder and state.read_instance(folder) != known.instance:
        return None
    secrets = state.read_secrets(wanted.port)
    return _endpoint(known, secrets) if secrets else None


def credentials(settings: RegistryTable) -> Endpoint:
    """Where the bundled registry is, with its credentials, generated at the first call.

    Raises UsageError when it asks for none, or where no port is written and none was chosen yet.
    """
    wanted = wanted_settings(settings)
    if not wanted.auth:
        raise UsageError("the bundled registry asks for no credentials: [registry] auth is false")
    known = state.read_state(wanted.port)
    if settings.port is None and known is None:
        raise UsageError("the bundled registry has no port yet", hint="start it with `mlpkg registry up`")
    with state.lock(wanted.port, lambda _: None):
        secrets = state.ensure_secrets(wanted.port)
    login = Credentials(secrets.username, secrets.password)
    return Endpoint(f"127.0.0.1:{wanted.port}", login, known.instance if known else "")


def up(settings: RegistryTable, source: Source, *, notify: Notify) -> Endpoint:
    """Have the bundled registry running and answering; changes nothing when it is.

    Where no port is written it is `DEFAULT_PORT`, or the next free one, and from then on that one.
    Raises UsageError (another registry is configured; it runs with other settings), Taken (the port is
    somebody else's), Unreachable (neither an engine nor Linux), MlpkgError (it does not start), and what
    `source` raises.
    """
    wanted = wanted_settings(settings)
    if settings.port is not None or state.read_state(wanted.port):
        return _up(wanted, source, notify)
    with state.lock(None, notify):
        wanted = wanted_settings(settings)  # another process may have chosen meanwhile
        if state.read_state(wanted.port):
            return _up(wanted, source, notify)
        return _up_where_free(wanted, source, notify)


def _up_where_free(wanted: BundledSettings, source: Source, notify: Notify) -> Endpoint:
    """The first start: at the port that was remembered or is the default, else at the next one that is free."""
    refused: Taken | None = None
    last = DEFAULT_PORT + PORTS - 1
    for port in dict.fromkeys((wanted.port, *range(DEFAULT_PORT, last + 1))):
        chosen = replace(wanted, port=port)
        known = state.read_state(port)
        if known and known.wanted != chosen:
            continue  # a workspace that names this port has it
        # Before the start: a run that is killed meanwhile must not leave a registry that nobody finds.
        state.write_port(port)
        try:
            endpoint = _up(chosen, source, notify)
        except Taken as error:
            refused = refused or error
            continue
        if refused:
            notify(f"{refused.message}: the registry uses port {port} from now on")
        return endpoint
    raise Taken(
        f"ports {DEFAULT_PORT} to {last} of 127.0.0.1 are all taken",
        hint="write a free one into mlpkg.toml: [registry] port",
    )


def _up(wanted: BundledSettings, source: Source, notify: Notify) -> Endpoint:
    from mlpkg.registry import lifecycle  # noqa: PLC0415

    with state.lock(wanted.port, notify):
        secrets = state.read_secrets(wanted.port)
        if secrets is None:
            lifecycle.require_free(wanted.port)  # nothing there can be ours
            secrets = state.ensure_secrets(wanted.port)
        running = lifecycle.running(wanted.port, secrets, notify)
        if running:
            return _endpoint(lifecycle.confirmed(running, wanted, secrets), secrets)
        return _endpoint(lifecycle.start(wanted, secrets, source, notify), secrets)


def down(settings: RegistryTable) -> bool:
    """Stop the bundled registry if it runs, and say whether it did. Its storage stays.

    Raises UsageError (another registry is configured), Unreachable (it is a container and no engine answers).
    """
    from mlpkg.registry import lifecycle  # noqa: PLC0415

    wanted = wanted_settings(settings)
    with state.lock(wanted.port, lambda _: None):
        known = state.read_state(wanted.port)
        return lifecycle.stop(known) if known else False


def status(settings: RegistryTable) -> Status:
    """What is known about the bundled registry. Raises UsageError (another registry is configured)."""
    from mlpkg.registry import lifecycle  # noqa: PLC0415

    wanted = wanted_settings(settings)
    address = f"127.0.0.1:{wanted.port}"
    known = state.read_state(wanted.port)
    if known is None:
        return Status(running=False, address=address, note=lifecycle.stranger(wanted.port))
    is_running, note = lifecycle.looked_at(known, state.read_secrets(wanted.port))
    return Status(
        running=is_running,
        address=address,
        mode=known.mode,
        instance=known.instance,
        storage=lifecycle.place(known),
        size=lifecycle.size(known),
        since=known.since if is_running else None,
        version=known.version,
        note=note,
    )


def wanted_settings(settings: RegistryTable) -> BundledSettings:
    """The settings that concern the bundled registry, checked. Raises UsageError."""
    if settings.address:
        raise UsageError(
            f"this workspace uses the registry {settings.address}, not the bundled one",
            hint="remove [registry] address from mlpkg.toml to use the bundled one",
        )
    port = (state.read_port() or DEFAULT_PORT) if settings.port is None else settings.port
    if not 1 <= port <= state.MOST_PORT:
        raise UsageError(f"[registry] port is {port}", hint=f"choose one from 1 to {state.MOST_PORT}")
    folder = Path(settings.storage).expanduser() if settings.storage else None
    if folder and not folder.is_absolute():
        raise UsageError(f"[registry] storage is not an absolute path: {settings.storage}")
    return BundledSettings(port, str(folder) if folder else "", settings.auth)


def _endpoint(known: BundledState, secrets: BundledSecrets) -> Endpoint:
    login = Credentials(secrets.username, secrets.password) if known.wanted.auth else None
    return Endpoint(f"127.0.0.1:{known.wanted.port}", login, known.instance)
