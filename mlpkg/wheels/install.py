"""Installs locked wheels for a target into a folder, the same on every machine. uv does the work."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mlpkg.errors import DigestMismatch, LockError, MlpkgError
from mlpkg.lockfile import Wheel
from mlpkg.store.files import incoming_folder
from mlpkg.wheels.installed import take_owners_files
from mlpkg.wheels.locked import requirements_text
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from mlpkg.wheels.uv import UvResult, run_uv


def install_wheels(
    wheels: Sequence[Wheel],
    tree: Path,
    *,
    target: Target,
    sources: WheelSources,
    notify: Callable[[str], None] | None = None,
) -> None:
    """Install locked wheels for `target` into the new folder `tree`, which appears when it is whole.

    Only wheels with the locked digests are taken; nothing of them is run. The tree is material for
    `mlpkg.wheels.entries`: it may share files with uv's cache, so nobody may change it.
    Where wheels hold different files under one path, the last by name wins and `notify` is told.
    Raises LockError, DigestMismatch, Unreachable, and MlpkgError when `tree` is already there.
    """
    if tree.exists():
        raise MlpkgError(f"{tree}: is already there")
    by_name = {wheel.name: wheel for wheel in wheels}
    with incoming_folder(tree.parent) as scratch:

        def install_alone(owner: str) -> Path:
            return _install([by_name[owner]], scratch / "alone" / owner, target, sources)

        made = _install(wheels, scratch / "all", target, sources)
        for text in take_owners_files(made, install_alone):
            if notify:
                notify(text)
        made.replace(tree)


def _install(wheels: Sequence[Wheel], folder: Path, target: Target, sources: WheelSources) -> Path:
    """The prefix below `folder`, a new one, with these wheels."""
    made = folder / "tree"
    made.mkdir(parents=True)
    if wheels:
        (folder / "requirements.txt").write_text(requirements_text(wheels), "utf-8")
        raise_for_install(run_uv(_arguments(target), folder=folder, sources=sources), target)
    return made


def _arguments(target: Target) -> list[str]:
    # --prefix, not --target: only there a wheel's data files stay apart from its packages.
    return [
        "pip", "install", "--prefix", "tree", "--requirements", "requirements.txt", "--quiet",
        "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile-bytecode", "--no-sources",
        "--link-mode", "clone" if sys.platform == "darwin" else "hardlink",
        "--python", sys.executable, *target.uv_arguments(),
    ]  # fmt: skip


def raise_for_install(result: UvResult, target: Target | str) -> None:
    """Raise what a failed installation of locked wheels means to the user."""
    if not result.code:
        return
    result.raise_for_service()
    if re.search(r"hash mismatch", result.reason, re.IGNORECASE):
        raise DigestMismatch(
            f"a wheel is not the one that was locked:\n{result.reason}",
            hint="the index or folder holds other bytes under the same name; if that is meant, run mlpkg lock",
        )
    raise LockError(
        f"the locked wheels cannot be installed for {target}:\n{result.reason}",
        hint="where the package sources no longer have a wheel, run mlpkg lock --upgrade",
    )
