"""How the server ends, and with which code."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .serving import Launch, serving, wait_for_exit

ECHO = "def init(): pass\ndef run(data): return data\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_decides_the_exit_code(number: int, code: int, launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(ECHO)
    with serving(launch, "ours", "score.py") as server:
        assert server.stop(number) == code
    assert "Traceback" not in server.text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_before_the_server_listens(number: int, code: int, launch: Launch, tmp_path: Path) -> None:
    """While init works: the settings are said, so the process is past its first imports."""
    (tmp_path / "score.py").write_text(
        "import time\ndef init(): time.sleep(60)\ndef run(data): return data\n"
    )
    server = launch.start("ours", "score.py")
    patience = time.monotonic() + 30
    while "Server Routes" not in server.text and time.monotonic() < patience:
        time.sleep(0.01)
    assert server.stop(number) == code
    assert "Traceback" not in server.text


def test_a_script_that_does_not_exist_is_a_wrong_command_line(launch: Launch) -> None:
    server = launch.start("ours", "nothere.py")
    assert wait_for_exit(server) == 2
    assert server.text.endswith("error: nothere.py: no such file\n")


def test_a_script_that_the_environment_names_ends_as_with_azure(launch: Launch, tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(launch.root),
        "AML_APP_ROOT": str(tmp_path),
        "AZUREML_ENTRY_SCRIPT": "nothere.py",
        "MLPKG_HOST": "127.0.0.1",
        "MLPKG_PORT": "0",
    }
    command = [str(launch.python), "-m", "mlpkg.runtime"]
    environ["MLPKG_PORT"] = "5999"
    ran = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 3
    assert "No such file or directory" in ran.stdout


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon"])
def test_a_timeout_that_is_no_number_of_seconds(seconds: str, launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(ECHO)
    server = launch.start("ours", "score.py", [f"--timeout={seconds}"])
    assert wait_for_exit(server) == 2
    assert "argument --timeout: invalid seconds value" in server.text
    assert "Traceback" not in server.text
