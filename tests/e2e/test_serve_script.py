"""`mlpkg serve SCRIPT.py`: any entry script, with no spec, no lock and no container."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.ports import free_port

SCRIPT = """
import json, os

def init():
    global factor
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "factor.txt")) as file:
        factor = float(file.read())

def run(data):
    return [factor * number for number in json.loads(data)["data"]]
"""


def test_any_entry_script(tmp_path: Path) -> None:
    (tmp_path / "my-score.py").write_text(SCRIPT)
    (tmp_path / "mlpkg.py").write_text("raise ImportError('a module of the user')")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "factor.txt").write_text("2.5")
    port = free_port()
    command = [sys.executable, "-P", "-m", "mlpkg", "serve", "my-score.py", "--model-dir", "model"]
    with subprocess.Popen(
        [*command, "--port", str(port)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            assert ask(port, {"data": [1, 2]}) == [2.5, 5.0]
        finally:
            server.send_signal(signal.SIGTERM)
            log = server.communicate(timeout=30)[0].decode()
    assert server.returncode == 0, log


def ask(port: int, body: object) -> object:
    headers = {"Content-Type": "application/json"}  # without it, the contract gives the script an empty text
    request = urllib.request.Request(f"http://127.0.0.1:{port}/score", json.dumps(body).encode(), headers)
    for _ in range(200):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            assert error.code == 503, error.read()  # noqa: PT017 - not ready yet
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("the server did not answer")
