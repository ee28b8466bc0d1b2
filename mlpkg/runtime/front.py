"""What the front's parts share: settings, counters, the access log, and whether the server is stopping."""

from __future__ import annotations

from dataclasses import dataclass

from mlpkg.runtime.access import AccessLog, ForwardedAccessLog
from mlpkg.runtime.metrics import Metrics
from mlpkg.runtime.settings import Settings


@dataclass
class Front:
    """One server's state that others than the server read."""

    settings: Settings
    metrics: Metrics
    access: AccessLog | ForwardedAccessLog | None = None
    is_draining: bool = False

    def __post_init__(self) -> None:
        self.version = self.settings.version_header if self.settings.send_version else ""
