"""The bundled registry's small files: what runs where, its secrets, its lock, its storage's identity.

Below `state_folder`, one folder per port (0700; every file 0600, replaced whole)::

    registry/5050/state.json      how it was started last        registry/5050/lock
    registry/5050/secrets.json    credentials and http.secret    registry/5050/storage/    (process mode)
    registry/port.json            the port where none is written

Cheap to import: a run with nothing to do reads these files and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlpkg.progress import Notify
from mlpkg.store.files import write_atomically, writing

FORMAT = 1

MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class BundledSettings:
    """What the settings ask for; `storage` is an absolute folder, or empty for a place of mlpkg's own."""

    port: int
    storage: str
    auth: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledState:
    """How the registry of one port was started last.

    `instance` belongs to the storage. `container` is the engine's id; `pid` goes with `started`, which
    tells it from a later process of the same number. They are None when it was stopped. `since` is ISO 8601.
    """

    mode: Literal["container", "process"]
    wanted: BundledSettings
    instance: str
    container: str | None = None
    pid: int | None = None
    started: str | None = None
    since: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class BundledSecrets:
    """Made once per port. `http` signs upload sessions, so that they outlive a restart of the registry."""

    username: str
    password: str = field(repr=False)
    http: str = field(repr=False)
    htpasswd: str = field(repr=False)


def state_path() -> Path:
    """Where the state folder is: $MLPKG_STATE_HOME, else mlpkg's in the XDG state home. Makes nothing."""
    if own := os.environ.get("MLPKG_STATE_HOME"):
        return Path(own).absolute()
    home = os.environ.get("XDG_STATE_HOME", "")
    # XDG Base Directory Specification 0.8: a relative path is to be ignored.
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state") / "mlpkg"


def state_folder() -> Path:
    """The folder for what outlives a workspace, made with mode 0700. Raises MlpkgError."""
    folder = state_path()
    with writing(folder, setting="MLPKG_STATE_HOME"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def port_path(port: int) -> Path:
    """The folder of one port's files. Makes nothing."""
    return state_path() / "registry" / str(port)


def make_port_folder(port: int) -> Path:
    """The folder of one port's files, there and for this user only. Raises NotWritten, UsageError."""
    return _make_folder(port_path(port))


def _make_folder(folder: Path) -> Path:
    with writing(folder, setting="MLPKG_STATE_HOME"):
        state_folder()
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    return folder


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole; only this user can read it. Raises NotWritten."""
    write_atomically(path, data, mode=0o600)


def private_opener(path: str, flags: int) -> int:
    """For `open`: what it makes is for this user only."""
    return os.open(path, flags, 0o600)


def read_state(port: int) -> BundledState | None:
    """What `write_state` left; None when there is nothing, or nothing that can be believed."""
    value = _read_json(port_path(port) / "state.json")
    if value is None or value.get("mode") not in ("container", "process"):
        return None
    try:
        wanted = BundledSettings(port, value["wanted"]["storage"], value["wanted"]["auth"])
        known = BundledState(
            mode=value["mode"],
            wanted=wanted,
            instance=value["instance"],
            **{key: value[key] for key in ("container", "pid", "started", "since", "version")},
        )
    except (KeyError, TypeError):
        return None
    texts = (wanted.storage, known.instance, *filter(None, (known.container, known.started)))
    is_sound = all(isinstance(text, str) for text in texts) and isinstance(known.pid, int | None)
    return known if is_sound and isinstance(wanted.auth, bool) else None


def write_state(known: BundledState) -> None:
    """Remember how the registry was started. Raises MlpkgError."""
    text = json.dumps({"format": FORMAT, **asdict(known)}, indent=1)
    write_private(make_port_folder(known.wanted.port) / "state.json", text.encode() + b"\n")


def read_secrets(port: int) -> BundledSecrets | None:
    """The secrets of a port, None when they were not made yet or cannot be believed."""
    value = _read_json(port_path(port) / "secrets.json")
    parts = [(value or {}).get(key) for key in ("username", "password", "http", "htpasswd")]
    texts = [part for part in parts if isinstance(part, str) and part]
    return BundledSecrets(*texts) if len(texts) == len(parts) else None


def ensure_secrets(port: int) -> BundledSecrets:
    """The secrets of a port, made at the first call (hold `lock`). Raises UsageError, MlpkgError."""
    if known := read_secrets(port):
        return known
    import secrets  # noqa: PLC0415

    import bcrypt  # noqa: PLC0415

    password = secrets.token_urlsafe(32)
    # The registry checks the hash at every request. 256 random bits need no slow hash: the lowest cost.
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()
    made = BundledSecrets("mlpkg", password, secrets.token_hex(32), f"mlpkg:{hashed}\n")
    text = json.dumps({"format": FORMAT, **asdict(made)}, indent=1)
    write_private(make_port_folder(port) / "secrets.json", text.encode() + b"\n")
    return made


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and value.get("format") == FORMAT else None


def read_port() -> int | None:
    """The port that was chosen for this user where none is written; None before the first choice."""
    value = _read_json(state_path() / "registry" / "port.json")
    port = (value or {}).get("port")
    return port if isinstance(port, int) and 1 <= port <= MOST_PORT else None


def write_port(port: int) -> None:
    """Remember the chosen port (hold `lock(None, …)`). Raises UsageError, MlpkgError."""
    folder = make_port_folder(port).parent
    write_private(folder / "port.json", json.dumps({"format": FORMAT, "port": port}).encode() + b"\n")


def forget(port: int) -> None:
    """Forget how the registry of a port was started."""
    with suppress(OSError):
        (port_path(port) / "state.json").unlink()


@contextmanager
def lock(port: int | None, notify: Notify) -> Generator[None, None, None]:
    """One start or stop at a time per port; waits for another process, and says so. Raises NotWritten, UsageError.

    Without a port: one choice of a port at a time. It is taken before any port's own.
    """
    import fcntl  # noqa: PLC0415

    path = (make_port_folder(port) if port else _make_folder(state_path() / "registry")) / "lock"
    with writing(path, setting="MLPKG_STATE_HOME"):
        file = open(path, "a", opener=private_opener)  # noqa: SIM115 - the next line closes it
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(
                f"waiting for another process that starts or stops the registry{f' on port {port}' if port else ''}"
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def folder_of(wanted: BundledSettings) -> Path:
    """The folder of the registry's data when it is no volume: the one asked for, or mlpkg's own."""
    return Path(wanted.storage) if wanted.storage else port_path(wanted.port) / "storage"


def data_folder(known: BundledState) -> Path | None:
    """The folder of the registry's data; None when it is a volume of the engine."""
    return folder_of(known.wanted) if known.wanted.storage or known.mode == "process" else None


def read_instance(folder: Path) -> str | None:
    """The identity of a storage folder, None when it has none: new, or wiped."""
    try:
        return _instance_file(folder).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def ensure_instance(folder: Path) -> str:
    """The identity of a storage folder, made where there is none; the folder too. Raises MlpkgError."""
    if known := read_instance(folder):
        return known
    file = _instance_file(folder)
    with writing(folder, setting="[registry] storage"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
    return renew_instance(folder)


def renew_instance(folder: Path) -> str:
    """Give a storage folder a new identity: what is known about the old one says nothing about it. Raises MlpkgError."""
    import secrets  # noqa: PLC0415

    instance = secrets.token_hex(16)
    write_private(_instance_file(folder), instance.encode() + b"\n")
    return instance


def _instance_file(folder: Path) -> Path:
    """Inside the folder that distribution keeps everything in, so that it is wiped along with the data."""
    return folder / "docker" / "mlpkg-instance"
