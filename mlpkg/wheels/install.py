"""Installs locked wheels for a target into a folder, the same on every machine. uv does the work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mlpkg.errors import DigestMismatch, LockError, MlpkgError
from mlpkg.layer import unpacked_limit
from mlpkg.lockfile import Wheel
from mlpkg.store.files import incoming_folder
from mlpkg.wheels.installed import read_installed, take_owners_files
from mlpkg.wheels.locked import requirements_text
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from mlpkg.wheels.uv import UvResult, run_uv

FILES_LIMIT = 400_000
"""Files of an environment. One with several frameworks for GPUs has about 60,000."""

DEPTH_LIMIT = 100
"""Folders in one another."""

_SHOWN = 5


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
    Raises LockError (also for wheels that unpack to more than `unpacked_limit` allows), DigestMismatch,
    Unreachable, and MlpkgError when `tree` is already there.
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
        limit = unpacked_limit(sum(wheel.size for wheel in wheels))
        # uv writes wheels that it downloads, too, and a file of its own about each.
        written = limit + sum(wheel.size for wheel in wheels)
        try:
            raise_for_install(
                run_uv(_arguments(target), folder=folder, sources=sources, written=written), target
            )
        finally:
            size, count, deep = _measured(made)
        if size > limit or count > FILES_LIMIT or deep:
            # uv may have unpacked them long ago, when nobody counted.
            raise LockError(
                f"the wheels unpack to more than {limit} bytes, {FILES_LIMIT} files or {DEPTH_LIMIT} folders in one another",
                hint="nothing of them was kept; remove the requirement that was added last",
            )
        _check_names(made, [wheel.name for wheel in wheels])
    return made


def _measured(tree: Path) -> tuple[int, int, bool]:
    """The bytes and the number of files below a folder, and whether folders were too deep.

    Those lie beside the others then: who removes the tree calls itself for each folder in another, and Python
    has an end to that.
    """
    size = count = deep = 0
    waiting = [(tree, 0)]
    while waiting:
        folder, depth = waiting.pop()
        if depth > DEPTH_LIMIT:
            deep += 1
            folder, depth = folder.rename(tree / f".deep-{deep}"), 1
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), depth + 1))
                else:
                    count += 1
                    size += entry.stat(follow_symlinks=False).st_size
    return size, count, bool(deep)


def _check_names(tree: Path, wanted: Sequence[str]) -> None:
    """Refuse distributions that were not asked for: a wheel's data may hold another's list of files."""
    installed = read_installed(tree)
    found = [item.name for item in installed.distributions] if installed else []
    if sorted(found) != sorted(wanted):
        odd = sorted({name for name in (*found, *wanted) if found.count(name) != wanted.count(name)})
        raise LockError(
            f"the wheels of {', '.join(wanted[:_SHOWN])} hold other packages than their names say: {', '.join(odd)}",
            hint="a wheel is broken or hostile: remove the requirement that was added last",
        )


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
