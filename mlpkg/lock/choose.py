"""The choosing step: which Debian packages and which wheels, by hash. The only step that chooses.

A lock that fits is kept; one that does not fit moves only what must move. `upgrade` moves everything.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlpkg import debian, formats
from mlpkg.digest import Digest
from mlpkg.errors import ChangedInput, LockError, MlpkgError
from mlpkg.lock import layers, materials
from mlpkg.lock.inputs import inputs_digest, needs_python, runtime_requirements, suite_of
from mlpkg.lock.layers import Kept, Making
from mlpkg.lockfile import Deb, PackageLock, from_text, to_text
from mlpkg.platforms import PLATFORMS
from mlpkg.progress import Notify
from mlpkg.spec.workspace import Package
from mlpkg.store.files import write_atomically
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.locked import requirements_text
from mlpkg.wheels.target import Target


def read_lock(package: Package) -> PackageLock | None:
    """The package's lock, or None where there is none. Raises LockError for one that cannot be read.

    A lock is never silently replaced: that would move what it holds in place.
    """
    try:
        return from_text(package.lock_path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LockError(
            f"{package.relative(package.lock_path)}: cannot be read: {error}",
            hint=f"resolve a merge conflict in it, or choose anew: `mlpkg lock --upgrade {package.name}`",
        ) from error


def current_lock(package: Package) -> PackageLock:
    """The package's lock. Raises MlpkgError where there is none, LockError where it cannot be read."""
    lock = read_lock(package)
    if lock is None:
        raise MlpkgError(f"{package.shown}: no lock yet", hint=f"run `mlpkg lock {package.name}`")
    return lock


def make_lock(
    package: Package, *, upgrade: bool, notify: Notify, kept: Kept | None = None
) -> tuple[PackageLock, str]:
    """The package's lock, chosen where it must be, its layers in the cache; and what was done.

    `kept` reads layers that this machine's cache lacks and a registry may have. Writes package.lock and requirements.lock only where they change.
    Raises LockError, Unreachable, and ChangedInput when a requirements file changes meanwhile.
    """
    inputs = inputs_digest(package)
    old = None if upgrade else read_lock(package)
    if (
        old
        and old.inputs == inputs
        and all(formats.is_current(layer.name, layer.format) for layer in old.layers)
    ):
        lock, done = old, "fits"
    else:
        fits = old is not None and old.inputs == inputs
        chosen = old if old and fits else _choose(package, old, inputs, notify)
        done = "layers made anew (another layer format)" if fits else "chosen"
        lock = _with_layers(Making(package, chosen, notify, kept), old)
    if inputs_digest(package) != inputs:
        raise ChangedInput(
            f"{package.shown}: the requirements changed while they were locked", hint="run it again"
        )
    _write(package.requirements_lock_path, requirements_text(lock.wheels) if lock.wheels else "")
    _write(package.lock_path, to_text(lock))
    return lock, done


def _write(path: Path, text: str) -> None:
    """Make a file's text so; an empty one is no file. An equal file stays untouched."""
    try:
        if path.read_text() == text:
            return
    except (OSError, ValueError):
        pass
    if text:
        write_atomically(path, text.encode())
    else:
        path.unlink(missing_ok=True)


def _choose(package: Package, old: PackageLock | None, inputs: Digest, notify: Notify) -> PackageLock:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - a run with nothing to do needs none

    spec = package.spec
    suite, platform = suite_of(spec), spec.image.platforms[0]
    python = debian.python_version(suite) if needs_python(spec) else ""
    # uv waits for its index and this process for the mirror: neither needs what the other finds.
    with ThreadPoolExecutor(1) as pool:
        chosen = None
        if python:
            notify(f"choosing Python packages for {platform}, Python {python}")
            chosen = pool.submit(
                choose_wheels,
                materials.requirements_of(package),
                runtime=runtime_requirements(package),
                target=Target(python, platform, debian.glibc_version(suite)),
                sources=materials.python_sources(package),
                previous=old.wheels if old else (),
            )
        base, system = _choose_debs(package, old, notify)
        wheels = chosen.result() if chosen else ()
    asked = tuple(sorted(spec.environment.debian))
    return PackageLock(inputs, suite, platform, python, asked, base, system, wheels, ())


def _choose_debs(
    package: Package, old: PackageLock | None, notify: Notify
) -> tuple[tuple[Deb, ...], tuple[Deb, ...]]:
    """Base and system packages; those of the old lock where the same were asked for."""
    spec = package.spec
    suite, platform = suite_of(spec), spec.image.platforms[0]
    same_base = old and (old.suite, old.platform, bool(old.python)) == (suite, platform, needs_python(spec))
    wanted = tuple(sorted(spec.environment.debian))
    if old and same_base and wanted == old.debian:
        return old.base, old.system
    notify(f"choosing Debian packages of {suite} for {platform}")
    mirrors = debian.choose_mirrors(package.settings.debian, folder=package.root)
    index = debian.load_index(mirrors, suite, PLATFORMS[platform].debian, materials.deb_cache())
    for missing in index.missing:
        notify(f"the mirror has no {missing}: security updates may be missing")
    base = (
        old.base
        if old and same_base
        else debian.resolve(index, debian.base_packages(suite, with_python=needs_python(spec)))
    )
    return base, debian.resolve(index, spec.environment.debian, present=base) if wanted else ()


def _with_layers(making: Making, old: PackageLock | None) -> PackageLock:
    """The lock with its layers; those whose contents and format did not move keep their digest unread."""
    lock = making.lock
    same = {
        layer.name: layer
        for layer in (old.layers if old else ())
        if old and formats.is_current(layer.name, layer.format) and _same_contents(layer.name, lock, old)
    }
    return replace(lock, layers=layers.make_layers(making, same))


def _same_contents(name: str, new: PackageLock, old: PackageLock) -> bool:
    if new.suite != old.suite or new.platform != old.platform:
        return False
    if name == "base":
        return new.base == old.base
    if name == "system":
        return new.system == old.system
    if name == "bytecode":
        return (new.base, new.system) == (old.base, old.system)
    # Compiled packages are those of one exact Python, which the base holds.
    return (new.wheels, new.python, new.base) == (old.wheels, old.python, old.base)
