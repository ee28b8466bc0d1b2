"""How a script is found and started: layouts that both servers serve, and what only ours has."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.ports import free_port

from .serving import Launch, Running, serving, wait_for_exit, wait_until_healthy
from .test_contract import compare

ECHO = "def init(): pass\ndef run(data): return data\n"
SIBLING = "import sibling\ndef init(): pass\ndef run(data): return sibling.VALUE\n"


@dataclass(frozen=True, slots=True)
class Layout:
    """Files below the working folder, variables, and the request that tells how it went."""

    files: dict[str, str]
    script: str = "score.py"
    environment: dict[str, str] = field(default_factory=dict)
    request: tuple[str, str, bytes | None] = ("POST", "/score", b"x")


LAYOUTS = {
    "swagger.json": Layout(
        {"score.py": ECHO, "swagger.json": '{"mine": 2}'}, request=("GET", "/swagger.json", None)
    ),
    "swagger2.json": Layout(
        {"score.py": ECHO, "swagger2.json": '{"mine": 22}'}, request=("GET", "/swagger.json", None)
    ),
    "swagger3.json": Layout(
        {"score.py": ECHO, "swagger3.json": '{"mine": 3}'}, request=("GET", "/swagger.json?version=3", None)
    ),
    "swagger3.1.json": Layout(
        {"score.py": ECHO, "swagger3.1.json": '{"mine": 3.1}'},
        request=("GET", "/swagger.json?version=3.1", None),
    ),
    "both swagger files": Layout(
        {"score.py": ECHO, "swagger.json": '{"mine": 1}', "swagger2.json": '{"mine": 2}'},
        request=("GET", "/swagger.json", None),
    ),
    "dashes in the name": Layout({"my-score-v1.2.py": ECHO}, "my-score-v1.2.py"),
    "script in a folder": Layout({"code/score.py": ECHO}, "code/score.py"),
    "sibling at the root": Layout({"score.py": SIBLING, "sibling.py": "VALUE = 1"}),
    "sibling in the source directory": Layout(
        {"src/score.py": SIBLING, "src/sibling.py": "VALUE = 2"},
        "src/score.py",
        {"AZUREML_SOURCE_DIRECTORY": "src"},
    ),
    "working directory comes first": Layout(
        {
            "score.py": "import colorsys\ndef init(): pass\ndef run(data): return getattr(colorsys, 'VALUE', 'standard')\n",
            "colorsys.py": "VALUE = 'mine'",
        }
    ),
    "config.json": Layout(
        {
            "score.py": ECHO,
            "config.json": '{"SERVICE_NAME": "from file", "unknown": [1], "SCORING_TIMEOUT_MS": 9000}',
        },
        environment={"AML_APP_ROOT": "."},
        request=("GET", "/swagger.json", None),
    ),
    "environment before config.json": Layout(
        {"score.py": ECHO, "config.json": '{"SERVICE_NAME": "from file"}'},
        environment={"AML_APP_ROOT": ".", "SERVICE_NAME": "from environment"},
        request=("GET", "/swagger.json", None),
    ),
    "named config file": Layout(
        {"score.py": ECHO, "other.json": '{"SERVICE_VERSION": "9"}'},
        environment={"AZUREML_CONFIG_FILE": "other.json"},
        request=("GET", "/swagger.json", None),
    ),
}

FAILING = {
    "sibling beside the script only": Layout(
        {"code/score.py": SIBLING, "code/sibling.py": "VALUE = 1"}, "code/score.py"
    ),
    "swagger.json is broken": Layout({"score.py": ECHO, "swagger.json": "{"}),
    "logging.json is broken": Layout({"score.py": ECHO, "logging.json": '{"version": 7}'}),
    "timeout is no number": Layout({"score.py": ECHO}, environment={"SCORING_TIMEOUT_MS": "soon"}),
}


def prepare(layout: Layout, launch: Launch, python: Path) -> Launch:
    for name, text in layout.files.items():
        path = launch.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return replace(launch, python=python, environment={"AZUREML_MODEL_DIR": ".", **layout.environment})


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.long
def test_layout(name: str, launch: Launch, oracle_python: Path) -> None:
    layout = LAYOUTS[name]
    both = prepare(layout, launch, oracle_python)
    replies = []
    for kind in ("azure", "ours"):
        with serving(both, kind, layout.script) as server:
            replies.append(server.ask(*layout.request))
    assert replies[0].status == 200
    assert compare(*replies) == {}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.long
def test_layout_that_fails(name: str, launch: Launch, oracle_python: Path) -> None:
    layout = FAILING[name]
    both = prepare(layout, launch, oracle_python)
    codes = [wait_for_exit(both.start(kind, layout.script)) for kind in ("azure", "ours")]
    assert codes == [3, 3]


def test_init_failure_is_readable(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def init():\n    open('no-such-file')\ndef run(data): return data\n")
    models = tmp_path / "models" / "diabetes" / "1"
    models.mkdir(parents=True)
    (models / "model.joblib").write_text("x")
    (models / "loop").symlink_to(models)
    server = launch.start("ours", "score.py", ["--model-dir", str(models.parent)])
    assert wait_for_exit(server) == 3
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-file'" in server.text
    assert f'File "{tmp_path}/score.py", line 2, in init' in server.text
    assert "mlpkg/runtime" not in server.text
    assert "Model Directory Contents:\ndiabetes/\n    1/\n        loop\n        model.joblib\n" in server.text


def test_model_tree_is_cut(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def init(): raise ValueError\ndef run(data): return data\n")
    (tmp_path / "models").mkdir()
    for number in range(300):
        (tmp_path / "models" / f"{number:03}").touch()
    server = launch.start("ours", "score.py", ["--model-dir", "models"])
    assert wait_for_exit(server) == 3
    assert "    198\nOutput Truncated. First 200 lines shown.\n" in server.text


def test_missing_module_says_what_to_do(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("import no_such_module_anywhere\n")
    server = launch.start("ours", "score.py")
    assert wait_for_exit(server) == 3
    assert "'no_such_module_anywhere'" in server.text
    assert "to the package's requirements" in server.text


@pytest.mark.parametrize("content", ["[1]", "{", '"x"'])
def test_a_models_own_config_json_is_not_ours(launch: Launch, tmp_path: Path, content: str) -> None:
    (tmp_path / "score.py").write_text(ECHO)
    (tmp_path / "config.json").write_text(content)
    with serving(replace(launch, environment={"AML_APP_ROOT": str(tmp_path)}), "ours", "score.py") as server:
        assert server.ask(body=b"x").status == 200


def test_main_py_without_an_entry_script(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(ECHO)
    port = free_port()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(launch.root),
        "AML_APP_ROOT": str(tmp_path),
        "MLPKG_PORT": str(port),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(launch.python), "-m", "mlpkg.runtime"],
            cwd=tmp_path,
            env=environ,
            stdout=output,
            stderr=output,
        )
    server = Running(process, port, log)
    try:
        wait_until_healthy(server)
        assert server.ask(body=b"x").body == b'"x"'
    finally:
        server.stop()


def test_a_file_named_like_the_standard_library(launch: Launch, tmp_path: Path) -> None:
    """The working directory is full of the user's files; the server must not import them."""
    for name in ("selectors", "json", "logging", "socket", "httptools", "asyncio", "signal"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported the user\\'s file')")
    (tmp_path / "score.py").write_text(ECHO)
    with serving(launch, "ours", "score.py") as server:
        assert server.ask(body=b"x").status == 200


