"""The bundled registry as a process of this machine (Linux): start, find again, stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path

from mlpkg.errors import MlpkgError
from mlpkg.registry.config import config_text
from mlpkg.registry.state import (
    BundledSecrets,
    BundledSettings,
    folder_of,
    make_port_folder,
    private_opener,
    write_private,
)

ENVIRONMENT = {"OTEL_TRACES_EXPORTER": "none"}
"""All of it: REGISTRY_* of the caller would change the configuration, and 3.x would send traces."""

PROC = Path("/proc")
"""Where Linux shows its processes; nothing is there on other systems."""

LOG_LIMIT = 1 << 20
"""Bytes of log that are kept when the registry is started or found running."""


def write_config(wanted: BundledSettings, secrets: BundledSecrets) -> Path:
    """Write the registry's configuration and its password file. Raises UsageError, MlpkgError."""
    folder = make_port_folder(wanted.port)
    htpasswd = folder / "htpasswd"
    write_private(htpasswd, secrets.htpasswd.encode())
    config = folder / "config.yml"
    text = config_text(
        storage=str(folder_of(wanted)),
        address=f"127.0.0.1:{wanted.port}",
        secret=secrets.http,
        htpasswd=str(htpasswd) if wanted.auth else None,
    )
    write_private(config, text.encode())
    return config


def start(binary: Path, wanted: BundledSettings, secrets: BundledSecrets) -> int:
    """Start the registry and return its pid; it outlives us. Raises UsageError, MlpkgError."""
    config = write_config(wanted, secrets)
    folder = config.parent
    trim_log(folder)
    try:
        with open(log_file(folder), "ab", opener=private_opener) as log:
            process = subprocess.Popen(
                [binary, "serve", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                umask=0o077,
                start_new_session=True,
                env=ENVIRONMENT,
            )
    except OSError as error:
        raise MlpkgError(f"{binary}: cannot be started: {error.strerror}") from error
    pid = process.pid
    with warnings.catch_warnings():
        # That it outlives its handle is what is wanted; subprocess still reaps it if it ends before us.
        warnings.simplefilter("ignore", ResourceWarning)
        del process
    return pid


def run_once(
    binary: Path, wanted: BundledSettings, secrets: BundledSecrets, arguments: list[str], seconds: float
) -> str:
    """Run the program with the registry's configuration, for `seconds` at most, and return what it said.

    Raises UsageError, MlpkgError.
    """
    command = [str(binary), *arguments, str(write_config(wanted, secrets))]
    try:
        said = subprocess.run(command, capture_output=True, check=False, env=ENVIRONMENT, timeout=seconds)
    except OSError as error:
        raise MlpkgError(f"{binary}: cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise MlpkgError(f"{arguments[0]} did not end in {seconds:.0f} s and was stopped") from error
    if said.returncode:
        raise MlpkgError(f"{arguments[0]} failed: {said.stderr.decode(errors='replace').strip()[-500:]}")
    return said.stdout.decode(errors="replace")


def version(binary: Path) -> str | None:
    """What the executable calls itself, e.g. ``2.8.2+ds1``; None when it does not say."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, timeout=10, check=False, env={})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(said.stdout.decode(errors="replace"))


def parse_version(text: str) -> str | None:
    """The version in ``docker-registry github.com/docker/distribution 2.8.2+ds1``."""
    found = re.search(r"\sv?(\d+\.\d+\S*)\s*$", text)
    return found[1] if found else None


def birth(pid: int) -> str | None:
    """What tells a process from others of the same number; None when it is gone. A zombie is gone.

    Boot and start time from /proc (proc_pid_stat(5), field 22, in clock ticks since boot). Where there is
    no /proc (macOS, the BSDs) what ps says: the start, to the second. Raises MlpkgError (neither of them).
    """
    if not (PROC / "self").exists():
        return _birth_by_ps(pid)
    try:
        fields = (PROC / f"{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    state, *rest = fields.split()
    return None if state in "ZX" else f"{boot}:{rest[18]}"


def _birth_by_ps(pid: int) -> str | None:
    """State and start from ps(1): `stat` and `lstart` are known to procps, macOS and the BSDs."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    # The start is printed in the caller's language and time zone: both must be the same at every call.
    environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC0"}
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environ)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MlpkgError(
            f"process {pid} cannot be looked at: there is no /proc, and ps does not work: {error}",
            hint="install ps (procps), or mount /proc",
        ) from error
    state, _, started = said.stdout.strip().partition(" ")
    return f"ps:{started.strip()}" if started and state[0] not in "ZX" else None


def is_alive(pid: int | None, started: str | None) -> bool:
    """Whether the process that was started then still runs."""
    return pid is not None and started is not None and birth(pid) == started


def stop(pid: int, started: str, timeout: float = 10.0) -> bool:
    """End that process and no other: SIGTERM, then SIGKILL after `timeout` seconds. False: it was gone."""
    if not is_alive(pid, started):
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + timeout
        if is_alive(pid, started):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while is_alive(pid, started) and time.monotonic() < end:
            time.sleep(0.02)
    if is_alive(pid, started):
        raise MlpkgError(f"the registry's process {pid} does not end", hint=f"look at it with `ps {pid}`")
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return True


def log_file(folder: Path) -> Path:
    """Where the registry writes its log."""
    return folder / "registry.log"


def log_tail(folder: Path) -> str:
    """The log's last lines."""
    try:
        return "\n".join(log_file(folder).read_text(errors="replace").splitlines()[-10:])
    except OSError:
        return ""


def trim_log(folder: Path) -> None:
    """Empty a log that has grown above `LOG_LIMIT`, keeping what it held as ``registry.log.1``.

    The registry appends, so it goes on at the new end.
    """
    file = log_file(folder)
    with suppress(OSError):
        if file.stat().st_size > LOG_LIMIT:
            write_private(file.with_name("registry.log.1"), file.read_bytes()[-LOG_LIMIT:])
            os.truncate(file, 0)
