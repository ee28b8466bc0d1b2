"""A package's image as a running service: start, ask, read the log, stop. With an engine, or without one.

With a Docker engine the pushed image is pulled by digest and run, read-only and on loopback. Without one the
entry script is served in the background from a virtual environment made from the same lock.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from mlpkg import engine
from mlpkg.digest import Digest, framed, sha256
from mlpkg.errors import MlpkgError, Taken, Unreachable, UsageError
from mlpkg.local import application
from mlpkg.progress import Notify
from mlpkg.registry import probe, process
from mlpkg.registry.destination import destination
from mlpkg.service import ports
from mlpkg.service.ports import HOST
from mlpkg.spec.workspace import Package
from mlpkg.steps import build, push
from mlpkg.steps.look import why
from mlpkg.steps.perform import perform
from mlpkg.store.files import write_atomically
from mlpkg.store.runlock import hold_workspace

LABEL = "org.mlpkg.service"
"""On a service's container: the package's name."""

WORKSPACE_LABEL = "org.mlpkg.workspace"
"""On a service's container: the digest of its workspace's folder. One engine serves many workspaces."""

ATTEMPTS = 5
"""How often a free port is looked for, when others take it between the look and the start."""

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


def start(package: Package, asked: int | None, notify: Notify) -> Service:
    """Run the pushed image (or serve without an engine), replacing the service that runs already.

    Returns when the service answers. What can be refused is refused before the old service is stopped.
    Without a port it is chosen as `choose_port` does. Raises Taken for an asked port that is taken,
    MlpkgError when it does not start.
    """
    choose_port(package, asked)
    reason = engine.available()
    if reason is None:
        service = _started(package, _pulled(package, notify), asked, notify)
    else:
        notify(f"no Docker engine ({reason}): serving from a virtual environment with the same lock")
        python = application.python(package, notify)
        port = ports.said(choose_port(package, asked), asked, notify)
        stop(package)
        service = _start_process(package, python, port)
    _await_ready(package, service)
    return service


def _started(package: Package, image: str, asked: int | None, notify: Notify) -> Service:
    for left in reversed(range(ATTEMPTS)):
        port = choose_port(package, asked)
        stop(package)
        try:
            service = _start_container(package, image, port)
        except Taken:
            # Somebody was faster between the look and the start.
            if asked is not None or not left:
                raise
        else:
            ports.said(port, asked, notify)
            return service
    raise AssertionError


def choose_port(package: Package | None, asked: int | None) -> int:
    """The port to answer at: the one asked for, else the package's own running service's, else the next free one.

    Raises Taken when something else listens on the port asked for, or on all that are tried.
    """
    if asked is not None:
        if package is None:
            ports.require_free(asked)
        else:
            require_port(package, asked)
        return asked
    running = find(package) if package else None
    if running and running.port:
        return running.port
    return ports.first_free()


def find(package: Package) -> Service | None:
    """The package's running service."""
    known = _known(package)
    if known and known.kind == "process":
        return known if process.is_alive(int(known.reference), known.born) else None
    if engine.available() is not None:
        return None
    found = _container(package, known)
    if found is None or not found.running:
        return None
    if known and known.reference == found.id:
        return known
    return Service("container", found.id, next((port for _, port in found.ports.values()), 0))


def stop(package: Package) -> bool:
    """Stop what `start` started, by its id, and remove what is left of it. False when nothing ran."""
    known = _known(package)
    if known and known.kind == "process":
        ran = process.stop(int(known.reference), known.born)
    else:
        found = _container(package, known) if engine.available() is None else None
        ran = found is not None and found.running
        if found:
            engine.stop(found.id)
            engine.remove(found.id)
    _file(package).unlink(missing_ok=True)
    return ran


def logs(package: Package, *, follow: bool) -> Iterator[bytes]:
    """The service's output so far, and with `follow` what comes, until it ends.

    Raises UsageError when there is none, Unreachable (it is a container's, and no engine answers).
    """
    known = _known(package)
    if known is None or known.kind == "container":
        found = _container(package, known) if known or engine.available() is None else None
        if found is None:
            raise _not_running(package)
        yield from engine.logs(found.id, follow=follow)
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
        raise _not_running(package)
    path = package.spec.server.score
    return _ask(service.port, "POST", path, body, timeout)


