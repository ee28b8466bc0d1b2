"""A package that holds files at the place of the image's server is refused by name, whoever asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpkg.digest import sha256
from mlpkg.errors import LockError, MlpkgError
from mlpkg.lock import layers
from mlpkg.lock.layers import Making
from mlpkg.lockfile import PackageLock
from mlpkg.spec import workspace
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.requirements import read_requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from tests.wheels.conftest import _private_uv
from tests.wheels.wheelhouse import make_wheel

__all__ = ["_private_uv"]

TARGET = Target("3.13", "linux/amd64", "2.41")


@pytest.fixture
def making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    """A package that requires the wheel `guest` of a folder, and the lock of that wheel."""
    monkeypatch.setenv("MLPKG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("mlpkg.bytecode.is_native", lambda _: False)
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "mlpkg.toml").write_text('[python]\nindex = ""\nfind_links = ["wheels"]\n')
    (root / "wheels").mkdir()
    (root / "package.toml").write_text(
        '[package]\nname = "a"\n[entry]\nscript = "s.py"\n[environment]\nrequirements = "r.txt"\n'
    )
    (root / "s.py").touch()
    (root / "r.txt").write_text("guest\n")
    (package,) = workspace.load(root).packages
    lock = PackageLock(sha256(b""), "trixie", "linux/amd64", "3.13", (), (), (), (), ())
    return Making(package, lock, lambda _: None)


def locked(making: Making) -> Making:
    sources = WheelSources(index="", find_links=(str(making.package.root / "wheels"),))
    requirements = read_requirements(making.package.folder / "r.txt", folder=making.package.folder)
    wheels = choose_wheels(requirements, runtime=(), target=TARGET, sources=sources, previous=())
    lock = PackageLock(sha256(b""), "trixie", "linux/amd64", "3.13", (), (), (), wheels, ())
    return Making(making.package, lock, making.notify)


@pytest.mark.parametrize(
    "place",
    [
        "mlpkg/__init__.py",
        "mlpkg/runtime/worker.py",
        "mlpkg.py",
        "mlpkg.cpython-313-x86_64-linux-gnu.so",
        "guest-1.0.data/purelib/mlpkg/runtime/new.py",
    ],
)
def test_a_wheel_at_the_servers_place_is_refused(making: Making, place: str) -> None:
    make_wheel(making.package.root / "wheels", "guest", files={place: b"raise SystemExit\n"})
    with pytest.raises(LockError, match=r"Python package guest holds /\S*mlpkg\S*, which is the place"):
        layers.make_layers(locked(making), {})


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_a_wheels_data_reaches_it_neither(making: Making, folder: str) -> None:
    place = f"guest-1.0.data/data/lib/python3.13/{folder}/mlpkg/x.py"
    make_wheel(making.package.root / "wheels", "guest", files={place: b"raise SystemExit\n"})
    with pytest.raises(MlpkgError):
        layers.make_layers(locked(making), {})


def test_a_wheel_whose_name_only_looks_like_it_is_not(making: Making) -> None:
    make_wheel(
        making.package.root / "wheels", "guest", files={"mlpkg_tools/__init__.py": b"", "guest/mlpkg.py": b""}
    )
    assert [layer.name for layer in layers.make_layers(locked(making), {})] == ["wheels"]


def test_compiled_files_of_a_wheel_never_reach_an_image(making: Making) -> None:
    place = "mlpkg/runtime/__pycache__/worker.cpython-313.pyc"
    make_wheel(making.package.root / "wheels", "guest", files={place: b"unchecked"})
    (layer,) = layers.make_layers(locked(making), {})
    assert b"unchecked" not in layers.blobs().path(layer.digest).read_bytes()
