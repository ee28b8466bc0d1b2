"""Python environments for the scoring server's tests, made once and kept in pytest's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlpkg.runtime.requirements import REQUIREMENTS
from tests.sharing import one_at_a_time

from .serving import Launch

ORACLE = (
    "azureml-inference-server-http==1.5.1",
    "inference-schema==1.8",
    "numpy",
    "pandas",
    *REQUIREMENTS,
)
"""Azure's server, which defines the contract, and what the scripts of the tests import."""


@pytest.fixture(scope="session")
def runtime_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runtime as it is in the image: an empty `mlpkg`, and `mlpkg.runtime`."""
    root = tmp_path_factory.mktemp("dist-packages")
    source = Path(__file__).parents[2] / "mlpkg" / "runtime"
    shutil.copytree(source, root / "mlpkg" / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "mlpkg" / "__init__.py").write_text("")
    return root


@pytest.fixture(scope="session")
def oracle_python(pytestconfig: pytest.Config) -> Path:
    """The interpreter of an environment with Azure's server; its pins stay out of mlpkg's own."""
    key = hashlib.sha256("\n".join([sys.version, *ORACLE]).encode()).hexdigest()[:12]
    folder = Path(pytestconfig.cache.mkdir("scoring-oracle")) / key
    python = folder / "bin" / "python"
    with one_at_a_time(folder):
        if not (folder / "complete").exists():
            _install_oracle(folder, python)
    return python


def _install_oracle(folder: Path, python: Path) -> None:
    from uv import find_uv_bin

    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    uv = find_uv_bin()
    base = os.path.realpath(sys.executable)
    subprocess.run(
        [uv, "venv", "-q", "--clear", "-p", base, str(folder)], check=True, env=environ, timeout=60
    )
    install = [uv, "pip", "install", "-q", "-p", str(python), *ORACLE]
    subprocess.run(install, check=True, env=environ, timeout=600)
    (folder / "complete").touch()


@pytest.fixture
def launch(runtime_root: Path, tmp_path: Path) -> Launch:
    """Our server in the interpreter that runs the tests."""
    return Launch(Path(sys.executable), runtime_root, tmp_path, {"MLPKG_LOG_FORMAT": "azure"})
