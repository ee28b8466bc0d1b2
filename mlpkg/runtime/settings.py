"""The server's settings: one frozen value, read from environment variables and Azure's config.json.

Priority is command line (which `__main__` writes into the environment), environment, file (azure-contract §2).
"""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH100, PTH110, PTH113, PTH118, PTH120, PTH123, PTH202

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from mlpkg.runtime import limits
from mlpkg.runtime.limits import Range

DEFAULT_APP_ROOT: Final = "/var/azureml-app"
DEFAULT_TIMEOUT_MS: Final = 3_600_000
DEFAULT_MAX_BODY: Final = 100 * 1024 * 1024

VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    "AML_APP_ROOT": ("app_root", "folder of the code; appended to sys.path"),
    "AZUREML_SOURCE_DIRECTORY": ("source_directory", "folder below it that is appended too"),
    "AZUREML_ENTRY_SCRIPT": (
        "entry_script",
        "the script, absolute or relative to the app root; else module `main`",
    ),
    "AZUREML_MODEL_DIR": ("model_dir", "for the script; its tree is logged when init fails"),
    "SCORING_TIMEOUT_MS": ("timeout_ms", "longest call of run, whole milliseconds"),
    "AML_CORS_ORIGINS": ("cors_origins", "origins that browsers may call from, comma separated, or *"),
    "WORKER_COUNT": ("workers", "worker processes"),
    "WORKER_TIMEOUT": (
        "worker_timeout",
        "seconds after which a silent worker is killed, in init too; 0: never",
    ),
    "SERVICE_NAME": ("service_name", "title in the swagger documents"),
    "SERVICE_VERSION": ("service_version", "version in the swagger documents"),
    "SERVICE_PATH_PREFIX": ("service_path_prefix", "prefix of the paths in the swagger documents"),
    "SEPERATE_HEALTH_ENDPOINT": ("separate_health", "true: listen on HEALTH_PORT too (Azure's spelling)"),
    "HEALTH_PORT": ("health_port", "that port"),
    "SERVER_VERSION_LOG_RESPONSE_ENABLED": ("send_version", "false: no x-ms-server-version header"),
    "HTTP_X_MS_SERVER_VERSION": ("version_header", "its value"),
    "AZUREML_DEBUG_PORT": ("debug_port", "connect debugpy to this port before the script loads"),
    "FORWARDED_ALLOW_IPS": (
        "trusted_proxies",
        "proxies whose X-Forwarded-Proto counts, comma separated, or *",
    ),
    "MLPKG_HOST": ("host", "address to listen on"),
    "MLPKG_PORT": ("port", "port to listen on"),
    "MLPKG_MAX_BODY": ("max_body", "largest request body in bytes, at most 2 GiB; beyond: 413"),
    "MLPKG_MAX_QUEUE": ("max_queue", "requests that may wait for a worker; beyond: 503"),
    "MLPKG_MAX_CONNECTIONS": ("max_connections", "open connections; beyond, idle ones are closed"),
    "MLPKG_READ_TIMEOUT": (
        "read_timeout",
        "seconds a client may pause within a request, or not take its answer",
    ),
    "MLPKG_GRACE": ("grace", "seconds that requests in flight have after SIGTERM"),
    "MLPKG_LOG_FORMAT": ("log_format", "azure or json"),
    "MLPKG_ACCESS_LOG": ("access_log", "false: no line per request"),
    "MLPKG_LENIENT": (
        "lenient",
        "true: also take form-encoded bodies, async run, numpy and pandas results where Azure's server does not",
    ),
}
"""Environment variable -> (field of `Settings`, meaning). MLPKG_* are ours, the rest are Azure's own."""

_FROM_FILE: Final = (
    "AZUREML_SOURCE_DIRECTORY",
    "AZUREML_ENTRY_SCRIPT",
    "SERVICE_NAME",
    "SERVICE_PATH_PREFIX",
    "SERVICE_VERSION",
    "SCORING_TIMEOUT_MS",
    "AZUREML_MODEL_DIR",
    "AZUREML_DEBUG_PORT",
)
"""What Azure's server takes from config.json; other keys have no effect there either."""


class SettingsError(Exception):
    """Settings that cannot be used: all problems, one per line."""


@dataclass(frozen=True)
class Settings:
    """What the server does; the meaning of each field stands in `VARIABLES`."""

    app_root: str = DEFAULT_APP_ROOT
    source_directory: str = ""
    entry_script: str = ""
    model_dir: str = ""
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    cors_origins: tuple[str, ...] = ()
    workers: int = 1
    worker_timeout: float = 0.0
    service_name: str = "ML service"
    service_version: str = "1.0"
    service_path_prefix: str = ""
    separate_health: bool = False
    health_port: int = 5000
    send_version: bool = True
    version_header: str = "mlpkg/1"
    debug_port: int = 0
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    host: str = "0.0.0.0"  # noqa: S104 - a container's published port arrives from outside
    port: int = 5001
    max_body: int = DEFAULT_MAX_BODY
    max_queue: int = 128
    max_connections: int = 1024
    read_timeout: float = 30.0
    grace: float = 30.0
    log_format: str = "azure"
    access_log: bool = True
    lenient: bool = False
    config_file: str = ""

    @property
    def logging_folders(self) -> tuple[str, ...]:
        """Where a logging.json is looked for."""
        return (
            self.app_root,
            os.path.dirname(os.path.realpath(self.entry_script)) if self.entry_script else "",
        )


