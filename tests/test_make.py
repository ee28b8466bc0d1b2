"""The Makefile's way to its virtual environment: by hash, with uv, from where pip takes packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.wheels.wheelhouse import FOREIGN_SETTINGS, make_wheel

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"^([a-z0-9][\w.-]*)==(\S+)", re.MULTILINE)


def install(folder: Path, requirements: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the Makefile's script in a new virtual environment below `folder`, which holds uv and tomli alone."""
    import uv

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    for name in ("tomli", "uv"):
        held = distribution(name)
        # A compiled module may bring a file beside its package.
        for top in {file.parts[0] for file in held.files or () if file.parts[0] != ".."}:
            (site / top).symlink_to(Path(str(held.locate_file(top))))
    (folder / "venv/bin/uv").symlink_to(uv.find_uv_bin())
    (folder / "requirements.txt").write_text(requirements)
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN_SETTINGS}
    return subprocess.run(
        [folder / "venv/bin/python", ROOT / ".ci/install.py", folder / "requirements.txt"],
        env={**kept, "HOME": str(folder), "UV_CACHE_DIR": str(folder / "cache"), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def locked(tmp_path: Path) -> tuple[Path, str]:
    """A folder with one wheel, and the line that pins it."""
    from mlpkg.digest import sha256

    wheel = make_wheel(tmp_path / "wheels", "alpha")
    return wheel.parent, f"alpha==1.0 --hash={sha256(wheel.read_bytes())}\n"


def has_alpha(folder: Path) -> bool:
    return any(folder.glob("venv/lib/python*/site-packages/alpha/__init__.py"))


def test_uv_takes_packages_from_where_pip_is_told_to(tmp_path: Path, locked: tuple[Path, str]) -> None:
    """Nothing of mlpkg's dependencies is there yet."""
    done = install(tmp_path, locked[1], {"PIP_FIND_LINKS": str(locked[0]), "PIP_NO_INDEX": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert has_alpha(tmp_path)


@pytest.mark.long
def test_pip_tries_where_uv_fails(tmp_path: Path, locked: tuple[Path, str]) -> None:
    """Told of an index of its own that does not answer, uv gives up; pip has its folder."""
    environ = {"PIP_FIND_LINKS": str(locked[0]), "PIP_NO_INDEX": "1", "UV_HTTP_RETRIES": "0"}
    done = install(tmp_path, locked[1], {**environ, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple/"})
    assert done.returncode == 0, done.stderr
    assert "pip tries" in done.stderr
    assert has_alpha(tmp_path)


@pytest.mark.long
def test_another_wheel_than_the_pinned_one_is_refused(tmp_path: Path, locked: tuple[Path, str]) -> None:
    make_wheel(locked[0], "alpha", files={"alpha/more.py": b""})
    done = install(tmp_path, locked[1], {"PIP_FIND_LINKS": str(locked[0]), "PIP_NO_INDEX": "1"})
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    assert not has_alpha(tmp_path)


def test_both_files_pin_the_same_and_the_demo_gets_no_test_tools() -> None:
    plain, dev = (
        dict(PINNED.findall((ROOT / name).read_text()))
        for name in ("requirements.txt", "requirements-dev.txt")
    )
    assert plain.items() <= dev.items()
    assert not plain.keys() & {"pytest", "mypy", "ruff", "hypothesis"}
    assert {"uv", "tomli"} <= plain.keys(), "the Makefile takes these two out and has pip install them"
