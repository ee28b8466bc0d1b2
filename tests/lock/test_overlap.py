"""Locking waits for the mirror and for the package index at the same time, and cleans up when either fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlpkg.digest import sha256
from mlpkg.errors import LockError
from mlpkg.lock import choose, layers
from mlpkg.lock.layers import Making
from mlpkg.lockfile import Deb, PackageLock, Wheel
from mlpkg.spec import workspace
from mlpkg.spec.workspace import Package

DEB = Deb("libc6", "1", "amd64", "pool/libc6.deb", 1, sha256(b"deb"))
WHEEL = Wheel("alpha", "1.0", "alpha-1.0-py3-none-any.whl", 1, sha256(b"wheel"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setenv("MLPKG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "workspace" / "packages" / "a"
    folder.mkdir(parents=True)
    (tmp_path / "workspace" / "mlpkg.toml").write_text('[workspace]\npackages = ["packages/*"]\n')
    (folder / "package.toml").write_text(
        '[package]\nname = "a"\nversion = "1"\n[entry]\nscript = "s.py"\n'
        '[environment]\nrequirements = "requirements.txt"\n'
    )
    (folder / "s.py").write_text("")
    (folder / "requirements.txt").write_text("alpha\n")
    return workspace.load(tmp_path / "workspace").package("a")


def meet(monkeypatch: pytest.MonkeyPatch, first: tuple[Any, str, Any], second: tuple[Any, str, Any]) -> None:
    """Replace two functions by ones that give a value each, but only once both are called."""
    both = threading.Barrier(2, timeout=20)

    def waiting(value: Any) -> Any:
        def function(*_: object, **__: object) -> Any:
            both.wait()
            if isinstance(value, Exception):
                raise value
            return value

        return function

    for module, name, value in (first, second):
        monkeypatch.setattr(module, name, waiting(value))


def test_packages_of_both_kinds_are_chosen_at_once(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    meet(monkeypatch, (choose, "choose_wheels", (WHEEL,)), (choose, "_choose_debs", ((DEB,), ())))
    lock = choose._choose(package, None, sha256(b"inputs"), lambda _: None)
    assert (lock.base, lock.system, lock.wheels) == ((DEB,), (), (WHEEL,))


@pytest.mark.parametrize("failing", ["wheels", "debs", "both"])
def test_a_failure_of_either_is_told(package: Package, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    wheels = LockError("no wheel") if failing != "debs" else (WHEEL,)
    debs = LockError("no package") if failing != "wheels" else ((DEB,), ())
    meet(monkeypatch, (choose, "choose_wheels", wheels), (choose, "_choose_debs", debs))
    with pytest.raises(LockError, match="no wheel" if failing == "wheels" else "no package"):
        choose._choose(package, None, sha256(b"inputs"), lambda _: None)


def lock_of(package: Package) -> PackageLock:
    platform = package.spec.image.platforms[0]
    return PackageLock(sha256(b""), "trixie", platform, "3.13", (), (DEB,), (), (WHEEL,), ())


def test_wheels_are_installed_while_the_base_is_made(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: dict[str, list[object]] = {"alpha": []}
    meet(monkeypatch, (layers, "install_wheels", None), (layers, "_debian_layer", iter([b"base"])))
    monkeypatch.setattr("mlpkg.bytecode.is_native", lambda _: False)
    monkeypatch.setattr(layers, "environment_entries", lambda *_, **__: entries)
    made = layers.make_layers(Making(package, lock_of(package), lambda _: None), {})
    assert [layer.name for layer in made] == ["base", "wheels"]
    assert made[0].digest == sha256(b"base")


def test_nothing_stays_when_the_base_cannot_be_made(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meet(monkeypatch, (layers, "install_wheels", None), (layers, "_debian_layer", LockError("gone")))
    before = threading.active_count()
    with pytest.raises(LockError, match="gone"):
        layers.make_layers(Making(package, lock_of(package), lambda _: None), {})
    assert threading.active_count() == before
    assert list((tmp_path / "cache" / "environments").iterdir()) == []


def test_layers_that_are_known_install_nothing(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def base(*_: object) -> Iterator[bytes]:
        return iter([b"base"])

    said: list[str] = []
    monkeypatch.setattr(layers, "install_wheels", lambda *_, **__: None)
    monkeypatch.setattr(layers, "_debian_layer", base)
    monkeypatch.setattr("mlpkg.bytecode.is_native", lambda _: False)
    monkeypatch.setattr(layers, "environment_entries", lambda *_, **__: {"alpha": []})
    first = layers.make_layers(Making(package, lock_of(package), said.append), {})
    assert said == ["installing 1 Python packages for linux/amd64, Python 3.13"]
    assert layers.make_layers(Making(package, lock_of(package), said.append), {}) == first
    assert len(said) == 1
