"""The other kinds of servers, in real containers: the original one, and a command of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpkg import engine
from tests.ports import free_port

from .house import House, Workspace

pytestmark = [pytest.mark.mirror, pytest.mark.docker, pytest.mark.long]

SAMPLE = Path(__file__).parents[2] / "examples/diabetes/sample.json"

CUSTOM = """
import http.server, json, os, joblib

model = joblib.load(os.environ["AZUREML_MODEL_DIR"] + "/diabetes.joblib")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"ready": self.path == "/healthz"})

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["data"]
        self.answer(model.predict(rows).tolist())

    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

http.server.HTTPServer(("", 9000), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def expected(pushed: Workspace) -> list[float]:
    """What mlpkg's own server answers to the sample."""
    pushed.mlpkg("run", "diabetes", "--port", str(free_port()))
    try:
        return list(json.loads(pushed.mlpkg("score", "diabetes", str(SAMPLE)).out))
    finally:
        pushed.mlpkg("stop", "diabetes")


def answers(workspace: Workspace) -> tuple[list[float], str]:
    """Push, run and ask; and the container's id."""
    started = workspace.mlpkg("run", "diabetes", "--port", str(free_port()), "--json").json()
    assert started["kind"] == "container"
    return list(json.loads(workspace.mlpkg("score", "diabetes", str(SAMPLE)).out)), started["id"]


def test_the_original_server(house: House, expected: list[float], tmp_path: Path) -> None:
    workspace = house.workspace(tmp_path / "w")
    with (workspace.package / "package.toml").open("a") as spec:
        spec.write('\n[server]\nkind = "azureml"\n')
    try:
        found, container = answers(workspace)
        assert found == expected
        log = b"".join(engine.logs(container)).decode()
        assert "azmlinfsrv" in log
        assert "azureml-inference-server-http==" in (workspace.package / "requirements.lock").read_text()
    finally:
        workspace.mlpkg("stop", "diabetes", code=None)


def test_a_command_of_ones_own(house: House, expected: list[float], tmp_path: Path) -> None:
    workspace = house.workspace(tmp_path / "w")
    (workspace.package / "score.py").write_text(CUSTOM)
    with (workspace.package / "package.toml").open("a") as spec:
        spec.write(
            '\n[server]\nkind = "custom"\nport = 9000\nready = "/healthz"\nscore = "/predict"\n'
            'command = ["/usr/bin/python3", "/var/azureml-app/score.py"]\n'
        )
    try:
        found, _ = answers(workspace)
        assert found == expected
        assert "httptools" not in (workspace.package / "requirements.lock").read_text()
    finally:
        workspace.mlpkg("stop", "diabetes", code=None)
