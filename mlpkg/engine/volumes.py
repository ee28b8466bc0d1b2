"""Named volumes of the Docker engine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from mlpkg.engine.client import client


def ensure_volume(name: str, labels: Mapping[str, str]) -> Mapping[str, str]:
    """Make a named volume where there is none, and return its labels (an existing one keeps its own)."""
    with client(f"making the volume {name}") as api:
        volume = api.create_volume(name, labels=dict(labels))
    return dict(volume.get("Labels") or {})


def volume_size(name: str) -> int | None:
    """Bytes in a named volume, None when the engine cannot say. Raises Unreachable."""
    with client(f"measuring the volume {name}") as api:
        volumes = api.df().get("Volumes") or []
    sizes = [(volume.get("UsageData") or {}).get("Size", -1) for volume in volumes if volume["Name"] == name]
    return sizes[0] if sizes and sizes[0] >= 0 else None


def remove_volume(name: str) -> None:
    """Remove a named volume and all in it. An absent one is fine. Raises MlpkgError (in use), Unreachable."""
    from docker.errors import NotFound  # noqa: PLC0415

    with client(f"removing the volume {name}") as api, suppress(NotFound):
        api.remove_volume(name)
