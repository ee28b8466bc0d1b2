"""A client of the Docker engine for one question, and the SDK's failures told as ours.

The engine is found as the docker command finds it: DOCKER_HOST, else DOCKER_CONTEXT or the current context
of Docker's configuration (Docker Desktop, colima and others register themselves there), else the
platform's default socket.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlpkg.errors import MlpkgError, Taken, Unreachable

PROBE = 3
"""Seconds that an engine has to say that it is there."""

CALL = 60
"""Seconds for an ordinary question."""

TRANSFER = 3600
"""Seconds without a byte while an image moves: the engine is silent while it unpacks (docker-py #1070)."""

_TAKEN = ("port is already allocated", "address already in use", "ports are not available")
_UNIX = "http+unix://"


@contextmanager
def client(what: str, timeout: int = CALL) -> Generator[Any, None, None]:
    """The SDK's low-level client (`docker.APIClient`; its stubs leave half of it untyped).

    All that goes wrong inside is told as MlpkgError, Taken (port or name) or Unreachable, with
    `what` was tried.
    """
    from docker import APIClient  # noqa: PLC0415
    from docker.errors import APIError, DockerException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    where = endpoint()
    _knock(where["base_url"], timeout)
    try:
        api = APIClient(**where, version="auto", timeout=timeout)
    except (DockerException, RequestException, HTTPError, OSError) as error:
        raise _no_engine(_reason(error)) from error
    try:
        yield api
    except APIError as error:
        raise _refused(error, what) from error
    except (DockerException, RequestException, HTTPError) as error:
        raise Unreachable(f"{what}: the Docker engine does not answer: {_reason(error)}") from error
    finally:
        api.close()


def endpoint() -> dict[str, Any]:
    """Where the engine listens: `base_url` and, where it has any, `tls`. Raises Unreachable."""
    from docker.constants import IS_WINDOWS_PLATFORM  # noqa: PLC0415
    from docker.context import ContextAPI  # noqa: PLC0415
    from docker.errors import DockerException  # noqa: PLC0415
    from docker.utils import kwargs_from_env, parse_host  # noqa: PLC0415

    try:
        found: dict[str, Any] = dict(kwargs_from_env())
        if "base_url" not in found:
            _check_context()
            found = {**ContextAPI.kwargs_from_context(), **found}
        host = parse_host(found.get("base_url"), IS_WINDOWS_PLATFORM, bool(found.get("tls")))
    except (DockerException, OSError) as error:
        raise _no_engine(_reason(error)) from error
    return {**found, "base_url": host}


def raise_in_band(row: Mapping[str, Any], what: str) -> None:
    """Raise MlpkgError for a row that tells an error: they come after the answer's 200 (docker-py #3277)."""
    text = row.get("error") or row.get("message")
    if text:
        raise MlpkgError(f"{what}: the Docker engine refused: {text}")


def raise_for_status(answer: Any) -> None:
    """Raise the SDK's own error for an answer that tells one."""
    from docker.errors import create_api_error_from_http_exception  # noqa: PLC0415
    from requests.exceptions import HTTPError  # noqa: PLC0415

    try:
        answer.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)


def _knock(address: str, timeout: int) -> None:
    """Connect once ourselves: the SDK leaves its socket open when that fails, and buries the reason."""
    if not address.startswith(_UNIX):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(address.removeprefix(_UNIX))
        except OSError as error:
            raise _no_engine(f"{error.strerror or error} ({address.removeprefix(_UNIX)})") from error


def _check_context() -> None:
    """For a torn context file the SDK raises a bare Exception, for an absent one it takes another engine."""
    from docker.context.config import get_current_context_name, get_meta_file  # noqa: PLC0415

    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name == "default":
        return
    file = Path(get_meta_file(name))
    try:
        json.loads(file.read_bytes())["Endpoints"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(
            f"the Docker context {name} cannot be used: {file}",
            hint="choose another with `docker context use`, or set DOCKER_HOST",
        ) from error


def _no_engine(reason: str) -> Unreachable:
    if "Permission denied" in reason:
        return Unreachable(
            f"this user may not talk to the Docker engine: {reason}",
            hint="add the user to the group `docker`, or use a rootless engine through DOCKER_HOST",
        )
    return Unreachable(
        f"no Docker engine answers: {reason}", hint="start it, or set DOCKER_HOST to where it listens"
    )


def _reason(error: BaseException) -> str:
    """The innermost cause's own words, without a password: the SDK wraps an OSError four times."""
    while True:
        nested = [arg for arg in error.args if isinstance(arg, BaseException)]
        inner = nested[-1] if nested else error.__cause__ or error.__context__
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if inner is None:
            return re.sub(r"//[^/@\s]+@", "//", str(error))
        error = inner


def _refused(error: Any, what: str) -> MlpkgError:
    text = str(error.explanation or error)
    if any(sign in text.lower() for sign in _TAKEN):
        return Taken(f"{what}: {text}", hint="choose another port, or stop what listens there")
    if error.status_code == 409 and "already in use by container" in text:
        return Taken(f"{what}: {text}", hint="remove that container, or choose another name")
    return MlpkgError(f"{what}: the Docker engine refused: {text}")
