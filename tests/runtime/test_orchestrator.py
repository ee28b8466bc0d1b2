"""What an orchestrator relies on: probes, metrics, draining, bounds, logs, workers that come back."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ports import free_port

from .serving import Launch, Reply, Running, serving, wait_for_exit, wait_until_healthy

SCRIPT = """
import json, os, re, signal, time

def init():
    gate = os.environ.get("GATE")
    while gate and not os.path.exists(gate):
        time.sleep(0.01)

def stubborn():
    while True:
        try:
            time.sleep(60)
        except TimeoutError:
            pass

def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

def run(data):
    what, _, rest = data.partition(" ")
    if what == "sleep":
        time.sleep(float(rest))
    elif what == "busy":
        busy(float(rest))
    elif what == "hold":
        # One call into C that keeps the interpreter's lock for about as long as the number says.
        sum(range(int(float(rest) * 3e7)))
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "stubborn":
        stubborn()
    elif what == "print":
        print("printed\\nin two lines")
    elif what == "raise":
        raise ValueError("raised")
    return {"pid": os.getpid(), "data": data}
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "score.py").write_text(SCRIPT)
    return "score.py"


def with_environment(launch: Launch, **variables: str) -> Launch:
    return replace(launch, environment={**launch.environment, **variables})


def later(pool: ThreadPoolExecutor, server: Running, data: str) -> Future[Reply]:
    """Ask in another thread; return once the request is at the server."""
    future = pool.submit(server.ask, body=data.encode())
    time.sleep(0.3)
    return future


def wait_until_alive(server: Running) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if server.ask("GET", "/livez").status == 200:
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(server.text)