def foreground(package: Package, asked: int | None, notify: Notify) -> NoReturn:
    """Become the server of the package, without a container; ends with the server's exit code.

    This process is replaced, so that signals reach the server itself and the workspace's lock is given up.
    Raises Taken (port), UsageError (a server of another kind), LockError, Unreachable.
    """
    python = application.python(package, notify)
    port = ports.said(choose_port(None, asked), asked, notify)
    arguments, environ, folder = application.command(package, python, HOST, port)
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(folder)
    os.execve(arguments[0], arguments, environ)  # noqa: S606 - a list of our own, no shell


def require_port(package: Package, port: int) -> None:
    """Raises Taken when something listens on the port that is not the package's own service."""
    if probe.is_taken(port):
        service = find(package)
        if service is None or service.port != port:
            ports.require_free(port)


def _not_running(package: Package) -> UsageError:
    return UsageError(f"{package.name} is not running", hint=f"start it with `mlpkg run {package.name}`")


def _pulled(package: Package, notify: Notify) -> str:
    """The pushed image, in the engine: its id."""
    # The receipt may be older than the registry's last stop, and the registry's storage younger than both.
    login = destination(package.settings, notify).credentials
    if why("push", package):
        notify("the registry that was pushed to is gone: pushing again")
        hold_workspace(package.root)
        perform("push", package)
    built, receipt = build.result(package), push.receipt(package)
    if not built or not receipt:
        raise MlpkgError(f"{package.name}: not pushed yet", hint=f"run `mlpkg push {package.name}`")
    reference = f"{receipt['repository']}@{built['digest']}"
    notify(f"pulling {reference}")
    return engine.pull(reference, (login.username, login.password) if login else None)


def _start_container(package: Package, image: str, port: int) -> Service:
    container = engine.run(
        engine.RunSpec(
            image=image,
            name=container_name(package),
            ports={package.spec.server.port: (HOST, port)},
            tmpfs=("/tmp",),  # noqa: S108 - inside the container
            labels={LABEL: package.name, WORKSPACE_LABEL: _workspace_digest(package)},
        )
    )
    return _remember(package, Service("container", container, port))


def container_name(package: Package) -> str:
    """The name of the service's container: one per workspace and package, whatever characters they share."""
    own = framed([os.fsencode(package.root), package.name]).removeprefix("sha256:")
    return f"mlpkg-run-{package.name.replace('/', '-')}-{own[:8]}"


def _workspace_digest(package: Package) -> Digest:
    return sha256(os.fsencode(package.root))


def _container(package: Package, known: Service | None) -> engine.ContainerState | None:
    """The service's container, running or not; by its labels where its id was not written down. Raises Unreachable."""
    found = engine.inspect(known.reference) if known and known.kind == "container" else None
    if found:
        return found
    own = engine.find(f"{WORKSPACE_LABEL}={_workspace_digest(package)}")
    return next((state for state in own if state.labels.get(LABEL) == package.name), None)


def _start_process(package: Package, python: Path, port: int) -> Service:
    arguments, environ, folder = application.command(package, python, HOST, port)
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


def _file(package: Package) -> Path:
    return package.records / "service.json"


def _log(package: Package) -> Path:
    return package.records / "service.log"


def _remember(package: Package, service: Service) -> Service:
    value = {**asdict(service), "workspace": _workspace_digest(package)}
    write_atomically(_file(package), json.dumps(value).encode())
    return service


def _known(package: Package) -> Service | None:
    """What was started last; nothing in a copy of the workspace, whose files speak of the other's service."""
    try:
        value: Mapping[str, Any] = json.loads(_file(package).read_bytes())
        if value["workspace"] != _workspace_digest(package):
            return None
        return _service(value["kind"], value["reference"], value["port"], value["born"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _service(kind: Any, reference: Any, port: Any, born: Any) -> Service | None:
    """A service as it was written down; None where something is not of its kind: the file may be damaged."""
    if not (isinstance(reference, str) and isinstance(born, str) and type(port) is int and 0 <= port < 65536):
        return None
    if kind == "container" or (kind == "process" and reference.isdecimal()):
        return Service(kind, reference, port, born)
    return None
