"""Scoring servers side by side, in one run: ours, Azure's, plain FastAPI, and (`--layers`) bare HTTP layers.

All serve the same small scikit-learn model with one worker, each from its own environment, and are loaded in turns
by wrk, so that a busy machine is as busy for all. Figures are ratios to Azure's server of the same run.

    python bench/serving.py [--layers] [--before FOLDER] [--rounds 3] [--seconds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from uv import find_uv_bin

from mlpkg.runtime.requirements import REQUIREMENTS

ROOT = Path(__file__).parents[1]
MODEL = ("scikit-learn", "joblib", "numpy")
BODY = '{"data": [[1,2,3,4,5,6,7,8,9,10],[10,9,8,7,6,5,4,3,2,1]]}'

SCORE = """
import json, os
import joblib
import numpy as np

def init():
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.joblib"))

def run(data):
    return model.predict(np.array(json.loads(data)["data"])).tolist()
"""

FASTAPI = """
import score
from fastapi import FastAPI, Request
score.init()
app = FastAPI()

@app.post("/score")
async def predict(request: Request):
    return score.run(await request.body())
"""

WSGI = """
import json
import score
score.init()

def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = json.dumps(score.run(body)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
"""

ASGI = """
import json
import score
score.init()

async def app(scope, receive, send):
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    answer = json.dumps(score.run(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
"""

TRAIN = """
import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
joblib.dump(Ridge().fit(*load_diabetes(return_X_y=True)), "model.joblib")
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server: what is installed beside the model's packages, and how it starts (`{port}`)."""

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    root: Path = ROOT


OURS = Server(
    "mlpkg", REQUIREMENTS, ("-m", "mlpkg.runtime", "score.py", "--model-dir", ".", "--port", "{port}")
)
AZURE = Server(
    "azureml",
    ("azureml-inference-server-http",),
    (
        "-m",
        "azureml_inference_server_http",
        "--entry_script",
        "score.py",
        "--model_dir",
        ".",
        "--port",
        "{port}",
    ),
)
FAST = Server("fastapi", ("fastapi", "uvicorn"), ("-m", "uvicorn", "plain_fastapi:app", "--port", "{port}"))
LAYERS = (
    Server(
        "granian, WSGI",
        ("granian",),
        ("-m", "granian", "--interface", "wsgi", "--port", "{port}", "plain_wsgi:app"),
    ),
    Server("gunicorn, WSGI", ("gunicorn",), ("-m", "gunicorn", "-b", "127.0.0.1:{port}", "plain_wsgi:app")),
    Server(
        "uvicorn + httptools, ASGI",
        ("uvicorn", "httptools"),
        ("-m", "uvicorn", "--http", "httptools", "--no-access-log", "--port", "{port}", "plain_asgi:app"),
    ),
)


@dataclass(slots=True)
class Result:
    """What was measured of one server; lists have one figure per round."""

    requests_per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    start_seconds: list[float] = field(default_factory=list)
    cpu_us_per_request: list[float] = field(default_factory=list)
    memory_mb: float = 0.0
    packages: int = 0
    packages_mb: float = 0.0


def install(folder: Path, packages: tuple[str, ...]) -> tuple[Path, int, float]:
    """An environment; its interpreter, and the number and MB of what it holds."""
    uv, environ = find_uv_bin(), {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    python = folder / "bin" / "python"
    base = os.path.realpath(sys.executable)
    subprocess.run([uv, "venv", "-q", "-p", base, str(folder)], check=True, env=environ)
    subprocess.run([uv, "pip", "install", "-q", "-p", str(python), *packages], check=True, env=environ)
    site = next(folder.glob("lib/python*/site-packages"))
    sizes = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    return python, len(list(site.glob("*.dist-info"))), sizes / 1e6


def descendants(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += descendants(int(child))
    return found


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and its descendants, in MB."""
    total = 0
    for each in descendants(pid):
        match = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{each}/smaps_rollup").read_text(), re.MULTILINE)
        total += int(match[1]) if match else 0
    return total / 1000


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants."""
    total = 0
    for each in descendants(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def first_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait for the first 200 from /score."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server exited with {process.returncode}: {process.args!r}")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/score", BODY.encode(), {"Content-Type": "application/json"}
        )
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(request, timeout=10) as answer,
        ):
            answer.read()
            return
        time.sleep(0.005)
    raise SystemExit(f"no answer: {process.args!r}")


def load(port: int, seconds: int, connections: int, script: Path) -> tuple[float, float, float, int]:
    """Requests per second, p50 and p99 in ms, and the number of requests of one run of wrk."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    text = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/score"], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in text:
        raise SystemExit(f"answers other than 2xx:\n{text}")
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}

    def latency(percent: str) -> float:
        match = re.search(rf"^ +{percent}% +([\d.]+)(us|ms|s)$", text, re.MULTILINE)
        return float(match[1]) * units[match[2]] if match else float("nan")

    rate = re.search(r"Requests/sec: +([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    return float(rate[1]) if rate else 0.0, latency("50"), latency("99"), int(count[1]) if count else 1


def measure(server: Server, python: Path, folder: Path, result: Result, options: argparse.Namespace) -> None:
    """One round of one server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(server.root), "AZUREML_MODEL_DIR": str(folder)}
    command = [str(python), *(part.format(port=port) for part in server.command)]
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        first_answer(port, process)
        result.start_seconds.append(time.monotonic() - started)
        load(port, 1, options.connections, folder / "post.lua")
        before = cpu_seconds(process.pid)
        rate, p50, p99, count = load(port, options.seconds, options.connections, folder / "post.lua")
        result.cpu_us_per_request.append((cpu_seconds(process.pid) - before) / count * 1e6)
        result.requests_per_second.append(rate)
        result.p50_ms.append(p50)
        result.p99_ms.append(p99)
        result.memory_mb = memory_mb(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def table(results: Mapping[str, Result]) -> str:
    """The results as a Markdown table, medians over the rounds, with ratios to Azure's server."""
    middle = statistics.median
    azure = middle(results[AZURE.name].requests_per_second)
    lines = [
        "| server | requests/s | x azureml | p50 ms | p99 ms | CPU us/request | start s | memory MB | packages | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in results.items():
        rate = middle(each.requests_per_second)
        lines.append(
            f"| {name} | {rate:.0f} | {rate / azure:.2f} | {middle(each.p50_ms):.2f} | {middle(each.p99_ms):.2f} "
            f"| {middle(each.cpu_us_per_request):.0f} | {middle(each.start_seconds):.2f} | {each.memory_mb:.0f} "
            f"| {each.packages} | {each.packages_mb:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare scoring servers")
    parser.add_argument("--layers", action="store_true", help="bare HTTP layers too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout: its server too")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    before = () if options.before is None else (replace(OURS, name="before", root=options.before.resolve()),)
    servers = (OURS, *before, AZURE, FAST, *(LAYERS if options.layers else ()))
    with tempfile.TemporaryDirectory(prefix="mlpkg-serving-") as name:
        folder = Path(name)
        for file, text in (
            ("score.py", SCORE),
            ("plain_fastapi.py", FASTAPI),
            ("plain_wsgi.py", WSGI),
            ("plain_asgi.py", ASGI),
        ):
            (folder / file).write_text(text)
        lua = f"wrk.method = 'POST'\nwrk.body = '{BODY}'\nwrk.headers['Content-Type'] = 'application/json'\n"
        (folder / "post.lua").write_text(lua)
        _, base_count, base_size = install(folder / "base", MODEL)
        results: dict[str, Result] = {}
        pythons: dict[str, Path] = {}
        for server in servers:
            python, count, size = install(folder / f"venv-{len(pythons)}", (*MODEL, *server.packages))
            pythons[server.name] = python
            results[server.name] = Result(packages=count - base_count, packages_mb=size - base_size)
        subprocess.run([str(pythons[OURS.name]), "-c", TRAIN], cwd=folder, check=True)
        for _ in range(options.rounds):
            for server in servers:
                measure(server, pythons[server.name], folder, results[server.name], options)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({name: asdict(each) for name, each in results.items()}, indent=1))


if __name__ == "__main__":
    main()