def wait_for_workers(server: Running, number: int) -> None:
    end = time.monotonic() + 30
    while f"\nmlpkg_workers_ready {number}\n".encode() not in server.ask("GET", "/metrics").body:
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended, reaped or not."""
    end = time.monotonic() + 10
    status = Path(f"/proc/{pid}/status")
    while time.monotonic() < end:
        try:
            if "State:\tZ" in status.read_text():
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")


@pytest.mark.parametrize("work", ["sleep 5", "busy 5", "hold 5"])
@pytest.mark.long
def test_a_probe_does_not_wait_for_run(launch: Launch, script: str, work: str) -> None:
    with serving(launch, "ours", script) as server, ThreadPoolExecutor(1) as pool:
        scoring = later(pool, server, work)
        times = []
        for _ in range(20):
            started = time.monotonic()
            assert server.ask("GET", "/livez").status == 200
            times.append(time.monotonic() - started)
        assert not scoring.done()
        assert statistics.median(times) < 0.1
        assert max(times) < 1.0
        assert scoring.result(60).status == 200


def test_ready_only_after_init(launch: Launch, script: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = with_environment(launch, GATE=str(gate)).start("ours", script)
    try:
        wait_until_alive(server)
        assert server.ask("GET", "/readyz").status == 503
        assert server.ask("GET", "/").status == 503
        assert server.ask("GET", "/swagger.json").status == 503
        with ThreadPoolExecutor(1) as pool:
            early = later(pool, server, "x")
            assert not early.done()
            gate.touch()
            assert early.result(30).status == 200
        assert server.ask("GET", "/readyz").status == 200
        assert server.ask("GET", "/").body == b"Healthy"
    finally:
        server.stop()


def test_stops_gracefully(launch: Launch, script: str) -> None:
    server = launch.start("ours", script)
    wait_until_healthy(server)
    with ThreadPoolExecutor(2) as pool:
        running, waiting = later(pool, server, "sleep 2"), later(pool, server, "sleep 0.1")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.ask("GET", "/livez").status == 200
        for path in ("/livez", "/readyz", "/", "/metrics", "/nope"):
            assert server.ask("GET", path).header("connection") == "close"
        assert server.ask("GET", "/readyz").status == 503
        refused = server.ask(body=b"x")
        assert (refused.status, refused.header("retry-after"), refused.header("connection")) == (
            503,
            "1",
            "close",
        )
        assert running.result(30).status == 200
        assert waiting.result(30).status == 200
    assert wait_for_exit(server, 10) == 0


def test_grace_ends(launch: Launch, script: str) -> None:
    server = with_environment(launch, MLPKG_GRACE="0.5").start("ours", script)
    wait_until_healthy(server)
    with ThreadPoolExecutor(2) as pool:
        running, waiting = later(pool, server, "sleep 60"), later(pool, server, "x")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
        assert running.result(10).status == 503
        assert waiting.result(10).status == 503


def test_interrupt_twice_stops_at_once(launch: Launch, script: str) -> None:
    server = launch.start("ours", script)
    wait_until_healthy(server)
    with ThreadPoolExecutor(1) as pool:
        running = later(pool, server, "sleep 60")
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert server.stop(signal.SIGINT, 10) == 130
        assert running.result(10).status == 503


def test_full_queue(launch: Launch, script: str) -> None:
    limited = with_environment(launch, MLPKG_MAX_QUEUE="1")
    with serving(limited, "ours", script) as server, ThreadPoolExecutor(2) as pool:
        for _ in range(30):  # a quick worker is sent requests ahead; they count as waiting all the same
            assert server.ask(body=b"x").status == 200
        first, second = later(pool, server, "sleep 1.5"), later(pool, server, "x")
        third = server.ask(body=b"x", headers=[("x-request-id", "third")])
        assert (third.status, third.header("retry-after")) == (503, "1")
        assert third.header("x-request-id") == "third"
        assert json.loads(third.body) == {"message": "Too many requests are waiting"}
        assert (first.result(30).status, second.result(30).status) == (200, 200)
        assert server.ask(body=b"x").status == 200


def test_body_limit(launch: Launch, script: str) -> None:
    with serving(with_environment(launch, MLPKG_MAX_BODY="1000"), "ours", script) as server:
        assert server.ask(body=b"x" * 1000).status == 200
        assert server.ask(body=b"x" * 1001).status == 413
        assert server.ask(body=b"x").status == 200


def test_metrics(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script) as server:
        for data in (b"x", b"x", b"raise"):
            server.ask(body=data)
        server.ask("GET", "/nope")
        reply = server.ask("GET", "/metrics")
        assert reply.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        samples = dict(line.rsplit(" ", 1) for line in reply.body.decode().splitlines() if line[0] != "#")
        assert samples['mlpkg_requests_total{route="/score",status="200"}'] == "2"
        assert samples['mlpkg_requests_total{route="/score",status="500"}'] == "1"
        assert samples['mlpkg_requests_total{route="other",status="404"}'] == "1"
        assert samples['mlpkg_failures_total{reason="error"}'] == "1"
        assert (
            samples["mlpkg_request_seconds_count"]
            == samples['mlpkg_request_seconds_bucket{le="+Inf"}']
            == "3"
        )
        assert float(samples["mlpkg_init_seconds"]) > 0
        assert float(samples["mlpkg_ready_seconds"]) > 0
        assert (samples["mlpkg_in_flight"], samples["mlpkg_workers_ready"]) == ("0", "1")


def test_metrics_see_what_is_in_flight(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script) as server, ThreadPoolExecutor(2) as pool:
        futures = [later(pool, server, "sleep 1.5"), later(pool, server, "x")]
        text = server.ask("GET", "/metrics").body.decode()
        assert "\nmlpkg_in_flight 1\n" in text
        assert "\nmlpkg_queue_length 1\n" in text
        assert [future.result(30).status for future in futures] == [200, 200]


def test_workers_share_the_load(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script, ["--workers", "3"]) as server, ThreadPoolExecutor(3) as pool:
        wait_for_workers(server, 3)
        futures = [pool.submit(server.ask, body=b"sleep 1") for _ in range(3)]
        pids = {json.loads(future.result(30).body)["pid"] for future in futures}
        assert len(pids) == 3


def test_worker_that_dies_comes_back(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script) as server:
        before = json.loads(server.ask(body=b"x").body)["pid"]
        killed = server.ask(body=b"kill", headers=[("x-request-id", "killer")])
        assert (killed.status, killed.header("x-ms-run-function-failed")) == (500, "True")
        assert killed.header("x-request-id") == "killer"
        assert json.loads(server.ask(body=b"x").body)["pid"] != before
        assert "was killed by signal SIGKILL" in server.text
        assert b"mlpkg_worker_restarts_total 1\n" in server.ask("GET", "/metrics").body


def test_idle_worker_that_dies_comes_back(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script) as server:
        before = json.loads(server.ask(body=b"x").body)["pid"]
        os.kill(before, signal.SIGKILL)
        wait_until_gone(before)
        assert json.loads(server.ask(body=b"x").body)["pid"] != before


def test_timeout_does_not_cost_the_worker(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script, ["--timeout", "0.3"]) as server:
        before = json.loads(server.ask(body=b"x").body)["pid"]
        for work in (b"sleep 30", b"busy 30"):
            assert json.loads(server.ask(body=work).body) == {"message": "Scoring timeout after 300 ms"}
        assert json.loads(server.ask(body=b"x").body)["pid"] == before


@pytest.mark.long
def test_run_that_ignores_its_timeout_is_killed(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script, ["--timeout", "0.3"]) as server:
        reply = server.ask(body=b"stubborn")
        assert reply.status == 500
        assert json.loads(reply.body) == {"message": "Scoring timeout after 300 ms"}
        assert server.ask(body=b"x").status == 200


def test_requests_behind_one_that_kills_its_worker_are_served(launch: Launch, script: str) -> None:
    """A quick worker holds several requests; only the one it had begun is lost with it."""
    with serving(launch, "ours", script) as server, ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            server.ask(body=b"x")
        slow = later(pool, server, "sleep 1")
        killer = later(pool, server, "kill")
        behind = [pool.submit(server.ask, body=b"x") for _ in range(5)]
        assert slow.result(30).status == 200
        assert killer.result(30).status == 500
        assert [future.result(30).status for future in behind] == [200] * 5


def test_worker_timeout_ends_a_slow_init(launch: Launch, script: str, tmp_path: Path) -> None:
    slow = with_environment(launch, GATE=str(tmp_path / "never"), WORKER_TIMEOUT="1")
    server = slow.start("ours", script)
    assert wait_for_exit(server, 30) == 3
    assert "init took too long" in server.text


def test_init_that_fails_at_a_restart_stops_the_server(launch: Launch, script: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    (tmp_path / script).write_text(
        SCRIPT.replace("    gate =", "    open(os.environ['GATE']).close()\n    gate =")
    )
    server = with_environment(launch, GATE=str(gate)).start("ours", script)
    wait_until_healthy(server)
    gate.unlink()
    assert server.ask(body=b"kill").status == 500
    assert wait_for_exit(server, 30) == 3


FAILS = """
import os, time
def init():
    while not os.path.exists("gate"):
        time.sleep(0.005)
    {how}