def server_environment(
    *, port: int, workers: int, timeout: float, max_body: int, cors_origins: Iterable[str] = ()
) -> dict[str, str]:
    """The variables for package.toml's `[server]` (`timeout` in seconds, `max_body` in bytes)."""
    variables = {
        "MLPKG_PORT": str(port),
        "WORKER_COUNT": str(workers),
        "SCORING_TIMEOUT_MS": str(max(limits.TIMEOUT_MS.low, round(timeout * 1000))),
        "MLPKG_MAX_BODY": str(max_body),
    }
    origins = ",".join(cors_origins)
    return {**variables, "AML_CORS_ORIGINS": origins} if origins else variables


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Read and check the settings. Raises SettingsError with everything that is wrong."""
    file, from_file = _config_file(environ)
    values, wrong = _read({**from_file, **environ})
    if wrong:
        raise SettingsError("\n".join(f"{name}={text!r}: {why}" for name, (text, why) in wrong.items()))
    return Settings(config_file=file, **values)


def problems(environ: Mapping[str, str]) -> dict[str, str]:
    """What `from_environment` would refuse, by variable; no file is read."""
    return {name: why for name, (_, why) in _read(environ)[1].items()}


def _read(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """The fields that are given, and what is wrong: variable -> (its text, why)."""
    values: dict[str, Any] = {}
    wrong: dict[str, tuple[str, str]] = {}
    defaults = Settings()
    for variable, (field, _) in VARIABLES.items():
        text = str(given.get(variable, ""))
        if not text:
            continue
        try:
            values[field] = _PARSERS[field](text) if field in _PARSERS else _plain(defaults, field, text)
        except ValueError as error:
            wrong[variable] = (text, str(error))
    return values, wrong


def _plain(defaults: Settings, field: str, text: str) -> Any:
    return text if isinstance(getattr(defaults, field), str) else text.strip()


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("expected true or false")


def _only_true(text: str) -> bool:
    return text.lower() == "true"


def _whole(low: int, high: int = 2**53) -> Callable[[str], int]:
    return _within(Range(low, high))


def _within(taken: Range) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("expected a whole number") from None
        if not taken.low <= number <= taken.high:
            raise ValueError(f"expected a whole number from {taken.low} to {taken.high}")
        return number

    return parse


def seconds(text: str) -> float:
    """A finite number of seconds, 0 or more. Raises ValueError."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("expected a number of seconds") from None
    if not 0 <= number < 1e9:
        raise ValueError("expected a number of seconds, 0 or more")
    return number


def _origins(text: str) -> tuple[str, ...]:
    origins = _listed(text)
    for origin in origins:
        try:
            re.compile("" if origin == "*" else origin)
        except re.error as error:
            raise ValueError(f"{origin!r} is neither an origin nor a pattern: {error}") from None
    return origins


def _listed(text: str) -> tuple[str, ...]:
    return tuple(origin for part in text.split(",") if (origin := part.strip()))


def _log_format(text: str) -> str:
    if text not in ("azure", "json"):
        raise ValueError("expected azure or json")
    return text


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "timeout_ms": _within(limits.TIMEOUT_MS),
    "cors_origins": _origins,
    "trusted_proxies": _listed,
    "workers": _within(limits.WORKERS),
    "worker_timeout": seconds,
    "separate_health": _only_true,
    "health_port": _within(limits.PORT),
    "send_version": _only_true,
    "debug_port": _whole(0, limits.PORT.high),
    "port": _within(limits.PORT),
    "max_body": _within(limits.MAX_BODY),
    "max_queue": _whole(0),
    "max_connections": _whole(1),
    "read_timeout": seconds,
    "grace": seconds,
    "log_format": _log_format,
    "access_log": _flag,
    "lenient": _flag,
}


def _config_file(environ: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """Find config.json as Azure's server does, and read it.

    A file that only lies there (a model's own config.json) must not stop the server: it counts when
    it is a JSON object. One that AZUREML_CONFIG_FILE names has to be right.
    """
    named = environ.get("AZUREML_CONFIG_FILE", "")
    if named and os.path.exists(named) and os.path.getsize(named):
        content = _read_json(named)
        if not isinstance(content, dict):
            raise SettingsError(f"AZUREML_CONFIG_FILE={named!r}: expected a JSON object")
        return named, _known(content)
    folders = [environ.get("AML_APP_ROOT") or DEFAULT_APP_ROOT]
    if environ.get("AZUREML_ENTRY_SCRIPT"):
        folders.append(os.path.dirname(os.path.abspath(environ["AZUREML_ENTRY_SCRIPT"])))
    for folder in folders:
        path = os.path.join(folder, "config.json")
        if os.path.isfile(path) and os.path.getsize(path):
            content = _read_json(path)
            return (path, _known(content)) if isinstance(content, dict) else ("", {})
    return "", {}


def _read_json(path: str) -> Any | None:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _known(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: content[key] for key in _FROM_FILE if isinstance(content.get(key), (str, int, float))}


assert {field for field, _ in VARIABLES.values()} | {"config_file"} == {f.name for f in fields(Settings)}  # noqa: S101
