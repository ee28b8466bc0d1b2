"""The OCI image configuration and manifest of a plan. Pure: the same values give the same bytes.

OCI image-spec v1.1, "Image Configuration" and "Image Manifest". `Healthcheck` is Docker's extension of
the configuration; engines without it ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlpkg.builders.image import CONFIG_TYPE, MANIFEST_TYPE
from mlpkg.digest import Descriptor, Digest, sha256
from mlpkg.plan.plan import BuildPlan, PlannedLayer

CREATED = "1980-01-01T00:00:01Z"
"""The layers' own constant time (`mlpkg.layer.MTIME`): the same inputs give the same digest on any day."""

SECOND = 1_000_000_000


def config_json(plan: BuildPlan, diff_ids: Sequence[Digest]) -> bytes:
    """The configuration's bytes. `diff_ids` are those of the plan's layers, in its order."""
    os_name, architecture = plan.platform.split("/", 1)
    config: dict[str, Any] = {
        "User": plan.config.user,
        "ExposedPorts": {f"{plan.config.port}/tcp": {}},
        "Env": [f"{name}={value}" for name, value in plan.config.env],
        "Entrypoint": list(plan.config.command),
        "WorkingDir": plan.config.working_dir,
        "Labels": dict(plan.config.labels),
    }
    if plan.config.health_command:
        config["Healthcheck"] = {
            "Test": ["CMD", *plan.config.health_command],
            "Interval": 10 * SECOND,
            "Timeout": 5 * SECOND,
            "StartPeriod": 120 * SECOND,
            "Retries": 3,
        }
    return _bytes(
        {
            "created": CREATED,
            "architecture": architecture,
            "os": os_name,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [_history(layer) for layer in plan.layers],
        }
    )


def _history(layer: PlannedLayer) -> dict[str, str]:
    return {"created": CREATED, "created_by": f"mlpkg {layer.name}", "comment": layer.comment}


def manifest_json(plan: BuildPlan, config: bytes, layers: Sequence[Descriptor]) -> bytes:
    """The manifest's bytes; the labels are its annotations too, where registries show them."""
    return _bytes(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": Descriptor(CONFIG_TYPE, sha256(config), len(config)).to_json(),
            "layers": [layer.to_json() for layer in layers],
            "annotations": dict(plan.config.labels),
        }
    )


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
