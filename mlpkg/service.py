"""A package's image as a running service: start, ask, read the log, stop. With an engine, or without one.

With a Docker engine the pushed image is pulled by digest and run, read-only and on loopback. Without one the
entry script is served in the background from a virtual environment made from the same lock.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mlpkg import engine, environment, plan, records, resources, steps
from mlpkg.actions import current_lock
from mlpkg.bundled import process
from mlpkg.delivery import target
from mlpkg.errors import MlpkgError, Unreachable, UsageError
from mlpkg.lockinputs import runtime_requirements
from mlpkg.records import write_atomically
from mlpkg.wheels.host import LockedEnvironment, host_environment
from mlpkg.workspace import Package

Notify = Callable[[str], None]

HOST = "127.0.0.1"
LABEL = "org.mlpkg.service"
START_TIMEOUT = 120.0
"""Seconds until a service must have answered; big models take long to load."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running service. `reference` is a container's id, or a process's number with `born` to know it by."""

    kind: Literal["container", "process"]
    reference: str
    port: int
    born: str = ""

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"


def start(package: Package, port: int, notify: Notify) -> Service:
    """Run the pushed image (or serve without an engine), replacing the service that runs already.

    Returns when the service answers. Raises UsageError for a port that is taken, MlpkgError when it does not start.
    """
    stop(package)
    _require_free(port)
    reason = engine.available()
    if reason is None:
        service = _start_container(package, port, notify)
    else:
        notify(f"no Docker engine ({reason}): serving from a virtual environment with the same lock")
        service = _start_process(package, port, notify)
    _await_ready(package, service)
    return service


def find(package: Package) -> Service | None:
    """The package's running service."""
    known = _known(package)
    if known is None:
        return None
    if known.kind == "process":
        return known if process.is_alive(int(known.reference), known.born) else None
    if engine.available() is not None:
        return None
    state = engine.inspect(known.reference)
    return known if state and state.running else None


def stop(package: Package) -> bool:
    """Stop what `start` started, by its id. False when nothing ran."""
    service, known = find(package), _known(package)
    if known and known.kind == "container" and engine.available() is None:
        engine.stop(known.reference)
        engine.remove(known.reference)
    elif service and service.kind == "process":
        process.stop(int(service.reference), service.born)
    _file(package).unlink(missing_ok=True)
    return service is not None


def logs(package: Package, *, follow: bool) -> Iterator[bytes]:
    """The service's output so far, and with `follow` what comes, until it ends. Raises UsageError when there is none."""
    known = _known(package)
    if known is None:
        raise UsageError(f"{package.name} is not running", hint=f"start it with `mlpkg run {package.name}`")
    if known.kind == "container":
        yield from engine.logs(known.reference, follow=follow)
        return
    with _log(package).open("rb") as file:
        while True:
            while piece := file.read(1 << 16):
                yield piece
            if not follow or not process.is_alive(int(known.reference), known.born):
                return
            time.sleep(0.2)


def score(package: Package, body: bytes, timeout: float) -> tuple[int, bytes]:
    """POST a JSON body to the running service: status and answer. Raises UsageError, Unreachable."""
    service = find(package)
    if service is None:
        raise UsageError(f"{package.name} is not running", hint=f"start it with `mlpkg run {package.name}`")
    path = package.spec.server.score
    return _ask(service.port, "POST", path, body, timeout)


def foreground(package: Package, port: int, notify: Notify) -> int:
    """Serve without a container until interrupted: the server's exit code."""
    _require_free(port)
    arguments, environ, folder = _command(package, port, notify)
    with subprocess.Popen(arguments, env=environ, cwd=folder) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:
                # The terminal sends Ctrl-C to the server too: it finishes what is in flight, then ends.
                continue


def _start_container(package: Package, port: int, notify: Notify) -> Service:
    result = steps.image_result(package)
    receipt = records.read(package.record("push"), "push")
    if not result or receipt is None:
        raise MlpkgError(f"{package.name}: not pushed yet", hint=f"run `mlpkg push {package.name}`")
    reference = f"{receipt.result['repository']}@{result['digest']}"
    # The receipt may be older than the registry's last stop.
    login = target(package.settings, notify).credentials
    notify(f"pulling {reference}")
    image = engine.pull(reference, (login.username, login.password) if login else None)
    container = engine.run(
        engine.RunSpec(
            image=image,
            name="mlpkg-" + package.name.replace("/", "-"),
            ports={package.spec.server.port: (HOST, port)},
            tmpfs=("/tmp",),  # noqa: S108 - inside the container
            labels={LABEL: package.name},
        )
    )
    return _remember(package, Service("container", container, port))


