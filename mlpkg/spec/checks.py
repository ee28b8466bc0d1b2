"""What holds between the keys of a spec file. Pure; each check reads the values that passed on their own.

`checked` holds what the file gives, nested as in the file and without defaults; `WRONG` stands where a
value was given but refused, so that one mistake is not reported twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mlpkg.runtime.settings import problems
from mlpkg.spec.fields import KeyPath


class Wrong:
    """The type of `WRONG`."""

    __slots__ = ()


WRONG = Wrong()
"""Stands for a value that was refused."""


class Finding(NamedTuple):
    """A problem before its line is looked up."""

    at: KeyPath
    message: str
    hint: str = ""


_PRIVATE_KEY = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"

_NO_PATH = r"[a-z]+://[^/]*/*"

_ONLY_CUSTOM = ("command", "live", "ready", "score")
_NOT_CUSTOM = ("workers", "timeout", "max_body", "cors_origins")

_SERVER_VARIABLES = {
    "AML_CORS_ORIGINS": "cors_origins",
    "MLPKG_MAX_BODY": "max_body",
    "MLPKG_PORT": "port",
    "SCORING_TIMEOUT_MS": "timeout",
    "WORKER_COUNT": "workers",
}
"""Variables that carry [server] to mlpkg's server, with their keys: two places would contradict each other."""


def package_findings(checked: Mapping[str, Any]) -> Iterator[Finding]:
    """Problems between the keys of a package.toml."""
    yield from _name(_table(checked, "package"))
    yield from _tags(_table(checked, "package"))
    yield from _models(checked.get("models", ()))
    yield from _entry(_table(checked, "entry"))
    yield from _environment(_table(checked, "environment"))
    yield from _server(checked)


def _name(package: Mapping[str, Any]) -> Iterator[Finding]:
    name = package.get("name")
    if isinstance(name, str) and name.startswith("mlpkg/"):
        hint = "the registry keeps the layers that packages share there: choose another name"
        yield Finding(("package", "name"), f"{name!r} lies among mlpkg's own repositories", hint)


def workspace_findings(checked: Mapping[str, Any]) -> Iterator[Finding]:
    """Problems between the keys of a mlpkg.toml."""
    registry, debian = _table(checked, "registry"), _table(checked, "debian")
    if isinstance(registry.get("address"), str):
        for key in ("port", "storage", "auth"):
            if key in registry:
                yield Finding(
                    ("registry", key),
                    "has no effect beside `address`",
                    "it is about the bundled registry: give one or the other",
                )
    addresses = {key: debian[key] for key in ("mirror", "security_mirror") if key in debian}
    if any(isinstance(value, Wrong) for value in (*addresses.values(), debian.get("snapshot"))):
        return
    mirror = addresses.get("mirror", "")
    if "security_mirror" not in debian and re.fullmatch(_NO_PATH, mirror):
        hint = (
            "it is the folder that holds `dists` and `pool`, such as …/debian; or name `security_mirror` too"
        )
        yield Finding(("debian", "mirror"), "has no path, so that `<mirror>-security` is another host", hint)
    marked = [key for key, address in addresses.items() if "{snapshot}" in address]
    if "snapshot" in debian and not marked:
        hint = "write {snapshot} where it belongs in `mirror`"
        yield Finding(("debian", "snapshot"), "has no effect", hint)
    if "snapshot" not in debian:
        for key in marked:
            yield Finding(("debian", key), "has {snapshot}, but there is no `snapshot`", "add the time stamp")


def _table(checked: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = checked.get(name, {})
    return value if isinstance(value, dict) else {}


def _tags(package: Mapping[str, Any]) -> Iterator[Finding]:
    tags, version = package.get("tags", ()), package.get("version")
    if isinstance(tags, tuple) and isinstance(version, str) and version in tags:
        at = ("package", "tags", tags.index(version))
        yield Finding(at, f'"{version}" is the version already', "take it out of `tags`")


def _models(models: Any) -> Iterator[Finding]:
    seen: dict[tuple[str, int], int] = {}
    spelled: dict[str, str] = {}
    for index, model in enumerate(models if isinstance(models, tuple) else ()):
        name, version = (
            (model.get("name"), model.get("version", 1)) if isinstance(model, dict) else (None, None)
        )
        if not isinstance(name, str) or not isinstance(version, int):
            continue
        first = seen.setdefault((name, version), index)
        if first != index:
            yield Finding(
                ("models", index),
                f'"{name}" version {version} is models[{first}] already',
                "give it another name or version",
            )
        other = spelled.setdefault(name.lower(), name)
        if other != name:
            # On disks that do not tell capitals, their folders and layers would be one.
            message = f'"{name}" and "{other}" differ by capitals only'
            yield Finding(("models", index, "name"), message, "give one of them another name")


def _entry(entry: Mapping[str, Any]) -> Iterator[Finding]:
    if "ignore" in entry and "source_directory" not in entry:
        hint = "only the script ships: add `source_directory`, or take `ignore` out"
        yield Finding(("entry", "ignore"), "has no effect without `source_directory`", hint)


def _environment(environment: Mapping[str, Any]) -> Iterator[Finding]:
    if "requirements" in environment and "conda" in environment:
        yield Finding(("environment", "conda"), "stands beside `requirements`", "give one of them, at most")
    variables = environment.get("variables")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if isinstance(value, str) and re.search(_PRIVATE_KEY, value):
            yield Finding(
                ("environment", "variables", name),
                "looks like a private key",
                "everyone who pulls the image reads its variables: mount the key where the container runs",
            )


def _server(checked: Mapping[str, Any]) -> Iterator[Finding]:
    server = checked.get("server", {})
    kind = WRONG if isinstance(server, Wrong) else server.get("kind", "mlpkg")
    if isinstance(kind, Wrong):
        return
    if kind == "custom":
        if "command" not in server:
            yield Finding(("server", "command"), 'missing: `kind = "custom"` runs a command of your own')
        for key in _NOT_CUSTOM:
            if key in server:
                yield Finding(
                    ("server", key), 'has no effect with `kind = "custom"`', "pass it in `command` instead"
                )
        return
    if kind == "azureml" and "max_body" in server:
        at = ("server", "max_body")
        yield Finding(
            at, 'has no effect with `kind = "azureml"`', "the original server takes bodies of any size"
        )
    yield from _server_variables(_table(_table(checked, "environment"), "variables"), kind)
    if "entry" not in checked:
        yield Finding(
            ("entry",),
            "missing: the server needs a script with `init()` and `run(data)`",
            'add [entry] with `script = "score.py"`',
        )
    for key in _ONLY_CUSTOM:
        if key in server:
            yield Finding(("server", key), 'belongs to `kind = "custom"` only', "take it out")


def _server_variables(variables: Mapping[str, Any], kind: Any) -> Iterator[Finding]:
    for name, key in _SERVER_VARIABLES.items():
        if name in variables:
            at = ("environment", "variables", name)
            yield Finding(at, f"is set from server.{key}", f"give server.{key} instead")
    given = {name: text for name, text in variables.items() if isinstance(text, str)}
    for name, why in problems(given).items() if kind == "mlpkg" else ():
        if name not in _SERVER_VARIABLES:
            # The value may be a secret that stands in the wrong place: it is not shown.
            yield Finding(("environment", "variables", name), f"the server cannot use this value: {why}")
