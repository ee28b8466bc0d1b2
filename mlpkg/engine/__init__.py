"""The Docker engine: images, containers and volumes as values and functions.

Only this room imports `docker`. Every function opens a client and closes it again: an engine is asked a
few times per run, and no socket outlives its question.
"""

from __future__ import annotations

import re

from mlpkg.engine.client import PROBE, client, endpoint
from mlpkg.engine.containers import (
    ContainerState,
    File,
    Mount,
    RunSpec,
    archive,
    create,
    execute,
    find,
    inspect,
    logs,
    put,
    remove,
    run,
    start,
    stop,
    wait,
)
from mlpkg.engine.images import image_id, load, pull, remove_image, tag
from mlpkg.engine.volumes import ensure_volume, remove_volume, volume_size
from mlpkg.errors import MlpkgError

__all__ = [
    "ContainerState",
    "File",
    "Mount",
    "RunSpec",
    "archive",
    "available",
    "create",
    "ensure_volume",
    "execute",
    "find",
    "image_id",
    "inspect",
    "is_local",
    "is_rootless",
    "load",
    "logs",
    "pull",
    "put",
    "remove",
    "remove_image",
    "remove_volume",
    "run",
    "start",
    "stop",
    "tag",
    "volume_size",
    "wait",
]


def available() -> str | None:
    """Why no engine can be used, or None when one can. Answers within about 3 seconds."""
    try:
        with client("is an engine there?", PROBE) as api:
            system = api.version().get("Os", "")
    except MlpkgError as error:
        return error.message
    return (
        None if system == "linux" else f"the Docker engine runs {system or 'unknown'} containers, not Linux"
    )


def is_local() -> bool:
    """Whether ports that the engine publishes on 127.0.0.1 are this machine's. Asks nobody."""
    local = r"http\+unix://|npipe://|(tcp|https?)://(localhost|127\.|\[::1\])"
    return re.match(local, endpoint()["base_url"]) is not None


def is_rootless() -> bool:
    """Whether the engine runs as an ordinary user, whom it maps to uid 0 of containers. Raises Unreachable."""
    with client("asking the engine for its options") as api:
        options = api.info().get("SecurityOptions") or []
    return any("rootless" in option for option in options)
