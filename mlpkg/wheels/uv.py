"""Runs uv, and turns what it says into errors for people. The only caller of the uv binary."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlpkg.errors import LockError, Unreachable, UsageError
from mlpkg.wheels.sources import WheelSources, addresses

_SHOWN_LINES = 40

WRITTEN_LIMIT = 64 << 30
"""Bytes that one run of uv may write where the wheels' sizes are not known yet: choosing may unpack some."""

MEMORY_LIMIT = 4 << 30
"""Bytes of memory that one run of uv may hold. It reads index pages and METADATA whole; 300 MB are usual for much."""

_LOOKED_EACH = 0.1
"""Seconds between two looks at a running uv."""

# What a user may have set for projects of their own, and what would change what we ask for.
_DROPPED = frozenset(
    {
        "UV_BREAK_SYSTEM_PACKAGES", "UV_COMPILE_BYTECODE", "UV_CONSTRAINT", "UV_EXCLUDE", "UV_FROZEN",
        "UV_LINK_MODE", "UV_LOCKED", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE", "UV_NO_BUILD", "UV_NO_BUILD_PACKAGE",
        "UV_NO_VERIFY_HASHES", "UV_OUTPUT_FILE", "UV_OVERRIDE", "UV_PROJECT", "UV_PYTHON", "UV_REQUIRE_HASHES",
        "UV_SYSTEM_PYTHON", "UV_VENV_CLEAR", "UV_VENV_SEED", "UV_WORKING_DIR", "VIRTUAL_ENV", "CONDA_PREFIX",
        "PYTHONHOME", "PYTHONPATH",
    }
)  # fmt: skip

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s`'\"<>)]+")
_NETWORK = re.compile(
    r"error sending request|client error \(Connect\)|dns error|operation timed out|network (was|is) disabled"
    r"|HTTP status (server error|client error \((408|429))|status code 5\d\d|network timeout|connection (reset|closed)",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"lack of valid authentication credentials|\(?40[13] (Unauthorized|Forbidden)|Missing credentials",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class UvResult:
    """How one run of uv ended. `reason` is its own explanation without addresses."""

    code: int
    output: str
    reason: str

    def raise_for_service(self) -> None:
        """Raise Unreachable or LockError when the index, not the request, is at fault."""
        if _REFUSED.search(self.reason):
            raise LockError(
                f"the package index refuses the credentials it was given, or wants some:\n{self.reason}",
                hint="give them in the index's address, a .netrc file or uv's own configuration",
            )
        if "invalid peer certificate" in self.reason:
            raise Unreachable(
                f"the package index has a certificate that is not trusted here:\n{self.reason}",
                hint="name your authority's certificates as ca_file under [python] in mlpkg.toml",
            )
        if _NETWORK.search(self.reason):
            raise Unreachable(
                f"the package index cannot be reached:\n{self.reason}",
                hint="check the network, or set index (or find_links) under [python] in mlpkg.toml",
            )


def run_uv(arguments: Sequence[str], *, folder: Path, sources: WheelSources, written: int = 0) -> UvResult:
    """Run uv in `folder` (a private one: uv looks there for configuration).

    The sources go by environment, so that credentials are in no process list. uv bounds neither what a wheel
    unpacks to nor what it reads into memory: it is stopped beyond `written` bytes (`WRITTEN_LIMIT` where none
    are given) or `MEMORY_LIMIT`. Raises LockError then, and UsageError without a uv.
    """
    environment = uv_environment(os.environ, sources)
    with subprocess.Popen(
        [uv_binary(), *arguments, *(sources.arguments() if arguments[0] == "pip" else [])],
        cwd=folder,
        env=_without_shims(environment) if arguments[0] == "python" else environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            output, errors = _ended(process, written or WRITTEN_LIMIT)
        except BaseException:
            process.kill()
            raise
    return UvResult(
        process.returncode,
        output.decode("utf-8", "replace"),
        readable(errors.decode("utf-8", "replace"), folder, addresses(sources)),
    )


def _ended(process: subprocess.Popen[bytes], written: int) -> tuple[bytes, bytes]:
    """What a process printed, once it ended. Raises LockError for one that takes too much."""
    while True:
        try:
            return process.communicate(timeout=_LOOKED_EACH)
        except subprocess.TimeoutExpired:
            _check_taken(process.pid, written)


def _check_taken(pid: int, written: int) -> None:
    """Raise LockError for a process that wrote or holds too much (proc(5); other systems do not tell)."""
    taken = (
        (_counted(f"/proc/{pid}/io", "wchar:"), written, "write"),
        (_counted(f"/proc/{pid}/status", "VmRSS:") * 1024, MEMORY_LIMIT, "hold in memory"),
    )
    for count, limit, does in taken:
        if count > limit:
            raise LockError(
                f"a wheel or an index page makes uv {does} {count} bytes; it was stopped at {limit}",
                hint="remove the requirement that was added last; `uv cache prune` frees what uv had unpacked",
            )


def _counted(path: str, name: str) -> int:
    """A number of a file in /proc, 0 where it is not there (any more)."""
    try:
        words = Path(path).read_text("ascii", "replace").split()
        return int(words[words.index(name) + 1])
    except (OSError, ValueError):
        return 0


def uv_binary() -> str:
    """The uv that is installed with mlpkg. Raises UsageError."""
    from uv import find_uv_bin  # noqa: PLC0415

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise UsageError(
            "uv's program is missing", hint="install mlpkg again, with its dependencies"
        ) from error


def uv_environment(variables: Mapping[str, str], sources: WheelSources) -> dict[str, str]:
    """The user's environment with our sources, without colour, progress, or downloads of Pythons."""
    kept = {key: value for key, value in variables.items() if key not in _DROPPED}
    fixed = {
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "UV_NO_INSTALLER_METADATA": "1",
        "NO_COLOR": "1",
    }
    return {**kept, **sources.variables(), **fixed}


def _without_shims(variables: Mapping[str, str]) -> dict[str, str]:
    """Without the folders of pyenv and its like: uv would run each of their programs to see what it is."""
    folders = variables.get("PATH", "").split(os.pathsep)
    return {**variables, "PATH": os.pathsep.join(item for item in folders if Path(item).name != "shims")}


def readable(text: str, folder: Path, known: Sequence[str] = ()) -> str:
    """Uv's explanation for people: without addresses, our scratch files, warnings and excess.

    Of the `known` addresses not even the last part is shown: it is a token on some indexes.
    """
    tops = frozenset(_path(item) for item in known if "://" in item)
    text = _ADDRESS.sub(lambda found: _last_part(found[0], tops), text).replace(f"{folder}/", "")
    lines = [line.rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("warning:", "Using CPython"))]
    if len(lines) > _SHOWN_LINES:
        half = _SHOWN_LINES // 2
        lines = [*lines[:half], f"  … {len(lines) - 2 * half} lines more …", *lines[-half:]]
    return "\n".join(f"  {line.removeprefix('error: ')}" for line in lines)


def _last_part(address: str, tops: frozenset[str]) -> str:
    """What is left of an address: its last part, which says which package it was about."""
    path = _path(address)
    return f"<index>/{path.rsplit('/', 1)[1]}" if "/" in path and path not in tops else "<index>"


def _path(address: str) -> str:
    """Host and path of an address, without user and password."""
    rest = address.split("://", 1)[1].split("?", maxsplit=1)[0].split("#", maxsplit=1)[0].rstrip("/.,:")
    host, slash, path = rest.partition("/")
    return f"{host.rpartition('@')[2]}{slash}{path}"
