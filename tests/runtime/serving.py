"""Servers for the tests: Azure's and ours, each a real process on loopback, and a client that sends what it is told."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; header names in lower case, repeated ones as several values."""

    status: int
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    is_cut_off: bool = False

    def header(self, name: str) -> str | None:
        return self.headers.get(name, (None,))[0]


@dataclass(frozen=True, slots=True)
class Running:
    """A server process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(
        self,
        method: str = "POST",
        target: str = "/score",
        body: bytes | None = None,
        headers: Sequence[tuple[str, str]] = (),
        timeout: float = 30.0,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", "localhost")
            for name, value in headers:
                connection.putheader(name, value.encode("latin-1"))
            if body is not None and not any(name.lower() == "content-length" for name, _ in headers):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            is_cut_off = False
            try:
                data = response.read()
            except http.client.IncompleteRead as error:
                data, is_cut_off = error.partial, True
        finally:
            connection.close()
        fields: dict[str, tuple[str, ...]] = {}
        for name, value in response.getheaders():
            fields[name.lower()] = (*fields.get(name.lower(), ()), value)
        return Reply(response.status, fields, data, is_cut_off)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server: the interpreter, our copy of the runtime, a working folder."""

    python: Path
    root: Path
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, kind: str, script: str, port: int, options: Sequence[str]) -> list[str]:
        if kind == "azure":
            name = ["azureml_inference_server_http", "--entry_script", script]
        else:
            name = ["mlpkg.runtime", script, "--host", "127.0.0.1"]
        return [str(self.python), "-m", *name, "--port", str(port), *options]

    def start(self, kind: str, script: str, options: Sequence[str] = ()) -> Running:
        port = free_port()
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.root),
            "LANG": "C.UTF-8",
            **self.environment,
        }
        log = self.folder / f"{kind}-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(kind, script, port, options),
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return Running(process, port, log)


@contextmanager
def serving(launch: Launch, kind: str, script: str, options: Sequence[str] = ()) -> Iterator[Running]:
    """A server that answers, until the block ends."""
    server = launch.start(kind, script, options)
    try:
        wait_until_healthy(server)
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def wait_until_healthy(server: Running, seconds: float = START_SECONDS) -> float:
    """Wait for 200 from ``/``; return the seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if server.process.poll() is not None:
            raise AssertionError(f"the server exited with {server.process.returncode}:\n{server.text}")
        try:
            if server.ask("GET", "/", timeout=5.0).status == 200:
                return time.monotonic() - started
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    raise AssertionError(f"the server does not answer after {seconds} s:\n{server.text}")


def wait_for_exit(server: Running, seconds: float = START_SECONDS) -> int:
    """Wait for a server that ends by itself; return its exit code."""
    try:
        return server.process.wait(seconds)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
