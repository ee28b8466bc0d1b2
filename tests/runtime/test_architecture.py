"""What the runtime may depend on, and on which Pythons it runs."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from mlpkg.runtime import settings
from mlpkg.runtime.requirements import RAWHTTP, REQUIREMENTS

from .serving import Launch, serving

RUNTIME = Path(__file__).parents[2] / "mlpkg" / "runtime"
MODULES = sorted(RUNTIME.glob("*.py"))
THIRD_PARTY = {
    "azureml.py": {"werkzeug"},
    "heads.py": {"httptools"},
    "request.py": {"werkzeug"},
    "response.py": {"werkzeug"},
    "script.py": {"inference_schema"},
    "swagger.py": {"inference_schema"},
    "worker.py": {"debugpy"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_imports_nothing_else_of_mlpkg(path: Path) -> None:
    names = imported(path)
    ours = {name for name in names if name.partition(".")[0] == "mlpkg"}
    assert all(name == "mlpkg.runtime" or name.startswith("mlpkg.runtime.") for name in ours)
    others = {name.partition(".")[0] for name in names} - {"mlpkg"} - sys.stdlib_module_names
    assert others <= THIRD_PARTY.get(path.name, set())


def inner_imports(path: Path) -> set[str]:
    """The modules of the runtime that a module imports, at its top, within functions or for its types only."""
    prefix = "mlpkg.runtime."
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.removeprefix(prefix) for alias in node.names if prefix in alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module == prefix[:-1]:
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix):
            found.add((node.module or "").removeprefix(prefix))
    return found


def test_no_circles() -> None:
    """No module imports itself by way of others, imports for types included."""
    imports = {path.stem: inner_imports(path) for path in MODULES}
    left = {name: names & imports.keys() for name, names in imports.items()}
    while free := [name for name, names in left.items() if not names & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_requirements_are_few_and_wide() -> None:
    assert REQUIREMENTS == ("httptools>=0.5",)
    assert RAWHTTP == ("werkzeug>=2.2.3",)


def test_probe_imports_little() -> None:
    assert imported(RUNTIME / "probe.py") <= {"os", "socket", "sys"}


def test_every_variable_is_documented() -> None:
    text = (RUNTIME.parents[1] / "docs" / "scoring-contract.md").read_text()
    assert [name for name in settings.VARIABLES if f"`{name}`" not in text] == []


def test_server_environment() -> None:
    made = settings.server_environment(
        port=80, workers=2, timeout=1.5, max_body=7, cors_origins=("http://a", "http://b")
    )
    read = settings.from_environment(made)
    assert (read.port, read.workers, read.timeout_ms, read.max_body) == (80, 2, 1500, 7)
    assert read.cors_origins == ("http://a", "http://b")
    assert "AML_CORS_ORIGINS" not in settings.server_environment(port=80, workers=2, timeout=1, max_body=7)


def test_settings_name_all_problems() -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.from_environment(
            {"MLPKG_PORT": "x", "WORKER_COUNT": "0", "MLPKG_GRACE": "-1", "MLPKG_LOG_FORMAT": "xml"}
        )
    assert [line.partition("=")[0] for line in str(caught.value).splitlines()] == [
        "WORKER_COUNT",
        "MLPKG_PORT",
        "MLPKG_GRACE",
        "MLPKG_LOG_FORMAT",
    ]


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_runs_on(version: str, launch: Launch, tmp_path: Path) -> None:
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    uv = find_uv_bin()
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(pyenv.glob(f"{version}.*/bin/python"))
    base = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if base is None:
        pytest.skip(f"Python {version} is not installed")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [uv, "venv", "-q", "-p", base, str(tmp_path / "venv")], check=True, env=environ, timeout=60
    )
    subprocess.run(
        [uv, "pip", "install", "-q", "-p", str(python), *REQUIREMENTS, *RAWHTTP],
        check=True,
        env=environ,
        timeout=120,
    )
    (tmp_path / "score.py").write_text(
        "from azureml.contrib.services.aml_request import rawhttp\n"
        "from azureml.contrib.services.aml_response import AMLResponse\n"
        "def init(): pass\n"
        "@rawhttp\n"
        "def run(request): return AMLResponse(request.get_json(), 201, json_str=True)\n"
    )
    with serving(Launch(python, launch.root, tmp_path), "ours", "score.py") as server:
        reply = server.ask(body=b'{"a": [1]}', headers=[("Content-Type", "application/json")])
        assert (reply.status, reply.body) == (201, b'{"a": [1]}')
        assert server.ask("GET", "/metrics").status == 200
        assert server.stop() == 0
