"""What the log tells: the settings at the start, Azure's logger names, the script's own lines, hints."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.runtime.hints import PACKAGES, import_hint

from .serving import Launch, serving, wait_for_exit

LOGGING = """
import logging
logging.info("at import")
def init():
    logging.info("in init")
    logging.getLogger("mine").info("by name")
    logging.getLogger("mine").debug("too much")
def run(data):
    logging.info("in run")
    return data
"""
LINE = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} I \[\d+\] "


def test_azures_lines_are_there(runtime_root: Path, oracle_python: Path, tmp_path: Path) -> None:
    """Names of settings and loggers, which people's log queries search for."""
    (tmp_path / "models").mkdir()
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    environment = {
        "AZUREML_MODEL_DIR": str(tmp_path / "models"),
        "AML_CORS_ORIGINS": "http://a.example",
        "WORKER_COUNT": "2",
    }
    launch = Launch(oracle_python, runtime_root, tmp_path, environment)
    texts = []
    for kind in ("azure", "ours"):
        with serving(launch, kind, "score.py") as server:
            pass
        texts.append(server.text.replace(str(server.port), "PORT"))
    azure, ours = texts
    # Once each: what Azure's server has not flushed when it forks, its workers print again.
    names = list(dict.fromkeys(re.findall(r"^([A-Z][A-Za-z ()]+): ", azure, re.MULTILINE)))
    assert {"Worker Count", "Server Port", "CORS for the specified origins"} <= set(names)
    missing = [name for name in names if not re.search(rf"^{re.escape(name)}: ", ours, re.MULTILINE)]
    assert missing == ["Application Insights Key"]
    for line in ("Worker Count: 2", "Server Port: PORT", "Liveness Probe: GET   127.0.0.1:PORT/"):
        assert f"\n{line}\n" in azure
        assert f"\n{line}\n" in ours
    pattern = r"(azmlinfsrv[a-z_.]*) - ((?:run\(\) is|Invoking|Users's|Swaggers|Scoring timeout)[^\n]*)"
    assert set(re.findall(pattern, azure)) == set(re.findall(pattern, ours)) != set()
    assert "azmlinfsrv.user_script - Found user script at" in ours


def test_what_the_script_logs_is_shown(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(LOGGING)
    with serving(launch, "ours", "score.py") as server:
        server.ask(body=b"x", headers=[("x-request-id", "abc")])
    for line in ("root - at import$", "root - in init$", "mine - by name$", "root - in run request_id=abc$"):
        assert re.search(LINE + line, server.text, re.MULTILINE), server.text
    assert "too much" not in server.text
    as_json = replace(launch, environment={"MLPKG_LOG_FORMAT": "json"})
    with serving(as_json, "ours", "score.py") as server:
        server.ask(body=b"x", headers=[("x-request-id", "abc")])
    lines = [json.loads(line) for line in server.text.splitlines()]  # every line, the settings too
    assert {"logger": "root", "message": "in run", "request_id": "abc"}.items() <= {
        key: value for line in lines if line["message"] == "in run" for key, value in line.items()
    }.items()
    assert any("Worker Count: 1" in line["message"] for line in lines)


def test_a_script_sets_up_its_own_logging(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(
        "import logging\n"
        "logging.basicConfig(level=logging.DEBUG, format='OWN %(levelname)s %(message)s')\n"
        "def init(): logging.debug('detail')\n"
        "def run(data): return data\n"
    )
    with serving(launch, "ours", "score.py") as server:
        pass
    assert "\nOWN DEBUG detail\n" in server.text
    assert server.text.count("detail") == 1
    assert "azmlinfsrv.user_script - Invoking user's init function" in server.text


@pytest.mark.parametrize(
    ("statement", "package"),
    [
        ("import pkg_resources_", None),
        ("import no_such_module_anywhere", None),
        ("import cv2", "opencv-python-headless"),
        ("from PIL import Image", "pillow"),
        ("import sklearn.linear_model", "scikit-learn"),
        ("import yaml", "pyyaml"),
        ("from azureml.core import Workspace", "azureml-core"),
        ("import azureml.train.automl", None),
    ],
)
@pytest.mark.parametrize("place", ["at import", "in init"])
def test_import_hints(
    statement: str, package: str | None, place: str, launch: Launch, oracle_python: Path, tmp_path: Path
) -> None:
    """With a package's name where it is known, never with one that is only guessed."""
    body = "pass" if place == "at import" else statement
    top = statement if place == "at import" else ""
    (tmp_path / "score.py").write_text(f"{top}\ndef init(): {body}\ndef run(data): return data\n")
    # No meta path of an installation's own: what is missing here is missing in an image too.
    server = replace(launch, python=oracle_python).start("ours", "score.py")
    assert wait_for_exit(server) == 3
    if package:
        assert f"Add {package!r}, which provides the module" in server.text
    else:
        assert not re.search(r"Add '", server.text)


def test_hints_are_given_only_where_they_are_right() -> None:
    assert import_hint(ValueError("x")) == ""
    assert import_hint(ImportError("cannot import name 'x' from 'numpy'", name="numpy")) == ""
    assert (
        import_hint(ModuleNotFoundError("No module named 'sklearn.externals'", name="sklearn.externals"))
        == ""
    )
    assert "source_directory" in import_hint(ModuleNotFoundError("No module named 'helper'", name="helper"))
    assert "'setuptools<81'" in import_hint(ModuleNotFoundError("x", name="pkg_resources"))
    assert {"azureml", "google", "azure"}.isdisjoint(PACKAGES)


def test_a_refused_request_leaves_its_reason(runtime_root: Path, oracle_python: Path, tmp_path: Path) -> None:
    from .scripts import SCHEMA

    (tmp_path / "score.py").write_text(SCHEMA)
    with serving(Launch(oracle_python, runtime_root, tmp_path), "ours", "score.py") as server:
        assert server.ask(body=b"{}", headers=[("Content-Type", "text/plain")]).status == 415
        assert server.ask(body=b"{}", headers=[("Content-Type", "application/json")]).status == 400
    assert "W [" in server.text
    assert (
        "Answered 415: Expects Content-Type to be application/json (Content-Type: 'text/plain')"
        in server.text
    )
    assert "Answered 400: A value is not provided for the 'data' parameter." in server.text