MODEL_PATH = """
from azureml.core.model import Model
from azureml.core import Model as Same
import azureml.core
def init(): pass
def run(data):
    assert Model is Same
    name, _, version = data.partition(":")
    try:
        return Model.get_model_path(name, int(version) if version else None)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


def test_get_model_path(launch: Launch, tmp_path: Path) -> None:
    for name in (
        "one/1/model.pkl",
        "one/2/model.pkl",
        "one/10/model.pkl",
        "two/1/a",
        "two/1/b",
        "folder/1/files/a",
    ):
        path = tmp_path / "azureml-models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "plain").touch()
    (tmp_path / "score.py").write_text(MODEL_PATH)
    with serving(launch, "ours", "score.py") as server:
        found = {
            asked: json.loads(server.ask(body=asked.encode()).body)
            for asked in ("one", "one:2", "folder", "plain", "two", "one:7", "none")
        }
    assert found["one"] == "azureml-models/one/10/model.pkl"
    assert found["one:2"] == "azureml-models/one/2/model.pkl"
    assert found["folder"] == "azureml-models/folder/1/files"
    assert found["plain"] == "plain"
    for asked in ("two", "one:7", "none"):
        assert found[asked].startswith("ModelNotFoundException: ")


@pytest.mark.parametrize(
    "imports",
    [
        "from azureml.contrib.services.aml_request import AMLRequest, rawhttp\nfrom azureml.contrib.services.aml_response import AMLResponse",
        "from azureml.contrib.services.aml_request import *\nfrom azureml.contrib.services.aml_response import *",
        "import azureml.contrib.services.aml_request as q, azureml.contrib.services.aml_response as a\nrawhttp, AMLResponse = q.rawhttp, a.AMLResponse",
        "from azureml.contrib.services import rawhttp, AMLResponse",
        "from azureml_inference_server_http.api.aml_request import rawhttp\nfrom azureml_inference_server_http.api.aml_response import AMLResponse",
    ],
)
def test_azure_imports_without_azures_packages(launch: Launch, tmp_path: Path, imports: str) -> None:
    (tmp_path / "score.py").write_text(
        f"{imports}\ndef init(): pass\n@rawhttp\ndef run(request): return AMLResponse(request.method, 202)\n"
    )
    with serving(launch, "ours", "score.py") as server:
        reply = server.ask(body=b"x")
        assert (reply.status, reply.body) == (202, b"POST")


LENIENT = """
import decimal, json, datetime
def init(): pass
def run(data):
    if data == "set": return {"set": {1}, "day": datetime.date(2026, 7, 1), "bytes": b"x"}
    if data == "decimal": return decimal.Decimal(1)
    return data