def _start_process(package: Package, port: int, notify: Notify) -> Service:
    arguments, environ, folder = _command(package, port, notify)
    with _log(package).open("wb") as log:
        server = subprocess.Popen(
            arguments,
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # It outlives this command; Popen must not wait for it when it is collected.
    server.returncode = 0
    return _remember(package, Service("process", str(server.pid), port, process.birth(server.pid) or ""))


def _command(package: Package, port: int, notify: Notify) -> tuple[list[str], dict[str, str], Path]:
    """What serves the package on this machine: arguments, environment, working folder."""
    if package.spec.server.kind != "mlpkg":
        raise UsageError(
            f"{package.shown}: server.kind = {package.spec.server.kind!r} is served from its image only",
            hint=f"run `mlpkg run {package.name}` where there is a Docker engine",
        )
    lock = current_lock(package)
    locked = LockedEnvironment(
        lock.wheels,
        environment.requirements_of(package),
        runtime_requirements(package.spec),
        environment.wheel_target(lock),
    )
    python = host_environment(
        locked, package.records, sources=environment.python_sources(package), notice=notify
    )
    app, library = _application(package)
    environ = {
        **os.environ,
        **plan.entry_environment(package.spec, str(app)),
        **plan.service_environment(package.spec),
        **package.spec.environment.variables,
        "PYTHONPATH": str(library),
        "PYTHONUNBUFFERED": "1",
        "MLPKG_HOST": HOST,
        "MLPKG_PORT": str(port),
    }
    return [str(python), "-m", "mlpkg.runtime"], environ, app


def _application(package: Package) -> tuple[Path, Path]:
    """The image's application folder, laid out with links; and a folder from which only the server is importable."""
    app, library = package.records / "app", package.records / "app-library"
    spec = package.spec
    for model in spec.models:
        place = app / "azureml-models" / model.name / str(model.version) / PurePosixPath(model.path).name
        _link(place, package.folder / model.path)
    if spec.entry:
        base = spec.entry.source_directory
        if base is None:
            _link(app / PurePosixPath(spec.entry.script).name, package.folder / spec.entry.script)
        else:
            _link(app / plan.source_folder_name(base, package.name), package.folder / base)
    _link(library / "mlpkg" / "runtime", resources.package_folder() / "runtime")
    (library / "mlpkg" / "__init__.py").touch()
    return app, library


def _link(place: Path, target: Path) -> None:
    if not target.exists():
        raise UsageError(
            f"{target}: no such file", hint="run the task that makes it, or correct package.toml"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def _await_ready(package: Package, service: Service) -> None:
    path = package.spec.server.ready
    end, pause = time.monotonic() + START_TIMEOUT, 0.02
    while time.monotonic() < end:
        try:
            status, _ = _ask(service.port, "GET", path, b"", 5.0)
        except Unreachable:
            status = 0
        if status == 200:
            return
        if find(package) is None:
            raise MlpkgError(f"{package.name} ended while it started; its log ends so:\n{_tail(package)}")
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
    raise MlpkgError(
        f"{package.name} did not answer GET {path} with 200 within {START_TIMEOUT:.0f} s; its log ends so:\n{_tail(package)}"
    )


def _tail(package: Package, lines: int = 40) -> str:
    text = b"".join(logs(package, follow=False)).decode(errors="replace")
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])


def _ask(port: int, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        connection.request(method, path, body or None, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"http://{HOST}:{port}{path} does not answer: {error}") from error
    finally:
        connection.close()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"port {port} on {HOST} is taken: {error.strerror}", hint="choose another with --port"
            ) from error


def _file(package: Package) -> Path:
    return package.records / "service.json"


def _log(package: Package) -> Path:
    return package.records / "service.log"


def _remember(package: Package, service: Service) -> Service:
    write_atomically(_file(package), json.dumps(asdict(service)).encode())
    return service


def _known(package: Package) -> Service | None:
    try:
        value: Mapping[str, Any] = json.loads(_file(package).read_bytes())
        return Service(value["kind"], value["reference"], value["port"], value["born"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
