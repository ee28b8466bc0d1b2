"""The kinds of servers that can answer in an image: what each needs, how it is started, asked and set. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlpkg.runtime.requirements import RAWHTTP, REQUIREMENTS
from mlpkg.runtime.settings import server_environment
from mlpkg.spec.model import PackageSpec, ServerTable

PYTHON = "/usr/bin/python3"

AZUREML = ("azureml-inference-server-http>=1.4,<2",)
"""The original server; the lock chooses its version beside the user's requirements."""

_ASK = (
    "import http.client,sys;c=http.client.HTTPConnection('127.0.0.1',{port},timeout=4);"
    "c.request('GET','/');sys.exit(c.getresponse().status!=200)"
)
"""A health check without a shell, curl, or anything but the standard library."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a container serves: its command, its health check (empty: none), and the server's own variables."""

    command: tuple[str, ...]
    health: tuple[str, ...]
    env: Mapping[str, str]


def requirements(server: ServerTable, *, rawhttp: bool) -> tuple[str, ...]:
    """What the server needs beside the user's requirements, in pip's format; `rawhttp`: the script imports it."""
    ours = (*REQUIREMENTS, *RAWHTTP) if rawhttp else REQUIREMENTS
    return {"mlpkg": ours, "azureml": AZUREML}.get(server.kind, ())


def serving(spec: PackageSpec, script: str) -> Serving:
    """How the spec's server is started; `script` is the entry script's place in the image."""
    return _KINDS[spec.server.kind](spec, script)


def settings(spec: PackageSpec) -> dict[str, str]:
    """The `[server]` section as mlpkg's server reads it (`mlpkg.runtime.settings`)."""
    server = spec.server
    return {
        **_names(spec),
        **server_environment(
            port=server.port,
            workers=server.workers,
            timeout=server.timeout,
            max_body=server.max_body,
            cors_origins=server.cors_origins,
        ),
    }


def _mlpkg(spec: PackageSpec, script: str) -> Serving:
    del script  # AZUREML_ENTRY_SCRIPT says it
    # -P: a user's module of the same name as one of the server's must not take its place.
    module = (PYTHON, "-P", "-m", "mlpkg.runtime")
    return Serving(module, (PYTHON, "-P", "-m", "mlpkg.runtime.probe"), settings(spec))


def _azureml(spec: PackageSpec, script: str) -> Serving:
    """The original: its command line does not read AZUREML_ENTRY_SCRIPT (azure-contract §2, "Start")."""
    server = spec.server
    command = (
        PYTHON,
        "-P",
        "-m",
        "azureml_inference_server_http",
        "--entry_script",
        script,
        "--port",
        str(server.port),
    )
    env = {
        **_names(spec),
        "WORKER_COUNT": str(server.workers),
        "SCORING_TIMEOUT_MS": str(max(1, round(server.timeout * 1000))),
        # gunicorn keeps a file for each worker; with a read-only root only this folder takes it.
        "TMPDIR": "/dev/shm",  # noqa: S108 - inside the container, where it is private
    }
    if server.cors_origins:
        env["AML_CORS_ORIGINS"] = ",".join(server.cors_origins)
    return Serving(command, (PYTHON, "-c", _ASK.format(port=server.port)), env)


def _custom(spec: PackageSpec, script: str) -> Serving:
    """The user's own: no health check of ours, since the image may hold no Python."""
    del script
    return Serving(spec.server.command, (), {})


def _names(spec: PackageSpec) -> dict[str, str]:
    version = {"SERVICE_VERSION": spec.package.version} if spec.package.version else {}
    return {"SERVICE_NAME": spec.package.name, **version}


_KINDS: Mapping[str, Callable[[PackageSpec, str], Serving]] = {
    "mlpkg": _mlpkg,
    "azureml": _azureml,
    "custom": _custom,
}