"""


def test_lenient(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(LENIENT)
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    with serving(launch, "ours", "score.py") as strict:
        assert strict.ask(body=b"set").status == 500
        assert strict.ask(body=b"a=1", headers=form).body == b'""'
        assert "MLPKG_LENIENT=true" in strict.text
    with serving(replace(launch, environment={"MLPKG_LENIENT": "true"}), "ours", "score.py") as lenient:
        assert json.loads(lenient.ask(body=b"set").body) == {"set": [1], "day": "2026-07-01", "bytes": "x"}
        assert lenient.ask(body=b"decimal").status == 500
        assert lenient.ask(body=b"a=1", headers=form).body == b'"a=1"'


def test_lenient_coroutine(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\nasync def run(data): return data\n")
    with serving(launch, "ours", "score.py") as strict:
        assert strict.ask(body=b"x").status == 500
        assert "write `def run`" in strict.text
    with serving(replace(launch, environment={"MLPKG_LENIENT": "true"}), "ours", "score.py") as lenient:
        assert lenient.ask(body=b"x").body == b'"x"'


def test_lenient_numpy(launch: Launch, oracle_python: Path, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(
        "import numpy as np, pandas as pd\n"
        "VALUES = {'a': np.arange(3), 'i': np.int64(1), 'f': pd.DataFrame({'x': [1], 'd': pd.to_datetime(['2026-01-01'])}), 's': pd.Series([1])}\n"
        "def init(): pass\n"
        "def run(data): return VALUES[data]\n"
    )
    lenient = replace(launch, python=oracle_python, environment={"MLPKG_LENIENT": "true"})
    with serving(lenient, "ours", "score.py") as server:
        found = {key: json.loads(server.ask(body=key.encode()).body) for key in "aifs"}
    assert found == {"a": [0, 1, 2], "i": 1, "f": [{"x": 1, "d": "2026-01-01T00:00:00"}], "s": [1]}


def test_users_logging_json(launch: Launch, tmp_path: Path) -> None:
    configuration = {
        "version": 1,
        "formatters": {
            "short": {
                "()": "azureml_inference_server_http.log_config.AMLLogFormatter",
                "fmt": "MINE %(message)s",
            }
        },
        "handlers": {
            "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "short"}
        },
        "loggers": {"azmlinfsrv": {"level": "INFO", "handlers": ["out"]}},
    }
    (tmp_path / "logging.json").write_text(json.dumps(configuration))
    (tmp_path / "score.py").write_text(ECHO)
    with serving(launch, "ours", "score.py") as server:
        server.ask(body=b"x", headers=[("x-request-id", "abc")])
    assert "MINE Invoking user's init function" in server.text
    assert "MINE POST /score 200 " in server.text
    assert "request_id=abc" in server.text
