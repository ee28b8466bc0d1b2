"""Shared by all tests: what a test needs from the machine, that CI does not silently go without it, and who runs what.

`pytest -n 2` gives whole files to its processes, the heavy ones first. So fixtures of a module are made once,
and tests of a file never run beside each other.
"""

from __future__ import annotations

import os
import shutil
import signal
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sharing import one_at_a_time, run_folder

HEAVY = (
    "tests/e2e/test_service.py",
    "tests/runtime/test_startup.py",
    "tests/e2e/test_truth.py",
    "tests/e2e/test_incremental.py",
    "tests/e2e/test_servers.py",
    "tests/e2e/test_bad_input.py",
    "tests/runtime/test_contract.py",
    "tests/registry/",
    "tests/runtime/test_orchestrator.py",
    "tests/debian/test_real.py",
    "tests/runtime/",
    "tests/wheels/",
    "tests/bytecode/",
    "tests/service/",
)
"""What takes longest comes first, so that no process is left alone with it at the end. The second is not of
tests/e2e: the first makes what all of that folder share."""

TOGETHER = ("tests/registry/",)
"""Folders whose files stay in one process: they load and remove one and the same image."""


def unit(nodeid: str) -> str:
    """What a test is given away with: its file, or the folder that stays together."""
    file = nodeid.split("::", 1)[0]
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How `pytest -n` distributes the tests, whatever ``--dist`` says."""
    from xdist.scheduler import LoadFileScheduling

    # In the order of the tests (see below), not by their number.
    config.option.loadscopereorder = False
    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = unit
    return scheduler


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C; the tests send it to what they start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """A process of `pytest -n` counts what it leaves out …"""
    if items and hasattr(items[0].config, "workeroutput"):
        said = items[0].config.workeroutput
        said["deselected"] = said.get("deselected", 0) + len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """… and the closing line tells it (all processes leave out the same): pytest-xdist would not."""
    stats = node.config.pluginmanager.get_plugin("terminalreporter").stats
    stats["deselected"] = [SimpleNamespace()] * getattr(node, "workeroutput", {}).get("deselected", 0)


@cache
def lacking(need: str) -> str | None:
    """Why the machine cannot serve a need, or None."""
    if need == "docker":
        from mlpkg import engine

        return engine.available()
    return None if shutil.which(need) else f"the program {need} is not installed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests come with the marker `docker` when they use the engine: skipped where there is none, but not in CI."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_weight)
    for item in items:
        if item.get_closest_marker("docker") is None:
            continue
        reason = lacking("docker")
        if reason and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=f"no Docker engine: {reason}"))


def _weight(item: pytest.Item) -> int:
    return next((place for place, name in enumerate(HEAVY) if item.nodeid.startswith(name)), len(HEAVY))


@pytest.fixture(scope="session")
def registry_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real registry: this machine's `docker-registry`, else the one that mlpkg takes out of Debian's package."""
    found = shutil.which("docker-registry")
    if found:
        return Path(found)
    from mlpkg.registry.own_image import BundledSource
    from mlpkg.spec.model import WorkspaceSpec

    state = run_folder(tmp_path_factory) / "registry-program"
    with one_at_a_time(state), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPKG_STATE_HOME", str(state))
        return BundledSource(WorkspaceSpec(), lambda _: None).binary()
