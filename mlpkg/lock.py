"""The choosing step: which Debian packages and which wheels, by hash. The only step that chooses.

A lock that fits is kept; one that does not fit moves only what must move. `upgrade` moves everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlpkg import debian, environment, formats
from mlpkg.lockfile import Deb, PackageLock, Wheel, from_text, to_text
from mlpkg.lockinputs import inputs_digest, needs_python, runtime_requirements, suite_of
from mlpkg.records import write_atomically
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.locked import requirements_text
from mlpkg.wheels.target import Target
from mlpkg.workspace import Package

Notify = Callable[[str], None]

ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64"}
"""Debian's name of each platform."""


def read_lock(package: Package) -> PackageLock | None:
    """The package's lock, or None where there is none that this version understands."""
    try:
        return from_text(package.lock_path.read_text())
    except (OSError, ValueError):
        return None


def fits(package: Package, lock: PackageLock | None) -> bool:
    """Whether the lock was made from today's inputs (its layers may still be of an older format)."""
    return lock is not None and lock.inputs == inputs_digest(package)


def make_lock(package: Package, *, upgrade: bool, notify: Notify) -> tuple[PackageLock, str]:
    """The package's lock, chosen where it must be, its layers in the cache; and what was done.

    Writes package.lock and requirements.lock only when they change.
    Raises LockError, Unreachable.
    """
    old = read_lock(package)
    if old and not upgrade and fits(package, old):
        if all(formats.is_current(layer.name, layer.format) for layer in old.layers):
            return old, "fits"
        chosen, done = old, "layers made anew (another layer format)"
    else:
        chosen, done = _choose(package, None if upgrade else old, notify), "chosen"
    lock = _with_layers(package, chosen, old, notify)
    if lock == old:
        return lock, "nothing newer"
    write_atomically(package.lock_path, to_text(lock).encode())
    if lock.wheels:
        write_atomically(package.requirements_lock_path, requirements_text(lock.wheels).encode())
    else:
        package.requirements_lock_path.unlink(missing_ok=True)
    return lock, done


def _choose(package: Package, old: PackageLock | None, notify: Notify) -> PackageLock:
    spec = package.spec
    suite, platform = suite_of(spec), spec.image.platforms[0]
    python = debian.python_version(suite) if needs_python(spec) else ""
    base, system = _choose_debs(package, old, notify)
    chosen: tuple[Wheel, ...] = ()
    if python:
        notify(f"choosing Python packages for {platform}, Python {python}")
        chosen = choose_wheels(
            environment.requirements_of(package),
            runtime=runtime_requirements(spec),
            target=Target(python, platform, debian.glibc_version(suite)),
            sources=environment.python_sources(package),
            previous=old.wheels if old else (),
        )
    return PackageLock(inputs_digest(package), suite, platform, python, base, system, chosen, ())


def _choose_debs(
    package: Package, old: PackageLock | None, notify: Notify
) -> tuple[tuple[Deb, ...], tuple[Deb, ...]]:
    """Base and system packages; those of the old lock where the same were asked for."""
    spec = package.spec
    suite, platform = suite_of(spec), spec.image.platforms[0]
    same_base = old and (old.suite, old.platform, bool(old.python)) == (suite, platform, needs_python(spec))
    wanted = set(spec.environment.debian)
    if (
        old
        and same_base
        and wanted <= {deb.name for deb in (*old.base, *old.system)}
        and bool(wanted) == bool(old.system)
    ):
        return old.base, old.system
    notify(f"choosing Debian packages of {suite} for {platform}")
    mirrors = debian.choose_mirrors(package.settings.debian, folder=package.root)
    index = debian.load_index(mirrors, suite, ARCHITECTURES[platform], environment.deb_cache())
    for missing in index.missing:
        notify(f"the mirror has no {missing}: security updates may be missing")
    base = (
        old.base
        if old and same_base
        else debian.resolve(index, debian.base_packages(suite, with_python=needs_python(spec)))
    )
    return base, debian.resolve(index, spec.environment.debian, present=base) if wanted else ()


def _with_layers(package: Package, lock: PackageLock, old: PackageLock | None, notify: Notify) -> PackageLock:
    """The lock with its layers; those whose contents and format did not move keep their digest unread."""
    kept = {
        layer.name: layer
        for layer in (old.layers if old else ())
        if old and formats.is_current(layer.name, layer.format) and _same_contents(layer.name, lock, old)
    }
    return replace(lock, layers=environment.make_layers(package, lock, kept, notify))


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
