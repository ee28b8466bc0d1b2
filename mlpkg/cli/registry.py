"""`mlpkg registry ACTION`: each action as an answer to print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlpkg.progress import note
from mlpkg.registry import bundled
from mlpkg.registry.care import Findings, collect_garbage
from mlpkg.registry.care import repair as remove_damaged
from mlpkg.registry.care import verify as find_damaged
from mlpkg.registry.login import command_line, log_in
from mlpkg.registry.own_image import BundledSource
from mlpkg.spec.model import WorkspaceSpec


@dataclass(frozen=True, slots=True)
class Answer:
    """What an action found: `value` for machines, `text` for people."""

    value: dict[str, Any]
    text: str
    exit_code: int = 0


def answer(action: str, settings: WorkspaceSpec) -> Answer:
    """Do one action. Raises MlpkgError and its kin."""
    return _ACTIONS[action](settings)


def _up(settings: WorkspaceSpec) -> Answer:
    endpoint = bundled.up(settings.registry, BundledSource(settings, note), notify=note)
    value = {"address": endpoint.address, "instance": endpoint.instance}
    return Answer(value, f"registry at {endpoint.address}")


def _down(settings: WorkspaceSpec) -> Answer:
    stopped = bundled.down(settings.registry)
    return Answer({"stopped": stopped}, "stopped; what it holds is kept" if stopped else "was not running")


def _status(settings: WorkspaceSpec) -> Answer:
    value = bundled.status(settings.registry).to_json()
    rows = [f"{key:<9} {cell}" for key, cell in value.items() if cell is not None]
    return Answer(value, "\n".join(rows))


def _credentials(settings: WorkspaceSpec) -> Answer:
    endpoint = bundled.credentials(settings.registry)
    login = endpoint.credentials
    assert login is not None  # noqa: S101 - else `credentials` raises
    line = command_line(endpoint.address, login)
    value = {
        "address": endpoint.address,
        "username": login.username,
        "password": login.password,
        "login": line,
    }
    return Answer(value, "\n".join(f"{key:<9} {cell}" for key, cell in value.items()))


def _login(settings: WorkspaceSpec) -> Answer:
    endpoint = bundled.credentials(settings.registry)
    assert endpoint.credentials is not None  # noqa: S101 - else `credentials` raises
    where = log_in(endpoint.address, endpoint.credentials)
    value = {"address": endpoint.address, "stored": where}
    return Answer(value, f"Docker knows the credentials of {endpoint.address} now: {where}")


def _gc(settings: WorkspaceSpec) -> Answer:
    done = collect_garbage(settings.registry, BundledSource(settings, note), notify=note)
    return Answer({"removed": done.removed, "freed": done.freed, "result": done.report}, str(done))


def _verify(settings: WorkspaceSpec) -> Answer:
    found = find_damaged(settings.registry, BundledSource(settings, note), notify=note)
    hint = "\n`mlpkg registry repair` removes what is damaged; `mlpkg push` then sends it again"
    return Answer(found.to_json(), str(found) + (hint if found.damages else ""), 1 if found.damages else 0)


def _repair(settings: WorkspaceSpec) -> Answer:
    found = remove_damaged(settings.registry, BundledSource(settings, note), notify=note)
    return Answer(found.to_json(), _repaired(found))


def _repaired(found: Findings) -> str:
    if not found.damages:
        return f"{found}; nothing to repair"
    return f"{found}\nremoved; `mlpkg push` sends it again"


_ACTIONS: dict[str, Callable[[WorkspaceSpec], Answer]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "credentials": _credentials,
    "login": _login,
    "gc": _gc,
    "verify": _verify,
    "repair": _repair,
}
