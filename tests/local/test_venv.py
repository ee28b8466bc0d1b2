from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.errors import LockError
from mlpkg.local import venv
from mlpkg.local.venv import LockedEnvironment, host_environment
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.requirements import read_requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from tests.wheels.wheelhouse import make_wheel

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINE = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(platform.machine(), "linux/amd64")
LIKE_HERE = Target(RUNNING, MACHINE, "2.36")
UNKNOWN_PYTHON = Target("3.99", MACHINE, "2.36")


def locked(
    sources: WheelSources, target: Target, *lines: str, runtime: tuple[str, ...] = ()
) -> LockedEnvironment:
    requirements = read_requirements(lines, folder=Path("/nonexistent"))
    wheels = choose_wheels(requirements, runtime=runtime, target=target, sources=sources)
    return LockedEnvironment(wheels, requirements, runtime, target)


def run(python: Path, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def test_the_locked_wheels_themselves_where_they_fit(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    make_wheel(house, "alpha", scripts={"alpha-run": "alpha:version.upper"})
    said: list[str] = []
    environment = locked(sources, LIKE_HERE, "alpha")
    python = host_environment(environment, tmp_path / "p", sources=sources, notice=said.append)
    assert python == tmp_path / "p" / "venv" / "bin" / "python"
    assert (
        run(python, "import alpha, sys; print(alpha.version, sys.prefix)") == f"1.0 {tmp_path / 'p' / 'venv'}"
    )
    assert environment.wheels[0].digest in (tmp_path / "p" / "venv.lock").read_text()
    script = subprocess.run(
        [python.parent / "alpha-run"], capture_output=True, text=True, timeout=30, check=False
    )
    assert script.stderr.strip() == "1.0"
    assert said == []
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["venv", "venv.lock"]


def test_it_is_made_anew_only_when_an_input_changed(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    make_wheel(house, "alpha")
    make_wheel(house, "beta")
    environment = locked(sources, LIKE_HERE, "alpha")
    first = host_environment(environment, tmp_path, sources=sources, notice=pytest.fail).parent.stat().st_ino
    again = host_environment(environment, tmp_path, sources=sources, notice=pytest.fail).parent.stat().st_ino
    assert again == first
    other = host_environment(
        locked(sources, LIKE_HERE, "beta"), tmp_path, sources=sources, notice=pytest.fail
    )
    assert other.parent.stat().st_ino != first
    found = "import importlib.util as u; print(u.find_spec('alpha'), u.find_spec('beta') is not None)"
    assert run(other, found) == "None True"


@pytest.mark.parametrize("torn", ["mlpkg.json", "bin/python"])
def test_a_torn_environment_is_made_anew(
    house: Path, sources: WheelSources, tmp_path: Path, torn: str
) -> None:
    make_wheel(house, "alpha")
    environment = locked(sources, LIKE_HERE, "alpha")
    host_environment(environment, tmp_path, sources=sources, notice=pytest.fail)
    (tmp_path / "venv" / torn).unlink()
    python = host_environment(environment, tmp_path, sources=sources, notice=pytest.fail)
    assert run(python, "import alpha; print(alpha.version)") == "1.0"
    assert (tmp_path / "venv" / torn).exists()


def test_another_python_gets_the_locked_versions_and_a_notice(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    here = f"cp{RUNNING.replace('.', '')}"
    platform_tag = f"manylinux_2_17_{platform.machine()}"
    make_wheel(house, "alpha", "1.0", tag=f"cp399-cp399-{platform_tag}", requires=["beta"])
    make_wheel(house, "alpha", "1.0", tag=f"{here}-{here}-{platform_tag}", requires=["beta"])
    make_wheel(house, "beta", "1.0")
    make_wheel(house, "server", "1.0")
    environment = locked(sources, UNKNOWN_PYTHON, "alpha", runtime=("server",))
    make_wheel(house, "beta", "2.0")
    said: list[str] = []
    python = host_environment(environment, tmp_path, sources=sources, notice=said.append)
    assert run(python, "import alpha, beta, server; print(alpha.version, beta.version)") == "1.0 1.0"
    assert said == [f"the image has Python 3.99; here the locked versions run on Python {RUNNING}"]
    assert (tmp_path / "venv.lock").read_text().count("--hash=sha256:") >= 3


def test_without_a_fitting_python_the_old_environment_stays(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    make_wheel(house, "alpha", "1.0")
    old = host_environment(locked(sources, LIKE_HERE, "alpha"), tmp_path, sources=sources, notice=pytest.fail)
    make_wheel(house, "newer", tag=f"cp399-cp399-manylinux_2_17_{platform.machine()}")
    with pytest.raises(LockError, match="no Python on this machine can have the locked versions") as caught:
        host_environment(
            locked(sources, UNKNOWN_PYTHON, "newer"), tmp_path, sources=sources, notice=pytest.fail
        )
    assert "install Python 3.99" in caught.value.hint
    assert f"with Python {RUNNING}:" in caught.value.message
    assert run(old, "import alpha; print(alpha.version)") == "1.0"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("venv", ".mlpkg"))) == [
        "venv",
        "venv.lock",
    ]


def test_an_environment_without_wheels(sources: WheelSources, tmp_path: Path) -> None:
    python = host_environment(locked(sources, LIKE_HERE), tmp_path, sources=sources, notice=pytest.fail)
    assert run(python, "print(1)") == "1"


def test_a_locked_file_that_changed_is_refused(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    make_wheel(house, "alpha")
    environment = locked(sources, LIKE_HERE, "alpha")
    wheel = replace(environment.wheels[0], digest=environment.wheels[0].digest[:-4] + "0000")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="not the one that was locked"):
        host_environment(replace(environment, wheels=(wheel,)), tmp_path, sources=sources, notice=pytest.fail)
    assert not (tmp_path / "venv").exists()


def test_of_different_files_the_last_name_wins_here_too(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        make_wheel(
            house,
            name,
            files={"shared.py": f"who = {name!r}\n".encode()},
            scripts={"run": f"{name}:version.upper"},
        )
    for target, place in ((LIKE_HERE, "like"), (UNKNOWN_PYTHON, "unlike")):
        said: list[str] = []
        environment = locked(sources, target, "one", "two", "three")
        python = host_environment(environment, tmp_path / place, sources=sources, notice=said.append)
        assert run(python, "import shared; print(shared.who)") == "two"
        assert "from two import" in (python.parent / "run").read_text()
        assert (
            subprocess.run([python.parent / "run"], timeout=30, check=False, capture_output=True).returncode
            == 1
        )
        assert said[-1] == (
            "one, three and two hold different files of one name, two's are used: bin/run, shared.py"
        )


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a shim makes when it is run; the shims come first on the PATH."""
    made = tmp_path / "shim-was-run"
    shims = tmp_path / "pyenv" / "shims"
    shims.mkdir(parents=True)
    for name in ("python", "python3", f"python{RUNNING}", "python3.13", "python3.99"):
        (shims / name).write_text(f"#!/bin/sh\ntouch {made}\nexit 127\n")
        (shims / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return made


def test_shims_are_not_run(house: Path, sources: WheelSources, tmp_path: Path, trap: Path) -> None:
    make_wheel(house, "alpha")
    environment = locked(sources, UNKNOWN_PYTHON, "alpha")
    said: list[str] = []
    python = host_environment(environment, tmp_path / "p", sources=sources, notice=said.append)
    assert run(python, "import alpha; print(alpha.version)") == "1.0"
    assert not trap.exists()


@pytest.mark.usefixtures("trap")
def test_pythons_of_pyenv_are_seen(tmp_path: Path) -> None:
    for version in ("3.6.1", "3.9.2", "3.99.1", "3.99.12", "3.10.0", "3.12-dev", "pypy3.10"):
        program = tmp_path / "pyenv" / "versions" / version / "bin" / "python3"
        program.parent.mkdir(parents=True)
        program.touch()
    versions = tmp_path / "pyenv" / "versions"
    found = venv._pyenv_versions()
    assert [(item.version, item.path) for item in found] == [
        ("3.99", str(versions / "3.99.12/bin/python3")),
        ("3.99", str(versions / "3.99.1/bin/python3")),
        ("3.10", str(versions / "3.10.0/bin/python3")),
        ("3.9", str(versions / "3.9.2/bin/python3")),
    ]
    wanted = next(iter(venv._interpreters("3.99", tmp_path, WheelSources())))
    assert wanted == found[0]
