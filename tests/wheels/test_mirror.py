"""With the machine's own package index and real wheels."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mlpkg.layer import Entry, tar_stream
from mlpkg.local.venv import LockedEnvironment, host_environment
from mlpkg.spec.model import PythonTable
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.entries import environment_entries
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.locked import heavy, requirements_text
from mlpkg.wheels.requirements import read_requirements
from mlpkg.wheels.sources import wheel_sources
from mlpkg.wheels.target import Target

pytestmark = pytest.mark.mirror

NOTHING = read_requirements(None, folder=Path("/nonexistent"))


def digests(entries: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, rows in entries.items():
        state = hashlib.sha256()
        for piece in tar_stream(rows):
            state.update(piece)
        found[name] = state.hexdigest()
    return found


@pytest.mark.parametrize(
    ("target", "tag"),
    [
        (Target("3.13", "linux/amd64", "2.41"), "cp313-cp313-manylinux"),
        (Target("3.11", "linux/amd64", "2.36"), "cp311-cp311-manylinux"),
        (Target("3.13", "linux/arm64", "2.41"), "cp313-cp313-manylinux"),
    ],
)
@pytest.mark.long
def test_a_real_environment_is_the_same_wherever_it_is_made(tmp_path: Path, target: Target, tag: str) -> None:
    sources = wheel_sources(PythonTable(), NOTHING, folder=tmp_path)
    requirements = read_requirements(["scikit-learn", "tqdm"], folder=tmp_path)
    wheels = choose_wheels(requirements, target=target, sources=sources)
    assert choose_wheels(requirements, target=target, sources=sources, previous=wheels) == wheels
    numpy = next(wheel for wheel in wheels if wheel.name == "numpy")
    assert tag in numpy.filename
    assert any(heavy(wheel) for wheel in wheels)
    assert "://" not in requirements_text(wheels)
    found = []
    for place in (tmp_path / "one" / "tree", tmp_path / "other place" / "tree"):
        install_wheels(wheels, place, target=target, sources=sources)
        found.append(environment_entries(place, python=target.python))
    assert list(found[0]) == [wheel.name for wheel in wheels]
    assert digests(found[0]) == digests(found[1])
    for rows in found[0].values():
        for piece in tar_stream(row for row in rows if row.path.startswith("usr/local/bin/")):
            assert sys.prefix.encode() not in piece


_MEASURED = """
import pathlib, sys
from mlpkg.layer import tar_stream
from mlpkg.wheels.requirements import read_requirements
from mlpkg.spec.model import PythonTable
from mlpkg.wheels.entries import environment_entries
from mlpkg.wheels.sources import wheel_sources
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.target import Target
folder = pathlib.Path(sys.argv[1])
requirements = read_requirements(["scikit-learn"], folder=folder)
sources = wheel_sources(PythonTable(), requirements, folder=folder)
target = Target("3.13", "linux/amd64", "2.41")
wheels = choose_wheels(requirements, target=target, sources=sources)
install_wheels(wheels, folder / "tree", target=target, sources=sources)
entries = environment_entries(folder / "tree", python="3.13")
size = sum(len(piece) for rows in entries.values() for piece in tar_stream(rows))
status = pathlib.Path("/proc/self/status").read_text()
print(size, status.split("VmHWM:")[1].split()[0])
"""


def test_memory_stays_small(tmp_path: Path) -> None:
    """About 200 MB of files pass through; the process holds a fraction. ru_maxrss would count pytest's, across exec."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, tmp_path], capture_output=True, text=True, timeout=300, check=True
    )
    size, peak = (int(word) for word in done.stdout.split())
    assert size > 100_000_000
    assert peak * 1024 < 80_000_000


@pytest.mark.long
def test_a_real_environment_of_this_machine(tmp_path: Path) -> None:
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = Target(running, "linux/amd64", "2.36")
    requirements = read_requirements(["scikit-learn"], folder=tmp_path)
    sources = wheel_sources(PythonTable(), requirements, folder=tmp_path)
    wheels = choose_wheels(requirements, target=target, sources=sources)
    locked = LockedEnvironment(wheels, requirements, (), target)
    python = host_environment(locked, tmp_path, sources=sources, notice=pytest.fail)
    code = (
        "from sklearn.linear_model import Ridge; print(Ridge().fit([[0], [1]], [0, 1]).predict([[2]]).shape)"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "(1,)"
