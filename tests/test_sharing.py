"""What lets several processes run tests at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import unit
from tests.ports import free_port
from tests.sharing import one_at_a_time

ROOT = Path(__file__).parents[1]


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_are_never_given_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 ports, and nobody listens at any: each of two processes takes 15."""
    monkeypatch.setattr("tests.ports.HIGHEST", 15_040)
    code = "import tests.ports as p; p.HIGHEST = 15_040; print(*(p.free_port() for _ in range(15)), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        ours = {free_port() for _ in range(15)}
        other.communicate("\n", timeout=30)
    assert len(theirs) == len(ours) == 15
    assert not ours & theirs


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "made"
    code = (
        f"from pathlib import Path; from tests.sharing import one_at_a_time; path = Path({str(path)!r})\n"
        "print('here', flush=True)\nwith one_at_a_time(path): print(path.read_text())"
    )
    with one_at_a_time(path):
        other = python(code)
        assert other.stdout is not None
        assert other.stdout.readline() == "here\n"
        path.write_text("whole")
    assert other.communicate(timeout=30)[0] == "whole\n"


def test_a_file_is_a_unit_and_some_folders_are() -> None:
    assert unit("tests/plan/test_plan.py::test_a[x::y]") == "tests/plan/test_plan.py"
    assert unit("tests/registry/test_pull.py::test_a") == unit("tests/registry/test_garbage.py::test_b")


def test_what_is_left_out_is_told_with_several_processes_too(tmp_path: Path) -> None:
    """Deselected, not skipped and not silent."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-q", "-m", "long", "-p", "no:cacheprovider", __file__],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 5, done.stdout + done.stderr
    assert "4 deselected" in done.stdout.splitlines()[-1]
