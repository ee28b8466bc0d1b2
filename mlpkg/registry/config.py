"""The configuration file of CNCF Distribution (2.8 and 3.x), as text. Pure."""

from __future__ import annotations

import json
from typing import Any


def config_text(*, storage: str, address: str, secret: str, htpasswd: str | None) -> str:
    """The configuration: `storage` and `htpasswd` are paths where the registry runs; no `htpasswd`, no auth.

    JSON is YAML too. What is set, and why (distribution, "Configuring a registry"):
    a fixed `http.secret`, or upload sessions die with the process; uploads that were left behind go after
    a day instead of a week; deleting is allowed, for repair and garbage collection; no descriptor cache,
    so that the answer is what lies in the storage; manifests are not checked for foreign URLs.
    """
    value: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn", "formatter": "text", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": storage},
            "delete": {"enabled": True},
            "maintenance": {
                "uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}
            },
        },
        "http": {
            "addr": address,
            "secret": secret,
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        },
        "validation": {"disabled": True},
    }
    if htpasswd:
        value["auth"] = {"htpasswd": {"realm": "mlpkg", "path": htpasswd}}
    return json.dumps(value, indent=1) + "\n"