def run(data): return data
"""


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [2, 5])
@pytest.mark.parametrize("how", ["raise ValueError('no model')", "os.kill(os.getpid(), 9)"])
def test_every_init_fails_at_once(
    launch: Launch, tmp_path: Path, how: str, workers: int, number: signal.Signals
) -> None:
    """Workers that the front sees dead all at once are all settled: it waits for none for ever."""
    (tmp_path / "score.py").write_text(FAILS.format(how=how))
    server = launch.start("ours", "score.py", ["--workers", str(workers)])
    wait_until_alive(server)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    assert len(children) == workers
    server.process.send_signal(signal.SIGSTOP)
    (tmp_path / "gate").touch()
    for child in children:
        wait_until_gone(int(child))
    server.process.send_signal(number)
    server.process.send_signal(signal.SIGCONT)
    code = wait_for_exit(server, 30)
    assert code == 3 if number == signal.SIGCONT else code in (0, 3)
    assert server.text.count("stopping with exit code 3") <= 1
    assert "mlpkg/runtime" not in server.text


def test_one_init_of_several_fails(launch: Launch, tmp_path: Path) -> None:
    """The others serve what they have; the server ends with 3 all the same."""
    (tmp_path / "gate").touch()
    (tmp_path / "score.py").write_text(FAILS.format(how="os.mkdir('only-one')"))
    server = launch.start("ours", "score.py", ["--workers", "3"])
    assert wait_for_exit(server, 30) == 3


def test_workers_killed_together_come_back(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script, ["--workers", "3"]) as server, ThreadPoolExecutor(3) as pool:
        wait_for_workers(server, 3)
        futures = [pool.submit(server.ask, body=b"sleep 1") for _ in range(3)]
        pids = {json.loads(future.result(30).body)["pid"] for future in futures}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            wait_until_gone(pid)
        wait_for_workers(server, 3)
        assert b"mlpkg_worker_restarts_total 3\n" in server.ask("GET", "/metrics").body
        assert server.ask(body=b"x").status == 200
        assert server.stop() == 0


def test_port_in_use(launch: Launch, script: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = launch.start("ours", script, ["--port", str(port)])
        assert wait_for_exit(server, 30) == 3
    assert f"Cannot listen at 127.0.0.1:{port}: " in server.text
    assert "Traceback" not in server.text


def test_workers_do_not_outlive_the_front(launch: Launch, script: str) -> None:
    server = launch.start("ours", script)
    wait_until_healthy(server)
    worker = json.loads(server.ask(body=b"x").body)["pid"]
    server.stop(signal.SIGKILL)
    wait_until_gone(worker)


def test_separate_health_port(launch: Launch, script: str) -> None:
    port = free_port()
    both = with_environment(launch, SEPERATE_HEALTH_ENDPOINT="true", HEALTH_PORT=str(port))
    with serving(both, "ours", script) as server:
        assert replace(server, port=port).ask("GET", "/").body == b"Healthy"


def test_azure_log_lines(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script) as server:
        server.ask(body=b"print", headers=[("x-request-id", "id-1")])
        server.ask(body=b"raise", headers=[("x-request-id", "id-2")])
        server.ask("GET", "/")
    form = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} I \[\d+\] azmlinfsrv\.print - printed request_id=id-1$"
    assert re.search(form, server.text, re.MULTILINE)
    assert re.search(
        r" E \[\d+\] azmlinfsrv - Encountered Exception: .* request_id=id-2$", server.text, re.MULTILINE
    )
    assert re.search(
        r" I \[\d+\] azmlinfsrv - POST /score 500 \d+\.\d{3}ms \d+ request_id=id-2$",
        server.text,
        re.MULTILINE,
    )
    assert "GET / " not in server.text


def test_json_log_lines(launch: Launch, script: str) -> None:
    with serving(with_environment(launch, MLPKG_LOG_FORMAT="json"), "ours", script) as server:
        for data in (b"print", b"raise"):
            server.ask(body=data, headers=[("x-request-id", "id-\xe9")])
    lines = [json.loads(line) for line in server.text.splitlines()]
    for message in ("printed\nin two lines", "POST /score 500", "Encountered Exception"):
        [line] = [line for line in lines if line["message"].startswith(message)]
        assert line["request_id"] == "id-\\xe9"
    assert {line["level"] for line in lines} == {"INFO", "ERROR"}


def test_log_injection(launch: Launch, script: str) -> None:
    with serving(launch, "ours", script) as server:
        server.ask(body=b"print", headers=[("x-request-id", "a\x85fake")])
    assert "\x85" not in server.text
    assert "request_id=a\\x85fake" in server.text


def test_no_access_log(launch: Launch, script: str) -> None:
    with serving(with_environment(launch, MLPKG_ACCESS_LOG="false"), "ours", script) as server:
        server.ask(body=b"x")
    assert "POST /score" not in server.text


def test_starts_in_an_empty_environment(launch: Launch, script: str) -> None:
    """No HOME, no PATH, a working directory that cannot be written to: as in the image."""
    launch.folder.joinpath("state").mkdir()
    log = launch.folder / "state" / "log"
    launch.folder.chmod(0o555)
    port = free_port()
    environ = {
        "PYTHONPATH": str(launch.root),
        "AML_APP_ROOT": str(launch.folder),
        "AZUREML_ENTRY_SCRIPT": script,
        "MLPKG_PORT": str(port),
        "MLPKG_HOST": "127.0.0.1",
    }
    with log.open("wb") as output:
        command = [str(launch.python), "-m", "mlpkg.runtime"]
        process = subprocess.Popen(command, cwd=launch.folder, env=environ, stdout=output, stderr=output)
    server = Running(process, port, log)
    try:
        wait_until_healthy(server)
        assert server.ask(body=b"x").status == 200
        probe = [str(launch.python), "-m", "mlpkg.runtime.probe"]
        assert subprocess.run(probe, env=environ, timeout=30, check=False).returncode == 0
        assert subprocess.run([*probe, "/nope"], env=environ, timeout=30, check=False).returncode == 1
        assert server.stop() == 0
        dead = subprocess.run(probe, env=environ, timeout=30, check=False, capture_output=True, text=True)
        assert (dead.returncode, "Traceback" in dead.stderr) == (1, False)
    finally:
        launch.folder.chmod(0o755)
        if process.poll() is None:
            server.stop()
